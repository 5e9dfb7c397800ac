// How a combinator (when_all, when_any, with_timeout ...) makes a chain of its own of whatever it was
// given: a task, a function that makes one, an operation or an awaitable of another library.

#pragma once

#include <coroutine>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <parley/config.hpp>
#include <parley/detail/callable.hpp>
#include <parley/detail/foreign.hpp>
#include <parley/detail/promise.hpp>
#include <parley/detail/root.hpp>
#include <parley/result.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// `co_await quietly(op)` says whether op has a result, which op.await_resume() then gives; false when the
// task was told to stop, or the operation ended so. Nothing is thrown: the task is a combinator's own.
template <class Op>
class [[nodiscard]] quietly {
public:
    explicit quietly(Op &op) noexcept : op_(op) {}

private:
    friend class promise_base;
    Op &op_;
};

template <class Op>
class quiet_await : public leaf_await<Op> {
public:
    quiet_await(Op &op, record &task, bool begin) noexcept : leaf_await<Op>(op, task), begin_(begin) {}

    bool await_ready() { return !begin_ || leaf_await<Op>::await_ready(); }
    bool await_resume() noexcept { return begin_ && this->has_result(); }

private:
    bool begin_;
};

template <class Op>
quiet_await<Op> promise_base::await_transform(quietly<Op> &&wait) {
    site_ = std::source_location(); // in the library, of no interest
    return {wait.op_, *this, !context_->stopping_ || begins_stopped<Op>};
}

// The value of a child that has none, in a tuple or a variant.
template <class T>
using value_or_unit = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

template <class Op>
using leaf_value = decltype(std::declval<Op &>().await_resume());

template <class Op>
task<value_or_unit<leaf_value<Op>>> run_leaf(Op &op) {
    const bool done = co_await quietly<Op>(op);
    if (!done)
        co_return stopped_tag();
    if constexpr (std::is_void_v<leaf_value<Op>>) {
        op.await_resume();
        co_return std::monostate();
    } else {
        co_return op.await_resume();
    }
}

template <class A>
using foreign_value = decltype(awaiter_of(std::declval<A>()).await_resume());

template <class A>
task<std::remove_cvref_t<value_or_unit<foreign_value<A>>>> run_foreign(A &&awaitable) {
    if constexpr (std::is_void_v<foreign_value<A>>) {
        co_await std::forward<A>(awaitable);
        co_return std::monostate();
    } else {
        co_return co_await std::forward<A>(awaitable);
    }
}

template <class A>
concept joinable_leaf = !is_task<std::remove_cvref_t<A>> && leaf<std::remove_reference_t<A>>;
template <class A>
concept joinable_function = !is_task<std::remove_cvref_t<A>> && !leaf<std::remove_reference_t<A>> &&
                            !foreign_in_task<A> && makes_task<std::remove_reference_t<A>>;

// What a combinator takes, with A as in a forwarding reference.
template <class A>
concept joinable = is_task<A> || joinable_leaf<A> || foreign_in_task<A> || joinable_function<A>;

template <class A>
inline constexpr bool is_tasks = false;
template <class T>
inline constexpr bool is_tasks<std::vector<task<T>>> = true;

// Called with A as in a forwarding reference, by every combinator.
template <class A>
constexpr void check_joinable() {
    check_callable<A>();
    static_assert(!is_task<std::remove_cvref_t<A>> || is_task<A>,
                  "parley: a task is awaited once, by rvalue: give std::move(t), or f() without naming the "
                  "task (docs/tasks.md)");
    static_assert(!is_tasks<std::remove_cvref_t<A>>,
                  "parley: tasks are awaited once: give std::move(tasks), the vector alone, to when_all or "
                  "when_any (docs/tasks.md)");
    static_assert(joinable<A> || is_task<std::remove_cvref_t<A>> || is_tasks<std::remove_cvref_t<A>>,
                  "parley: a combinator takes tasks, functions without parameters that make one, operations "
                  "such as peer.recv(), and awaitables of other libraries; this is none (docs/tasks.md)");
}

// What becomes of it. Operations and functions stay where they are, in the expression that awaits the
// combinator.
template <class A>
struct child_traits;

template <class T>
struct child_traits<task<T>> {
    using value = T;
    using frame_value = T;
    using kept = task<T>;
    static task<T> make(kept &t) {
        if (!t)
            throw_empty_task();
        return std::move(t);
    }
};

template <joinable_leaf A>
struct child_traits<A> {
    using op = std::remove_reference_t<A>;
    using value = leaf_value<op>;
    using frame_value = value_or_unit<value>;
    using kept = A &&;
    static task<frame_value> make(op &o) { return run_leaf(o); }
};

template <foreign_in_task A>
struct child_traits<A> {
    using value = std::remove_cvref_t<foreign_value<A>>;
    using frame_value = value_or_unit<value>;
    using kept = A &&;
    static task<frame_value> make(std::remove_reference_t<A> &a) {
        return run_foreign<A>(std::forward<A>(a));
    }
};

template <joinable_function F>
struct child_traits<F> {
    using made = std::remove_cvref_t<std::invoke_result_t<std::remove_reference_t<F> &>>;
    using value = typename made::value_type;
    using frame_value = value;
    using kept = F &&;
    static made make(std::remove_reference_t<F> &f) { return call_kept<std::remove_reference_t<F> &>(f); }
};

// A result<T> stays one, everything else becomes one.
template <class T>
using flat_result = std::conditional_t<is_result<T>, T, result<T>>;

// One child: the argument, and from start() on the first frame of its chain, which lives until this ends.
template <class A>
class child {
public:
    using traits = child_traits<A>;
    using value = typename traits::value;
    using frame_value = typename traits::frame_value;

    explicit child(A &&from) : from_(std::forward<A>(from)) {}
    child(child &&) = delete;
    ~child() {
        if (frame_)
            frame_.destroy();
    }

    // Makes the frame; what is thrown leaves everything as it was.
    void prepare() {
        task<frame_value> made = traits::make(from_);
        frame_ = task_access::release(made);
    }
    [[nodiscard]] bool prepared() const noexcept { return bool(frame_); }
    [[nodiscard]] record &first() const noexcept { return frame_.promise(); }
    [[nodiscard]] detail::ending ending() const noexcept { return frame_.promise().ending(); }
    [[nodiscard]] std::exception_ptr failure() const noexcept { return frame_.promise().failure(); }

    // The value; or throws.
    frame_value take() { return frame_.promise().take(); }
    // The same for a tuple or a variant.
    value_or_unit<value> take_unit() {
        if constexpr (std::is_void_v<frame_value>) {
            frame_.promise().take();
            return {};
        } else {
            return frame_.promise().take();
        }
    }

    // The same as a result.
    flat_result<value> take_result() {
        if constexpr (std::is_void_v<value>) {
            frame_.promise().take();
            return {};
        } else {
            return frame_.promise().take();
        }
    }

private:
    typename traits::kept from_;
    std::coroutine_handle<promise<frame_value>> frame_;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
