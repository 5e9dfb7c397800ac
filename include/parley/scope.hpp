// Children that cannot get lost: a scope owns the tasks that are spawned in it, and does not end before them.
//
//     co_await parley::with_scope([&](parley::scope& peers) -> parley::task<> {
//         while (auto peer = co_await door.accept())
//             peers.spawn(echo(std::move(*peer)));
//     });                                            // here every echo has ended
//
// All of a scope happens on one loop, so it needs no lock and neither do children that share data with one
// another.

#pragma once

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#include <parley/config.hpp>
#include <parley/detail/callable.hpp>
#include <parley/detail/join.hpp>
#include <parley/detail/root.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {

class scope_base;

template <class F>
inline constexpr bool makes_value = false;
template <class F>
    requires std::invocable<F &>
inline constexpr bool makes_value<F> =
    is_task<std::invoke_result_t<F &>> && !std::same_as<std::invoke_result_t<F &>, task<void>>;

template <class F>
constexpr void refuse_to_spawn() {
    using given = std::remove_cvref_t<F>;
    static_assert(!std::same_as<given, task<void>>,
                  "parley: a task is given by rvalue: write std::move(t), or spawn(f()) without naming the "
                  "task (docs/tasks.md)");
    static_assert(std::same_as<given, task<void>> || (!is_task<given> && !makes_value<given>),
                  "parley: spawn takes a task<>: nobody would see the value of this one. Write a task<> "
                  "that awaits it and does something with the value");
    static_assert(is_task<given> || makes_value<given>,
                  "parley: spawn takes a task<>, or a function without parameters that makes one. An "
                  "operation such as peer.recv() is awaited by a task<>: spawn that (docs/tasks.md)");
}

} // namespace detail

// Made by with_scope(), and alive until it returns. On its loop only.
class scope {
public:
    // Starts a child: it first runs when the caller suspends. The child's frame, and the arguments in it,
    // live until the child ends. If the scope has been cancelled the child does not begin and is destroyed
    // here.
    void spawn(task<void> &&child);

    // The same for a function that makes the task; it is kept as long as the child lives, so a lambda that
    // captures what it needs is fine.
    template <class F>
        requires std::same_as<std::invoke_result_t<std::decay_t<F> &>, task<void>>
    void spawn(F &&make_child) {
        spawn(detail::call_kept(std::decay_t<F>(std::forward<F>(make_child))));
    }

    // Anything else is refused, with a sentence that says why.
    template <class F>
    void spawn(F &&) {
        detail::refuse_to_spawn<F>();
    }

    // Tells the body and every child to stop, and those that are spawned later not to begin. Returns at once;
    // idempotent. Calling it is no failure: with_scope() then returns normally once they have ended.
    void cancel() noexcept;
    [[nodiscard]] bool cancelled() const noexcept { return cancelled_; }

    // Children that have not ended, without the body.
    [[nodiscard]] std::size_t children() const noexcept;

    scope(const scope &) = delete;
    scope &operator=(const scope &) = delete;

private:
    friend class detail::scope_base;
    scope() = default;
    ~scope() = default;

    detail::scope_base &base() noexcept;
    const detail::scope_base &base() const noexcept;

    bool cancelled_ = false;
};

// --- Implementation ---

namespace detail {

// A scope while it is awaited: what spawns, cancels and joins.
class scope_base : public scope, protected join_base {
public:
    using join_base::await_ready;
    // What a scope has to say, a child's exception above all, is not dropped because its task was told to
    // stop.
    static constexpr bool keeps_result = true;

protected:
    explicit scope_base(std::vector<std::exception_ptr> *others) noexcept : others_(others) {}
    ~scope_base() = default;

    // Before the body is made: the function that makes it may spawn.
    void prepare(context &task) noexcept;
    // After that; without a body `failure` says why. False if there is nothing to wait for.
    bool enter(record *body, std::exception_ptr failure) noexcept;
    // At the end: throws what a child threw first, or `cancelled` if the task is to stop.
    void rethrow() const;

    virtual std::exception_ptr body_failure() const noexcept = 0;

private:
    friend class parley::scope;

    void fail(std::exception_ptr failure) noexcept;

    void cancel_children() noexcept final;
    const char *name() const noexcept final { return "scope"; }
    void ended(record &child) noexcept final;

    record *body_ = nullptr; // while it runs
    std::exception_ptr failure_;
    std::vector<std::exception_ptr> *others_;
};

template <class F>
class [[nodiscard]] scope_await final : public scope_base {
    using body_task = std::invoke_result_t<F &, scope &>;
    using value = typename body_task::value_type;

public:
    scope_await(F &&body,
                std::vector<std::exception_ptr> *others) noexcept(std::is_nothrow_constructible_v<F, F &&>)
        : scope_base(others), make_body_(std::forward<F>(body)) {}
    ~scope_await() {
        if (body_)
            body_.destroy();
    }

    bool await_suspend(std::coroutine_handle<>, context &task) noexcept {
        if (body_) // awaited before
            std::exchange(body_, {}).destroy();
        this->prepare(task);
        std::exception_ptr failure;
        try {
            body_task made = std::invoke(make_body_, static_cast<scope &>(*this));
            if (!made)
                throw_empty_task();
            body_ = task_access::release(made);
        } catch (...) {
            failure = std::current_exception();
        }
        return this->enter(body_ ? &body_.promise() : nullptr, std::move(failure));
    }

    value await_resume() {
        this->rethrow();
        if (body_.promise().ending() == ending::value)
            return body_.promise().take();
        if constexpr (!std::is_void_v<value>)
            throw_stopped();
    }

private:
    std::exception_ptr body_failure() const noexcept override { return body_.promise().failure(); }

    F make_body_;
    std::coroutine_handle<promise<value>> body_;
};

} // namespace detail

// `co_await with_scope(body)`: runs `body(scope&)`, a function that makes a task<T>, and ends with its value
// when the body and all children have ended. The first exception, of the body or of a child, cancels the
// others and is thrown here after they have ended; the exceptions that these end with are appended to
// `others` if that is given, and attached to the first if not: other_exceptions() has them, and a report of
// the first on standard error names them. If the body was stopped by scope::cancel() there is no value: a
// task<> returns normally, others throw parley::exception with errc::stopping.
template <class F>
    requires std::invocable<std::remove_reference_t<F> &, scope &>
auto with_scope(F &&body) {
    detail::check_callable<F>();
    static_assert(detail::is_task<std::invoke_result_t<F &, scope &>>,
                  "parley: the body of with_scope makes a task: "
                  "[&](parley::scope& s) -> parley::task<> { ... }");
    return detail::scope_await<F>(std::forward<F>(body), nullptr);
}
template <class F>
    requires std::invocable<std::remove_reference_t<F> &, scope &>
auto with_scope(std::vector<std::exception_ptr> &others, F &&body) {
    detail::check_callable<F>();
    static_assert(detail::is_task<std::invoke_result_t<F &, scope &>>,
                  "parley: the body of with_scope makes a task: "
                  "[&](parley::scope& s) -> parley::task<> { ... }");
    return detail::scope_await<F>(std::forward<F>(body), &others);
}
// What is no such function is refused, with a sentence that says why.
template <class F>
void with_scope(F &&) {
    static_assert(std::invocable<std::remove_reference_t<F> &, scope &>,
                  "parley: the body of with_scope takes a parley::scope& and makes a task: "
                  "[&](parley::scope& s) -> parley::task<> { ... } (docs/tasks.md)");
}

} // namespace parley::inline PARLEY_ABI
