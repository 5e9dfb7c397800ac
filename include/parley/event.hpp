// Something that happens and that tasks of any loops wait for: once and for all (manual reset), or again and
// again, each time for one of them (automatic reset). To pass values on take channel; to count down, latch.
//
//     parley::event ready;                                    // manual
//     parley::event work{parley::reset::automatic};
//
//     co_await ready.wait();
//     if (auto soon = co_await work.wait_for(1s)) ...         // result<>: errc::timed_out

#pragma once

#include <chrono>
#include <cstdint>

#include <parley/config.hpp>
#include <parley/core/Sync.h>
#include <parley/detail/wait_queue.hpp>
#include <parley/result.hpp>

namespace parley::inline PARLEY_ABI {

// Who makes an event that is set an event that is not: reset(), or each wait that it ends.
enum class reset : std::uint8_t { manual, automatic };

namespace detail {
class event_wait;
class event_wait_for;
} // namespace detail

// What was done before set() has happened for those whose wait it ends. Setting, and waiting for what is set,
// are one atomic operation each, and nothing allocates. It must live until every await on it has returned;
// destroying it while tasks wait ends the program in a debug build.
class event final : private detail::wait_queue {
public:
    constexpr explicit event(parley::reset how = parley::reset::manual, bool is_set = false) noexcept
        : state_(is_set ? set_ : 0), how_(how) {}
    ~event() { close(); }

    // Manual: everybody who waits goes on, and everybody who comes until reset(). Automatic: the one who has
    // waited longest goes on, or else the next one who comes; setting it twice before that is setting it
    // once. Any thread, with or without a loop. Resumes nobody inside.
    void set() noexcept {
        std::uint8_t seen = state_.load(sync::memory_order_relaxed);
        while (!(seen & waited_for))
            // Written again if it is set already: who finds it set must see what this caller has done.
            if (state_.compare_exchange_weak(seen, set_, sync::memory_order_acq_rel,
                                             sync::memory_order_relaxed))
                return;
        set_slowly();
    }
    // Any thread.
    void reset() noexcept {
        std::uint8_t seen = set_;
        state_.compare_exchange_strong(seen, 0, sync::memory_order_acq_rel, sync::memory_order_relaxed);
    }
    // At this moment. Takes nothing.
    [[nodiscard]] bool is_set() const noexcept { return state_.load(sync::memory_order_acquire) & set_; }

    // As wait(), if that need not wait. Any thread.
    [[nodiscard]] bool try_wait() noexcept { return take(); }

    // `co_await e.wait()`. An automatic event that ends the wait of a task that was told to stop has ended
    // it: wait() returns, and the task's next await throws `cancelled`.
    [[nodiscard]] detail::event_wait wait() noexcept;
    // For not longer than that: result<>, with errc::timed_out. Without time left it is try_wait().
    template <class Rep, class Period>
    [[nodiscard]] detail::event_wait_for wait_for(std::chrono::duration<Rep, Period> limit);
    template <class Clock, class Duration>
    [[nodiscard]] detail::event_wait_for wait_until(std::chrono::time_point<Clock, Duration> when);

private:
    friend class detail::event_wait;
    friend class detail::event_wait_for;

    enum : std::uint8_t { waited_for = 1, set_ = 2 }; // one or the other, or none

    bool take() noexcept {
        if (how_ == parley::reset::manual)
            return is_set();
        std::uint8_t seen = set_;
        return state_.compare_exchange_strong(seen, 0, sync::memory_order_acq_rel,
                                              sync::memory_order_relaxed);
    }
    void set_slowly() noexcept;

    const char *what() const noexcept override { return "event"; }
    bool take_or_mark(detail::wait_entry &) noexcept override;
    void advance(detail::grants &) noexcept override;

    sync::atomic<std::uint8_t> state_;
    const parley::reset how_;
};

// --- Implementation ---

namespace detail {

class [[nodiscard]] event_wait final : public wait_entry {
public:
    static constexpr bool keeps_result = true;

    explicit event_wait(event &e) noexcept : wait_entry(e), event_(e) {}
    bool await_ready() noexcept { return event_.take(); }
    void await_resume() const noexcept {}

private:
    event &event_;
};

class [[nodiscard]] event_wait_for final : public timed_entry {
public:
    static constexpr bool keeps_result = true;

    event_wait_for(event &e, std::int64_t limit) noexcept : timed_entry(e, limit), event_(e) {}
    bool await_ready() noexcept { return event_.take() || ends_at_once(); }
    result<> await_resume() noexcept {
        if (had())
            return {};
        return unexpected(failure());
    }

private:
    event &event_;
};

} // namespace detail

inline detail::event_wait event::wait() noexcept {
    return detail::event_wait(*this);
}
template <class Rep, class Period>
detail::event_wait_for event::wait_for(std::chrono::duration<Rep, Period> limit) {
    return {*this, detail::nanoseconds_of(limit)};
}
template <class Clock, class Duration>
detail::event_wait_for event::wait_until(std::chrono::time_point<Clock, Duration> when) {
    return {*this, detail::nanoseconds_until(when)};
}

} // namespace parley::inline PARLEY_ABI
