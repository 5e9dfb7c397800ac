// Waiting for time to pass, and letting others run.

#pragma once

#include <chrono>
#include <coroutine>
#include <cstdint>

#include <parley/config.hpp>
#include <parley/core/Communicator.h>
#include <parley/detail/context.hpp>
#include <parley/detail/saturate.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {

// Nanoseconds from now; `for_ever` has no end but a cancel.
class [[nodiscard]] sleep_await final : private SleepSession, private operation {
public:
    static constexpr std::int64_t for_ever = detail::for_ever;

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

} // namespace detail

// `co_await sleep_for(d)`: not less than d; zero and less is as yield(). Timers cost no system call.
// What is too long for 64 bits of nanoseconds, such as hours::max(), is for ever. Allocates nothing. Throws
// parley::exception if the core can take no timer.
template <class Rep, class Period>
[[nodiscard]] detail::sleep_await sleep_for(std::chrono::duration<Rep, Period> d) {
    return detail::sleep_await(detail::nanoseconds_of(d));
}

// Until the clock shows that time. The difference is taken now: a clock that is set while the task sleeps
// does not matter. std::chrono::steady_clock is the loops' own clock.
template <class Clock, class Duration>
[[nodiscard]] detail::sleep_await sleep_until(std::chrono::time_point<Clock, Duration> when) {
    return detail::sleep_await(detail::nanoseconds_until(when));
}

// `co_await yield()`: whatever else is ready on the loop runs first, and of sockets and timers what is due,
// at the latest after 64 of these. In a long computation it is also the point where a cancel is noticed.
[[nodiscard]] inline detail::yield_await yield() noexcept {
    return {};
}

} // namespace parley::inline PARLEY_ABI
