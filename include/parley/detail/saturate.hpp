// Times as users give them, in any unit: what does not fit in 64 bits of nanoseconds becomes the nearest that
// does, so that std::chrono::hours::max() is as good as for ever and nothing overflows on the way.

#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <limits>
#include <numeric>

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// The clocks of the core, which a simulated world replaces.
std::int64_t monotonic_now() noexcept;
std::int64_t realtime_now() noexcept;

[[nodiscard]] constexpr std::int64_t saturated_difference(std::int64_t a, std::int64_t b) noexcept {
    std::int64_t difference = 0;
    if (__builtin_sub_overflow(a, b, &difference))
        return b < 0 ? std::numeric_limits<std::int64_t>::max() : std::numeric_limits<std::int64_t>::min();
    return difference;
}

// Of seconds; not a number is 0.
[[nodiscard]] constexpr std::int64_t saturated_seconds(long double seconds) noexcept {
    const long double ns = seconds * 1e9L;
    if (ns >= 9223372036854775807.0L)
        return std::numeric_limits<std::int64_t>::max();
    if (ns <= -9223372036854775808.0L)
        return std::numeric_limits<std::int64_t>::min();
    if (!(ns > 0 || ns < 0))
        return 0;
    const auto whole = static_cast<std::int64_t>(ns);
    return static_cast<long double>(whole) < ns ? whole + 1 : whole;
}

// Nanoseconds, rounded up. Exact for integers of up to 64 bits in any unit of the standard up to days.
template <class Rep, class Period>
[[nodiscard]] constexpr std::int64_t saturated_nanoseconds(std::chrono::duration<Rep, Period> d) {
    __extension__ using wide = __int128;
    constexpr std::int64_t common = std::gcd<std::int64_t>(1'000'000'000, Period::den);
    constexpr wide factor = static_cast<wide>(Period::num) * (1'000'000'000 / common);
    constexpr wide divisor = Period::den / common;
    if constexpr (std::integral<Rep> && sizeof(Rep) <= sizeof(std::int64_t) &&
                  factor <= std::numeric_limits<std::int64_t>::max()) {
        const wide scaled = static_cast<wide>(d.count()) * factor;
        const wide whole = scaled / divisor + (scaled % divisor > 0 ? 1 : 0); // of negative ones `/` is up
        if (whole > std::numeric_limits<std::int64_t>::max())
            return std::numeric_limits<std::int64_t>::max();
        if (whole < std::numeric_limits<std::int64_t>::min())
            return std::numeric_limits<std::int64_t>::min();
        return static_cast<std::int64_t>(whole);
    } else {
        return saturated_seconds(std::chrono::duration<long double>(d).count());
    }
}

// The longest wait: has no end but a cancel.
inline constexpr std::int64_t for_ever = std::numeric_limits<std::int64_t>::max();

// As a wait takes it: not less than 0, and for_ever from 292 years on.
[[nodiscard]] constexpr std::int64_t as_wait(std::int64_t nanoseconds) noexcept {
    constexpr std::int64_t too_long = 9'200'000'000'000'000'000;
    return nanoseconds >= too_long ? for_ever : nanoseconds < 0 ? 0 : nanoseconds;
}

template <class Rep, class Period>
[[nodiscard]] constexpr std::int64_t nanoseconds_of(std::chrono::duration<Rep, Period> d) {
    return as_wait(saturated_nanoseconds(d));
}

// From now until the clock shows `when`. The difference is taken now.
template <class Clock, class Duration>
[[nodiscard]] std::int64_t nanoseconds_until(std::chrono::time_point<Clock, Duration> when) {
    std::int64_t now = 0;
    if constexpr (std::same_as<Clock, std::chrono::steady_clock>)
        now = monotonic_now();
    else if constexpr (std::same_as<Clock, std::chrono::system_clock>)
        now = realtime_now();
    else
        now = saturated_nanoseconds(Clock::now().time_since_epoch());
    const std::int64_t then = saturated_nanoseconds(when.time_since_epoch());
    return then == for_ever ? for_ever : as_wait(saturated_difference(then, now));
}

// A parameter or an option that takes any duration.
class any_duration {
public:
    template <class Rep, class Period>
    constexpr any_duration(std::chrono::duration<Rep, Period> d) : nanoseconds_(saturated_nanoseconds(d)) {}

    [[nodiscard]] constexpr std::int64_t count() const noexcept { return nanoseconds_; }
    [[nodiscard]] constexpr std::chrono::nanoseconds nanoseconds() const noexcept {
        return std::chrono::nanoseconds(nanoseconds_);
    }

private:
    std::int64_t nanoseconds_;
};

// Milliseconds as the core wants them: at least 1, so that a limit below that is not "at once"; negative is
// none, and so is what the core cannot count, from 24 days on.
[[nodiscard]] int core_milliseconds(any_duration limit) noexcept;

} // namespace detail
} // namespace parley::inline PARLEY_ABI
