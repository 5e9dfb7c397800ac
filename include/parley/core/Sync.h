// The words in which parley's threads talk to each other: atomics, mutexes, condition variables and threads
// under names of our own. With Sys.h the lowest stone of the house; core and the coroutine layer synchronise
// through it and through nothing else, and a program that does the same can be run in a simulated world.
//
// A `scheduler` may take the place of the kernel's: then one thread runs at a time, and who goes on at each
// of these calls is the scheduler's to say. Without one they are the standard library's, behind a test of one
// word in the operations that may enter the kernel anyway.
//
// An atomic is std::atomic and costs nothing. Compiled with PARLEY_INSTRUMENTED_ATOMICS=1 each operation on
// one asks the scheduler first, so that the same source can be run through every order in which threads could
// have met. Such an explorer sees operations on objects, not what lies between them, so there are no fences
// here: order is said at the atomic that carries it. For the same reason whoever waits for an atomic in a
// loop calls yield() in it. All that is linked together must be compiled alike.

#pragma once

#include <stdint.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>

#include "Sys.h"

#ifndef PARLEY_INSTRUMENTED_ATOMICS
#define PARLEY_INSTRUMENTED_ATOMICS 0
#endif

namespace parley::sync {

class mutex;
class condition_variable;

// Decides which thread goes on. Every function is called by the thread that it is about, which returns from
// it when it may go on.
class scheduler {
public:
    virtual ~scheduler() = default;

    virtual void lock(mutex &m) = 0;
    virtual bool try_lock(mutex &m) = 0;
    virtual void unlock(mutex &m) = 0;
    // As std::condition_variable::wait. `deadline` is a time of sys::monotonic_ns(), or -1: none.
    // False: it passed.
    virtual bool wait(condition_variable &c, mutex &m, int64_t deadline) = 0;
    virtual void notify(condition_variable &c, bool all) noexcept = 0;
    virtual void yield() noexcept = 0;
    // `operation` on the atomic `object` comes next.
    virtual void point(const void *object, const char *operation) noexcept = 0;
};

namespace detail {
inline constinit std::atomic<scheduler *> installed{nullptr};
}

// The scheduler in force; nullptr: the kernel's.
inline scheduler *current() noexcept {
    return detail::installed.load(std::memory_order_relaxed);
}

// Replaces the scheduler of the whole process; nullptr restores the kernel's. Call it as sys::install():
// while no Communicator, Executor or IOService is initialised, and nobody waits for anything in here. The
// caller keeps ownership.
inline void install(scheduler *replacement) noexcept {
    detail::installed.store(replacement, std::memory_order_seq_cst);
}

// std::mutex.
class mutex {
public:
    constexpr mutex() noexcept = default;
    mutex(const mutex &) = delete;
    mutex &operator=(const mutex &) = delete;

    void lock() {
        if (scheduler *chosen = current()) [[unlikely]]
            chosen->lock(*this);
        else
            native_.lock();
    }
    bool try_lock() {
        if (scheduler *chosen = current()) [[unlikely]]
            return chosen->try_lock(*this);
        return native_.try_lock();
    }
    void unlock() {
        if (scheduler *chosen = current()) [[unlikely]]
            chosen->unlock(*this);
        else
            native_.unlock();
    }

    // For schedulers: what is locked beneath.
    std::mutex &native() noexcept { return native_; }

private:
    std::mutex native_;
};

using std::lock_guard;
using std::scoped_lock;
using std::unique_lock;

// std::condition_variable, for the mutex above.
class condition_variable {
public:
    condition_variable() = default;
    condition_variable(const condition_variable &) = delete;
    condition_variable &operator=(const condition_variable &) = delete;

