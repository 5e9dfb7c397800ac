// Straight-line code that is no coroutine and awaits all the same: for libraries that call back and want the
// answer at once, and for recursion through code that is not ours. It runs on a stack of its own.
//
//     co_await parley::in_fiber([&] {
//         qsort_r(names, count, sizeof *names, compare, &ranks);    // compare() is a plain C callback and
//     });                                                           // calls parley::await(ranks.request(...))
//
// For the loop, for limits of time, cancelling and all who look on, what the fiber awaits is awaited by the
// task in its stead.

#pragma once

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/detail/callable.hpp>
#include <parley/detail/promise.hpp>
#include <parley/resume_on.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {

class fiber_options {
public:
    fiber_options() noexcept = default;

    // Bytes, rounded up to whole pages; only what is touched takes memory. Below the stack lie pages without
    // access: an overflow ends the program (SIGSEGV) before it harms anything. Throws std::invalid_argument
    // below 16 KiB.
    fiber_options &stack_size(std::size_t bytes);
    [[nodiscard]] std::size_t stack_size() const noexcept { return stack_size_; }

private:
    std::size_t stack_size_ = std::size_t{256} * 1024;
};

// --- Implementation ---

namespace detail {

class fiber_stack;
class fiber_switch;

// A call on a stack of its own. It lives in the frame of the task that drives it and never leaves its thread.
//
// What the call awaits is begun on the loop's own stack, after the fiber has left its: so nothing of the
// loop's or the core's ever runs on the small stack.
class fiber {
public:
    fiber(const fiber &) = delete;
    fiber &operator=(const fiber &) = delete;

    // The one whose call is running on this thread. Throws std::logic_error outside.
    [[nodiscard]] static fiber &current();
    [[nodiscard]] promise_base &driver() const noexcept { return *driver_; }

    // For the call: leaves the stack until the driver goes on after `awaiter`, which is what await_transform
    // made. Throws what awaiter.await_suspend() throws.
    template <class Awaiter>
    void wait(Awaiter &awaiter) {
        begin_ = &begin<Awaiter>;
        awaiter_ = &awaiter;
        leave();
    }

    // For the driver: the call goes on until it awaits or has ended. Whoever goes on then.
    transfer go_on(promise_base &driver) noexcept;
    [[nodiscard]] bool ended() const noexcept { return ended_; }
    // After the end: throws what the call threw.
    void rethrow();

protected:
    // Throws std::system_error (ENOMEM, EAGAIN) if there is no stack.
    explicit fiber(const fiber_options &options);
    ~fiber();

private:
    friend class fiber_switch;

    virtual void call() = 0;
    void leave();

    template <class Awaiter>
    static transfer begin(fiber &self) {
        auto &awaiter = *static_cast<Awaiter *>(self.awaiter_);
        const auto driver = std::coroutine_handle<promise_base>::from_promise(*self.driver_);
        if constexpr (std::same_as<decltype(awaiter.await_suspend(driver)), bool>) {
            self.at_once_ = !awaiter.await_suspend(driver);
            return loop_access::rest();
        } else {
            return awaiter.await_suspend(driver);
        }
    }

    fiber_stack &stack_;
    void *inside_;            // where the call goes on
    void *outside_ = nullptr; // where its driver does
    promise_base *driver_ = nullptr;
    transfer (*begin_)(fiber &) = nullptr; // of what the call awaits
    void *awaiter_ = nullptr;
    std::exception_ptr failure_; // of beginning that, or what the call ended with
    bool at_once_ = false;       // it was done at once
    bool ended_ = false;
    // Of the thread, which does not change: where it keeps the running fiber and its account of exceptions.
    fiber **const running_;
    void *const exceptions_;
    void *caught_ = nullptr; // that account of the call's, while it is left
    unsigned uncaught_ = 0;
    // For the sanitizers: their names of the two stacks, or where the driver's lies.
    [[maybe_unused]] void *own_side_ = nullptr;
    [[maybe_unused]] const void *driver_side_ = nullptr;
    [[maybe_unused]] std::size_t driver_side_size_ = 0;
};

// `co_await fiber_turn(f)`, by the driver.
class fiber_turn {
public:
    explicit fiber_turn(fiber &f) noexcept : fiber_(f) {}

private:
    friend class promise_base;
    fiber &fiber_;
};

class fiber_await {
public:
    explicit fiber_await(fiber &f) noexcept : fiber_(f) {}
    fiber_await(fiber_await &&) = delete;

