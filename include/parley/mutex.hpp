// Mutual exclusion between tasks, also of different loops: a task that must wait gives its loop to others. To
// let readers in together take shared_mutex; for several places, semaphore.
//
//     parley::mutex door;                                     // in your own structure, or static
//
//     auto guard = co_await door.lock();                      // unlocks at the end of the block
//     if (auto soon = co_await door.lock_for(100ms)) ...      // result<mutex::guard>: errc::timed_out

#pragma once

#include <chrono>
#include <cstdint>
#include <utility>

#include <parley/config.hpp>
#include <parley/core/Sync.h>
#include <parley/detail/wait_queue.hpp>
#include <parley/result.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {
class mutex_lock;
class mutex_lock_for;
class relock;
} // namespace detail

// Fair: unlocking hands the lock to the task that has waited longest, and nobody comes in between. Not
// recursive. Locking and unlocking are one atomic operation each while nobody waits, and allocate nothing in
// any case. It must live until every await on it has returned and no task holds it; destroying it while tasks
// wait ends the program in a debug build.
class mutex final : private detail::wait_queue {
public:
    // Holds the lock and unlocks at its end, or holds nothing. May be moved, and unlocked by any thread.
    class [[nodiscard]] guard {
    public:
        constexpr guard() noexcept = default;
        guard(guard &&other) noexcept : held_(std::exchange(other.held_, nullptr)) {}
        guard &operator=(guard &&other) noexcept {
            guard moved(std::move(other));
            std::swap(held_, moved.held_);
            return *this;
        }
        ~guard() { unlock(); }

        // Before the end of the block. Does nothing without a lock.
        void unlock() noexcept {
            if (held_)
                std::exchange(held_, nullptr)->unlock();
        }
        // The lock is kept, and mutex::unlock() is left to the caller. nullptr if there is none.
        mutex *release() noexcept { return std::exchange(held_, nullptr); }
        // Whether it holds a lock.
        explicit operator bool() const noexcept { return held_ != nullptr; }
        [[nodiscard]] bool owns_lock() const noexcept { return held_ != nullptr; }

    private:
        friend class mutex;
        friend class condition;
        friend class detail::mutex_lock;
        friend class detail::mutex_lock_for;
        explicit guard(mutex &held) noexcept : held_(&held) {}

        mutex *held_ = nullptr;
    };

    constexpr mutex() noexcept = default;
    ~mutex() { close(); }

    // `co_await m.lock()`: a guard. A task that gets the lock although it was told to stop has it; its next
    // await throws `cancelled`.
    [[nodiscard]] detail::mutex_lock lock() noexcept;
    // As lock(), for not longer than that: result<guard>, with errc::timed_out. Without time left it is
    // try_lock().
    template <class Rep, class Period>
    [[nodiscard]] detail::mutex_lock_for lock_for(std::chrono::duration<Rep, Period> limit);
    template <class Clock, class Duration>
    [[nodiscard]] detail::mutex_lock_for lock_until(std::chrono::time_point<Clock, Duration> when);

    // An empty guard if the lock is held. Any thread, with or without a loop.
    [[nodiscard]] guard try_lock() noexcept { return take() ? guard(*this) : guard(); }

    // Of a lock that was released from its guard. Any thread. Resumes nobody inside.
    void unlock() noexcept {
        std::uintptr_t seen = locked;
        if (!state_.compare_exchange_strong(seen, 0, sync::memory_order_release, sync::memory_order_relaxed))
            hand_over();
    }

private:
    friend class detail::mutex_lock;
    friend class detail::mutex_lock_for;
    friend class detail::relock;
    friend class condition;

    enum : std::uintptr_t { locked = 1, waited_for = 2 }; // the second never without the first

    bool take() noexcept {
        std::uintptr_t seen = 0;
        return state_.compare_exchange_strong(seen, locked, sync::memory_order_acquire,
                                              sync::memory_order_relaxed);
    }
    void hand_over() noexcept;

    const char *what() const noexcept override { return "mutex"; }
    bool take_or_mark(detail::wait_entry &) noexcept override;
    void advance(detail::grants &) noexcept override;

    sync::atomic<std::uintptr_t> state_{0};
};

// --- Implementation ---

namespace detail {

class [[nodiscard]] mutex_lock final : public wait_entry {
public:
    static constexpr bool keeps_result = true;

    explicit mutex_lock(mutex &m) noexcept : wait_entry(m), mutex_(m) {}
    bool await_ready() noexcept { return mutex_.take(); }
    mutex::guard await_resume() noexcept { return mutex::guard(mutex_); }

private:
    mutex &mutex_;
};

class [[nodiscard]] mutex_lock_for final : public timed_entry {
public:
    static constexpr bool keeps_result = true;

    mutex_lock_for(mutex &m, std::int64_t limit) noexcept : timed_entry(m, limit), mutex_(m) {}
    bool await_ready() noexcept { return mutex_.take() || ends_at_once(); }
    result<mutex::guard> await_resume() noexcept {
        if (had())
            return mutex::guard(mutex_);
        return unexpected(failure());
    }

private:
    mutex &mutex_;
};

} // namespace detail

inline detail::mutex_lock mutex::lock() noexcept {
    return detail::mutex_lock(*this);
}
template <class Rep, class Period>
detail::mutex_lock_for mutex::lock_for(std::chrono::duration<Rep, Period> limit) {
    return detail::mutex_lock_for(*this, detail::nanoseconds_of(limit));
}
template <class Clock, class Duration>
detail::mutex_lock_for mutex::lock_until(std::chrono::time_point<Clock, Duration> when) {
    return detail::mutex_lock_for(*this, detail::nanoseconds_until(when));
}

} // namespace parley::inline PARLEY_ABI
