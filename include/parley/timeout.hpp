// Limits of time for whatever is awaited:
//
//     auto answer = co_await parley::with_timeout(1s, client.request(question));
//     if (!answer) // "timed out: receive, 127.0.0.1:7000, after 1.000 s (limit 1 s)"
//         std::cerr << answer.error() << '\n';
//
// The limit is a budget: everything below inherits it, three functions away as well, and of nested ones the
// nearest counts. When it is used up the work is cancelled, and has ended when with_timeout() returns.

#pragma once

#include <chrono>
#include <concepts>
#include <coroutine>
#include <cstdint>
#include <ctime>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>

#include <parley/cancelled.hpp>
#include <parley/config.hpp>
#include <parley/core/Communicator.h>
#include <parley/detail/child.hpp>
#include <parley/detail/join.hpp>
#include <parley/detail/saturate.hpp>
#include <parley/result.hpp>
#include <parley/sleep.hpp>

namespace parley::inline PARLEY_ABI {

// --- Implementation ---

namespace detail {

class timeout_base : public join_base {
public:
    static constexpr bool keeps_result = true;
    static constexpr bool awaited_where_made = true;

protected:
    // Nanoseconds from now, or, `absolute`, on the clock of CommLoop::now().
    timeout_base(std::int64_t time, bool absolute) noexcept : time_(time), absolute_(absolute) {}
    ~timeout_base() = default;

    bool begin(context &task, record &child) noexcept;
    // The time was up, or the core could take no timer.
    [[nodiscard]] bool failed() const noexcept { return timed_out_ || no_timer_ != 0; }
    [[nodiscard]] error failure() const;

private:
    class timer final : public SleepSession {
    public:
        explicit timer(timeout_base &owner) noexcept : owner_(owner) {}

    private:
        int duration(struct timespec *value) override;
        void handle(int state, int error) override;
        bool handle_in_place() override { return true; }
        timeout_base &owner_;
    };

    void ended(record &child) noexcept final;
    const char *name() const noexcept final { return "with_timeout"; }

    std::int64_t time_;
    std::int64_t started_ = 0;
    inherited below_;
    timer timer_{*this};
    interrupted at_;
    const bool absolute_;
    bool armed_ = false;
    bool timed_out_ = false;
    int no_timer_ = 0; // errno of it
};

template <class A>
class [[nodiscard]] timeout_await final : public timeout_base {
    using value = typename child<A>::value;
    static_assert(!std::is_reference_v<value>, "parley: a result has no reference; return a pointer");

public:
    timeout_await(std::int64_t time, bool absolute,
                  A &&work) noexcept(std::is_nothrow_constructible_v<child<A>, A &&>)
        : timeout_base(time, absolute), child_(std::forward<A>(work)) {}

    bool await_suspend(std::coroutine_handle<>, context &task) {
        child_.prepare();
        return begin(task, child_.first());
    }

    flat_result<value> await_resume() {
        if (child_.ending() == ending::stopped && failed())
            return unexpected(failure());
        return child_.take_result();
    }

private:
    child<A> child_;
};

class [[nodiscard]] time_left_await {
public:
    time_left_await() = default;
    time_left_await(time_left_await &&) = delete;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    std::optional<std::chrono::nanoseconds> await_resume() const noexcept;

private:
    std::int64_t deadline_ = 0;
};

} // namespace detail

// `co_await with_timeout(d, work)`: work is a task, a function that makes one, or an operation; the outcome
// is a result<T>, and T itself if that is a result. When d has passed first, the work is cancelled and
// awaited, and the error is errc::timed_out with the stage and the peer at which it stood. A value or an
// exception that the work ends with although it was cancelled counts. Of zero time, what is ready at once
// is done.
template <class Rep, class Period, class A>
[[nodiscard]] auto with_timeout(std::chrono::duration<Rep, Period> d, A &&work) {
    detail::check_joinable<A>();
    return detail::timeout_await<A>(detail::nanoseconds_of(d), false, std::forward<A>(work));
}

// The same until a clock shows that time; the difference to now is taken now, as by sleep_until().
template <class Clock, class Duration, class A>
[[nodiscard]] auto with_deadline(std::chrono::time_point<Clock, Duration> when, A &&work) {
    detail::check_joinable<A>();
    if constexpr (std::same_as<Clock, std::chrono::steady_clock>)
        return detail::timeout_await<A>(detail::nanoseconds_of(when.time_since_epoch()), true,
                                        std::forward<A>(work));
    else
        return detail::timeout_await<A>(detail::nanoseconds_until(when), false, std::forward<A>(work));
}

// `co_await time_left()`: what remains of the nearest limit above, not less than zero; nothing without one.
[[nodiscard]] inline detail::time_left_await time_left() noexcept {
    return {};
}

} // namespace parley::inline PARLEY_ABI
