// Coroutines of other libraries: their awaitables in parley's tasks, and parley's in their coroutines.
//
// An awaiter whose await_suspend takes a std::stop_token as well is told through it when the task is:
//
//     void await_suspend(std::coroutine_handle<> awaiting, std::stop_token stop);
//
// The stop is requested on the task's loop. The awaiter still resumes `awaiting` once, on any thread, when
// its operation is over; the task then ends. A result that came all the same is dropped, unless the awaiter
// says `static constexpr bool keeps_result = true` since something would be lost with it: then the task has
// it and ends at its next await. An awaiter that takes the handle alone is awaited to its end. (A program that
// wants both forms gives both: other libraries use the one, parley the other.)

#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <stop_token>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/detail/promise.hpp>
#include <parley/detail/task_await.hpp>
#include <parley/loop.hpp>
#include <parley/outcome.hpp>
#include <parley/resume_on.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

void begin_root(parley::loop &where, task<void> &&root); // root.hpp

// A coroutine whose only deed is to bring a chain home, from whatever thread it is resumed on: the handle
// that a foreign awaitable gets.
std::coroutine_handle<> bring_home(context &chain);

// What tells a foreign operation to stop, if it can be told.
class stop_nothing {
public:
    void arm() const noexcept {}
    void request() const noexcept {}
};
class stop_by_token {
public:
    void arm() { source_.emplace(); }
    void request() noexcept { source_->request_stop(); }
    [[nodiscard]] std::stop_token token() const noexcept { return source_->get_token(); }

private:
    std::optional<std::stop_source> source_; // it allocates: made when it is needed
};

// A foreign awaitable as a leaf.
template <class A>
class foreign_operation final : private operation {
    using awaiter = decltype(awaiter_of(std::declval<A>()));

public:
    static constexpr bool keeps_result = detail::keeps_result<std::remove_reference_t<awaiter>>;

    explicit foreign_operation(A &&awaitable) : awaiter_(awaiter_of(std::forward<A>(awaitable))) {}

    bool await_ready() { return bool(awaiter_.await_ready()); }
    bool await_suspend(std::coroutine_handle<>, context &chain) {
        stop_.arm();
        std::coroutine_handle<> home = bring_home(chain);
        chain.begin(*this);
        try {
            using returned = decltype(submit(home));
            if constexpr (std::is_void_v<returned>) {
                submit(home);
                return true;
            } else if constexpr (std::is_convertible_v<returned, std::coroutine_handle<>>) {
                std::coroutine_handle<> next = submit(home);
                next.resume();
                return true;
            } else if (submit(home)) {
                return true;
            }
        } catch (...) {
            failure_ = std::current_exception();
        }
        home.destroy();
        return false;
    }
    decltype(auto) await_resume() {
        if (failure_)
            std::rethrow_exception(std::move(failure_));
        return std::forward<awaiter>(awaiter_).await_resume();
    }

private:
    static constexpr bool stoppable = stoppable_awaiter<std::remove_reference_t<awaiter>>;

    decltype(auto) submit(std::coroutine_handle<> home) {
        if constexpr (stoppable)
            return awaiter_.await_suspend(home, stop_.token());
        else
            return awaiter_.await_suspend(home);
    }
    void cancel() noexcept override { stop_.request(); }
    const char *name() const noexcept override { return "foreign awaitable"; }

    awaiter awaiter_;
    [[no_unique_address]] std::conditional_t<stoppable, stop_by_token, stop_nothing> stop_;
    std::exception_ptr failure_;
};

template <class A>
struct foreign_holder {
    explicit foreign_holder(A &&awaitable) : op(std::forward<A>(awaitable)) {}
    foreign_operation<A> op;
};

// `co_await foreign` in a task.
template <class A>
class foreign_await : private foreign_holder<A>, public leaf_await<foreign_operation<A>> {
public:
    foreign_await(A &&awaitable, record &task)
        : foreign_holder<A>(std::forward<A>(awaitable)), leaf_await<foreign_operation<A>>(this->op, task) {}
};

