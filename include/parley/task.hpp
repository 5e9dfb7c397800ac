// task<T>: a coroutine that computes a T. Calling one makes it, awaiting it runs it, and it ends before its
// awaiter goes on; so its parameters, and whatever it refers to in its caller, outlive it.
//
//     parley::task<int> twice(int x) { co_return 2 * x; }
//     parley::task<> example() { int four = co_await twice(2); }
//
// It runs on its awaiter's loop. A task that nothing awaits never runs; to start one beside oneself use
// scope::spawn (scope.hpp), from outside runtime::start (runtime.hpp). An exception that leaves it is thrown
// by its await. A capturing lambda that is a coroutine keeps its captures in the lambda, not in the task:
// give it parameters, or give the lambda itself, uncalled, to spawn, start, detach_on or with_scope, which
// keep it alive.
//
// Its frame comes from a pool; from an allocator, if the coroutine takes one as std::generator's do:
//
//     parley::task<> parse(std::allocator_arg_t, std::pmr::polymorphic_allocator<> from, document &out);
//     co_await parse(std::allocator_arg, &arena, out);
//
// std::allocator_arg_t is the first parameter (of a member function or lambda as well), any allocator, by
// value or reference, the second. A copy of it is kept with the frame and frees it; what it throws is thrown
// by the call. The tasks that such a task awaits are made as they say themselves.

#pragma once

#include <coroutine>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/detail/promise.hpp>

namespace parley::inline PARLEY_ABI {

// Movable until it is awaited; awaited once, by rvalue. Destroying one that was not awaited destroys its
// arguments.
template <class T>
class [[nodiscard]] task {
public:
    using promise_type = detail::promise<T>;
    using value_type = T;

    // Empty: awaiting it throws std::invalid_argument.
    task() noexcept = default;
    task(task &&other) noexcept : frame_(std::exchange(other.frame_, {})) {}
    task &operator=(task &&other) noexcept {
        if (this != &other) {
            reset();
            frame_ = std::exchange(other.frame_, {});
        }
        return *this;
    }
    ~task() { reset(); }

    // Whether there is something to await.
    [[nodiscard]] explicit operator bool() const noexcept { return bool(frame_); }

    // For coroutines of other libraries, on a loop of a runtime; the task runs on that loop and so does its
    // awaiter afterwards. Throws parley::exception (no_runtime) elsewhere. Inside parley's own tasks this is
    // not used.
    auto operator co_await() &&;
    template <class U = T>
    std::suspend_never operator co_await() & {
        static_assert(!sizeof(std::type_identity<U>),
                      "parley: a task is awaited once, by rvalue: write co_await std::move(t), or "
                      "co_await f() without naming the task (docs/tasks.md)");
        return {};
    }

private:
    template <class U>
    friend class detail::promise;
    friend struct detail::task_access;

    explicit task(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
    void reset() noexcept {
        if (auto frame = std::exchange(frame_, {}))
            detail::destroy_unstarted(frame.promise());
    }

    std::coroutine_handle<promise_type> frame_;
};

} // namespace parley::inline PARLEY_ABI

// --- Implementation ---

#include <parley/detail/frame_allocator.hpp>
#include <parley/detail/task_await.hpp>

#include <parley/detail/foreign.hpp>
