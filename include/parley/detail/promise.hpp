// The promise of task<T>, and what a co_await inside a task turns into. context.hpp says how an awaitable is
// written.

#pragma once

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <memory>
#include <source_location>
#include <stop_token>
#include <type_traits>
#include <utility>

#include <parley/cancelled.hpp>
#include <parley/config.hpp>
#include <parley/detail/context.hpp>
#include <parley/detail/frame_pool.hpp>
#include <parley/detail/record.hpp>
#include <parley/exception_notes.hpp>
#include <parley/resume_on.hpp>

namespace parley::inline PARLEY_ABI {

template <class T = void>
class task;

namespace detail {

template <class T>
class promise;
template <class T>
class task_await;
template <class T>
class outcome_await;
template <class A>
class foreign_await;
template <class T>
class task_outcome;
template <class Op>
class quietly;
template <class Op>
class quiet_await;
template <class T>
class unlisted_task;
template <class T>
class named_task;
class fiber_turn;
class fiber_await;
struct task_access;

// `co_return stopped_tag()`: the task ends as if it had been cancelled, and nothing is thrown.
struct stopped_tag {
    explicit stopped_tag() = default;
};

// An operation of parley's or of somebody who read context.hpp.
template <class A>
concept leaf = requires(A &a, std::coroutine_handle<> h, context &c) {
    { a.await_ready() } -> std::convertible_to<bool>;
    { a.await_suspend(h, c) } -> std::convertible_to<bool>;
    a.await_resume();
};

// Of another library, and can be told to stop.
template <class A>
concept stoppable_awaiter = requires(A &a, std::coroutine_handle<> h, std::stop_token token) {
    { a.await_ready() } -> std::convertible_to<bool>;
    a.await_suspend(h, token);
    a.await_resume();
};
template <class A>
concept foreign_awaiter = stoppable_awaiter<A> || requires(A &a, std::coroutine_handle<> h) {
    { a.await_ready() } -> std::convertible_to<bool>;
    a.await_suspend(h);
    a.await_resume();
};
template <class A>
concept has_member_awaiter = requires(A &&a) { std::forward<A>(a).operator co_await(); };
// Not asked of pointers and the like: clang would take the question for a mistake.
template <class A>
concept has_free_awaiter =
    (std::is_class_v<std::remove_cvref_t<A>> || std::is_union_v<std::remove_cvref_t<A>> ||
     std::is_enum_v<std::remove_cvref_t<A>>) &&
    requires(A &&a) { operator co_await(std::forward<A>(a)); };

template <class A>
decltype(auto) awaiter_of(A &&awaitable) {
    if constexpr (has_member_awaiter<A>)
        return std::forward<A>(awaitable).operator co_await();
    else if constexpr (has_free_awaiter<A>)
        return operator co_await(std::forward<A>(awaitable));
    else
        return std::forward<A>(awaitable);
}

template <class A>
concept foreign_awaitable =
    (has_member_awaiter<A> || has_free_awaiter<A> || foreign_awaiter<A>) &&
    requires(A &&a) { requires foreign_awaiter<decltype(detail::awaiter_of(std::forward<A>(a)))>; };

template <class T>
inline constexpr bool is_task = false;
template <class T>
inline constexpr bool is_task<task<T>> = true;

template <class A>
inline constexpr bool is_standard_suspension = std::same_as<std::remove_cvref_t<A>, std::suspend_always> ||
                                               std::same_as<std::remove_cvref_t<A>, std::suspend_never>;

// An awaitable of another library, neither task nor leaf.
template <class A>
concept foreign_in_task =
    !is_task<std::remove_cvref_t<A>> && !std::same_as<std::remove_cvref_t<A>, resume_on> &&
    !leaf<std::remove_reference_t<A>> && foreign_awaitable<A> && !is_standard_suspension<A>;

// What `co_await a` inside a task accepts, with A as in a forwarding reference.
template <class A>
concept awaitable_in_task =
    !is_standard_suspension<A> &&
    (std::same_as<std::remove_reference_t<A>, resume_on> ||
     (is_task<std::remove_cvref_t<A>> && !std::is_lvalue_reference_v<A> && !std::is_const_v<A>) ||
     (!is_task<std::remove_cvref_t<A>> && (leaf<std::remove_reference_t<A>> || foreign_awaitable<A>)));

template <class A>
inline constexpr bool keeps_result = false;
template <class A>
    requires requires { A::keeps_result; }
inline constexpr bool keeps_result<A> = A::keeps_result;

// Operations that are begun even by a task that was told to stop.
template <class A>
inline constexpr bool begins_stopped = false;
template <class A>
    requires requires { A::begins_stopped; }
inline constexpr bool begins_stopped<A> = A::begins_stopped;

// Operations that refer to others made in the same expression, and so are awaited in it.
template <class A>
inline constexpr bool awaited_where_made = false;
template <class A>
    requires requires { A::awaited_where_made; }
inline constexpr bool awaited_where_made<A> = A::awaited_where_made;

// A leaf inside a task.
template <class Op>
class leaf_await {
public:
    leaf_await(Op &op, record &task) noexcept : op_(op), task_(task) {}
    leaf_await(leaf_await &&) = delete;

