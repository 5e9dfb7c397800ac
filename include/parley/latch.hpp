// Waiting until a number of things have happened, once: a counter that goes down to zero, for tasks of any
// loops.
//
//     parley::latch started{8};
//
//     started.count_down();                                   // in each of eight places, on any thread
//     co_await started.wait();

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>

#include <parley/config.hpp>
#include <parley/core/Sync.h>
#include <parley/detail/wait_queue.hpp>
#include <parley/result.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {
class latch_wait;
class latch_wait_for;
} // namespace detail

// As std::latch. What was done before each count_down() has happened for those who have waited. Counting, and
// waiting for what is over, are one atomic operation each, and nothing allocates. It must live until every
// await on it has returned; destroying it while tasks wait ends the program in a debug build.
class latch final : private detail::wait_queue {
public:
    static constexpr std::size_t max = std::numeric_limits<std::size_t>::max() / 2;

    // Not more than max.
    constexpr explicit latch(std::size_t count) noexcept : state_(count * one) {}
    ~latch() { close(); }

    // Not more than are left. Any thread, with or without a loop. Resumes nobody inside.
    void count_down(std::size_t n = 1) noexcept;
    // Whether the counter is at zero. Any thread.
    [[nodiscard]] bool try_wait() const noexcept { return state_.load(sync::memory_order_acquire) < one; }

    // `co_await l.wait()`: until the counter is at zero.
    [[nodiscard]] detail::latch_wait wait() noexcept;
    // For not longer than that: result<>, with errc::timed_out.
    template <class Rep, class Period>
    [[nodiscard]] detail::latch_wait_for wait_for(std::chrono::duration<Rep, Period> limit);
    template <class Clock, class Duration>
    [[nodiscard]] detail::latch_wait_for wait_until(std::chrono::time_point<Clock, Duration> when);

    // Counts down now, and then `co_await` waits: those who wait already are not held up if the caller never
    // comes to await, because it was told to stop.
    [[nodiscard]] detail::latch_wait arrive_and_wait(std::size_t n = 1) noexcept;

private:
    friend class detail::latch_wait;
    friend class detail::latch_wait_for;

    enum : std::size_t { waited_for = 1, one = 2 }; // the counter, times two, and a bit

    const char *what() const noexcept override { return "latch"; }
    bool take_or_mark(detail::wait_entry &) noexcept override;
    void advance(detail::grants &) noexcept override;

    sync::atomic<std::size_t> state_;
};

// --- Implementation ---

namespace detail {

class [[nodiscard]] latch_wait final : public wait_entry {
public:
    explicit latch_wait(latch &l) noexcept : wait_entry(l), latch_(l) {}
    bool await_ready() const noexcept { return latch_.try_wait(); }
    void await_resume() const noexcept {}

private:
    latch &latch_;
};

class [[nodiscard]] latch_wait_for final : public timed_entry {
public:
    latch_wait_for(latch &l, std::int64_t limit) noexcept : timed_entry(l, limit), latch_(l) {}
    bool await_ready() noexcept { return latch_.try_wait() || ends_at_once(); }
    result<> await_resume() noexcept {
        if (had())
            return {};
        return unexpected(failure());
    }

private:
    latch &latch_;
};

} // namespace detail

inline detail::latch_wait latch::wait() noexcept {
    return detail::latch_wait(*this);
}
inline detail::latch_wait latch::arrive_and_wait(std::size_t n) noexcept {
    count_down(n);
    return wait();
}
template <class Rep, class Period>
detail::latch_wait_for latch::wait_for(std::chrono::duration<Rep, Period> limit) {
    return {*this, detail::nanoseconds_of(limit)};
}
template <class Clock, class Duration>
detail::latch_wait_for latch::wait_until(std::chrono::time_point<Clock, Duration> when) {
    return {*this, detail::nanoseconds_until(when)};
}

} // namespace parley::inline PARLEY_ABI
