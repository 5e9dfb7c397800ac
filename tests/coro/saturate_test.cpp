// Times at and beyond the ends of what 64 bits of nanoseconds hold, wherever a user may give one. A sanitizer
// that watches for overflow has its say as well.

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <ratio>

#include <parley/detail/saturate.hpp>
#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "coro_test.hpp"
#include "in_world.hpp"

using namespace std::chrono_literals;
using parley::task;
using parley::detail::core_milliseconds;
using parley::detail::nanoseconds_of;
using parley::detail::nanoseconds_until;
using parley::detail::saturated_nanoseconds;
using std::chrono::duration;
using std::chrono::hours;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;
using std::chrono::system_clock;

namespace {

constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t least = std::numeric_limits<std::int64_t>::min();

struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};

// A clock of the user's, whose times lie far before its epoch.
struct old_clock {
    using rep = std::int64_t;
    using period = std::nano;
    using duration = nanoseconds;
    using time_point = std::chrono::time_point<old_clock>;
    static time_point now() { return time_point(-24h * 365 * 200); }
};

// Waits for ever: until the task is told to stop, an hour later.
template <class F>
bool lasts(F wait) {
    bool went_on = false;
    const auto took = in_world([&](parley::sim::world &) -> task<> {
        co_await parley::with_scope([&](parley::scope &all) -> task<> {
            all.spawn([&]() -> task<> {
                co_await wait();
                went_on = true;
            });
            co_await parley::sleep_for(1h);
            all.cancel();
        });
    });
    return !went_on && about(took, 1h);
}

template <class F>
bool is_at_once(F wait) {
    return in_world([&](parley::sim::world &) -> task<> { co_await wait(); }) < 1ms;
}

} // namespace