template <class A>
    requires foreign_in_task<A>
foreign_await<A> promise_base::await_transform(A &&awaitable, std::source_location site) {
    enter(site);
    return {std::forward<A>(awaitable), *this};
}

// `co_await task` in a foreign coroutine: the task becomes a root of the current loop, and the coroutine goes
// on there.
template <class T>
class foreign_task_await {
public:
    explicit foreign_task_await(task<T> &&t) : task_(std::move(t)) {
        if (!task_)
            throw_empty_task();
    }
    foreign_task_await(foreign_task_await &&) = delete;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> awaiting) {
        begin_root(this_loop(), carry(std::move(task_), how_, awaiting));
    }
    T await_resume() { return std::move(*how_).get(); }

private:
    static task<void> carry(task<T> work, std::optional<outcome<T>> &how, std::coroutine_handle<> awaiting) {
        outcome<T> ended = co_await task_outcome<T>(std::move(work));
        how.emplace(std::move(ended));
        awaiting.resume();
    }

    task<T> task_;
    std::optional<outcome<T>> how_;
};

// The leaf `op` as an awaiter for foreign coroutines: a task awaits it in their stead.
template <class Op>
class foreign_leaf_await {
public:
    explicit foreign_leaf_await(Op &op) noexcept : op_(op) {}
    foreign_leaf_await(foreign_leaf_await &&) = delete;

    bool await_ready() { return bool(op_.await_ready()); }
    void await_suspend(std::coroutine_handle<> awaiting) {
        driver_.emplace(drive(op_));
        driver_->await_suspend(awaiting);
    }
    decltype(auto) await_resume() {
        if (driver_)
            driver_->await_resume();
        return op_.await_resume();
    }

private:
    class wait_only {
    public:
        explicit wait_only(Op &op) noexcept : op_(op) {}
        wait_only(wait_only &&) = delete;
        static constexpr bool keeps_result = detail::keeps_result<Op>;
        static constexpr bool begins_stopped = detail::begins_stopped<Op>;
        bool await_ready() { return bool(op_.await_ready()); }
        bool await_suspend(std::coroutine_handle<> h, context &chain) { return op_.await_suspend(h, chain); }
        void await_resume() const noexcept {}
        void keep() noexcept {
            if constexpr (requires { op_.keep(); })
                op_.keep();
        }

    private:
        Op &op_;
    };
    static task<void> drive(Op &op) { co_await wait_only(op); }

    Op &op_;
    std::optional<foreign_task_await<void>> driver_;
};

template <class Op>
    requires(leaf<std::remove_reference_t<Op>> && !foreign_awaiter<std::remove_reference_t<Op>>)
foreign_leaf_await<std::remove_reference_t<Op>> operator co_await(Op && op) {
    static_assert(!awaited_where_made<std::remove_reference_t<Op>> || !std::is_lvalue_reference_v<Op>,
                  "parley: what this combinator was given may be gone by now: write co_await in front of it, "
                  "without naming it first (docs/tasks.md)");
    return foreign_leaf_await<std::remove_reference_t<Op>>(op);
}

// `co_await resume_on(loop)` in a foreign coroutine.
class foreign_hop {
public:
    explicit foreign_hop(parley::loop &target) noexcept : target_(target) {}
    foreign_hop(foreign_hop &&) = delete;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> awaiting) const { begin_root(target_, go_on(awaiting)); }
    void await_resume() const noexcept {}

private:
    static task<void> go_on(std::coroutine_handle<> awaiting) {
        awaiting.resume();
        co_return;
    }

    parley::loop &target_;
};

} // namespace detail

// Found for operations in parley and in parley::detail.
using detail::operator co_await;

inline detail::foreign_hop resume_on::operator co_await() && noexcept {
    return detail::foreign_hop(target_);
}

template <class T>
auto task<T>::operator co_await() && {
    return detail::foreign_task_await<T>(std::move(*this));
}

} // namespace parley::inline PARLEY_ABI
