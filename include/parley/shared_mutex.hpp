// A lock that many readers hold together, or one writer alone, between tasks of any loops. Where readers are
// quick, mutex is quicker.
//
//     parley::shared_mutex gate;
//
//     auto reading = co_await gate.lock_shared();
//     auto writing = co_await gate.lock();

#pragma once

#include <chrono>
#include <cstdint>
#include <utility>

#include <parley/config.hpp>
#include <parley/core/Sync.h>
#include <parley/detail/wait_queue.hpp>
#include <parley/result.hpp>

namespace parley::inline PARLEY_ABI {

class shared_mutex;

namespace detail {
enum class hold_as : std::uint8_t { writer, reader };
template <hold_as How>
class shared_mutex_lock;
template <hold_as How>
class shared_mutex_lock_for;

// Holds a shared_mutex in one of its ways and gives it back at its end, or holds nothing.
template <hold_as How>
class [[nodiscard]] shared_mutex_guard {
public:
    constexpr shared_mutex_guard() noexcept = default;
    shared_mutex_guard(shared_mutex_guard &&other) noexcept : held_(std::exchange(other.held_, nullptr)) {}
    shared_mutex_guard &operator=(shared_mutex_guard &&other) noexcept {
        shared_mutex_guard moved(std::move(other));
        std::swap(held_, moved.held_);
        return *this;
    }
    ~shared_mutex_guard() { unlock(); }

    // Before the end of the block. Any thread; does nothing without a lock.
    void unlock() noexcept;
    // The lock is kept, and unlock() or unlock_shared() is left to the caller. nullptr if there is none.
    shared_mutex *release() noexcept { return std::exchange(held_, nullptr); }
    // Whether it holds a lock.
    explicit operator bool() const noexcept { return held_ != nullptr; }
    [[nodiscard]] bool owns_lock() const noexcept { return held_ != nullptr; }

private:
    friend class parley::shared_mutex;
    friend class shared_mutex_lock<How>;
    friend class shared_mutex_lock_for<How>;
    explicit shared_mutex_guard(shared_mutex &held) noexcept : held_(&held) {}

    shared_mutex *held_ = nullptr;
};

} // namespace detail

// Fair: first come, first served. A writer that waits stops the readers that come after it; readers that
// follow each other in the queue are let in together. Not recursive: a reader that asks again while a writer
// waits, waits for itself. Locking and unlocking are one atomic operation each while nobody waits, and
// allocate nothing in any case. It must live until every await on it has returned and nobody holds it;
// destroying it while tasks wait ends the program in a debug build.
class shared_mutex final : private detail::wait_queue {
    using writer_lock = detail::shared_mutex_lock<detail::hold_as::writer>;
    using reader_lock = detail::shared_mutex_lock<detail::hold_as::reader>;
    using writer_lock_for = detail::shared_mutex_lock_for<detail::hold_as::writer>;
    using reader_lock_for = detail::shared_mutex_lock_for<detail::hold_as::reader>;

public:
    using guard = detail::shared_mutex_guard<detail::hold_as::writer>;
    using shared_guard = detail::shared_mutex_guard<detail::hold_as::reader>;

    constexpr shared_mutex() noexcept = default;
    ~shared_mutex() { close(); }

    // `co_await m.lock()`: a guard. `co_await m.lock_shared()`: a shared_guard. A task that gets the lock
    // although it was told to stop has it; its next await throws `cancelled`.
    [[nodiscard]] writer_lock lock() noexcept;
    [[nodiscard]] reader_lock lock_shared() noexcept;
    // The same for not longer than that: a result, with errc::timed_out. Without time left it is a try.
    template <class Rep, class Period>
    [[nodiscard]] writer_lock_for lock_for(std::chrono::duration<Rep, Period> limit);
    template <class Clock, class Duration>
    [[nodiscard]] writer_lock_for lock_until(std::chrono::time_point<Clock, Duration> when);
    template <class Rep, class Period>
    [[nodiscard]] reader_lock_for lock_shared_for(std::chrono::duration<Rep, Period> limit);
    template <class Clock, class Duration>
    [[nodiscard]] reader_lock_for lock_shared_until(std::chrono::time_point<Clock, Duration> when);

    // An empty guard if it would have to wait. Any thread, with or without a loop.
    [[nodiscard]] guard try_lock() noexcept { return take() ? guard(*this) : guard(); }
    [[nodiscard]] shared_guard try_lock_shared() noexcept {
        return take_shared() ? shared_guard(*this) : shared_guard();
    }