    bool await_ready() {
        if (!op_.await_ready())
            return false;
        context &chain = task_.chain();
        if (chain.spend_ready())
            return true;
        chain.yielding_ = true;
        keep();
        return false;
    }

    // After the operation has said true, it may have sent this task to another thread: nothing is touched
    // then.
    bool await_suspend(std::coroutine_handle<> self) {
        context &chain = task_.chain();
        if (chain.yielding_) {
            chain.yielding_ = false;
            task_.life_ = life::suspended;
            chain.repost(self);
            return true;
        }
        chain.waiter_ = self;
        task_.life_ = life::suspended;
        if (begin(self, chain))
            return true;
        task_.life_ = life::running;
        chain.awaiting_ = nullptr;
        if (chain.spend_ready())
            return false;
        task_.life_ = life::suspended;
        keep();
        chain.repost(self);
        return true;
    }

    decltype(auto) await_resume() {
        if (!has_result()) [[unlikely]]
            throw cancelled();
        if constexpr (noexcept(op_.await_resume())) {
            return op_.await_resume();
        } else {
            try {
                return op_.await_resume();
            } catch (...) {
                note_await(task_.site_);
                throw;
            }
        }
    }

protected:
    // The task goes on: with the operation's result, or without, since it stops.
    bool has_result() noexcept {
        task_.life_ = life::running;
        context &chain = task_.chain();
        if (!chain.stopping_ && !chain.stopped_) [[likely]]
            return true;
        return !std::exchange(chain.stopped_, false) && keeps_result<Op>;
    }

private:
    bool begin(std::coroutine_handle<> self, context &chain) {
        if constexpr (noexcept(op_.await_suspend(self, chain))) {
            return op_.await_suspend(self, chain);
        } else {
            try {
                return op_.await_suspend(self, chain);
            } catch (...) {
                task_.life_ = life::running;
                throw;
            }
        }
    }
    void keep() noexcept {
        if constexpr (requires { op_.keep(); })
            op_.keep();
    }

    Op &op_;
    record &task_;
};

// What the promises of all tasks have in common.
class promise_base : public record {
public:
    struct at_end {
        bool await_ready() const noexcept { return false; }
        template <class P>
        transfer await_suspend(std::coroutine_handle<P> self) const noexcept {
            return self.promise().finish();
        }
        void await_resume() const noexcept {}
    };

    std::suspend_always initial_suspend() const noexcept { return {}; }
    at_end final_suspend() const noexcept { return {}; }

    static void *operator new(std::size_t size) { return allocate_frame(size); }
    static void operator delete(void *frame, std::size_t size) noexcept { free_frame(frame, size); }

    template <class U>
    task_await<U> await_transform(task<U> &&child,
                                  std::source_location site = std::source_location::current());

    template <class U>
    task_await<U> await_transform(unlisted_task<U> &&child);

    template <class U>
    task_await<U> await_transform(named_task<U> &&child);

    template <class U>
    outcome_await<U> await_transform(task_outcome<U> &&child);

    template <class A>
        requires(!is_task<std::remove_cvref_t<A>> && leaf<std::remove_reference_t<A>>)
    leaf_await<std::remove_reference_t<A>>
    await_transform(A &&op, std::source_location site = std::source_location::current()) {
        using op_type = std::remove_reference_t<A>;
        static_assert(!awaited_where_made<op_type> || !std::is_lvalue_reference_v<A>,
                      "parley: what this combinator was given may be gone by now: write co_await in front of "
                      "it, without naming it first (docs/tasks.md)");
        if constexpr (begins_stopped<op_type>)
            site_ = site;
        else
            enter(site);
        return {op, *this};
    }

    template <class Op>
    quiet_await<Op> await_transform(quietly<Op> &&wait);

    template <class A>
        requires foreign_in_task<A>
    foreign_await<A> await_transform(A &&awaitable,
                                     std::source_location site = std::source_location::current());

    fiber_await await_transform(fiber_turn &&turn) noexcept;

    hop_await await_transform(resume_on &&hop, std::source_location site = std::source_location::current());