    bool await_ready() const noexcept { return false; }
    template <class P>
    transfer await_suspend(std::coroutine_handle<P> driver) const noexcept {
        return fiber_.go_on(driver.promise());
    }
    void await_resume() const noexcept {}

private:
    fiber &fiber_;
};

inline fiber_await promise_base::await_transform(fiber_turn &&turn) noexcept {
    return fiber_await(turn.fiber_);
}

template <class F>
class fiber_call final : public fiber {
public:
    using value = std::invoke_result_t<F &>;

    fiber_call(const fiber_options &options, F &f) : fiber(options), f_(f) {}

    value take() {
        rethrow();
        if constexpr (std::is_reference_v<value>)
            return static_cast<value>(**value_);
        else if constexpr (!std::is_void_v<value>)
            return std::move(*value_);
    }

private:
    struct nothing {};
    using stored = std::conditional_t<
        std::is_void_v<value>, nothing,
        std::conditional_t<std::is_reference_v<value>, std::add_pointer_t<value>, std::remove_cv_t<value>>>;

    void call() override {
        if constexpr (std::is_void_v<value>) {
            std::invoke(f_);
        } else if constexpr (std::is_reference_v<value>) {
            auto &&result = std::invoke(f_);
            value_.emplace(std::addressof(result));
        } else {
            value_.emplace(std::invoke(f_));
        }
    }

    F &f_;
    std::optional<stored> value_;
};

template <class F>
task<std::invoke_result_t<std::remove_reference_t<F> &>> drive(fiber_options options, F f) {
    fiber_call<std::remove_reference_t<F>> running(options, f);
    while (!running.ended())
        co_await fiber_turn(running);
    co_return running.take();
}

} // namespace detail

// `co_await in_fiber(f)`: calls f() on a stack of its own, on this loop; gives its value or throws its
// exception. f is kept by reference if it has a name and by value if not. Throws std::system_error if there
// is no memory for a stack; a thread keeps up to 64 of them for the next.
//
// A cancel makes the await() that f is in, and every later one, throw `cancelled`, which unwinds the stack. C
// code between is unwound only if it was compiled with -fexceptions (Debian's C library is, where it calls
// back); elsewhere catch it in the callback, have the library stop by its own means, and throw it again
// behind it. A call that does not await runs to its end, and its loop with it.
template <class F>
    requires std::invocable<std::remove_reference_t<F> &>
[[nodiscard]] auto in_fiber(const fiber_options &options, F &&f) {
    detail::check_callable<F>();
    return detail::drive<F>(options, std::forward<F>(f));
}
template <class F>
    requires std::invocable<std::remove_reference_t<F> &>
[[nodiscard]] auto in_fiber(F &&f) {
    detail::check_callable<F>();
    return detail::drive<F>(fiber_options(), std::forward<F>(f));
}

// As `co_await awaitable` in a task, from a function that in_fiber() called, however deep below it, in a catch
// block too; errno stays what it was. Throws std::logic_error outside of a fiber. In a destructor, or another
// function that may not throw, of a fiber that may be cancelled: await(shield(...)) alone, since the throw
// would end the program.
template <class A>
decltype(auto) await(A &&awaitable, std::source_location site = std::source_location::current()) {
    static_assert(!std::same_as<std::remove_cvref_t<A>, resume_on>,
                  "parley: a fiber never leaves its loop; co_await resume_on() around in_fiber() "
                  "(docs/fibers.md)");
    static_assert(
        detail::awaitable_in_task<A>,
        "parley: this is nothing a fiber can await. Give await() a task, by rvalue, an operation of "
        "parley or an awaitable of another library (docs/fibers.md)");
    detail::fiber &self = detail::fiber::current();
    auto awaiter = self.driver().await_transform(std::forward<A>(awaitable), site);
    if (!awaiter.await_ready())
        self.wait(awaiter);
    using value = decltype(awaiter.await_resume());
    if constexpr (std::is_rvalue_reference_v<value>) // it may point into the awaiter
        return std::remove_reference_t<value>(awaiter.await_resume());
    else
        return awaiter.await_resume();
}

} // namespace parley::inline PARLEY_ABI