    void wait(unique_lock<mutex> &lock) {
        if (scheduler *chosen = current()) [[unlikely]] {
            chosen->wait(*this, *lock.mutex(), -1);
            return;
        }
        std::unique_lock<std::mutex> native(lock.mutex()->native(), std::adopt_lock);
        native_.wait(native);
        native.release();
    }
    template <class Predicate>
    void wait(unique_lock<mutex> &lock, Predicate over) {
        while (!over())
            wait(lock);
    }
    // What `over` says in the end. The time is real, or the simulated world's.
    template <class Rep, class Period, class Predicate>
    bool wait_for(unique_lock<mutex> &lock, std::chrono::duration<Rep, Period> time, Predicate over) {
        if (scheduler *chosen = current()) [[unlikely]] {
            int64_t deadline =
                sys::monotonic_ns() + std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
            while (!over())
                if (!chosen->wait(*this, *lock.mutex(), deadline))
                    return over();
            return true;
        }
        std::unique_lock<std::mutex> native(lock.mutex()->native(), std::adopt_lock);
        struct Release { // also when `over` throws
            std::unique_lock<std::mutex> &lock;
            ~Release() { lock.release(); }
        } release{native};
        return native_.wait_for(native, time, std::move(over));
    }
    void notify_one() noexcept {
        if (scheduler *chosen = current()) [[unlikely]]
            chosen->notify(*this, false);
        else
            native_.notify_one();
    }
    void notify_all() noexcept {
        if (scheduler *chosen = current()) [[unlikely]]
            chosen->notify(*this, true);
        else
            native_.notify_all();
    }

private:
    std::condition_variable native_;
};

// Lets others go on. Belongs into every loop that waits for an atomic.
inline void yield() noexcept {
    if (scheduler *chosen = current()) [[unlikely]]
        chosen->yield();
    else
        std::this_thread::yield();
}

// std::thread by way of sys::thread_start: it starts with signals blocked, and in a simulated world it is one
// of the world's. The callable and its arguments are copied or moved into the thread.
class thread {
public:
    thread() noexcept = default;
    // Throws std::system_error if there can be no further thread.
    template <class Callable, class... Arguments>
        requires(!std::is_same_v<std::remove_cvref_t<Callable>, thread>)
    explicit thread(Callable &&callable, Arguments &&...arguments) {
        using Call = std::tuple<std::decay_t<Callable>, std::decay_t<Arguments>...>;
        auto call =
            std::make_unique<Call>(std::forward<Callable>(callable), std::forward<Arguments>(arguments)...);
        auto run = [](void *it) {
            std::unique_ptr<Call> mine(static_cast<Call *>(it));
            std::apply([](auto &&...parts) { std::invoke(std::move(parts)...); }, std::move(*mine));
        };
        if (int error = sys::current().thread_start(&handle_, run, call.get()))
            throw std::system_error(error, std::generic_category(), "thread");
        call.release();
    }
    thread(thread &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    thread &operator=(thread &&other) noexcept {
        if (joinable())
            std::terminate();
        handle_ = std::exchange(other.handle_, nullptr);
        return *this;
    }
    ~thread() {
        if (joinable())
            std::terminate();
    }

    bool joinable() const noexcept { return handle_ != nullptr; }
    void join() { sys::current().thread_join(std::exchange(handle_, nullptr)); }

private:
    sys::thread_handle handle_ = nullptr;
};

using std::memory_order;
using std::memory_order_acq_rel;
using std::memory_order_acquire;
using std::memory_order_relaxed;
using std::memory_order_release;
using std::memory_order_seq_cst;

#if PARLEY_INSTRUMENTED_ATOMICS

// std::atomic whose every operation asks the scheduler first.
template <class T>
class atomic {
    using difference = std::conditional_t<std::is_pointer_v<T>, std::ptrdiff_t, T>;

public:
    using value_type = T;

    constexpr atomic() noexcept = default;
    constexpr atomic(T value) noexcept : value_(value) {}
    atomic(const atomic &) = delete;
    atomic &operator=(const atomic &) = delete;

    T load(memory_order order = memory_order_seq_cst) const noexcept {
        ask("load");
        return value_.load(order);
    }
    void store(T value, memory_order order = memory_order_seq_cst) noexcept {
        ask("store");
        value_.store(value, order);
    }
    T exchange(T value, memory_order order = memory_order_seq_cst) noexcept {
        ask("exchange");
        return value_.exchange(value, order);
    }
    bool compare_exchange_strong(T &expected, T desired, memory_order success,
                                 memory_order failure) noexcept {
        ask("compare_exchange");
        return value_.compare_exchange_strong(expected, desired, success, failure);
    }
    bool compare_exchange_strong(T &expected, T desired, memory_order order = memory_order_seq_cst) noexcept {
        ask("compare_exchange");
        return value_.compare_exchange_strong(expected, desired, order);
    }
    // Weak on paper: a failure without a reason would make a run differ from its repetition.
    bool compare_exchange_weak(T &expected, T desired, memory_order success, memory_order failure) noexcept {
        return compare_exchange_strong(expected, desired, success, failure);
    }
    bool compare_exchange_weak(T &expected, T desired, memory_order order = memory_order_seq_cst) noexcept {
        return compare_exchange_strong(expected, desired, order);
    }
    T fetch_add(difference value, memory_order order = memory_order_seq_cst) noexcept {
        ask("fetch_add");
        return value_.fetch_add(value, order);
    }
    T fetch_sub(difference value, memory_order order = memory_order_seq_cst) noexcept {
        ask("fetch_sub");
        return value_.fetch_sub(value, order);
    }
    T fetch_or(T value, memory_order order = memory_order_seq_cst) noexcept {
        ask("fetch_or");
        return value_.fetch_or(value, order);
    }
    T fetch_and(T value, memory_order order = memory_order_seq_cst) noexcept {
        ask("fetch_and");
        return value_.fetch_and(value, order);
    }
    operator T() const noexcept { return load(); }
    T operator=(T value) noexcept {
        store(value);
        return value;
    }
    T operator++() noexcept { return fetch_add(1) + 1; }
    T operator++(int) noexcept { return fetch_add(1); }
    T operator--() noexcept { return fetch_sub(1) - 1; }
    T operator--(int) noexcept { return fetch_sub(1); }

private:
    void ask(const char *operation) const noexcept {
        if (scheduler *chosen = current())
            chosen->point(this, operation);
    }

    std::atomic<T> value_{};
};

#else

template <class T>
using atomic = std::atomic<T>;

#endif

} // namespace parley::sync