    template <class A>
        requires(!awaitable_in_task<A>)
    std::suspend_never await_transform(A &&) {
        static_assert(!is_task<std::remove_cvref_t<A>>,
                      "parley: a task is awaited once, by rvalue: write co_await std::move(t), or "
                      "co_await f() without naming the task (docs/tasks.md)");
        static_assert(!is_standard_suspension<A>,
                      "parley: std::suspend_always would suspend the task for ever; to let others run, "
                      "co_await parley::yield() (docs/tasks.md)");
        static_assert(is_task<std::remove_cvref_t<A>> || is_standard_suspension<A>,
                      "parley: this is nothing a task can await. Await a task, an operation of parley or "
                      "an awaitable with await_ready, await_suspend and await_resume; wrap a callback API "
                      "in parley::from_callback (docs/tasks.md)");
        return {};
    }

    template <class U>
    std::suspend_never yield_value(U &&) {
        static_assert(!sizeof(std::type_identity<U>),
                      "parley: a task has one value, given by co_return; to let others run, co_await "
                      "parley::yield() (docs/tasks.md)");
        return {};
    }

protected:
    void enter(const std::source_location &site) {
        if (context_->stopping_) [[unlikely]]
            throw cancelled();
        site_ = site;
    }
    // Whether the exception being handled is `cancelled`.
    static bool unwinding() noexcept;
};

// The promise lies at the same place in every frame, behind two pointers, because none is aligned to more
// than 16 bytes.
inline std::coroutine_handle<> record::frame() const noexcept {
    auto &self = const_cast<promise_base &>(static_cast<const promise_base &>(*this));
    return std::coroutine_handle<promise_base>::from_promise(self);
}

template <class T>
class promise : public promise_base {
    static_assert(alignof(T) <= alignof(std::max_align_t),
                  "parley: nothing in a coroutine may be over-aligned, compilers get that wrong "
                  "(docs/compilers.md); return a unique_ptr to it");

public:
    promise() noexcept {}
    ~promise() {
        if (ending_ == ending::value)
            std::destroy_at(std::addressof(value_));
        else if (ending_ == ending::exception)
            std::destroy_at(std::addressof(exception_));
    }

    task<T> get_return_object() noexcept;

    template <class U = T>
        requires std::convertible_to<U, T>
    void return_value(U &&value) noexcept(std::is_nothrow_constructible_v<T, U>) {
        std::construct_at(std::addressof(value_), std::forward<U>(value));
        ending_ = ending::value;
    }
    void return_value(stopped_tag) noexcept { ending_ = ending::stopped; }
    void unhandled_exception() noexcept {
        if (ending_ == ending::value) // a destructor threw after co_return
            std::destroy_at(std::addressof(value_));
        if (unwinding()) {
            ending_ = ending::stopped;
        } else {
            std::construct_at(std::addressof(exception_), std::current_exception());
            ending_ = ending::exception;
        }
    }

    // The value, once; or throws.
    T take() {
        if (ending_ == ending::value) [[likely]]
            return std::move(value_);
        if (ending_ == ending::exception)
            std::rethrow_exception(std::move(exception_));
        throw cancelled();
    }
    [[nodiscard]] std::exception_ptr failure() const noexcept {
        return ending_ == ending::exception ? exception_ : nullptr;
    }

private:
    union {
        T value_;
        std::exception_ptr exception_;
    };
};

template <class T>
class promise<T &> : public promise_base {
public:
    task<T &> get_return_object() noexcept;

    void return_value(T &value) noexcept {
        value_ = std::addressof(value);
        ending_ = ending::value;
    }
    void return_value(stopped_tag) noexcept { ending_ = ending::stopped; }
    void unhandled_exception() noexcept {
        ending_ = unwinding() ? ending::stopped : ending::exception;
        if (ending_ == ending::exception)
            exception_ = std::current_exception();
    }
    T &take() {
        if (ending_ == ending::value) [[likely]]
            return *value_;
        if (ending_ == ending::exception)
            std::rethrow_exception(std::move(exception_));
        throw cancelled();
    }
    [[nodiscard]] std::exception_ptr failure() const noexcept { return exception_; }

private:
    T *value_ = nullptr;
    std::exception_ptr exception_;
};

template <>
class promise<void> : public promise_base {
public:
    task<void> get_return_object() noexcept;

    void return_void() noexcept { ending_ = ending::value; }
    void unhandled_exception() noexcept {
        ending_ = unwinding() ? ending::stopped : ending::exception;
        if (ending_ == ending::exception)
            exception_ = std::current_exception();
    }
    void take() {
        if (ending_ == ending::value) [[likely]]
            return;
        if (ending_ == ending::exception)
            std::rethrow_exception(std::move(exception_));
        throw cancelled();
    }
    [[nodiscard]] std::exception_ptr failure() const noexcept { return exception_; }

private:
    std::exception_ptr exception_;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
