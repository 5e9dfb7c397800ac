// So many in a second, between tasks of any loops: a token bucket.
//
//     parley::rate_limiter limit{100.0, 10};                  // 100 a second, and 10 at once after a rest
//
//     co_await limit.acquire();
//     co_await wire.acquire(message.size());                  // parley::rate_limiter wire{1e6, 65536}: bytes
//     if (limit.try_acquire()) ...

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include <parley/config.hpp>
#include <parley/core/Sync.h>
#include <parley/detail/wait_queue.hpp>
#include <parley/result.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {
class rate_wait;
class rate_acquire;
class rate_acquire_for;
} // namespace detail

// The bucket holds up to `burst` tokens, is full at the beginning, and gains `rate` tokens a second; each
// acquire(n) takes n of them. Fair: first come, first served, also when the first wants many and those behind
// it few. The time is the loops' own. What one acquire(n) costs is rounded up to a nanosecond. Taking tokens
// that are there is reading the clock and one atomic operation; nothing allocates. It must live until every
// await on it has returned; destroying it while tasks wait ends the program in a debug build.
class rate_limiter final : private detail::wait_queue {
public:
    // Throws std::invalid_argument if rate is not positive and finite, burst is 0, or filling the bucket would
    // take more than 30 years.
    rate_limiter(double rate, std::size_t burst);
    ~rate_limiter() { close(); }

    // `co_await l.acquire(n)`: until there are n tokens and it is this task's turn; takes them. More than
    // `burst` at once would never be there: std::invalid_argument. A task that gets them although it was told
    // to stop goes on; its next await throws `cancelled`. Tokens of a task that was stopped before are not
    // taken. Throws parley::exception if the core can take no timer.
    [[nodiscard]] detail::rate_acquire acquire(std::size_t n = 1);
    // For not longer than that: result<>, with errc::timed_out, and then nothing is taken. Without time left
    // it is a try.
    template <class Rep, class Period>
    [[nodiscard]] detail::rate_acquire_for acquire_for(std::chrono::duration<Rep, Period> limit,
                                                       std::size_t n = 1);
    template <class Clock, class Duration>
    [[nodiscard]] detail::rate_acquire_for acquire_until(std::chrono::time_point<Clock, Duration> when,
                                                         std::size_t n = 1);

    // False if there are not n, or others wait. Any thread, with or without a loop.
    [[nodiscard]] bool try_acquire(std::size_t n = 1) noexcept;

    [[nodiscard]] double rate() const noexcept { return rate_; }
    [[nodiscard]] std::size_t burst() const noexcept { return burst_; }

private:
    friend class detail::rate_wait;

    // What stands in the word, times two and beside the bit for waiters: tokens come in a steady stream, and
    // up to this moment, in nanoseconds of monotonic_now(), they are used up. Those since then are in the
    // bucket, but for what has run over because it is longer ago than filling takes.
    enum : std::int64_t { waited_for = 1 };

    [[nodiscard]] std::int64_t cost(std::size_t n) const noexcept; // in nanoseconds
    // The word after taking what costs that much, or the same word if it cannot be taken now.
    [[nodiscard]] std::int64_t after(std::int64_t word, std::int64_t cost, std::int64_t now) const noexcept;
    [[nodiscard]] std::size_t checked(std::size_t n) const;

    const char *what() const noexcept override { return "rate_limiter"; }
    bool take_or_mark(detail::wait_entry &) noexcept override;
    void advance(detail::grants &) noexcept override;

    const double rate_;
    const std::size_t burst_;
    const std::int64_t fill_; // nanoseconds from empty to full
    sync::atomic<std::int64_t> state_;
};

// --- Implementation ---

namespace detail {

// One who waits for tokens. Only the first in the queue watches the clock for them, on its own loop: whoever
// becomes the first is told so by a posted node, as is who gets the tokens. The wait ends when neither the
// node nor the timer is under way.
class rate_wait : public wait_entry, private SleepSession {
public:
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;

protected:
    rate_wait(rate_limiter &limiter, std::int64_t limit, std::size_t n) noexcept
        : wait_entry(limiter, n), limiter_(limiter), limit_(limit) {}
    ~rate_wait() = default;

    bool ready() noexcept;
    [[nodiscard]] bool had() const noexcept { return fate_ == fate::open; }
    [[nodiscard]] parley::error failure() const noexcept;

private:
    friend class parley::rate_limiter;
    enum class fate : std::uint8_t { open, timed_out, stopped, failed }; // open: granted, in the end
    struct node : CommNode {
        rate_wait *of;
    };

    void granted() noexcept override;
    void cancel() noexcept override;
    int duration(struct timespec *value) override;
    void handle(int state, int error) override;
    bool handle_in_place() override { return true; }

    void look() noexcept;
    void leave(fate why) noexcept;
    void settle() noexcept;
    void arm(std::int64_t until) noexcept;

    rate_limiter &limiter_;
    std::int64_t limit_; // nanoseconds
    std::int64_t begun_ = 0;
    std::int64_t end_ = 0;   // by which it wants to have them
    std::int64_t until_ = 0; // of the timer
    std::int64_t elapsed_ = 0;
    node node_;
    int errno_ = 0;
    fate fate_ = fate::open;
    bool armed_ = false;
    bool signalled_ = false; // the node is under way; under the limiter's mutex
    bool leads_ = false;     // knows, or will be told, that it is the first; under the limiter's mutex
};

class [[nodiscard]] rate_acquire final : public rate_wait {
public:
    static constexpr bool keeps_result = true;

    rate_acquire(rate_limiter &l, std::size_t n) noexcept : rate_wait(l, sleep_await::for_ever, n) {}
    bool await_ready() noexcept { return ready(); }
    void await_resume() const {
        if (!had())
            throw exception(failure());
    }
};

class [[nodiscard]] rate_acquire_for final : public rate_wait {
public:
    static constexpr bool keeps_result = true;

    rate_acquire_for(rate_limiter &l, std::int64_t limit, std::size_t n) noexcept : rate_wait(l, limit, n) {}
    bool await_ready() noexcept { return ready(); }
    result<> await_resume() const noexcept {
        if (had())
            return {};
        return unexpected(failure());
    }
};

} // namespace detail

inline detail::rate_acquire rate_limiter::acquire(std::size_t n) {
    return {*this, checked(n)};
}
template <class Rep, class Period>
detail::rate_acquire_for rate_limiter::acquire_for(std::chrono::duration<Rep, Period> limit, std::size_t n) {
    return {*this, detail::nanoseconds_of(limit), checked(n)};
}
template <class Clock, class Duration>
detail::rate_acquire_for rate_limiter::acquire_until(std::chrono::time_point<Clock, Duration> when,
                                                     std::size_t n) {
    return {*this, detail::nanoseconds_until(when), checked(n)};
}

} // namespace parley::inline PARLEY_ABI
