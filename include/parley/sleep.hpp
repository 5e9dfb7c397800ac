// Waiting for time to pass, and letting others run.

#pragma once

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <limits>

#include <parley/config.hpp>
#include <parley/core/Communicator.h>
#include <parley/detail/context.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {

// Nanoseconds from now; `for_ever` has no end but a cancel.
class [[nodiscard]] sleep_await final : private SleepSession, private operation {
public:
    static constexpr std::int64_t for_ever = std::numeric_limits<std::int64_t>::max();

    explicit sleep_await(std::int64_t duration) noexcept : duration_(duration) {}

    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    void await_resume() const;

private:
    int duration(struct timespec *value) override;
    void handle(int state, int error) override;
    bool handle_in_place() override { return true; }

    void cancel() noexcept override;
    const char *name() const noexcept override { return "sleep"; }
    parley::stage stage() const noexcept override { return parley::stage::sleep; }

    std::int64_t duration_;
    context *task_ = nullptr;
    int error_ = 0;
};

class [[nodiscard]] yield_await {
public:
    yield_await() = default;
    yield_await(yield_await &&) = delete;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>, context &task) const noexcept {
        task.pass();
        return true;
    }
    void await_resume() const noexcept {}
};

// Rounded up; as `for_ever` if it does not fit.
template <class Rep, class Period>
constexpr std::int64_t nanoseconds_of(std::chrono::duration<Rep, Period> d) {
    using seconds = std::chrono::duration<long double>;
    if (seconds(d).count() >= 9.2e9L)
        return sleep_await::for_ever;
    if (seconds(d).count() <= 0)
        return 0;
    return std::chrono::ceil<std::chrono::nanoseconds>(d).count();
}

// Of the core's clocks, which a simulated world replaces.
std::int64_t monotonic_now() noexcept;
std::int64_t realtime_now() noexcept;

} // namespace detail

// `co_await sleep_for(d)`: not less than d; zero and less is as yield(). Timers cost no system call.
// Allocates nothing. Throws parley::exception if the core can take no timer.
template <class Rep, class Period>
[[nodiscard]] detail::sleep_await sleep_for(std::chrono::duration<Rep, Period> d) {
    return detail::sleep_await(detail::nanoseconds_of(d));
}

// Until the clock shows that time. The difference is taken now: a clock that is set while the task sleeps
// does not matter. std::chrono::steady_clock is the loops' own clock.
template <class Clock, class Duration>
[[nodiscard]] detail::sleep_await sleep_until(std::chrono::time_point<Clock, Duration> when) {
    using std::chrono::nanoseconds;
    if constexpr (std::same_as<Clock, std::chrono::steady_clock>)
        return sleep_for(when.time_since_epoch() - nanoseconds(detail::monotonic_now()));
    else if constexpr (std::same_as<Clock, std::chrono::system_clock>)
        return sleep_for(when.time_since_epoch() - nanoseconds(detail::realtime_now()));
    else
        return sleep_for(when - Clock::now());
}

// `co_await yield()`: whatever else is ready on the loop runs first, and of sockets and timers what is due,
// at the latest after 64 of these. In a long computation it is also the point where a cancel is noticed.
[[nodiscard]] inline detail::yield_await yield() noexcept {
    return {};
}

} // namespace parley::inline PARLEY_ABI