    // Of a lock that was released from its guard. Any thread. Resumes nobody inside.
    void unlock() noexcept {
        std::uintptr_t seen = writing;
        if (!state_.compare_exchange_strong(seen, 0, sync::memory_order_release, sync::memory_order_relaxed))
            leave(writing);
    }
    void unlock_shared() noexcept {
        std::uintptr_t seen = state_.load(sync::memory_order_relaxed);
        while (!(seen & waited_for))
            if (state_.compare_exchange_weak(seen, seen - reader, sync::memory_order_release,
                                             sync::memory_order_relaxed))
                return;
        leave(reader);
    }

private:
    template <detail::hold_as How>
    friend class detail::shared_mutex_lock;
    template <detail::hold_as How>
    friend class detail::shared_mutex_lock_for;

    // The number of readers, times four, and two bits.
    enum : std::uintptr_t { waited_for = 1, writing = 2, reader = 4 };

    bool take() noexcept {
        std::uintptr_t seen = 0;
        return state_.compare_exchange_strong(seen, writing, sync::memory_order_acquire,
                                              sync::memory_order_relaxed);
    }
    bool take_shared() noexcept {
        std::uintptr_t seen = state_.load(sync::memory_order_relaxed);
        while (!(seen & (waited_for | writing)))
            if (state_.compare_exchange_weak(seen, seen + reader, sync::memory_order_acquire,
                                             sync::memory_order_relaxed))
                return true;
        return false;
    }
    bool take(detail::hold_as how) noexcept {
        return how == detail::hold_as::writer ? take() : take_shared();
    }
    void leave(std::uintptr_t share) noexcept;

    const char *what() const noexcept override { return "shared_mutex"; }
    bool take_or_mark(detail::wait_entry &) noexcept override;
    void advance(detail::grants &) noexcept override;

    sync::atomic<std::uintptr_t> state_{0};
};

// --- Implementation ---

namespace detail {

template <hold_as How>
void shared_mutex_guard<How>::unlock() noexcept {
    if (!held_)
        return;
    if constexpr (How == hold_as::writer)
        std::exchange(held_, nullptr)->unlock();
    else
        std::exchange(held_, nullptr)->unlock_shared();
}

template <hold_as How>
class [[nodiscard]] shared_mutex_lock final : public wait_entry {
public:
    static constexpr bool keeps_result = true;

    explicit shared_mutex_lock(shared_mutex &m) noexcept
        : wait_entry(m, static_cast<std::size_t>(How)), mutex_(m) {}
    bool await_ready() noexcept { return mutex_.take(How); }
    shared_mutex_guard<How> await_resume() noexcept { return shared_mutex_guard<How>(mutex_); }

private:
    shared_mutex &mutex_;
};

template <hold_as How>
class [[nodiscard]] shared_mutex_lock_for final : public timed_entry {
public:
    static constexpr bool keeps_result = true;

    shared_mutex_lock_for(shared_mutex &m, std::int64_t limit) noexcept
        : timed_entry(m, limit, static_cast<std::size_t>(How)), mutex_(m) {}
    bool await_ready() noexcept { return mutex_.take(How) || ends_at_once(); }
    result<shared_mutex_guard<How>> await_resume() noexcept {
        if (had())
            return shared_mutex_guard<How>(mutex_);
        return unexpected(failure());
    }

private:
    shared_mutex &mutex_;
};

} // namespace detail

inline auto shared_mutex::lock() noexcept -> writer_lock {
    return writer_lock(*this);
}
inline auto shared_mutex::lock_shared() noexcept -> reader_lock {
    return reader_lock(*this);
}
template <class Rep, class Period>
auto shared_mutex::lock_for(std::chrono::duration<Rep, Period> limit) -> writer_lock_for {
    return writer_lock_for(*this, detail::nanoseconds_of(limit));
}
template <class Clock, class Duration>
auto shared_mutex::lock_until(std::chrono::time_point<Clock, Duration> when) -> writer_lock_for {
    return writer_lock_for(*this, detail::nanoseconds_until(when));
}
template <class Rep, class Period>
auto shared_mutex::lock_shared_for(std::chrono::duration<Rep, Period> limit) -> reader_lock_for {
    return reader_lock_for(*this, detail::nanoseconds_of(limit));
}
template <class Clock, class Duration>
auto shared_mutex::lock_shared_until(std::chrono::time_point<Clock, Duration> when) -> reader_lock_for {
    return reader_lock_for(*this, detail::nanoseconds_until(when));
}

} // namespace parley::inline PARLEY_ABI