TEST_CASE("a duration of any unit becomes nanoseconds, rounded up") {
    CHECK(saturated_nanoseconds(0s) == 0);
    CHECK(saturated_nanoseconds(3h) == 10'800'000'000'000);
    CHECK(saturated_nanoseconds(-3ms) == -3'000'000);
    CHECK(saturated_nanoseconds(nanoseconds(most - 1)) == most - 1);
    CHECK(saturated_nanoseconds(duration<int, std::pico>(1)) == 1);
    CHECK(saturated_nanoseconds(duration<int, std::pico>(1001)) == 2);
    CHECK(saturated_nanoseconds(duration<int, std::pico>(-1001)) == -1);
    CHECK(saturated_nanoseconds(duration<int, std::ratio<1, 3>>(1)) == 333'333'334);
    CHECK(saturated_nanoseconds(duration<std::uint64_t, std::atto>(~std::uint64_t{0})) == 18'446'744'074);
    CHECK(saturated_nanoseconds(duration<double>(1.5)) == 1'500'000'000);
    CHECK(saturated_nanoseconds(duration<float, std::nano>(0.25f)) == 1);
    CHECK(saturated_nanoseconds(duration<double, std::nano>(-0.5)) == 0);
}

TEST_CASE("a duration that does not fit becomes the nearest that does") {
    CHECK(saturated_nanoseconds(hours::max()) == most);
    CHECK(saturated_nanoseconds(hours::min()) == least);
    CHECK(saturated_nanoseconds(nanoseconds::max()) == most);
    CHECK(saturated_nanoseconds(nanoseconds::min()) == least);
    CHECK(saturated_nanoseconds(std::chrono::milliseconds(most / 1'000'000)) == most / 1'000'000 * 1'000'000);
    CHECK(saturated_nanoseconds(std::chrono::milliseconds(most / 1'000'000 + 1)) == most);
    CHECK(saturated_nanoseconds(duration<std::uint64_t>(~std::uint64_t{0})) == most);
    CHECK(saturated_nanoseconds(duration<int, std::exa>(1)) == most);
    CHECK(saturated_nanoseconds(duration<int, std::exa>(-1)) == least);
    using real = duration<double>;
    CHECK(saturated_nanoseconds(real::max()) == most);
    CHECK(saturated_nanoseconds(real::min()) == least);
    CHECK(saturated_nanoseconds(real(std::numeric_limits<double>::infinity())) == most);
    CHECK(saturated_nanoseconds(real(-std::numeric_limits<double>::infinity())) == least);
    CHECK(saturated_nanoseconds(real(9.3e9)) == most);
    CHECK(saturated_nanoseconds(real(std::numeric_limits<double>::quiet_NaN())) == 0);
}

TEST_CASE("a wait is for ever where it would not end in our time, and never negative") {
    CHECK(nanoseconds_of(hours::max()) == parley::detail::for_ever);
    CHECK(nanoseconds_of(nanoseconds(most - 1)) == parley::detail::for_ever);
    CHECK(nanoseconds_of(hours::min()) == 0);
    CHECK(nanoseconds_until(steady_clock::time_point::max()) == parley::detail::for_ever);
    CHECK(nanoseconds_until(steady_clock::time_point::min()) == 0);
    CHECK(nanoseconds_until(system_clock::time_point::max()) == parley::detail::for_ever);
    CHECK(nanoseconds_until(system_clock::time_point::min()) == 0);
    CHECK(nanoseconds_until(old_clock::time_point::max()) == parley::detail::for_ever);
    CHECK(nanoseconds_until(old_clock::time_point::max() - 1ns) == parley::detail::for_ever);
    CHECK(nanoseconds_until(old_clock::time_point::min()) == 0);
    CHECK(nanoseconds_until(old_clock::now() + 5s) == 5'000'000'000);
    using far_off = std::chrono::time_point<system_clock, hours>;
    CHECK(nanoseconds_until(far_off::max()) == parley::detail::for_ever);
    CHECK(nanoseconds_until(far_off::min()) == 0);
}

TEST_CASE("the core's milliseconds: at least one, none for negative ones and for what it cannot count") {
    CHECK(core_milliseconds(0s) == 1);
    CHECK(core_milliseconds(1ns) == 1);
    CHECK(core_milliseconds(1ms + 1ns) == 2);
    CHECK(core_milliseconds(std::chrono::milliseconds(std::numeric_limits<int>::max())) ==
          std::numeric_limits<int>::max());
    CHECK(core_milliseconds(24h * 25) == -1);
    CHECK(core_milliseconds(hours::max()) == -1);
    CHECK(core_milliseconds(-1ns) == -1);
    CHECK(core_milliseconds(hours::min()) == -1);
}

TEST_CASE("sleeps take every time there is") {
    no_frames_left check;
    CHECK(lasts([] { return parley::sleep_for(hours::max()); }));
    CHECK(lasts([] { return parley::sleep_for(nanoseconds::max()); }));
    CHECK(lasts([] { return parley::sleep_for(duration<double>::max()); }));
    CHECK(lasts([] { return parley::sleep_until(steady_clock::time_point::max()); }));
    CHECK(lasts([] { return parley::sleep_until(system_clock::time_point::max()); }));
    CHECK(lasts([] { return parley::sleep_until(old_clock::time_point::max()); }));
    CHECK(is_at_once([] { return parley::sleep_for(hours::min()); }));
    CHECK(is_at_once([] { return parley::sleep_until(steady_clock::time_point::min()); }));
    CHECK(is_at_once([] { return parley::sleep_until(old_clock::time_point::min()); }));
}

TEST_CASE("budgets take every time there is") {
    no_frames_left check;
    in_world([](parley::sim::world &) -> task<> {
        auto slept = [] { return parley::sleep_for(1h); };
        for (auto end : {steady_clock::time_point::max(), steady_clock::time_point::max() - 1ns}) {
            auto all = co_await parley::with_deadline(end, slept());
            CHECK(all);
        }
        auto civil = co_await parley::with_deadline(system_clock::time_point::max(), slept());
        CHECK(civil);
        auto other = co_await parley::with_deadline(old_clock::time_point::max(), slept());
        CHECK(other);
        auto big = co_await parley::with_timeout(hours::max(), slept());
        CHECK(big);
        auto largest = co_await parley::with_timeout(nanoseconds::max(), slept());
        CHECK(largest);
        auto none = co_await parley::with_timeout(hours::min(), slept());
        REQUIRE_FALSE(none);
        CHECK(none.error().elapsed() < 1ms);
        auto past = co_await parley::with_deadline(steady_clock::time_point::min(), slept());
        REQUIRE_FALSE(past);
        CHECK(past.error() == parley::errc::timed_out);
        CHECK(past.error().detail() == "limit 0 s");
        auto civil_past = co_await parley::with_deadline(system_clock::time_point::min(), slept());
        CHECK_FALSE(civil_past);
    });
}

TEST_CASE("the timed forms of the primitives take every time there is") {
    no_frames_left check;
    parley::event never;
    parley::semaphore empty(0);
    parley::channel<int> silent(1);
    parley::mutex held;
    CHECK(lasts([&]() -> task<> { auto r = co_await never.wait_for(hours::max()); }));
    CHECK(lasts([&]() -> task<> { auto r = co_await never.wait_until(system_clock::time_point::max()); }));
    CHECK(lasts([&]() -> task<> { auto r = co_await empty.acquire_for(nanoseconds::max()); }));
    CHECK(lasts([&]() -> task<> { auto r = co_await silent.pop_for(hours::max()); }));
    CHECK(lasts([&]() -> task<> {
        auto mine = co_await held.lock();
        auto r = co_await held.lock_for(duration<double>::max());
    }));
    CHECK(is_at_once([&]() -> task<> {
        auto r = co_await never.wait_for(hours::min());
        CHECK_FALSE(r);
    }));
    CHECK(is_at_once([&]() -> task<> {
        auto r = co_await empty.acquire_until(steady_clock::time_point::min());
        CHECK_FALSE(r);
    }));
}

TEST_CASE("options take every time there is, and the limits that are none do not run out") {
    in_world([](parley::sim::world &) -> task<> {
        auto late = [](parley::connection<lines> peer) -> task<> {
            auto asked = co_await peer.recv();
            co_await parley::sleep_for(24h * 30);
            auto sent = co_await peer.send(parley::line_message("at last"));
        };
        parley::server<lines> door(parley::endpoint("127.0.0.1", 0), late,
                                   parley::serve_options()
                                       .idle_limit(hours::max())
                                       .receive_limit(nanoseconds::max())
                                       .gap_limit(hours::max())
                                       .first_message_limit(duration<double>::max())
                                       .handshake_limit(hours::min())
                                       .send_limit(hours::max()));
        auto where = co_await door.listen();
        parley::client<lines> client(where.value(), parley::client_options()
                                                        .connect_limit(hours::max())
                                                        .gap_limit(hours::max())
                                                        .first_byte_limit(nanoseconds::max())
                                                        .receive_limit(hours::max())
                                                        .handshake_limit(hours::max())
                                                        .send_limit(hours::min())
                                                        .resolve_limit(hours::max())
                                                        .pool_wait_limit(nanoseconds::max())
                                                        .total_limit(duration<double>::max())
                                                        .keep_alive(hours::max()));
        auto answer = co_await client.request(parley::line_message("hello"));
        CHECK(answer);
        client.close_idle();
        auto drained = co_await door.drain(hours::max());
    });
}

TEST_CASE("a drain of less than no time closes what is busy at once") {
    in_world([](parley::sim::world &) -> task<> {
        auto slow = [](parley::connection<lines> peer) -> task<> {
            auto asked = co_await peer.recv();
            co_await parley::sleep_for(1min);
        };
        parley::server<lines> door(parley::endpoint("127.0.0.1", 0), slow);
        auto where = co_await door.listen();
        parley::client<lines> client(where.value());
        co_await parley::with_scope([&](parley::scope &all) -> task<> {
            all.spawn([&]() -> task<> {
                auto answer = co_await client.request(parley::line_message("hello"));
                REQUIRE_FALSE(answer);
                CHECK(about(answer.error().elapsed(), 1s));
            });
            co_await parley::sleep_for(1s);
            auto drained = co_await door.drain(hours::min());
        });
    });
}
