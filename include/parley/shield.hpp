// Work that must not be cut off: shield() keeps a cancel from what it is given, finally() adds a clean-up
// that may await and always runs.
//
//     co_await parley::finally(transfer(from, to), [&]() -> parley::task<> {
//         co_await ledger.release(from);           // also when the transfer failed or was cancelled
//     });

#pragma once

#include <coroutine>
#include <cstdint>
#include <exception>
#include <type_traits>
#include <utility>

#include <parley/cancelled.hpp>
#include <parley/config.hpp>
#include <parley/detail/child.hpp>
#include <parley/detail/join.hpp>
#include <parley/outcome.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {

// --- Implementation ---

namespace detail {

class shield_base : public join_base {
public:
    static constexpr bool keeps_result = true;
    static constexpr bool begins_stopped = true;
    static constexpr bool awaited_where_made = true;

protected:
    shield_base() = default;
    ~shield_base() = default;

    bool begin(context &task, record &child) noexcept;

private:
    void ended(record &) noexcept final {}
    void cancel_children() noexcept final {} // that is the point
    const char *name() const noexcept final { return "shield"; }

    inherited below_;
};

template <class A>
class [[nodiscard]] shield_await final : public shield_base {
public:
    explicit shield_await(A &&work) : child_(std::forward<A>(work)) {}

    bool await_suspend(std::coroutine_handle<>, context &task) {
        child_.prepare();
        return begin(task, child_.first());
    }

    typename child<A>::value await_resume() {
        if constexpr (std::is_void_v<typename child<A>::value>)
            child_.take();
        else
            return child_.take();
    }

private:
    child<A> child_;
};

} // namespace detail

// `co_await shield(work)`: work is a task, a function that makes one, or an operation. A cancel of this
// task is felt after it: the value counts, and the next await ends the task. Limits of time from above do
// not reach it either. A task that was told to stop may still begin it. Whoever joins the task waits for
// it, a stopping runtime too: give it a limit of its own.
template <class A>
[[nodiscard]] auto shield(A &&work) {
    detail::check_joinable<A>();
    return detail::shield_await<A>(std::forward<A>(work));
}

// `co_await finally(work, cleanup)`: awaits the task, then `cleanup()`, a task<>, under a shield, however the
// work ended: with a value, by an exception or stopped; then ends as the work did. Both are kept as long as
// they run. What the clean-up throws is thrown, unless the work threw before: then it is attached to that
// (other_exceptions()). If the awaiting task was told to stop before, neither begins.
template <class T, class F>
    requires detail::makes_task<std::decay_t<F>>
task<T> finally(task<T> work, F cleanup) {
    outcome<T> how = co_await detail::task_outcome<T>(std::move(work));
    std::exception_ptr failure;
    try {
        co_await shield(cleanup);
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure) {
        if (!how.exception())
            std::rethrow_exception(failure);
        detail::add_other(how.exception(), failure);
    }
    if (how.stopped())
        throw cancelled();
    co_return std::move(how).get();
}

} // namespace parley::inline PARLEY_ABI
