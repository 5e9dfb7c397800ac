#include "primitives_test.hpp"

#include <limits>
#include <stdexcept>

using namespace primitives;
using parley::rate_limiter;

TEST_CASE("a rate_limiter refuses what could never be") {
    CHECK_THROWS_AS(rate_limiter(0, 1), std::invalid_argument);
    CHECK_THROWS_AS(rate_limiter(-1, 1), std::invalid_argument);
    CHECK_THROWS_AS(rate_limiter(std::numeric_limits<double>::infinity(), 1), std::invalid_argument);
    CHECK_THROWS_AS(rate_limiter(std::numeric_limits<double>::quiet_NaN(), 1), std::invalid_argument);
    CHECK_THROWS_AS(rate_limiter(1, 0), std::invalid_argument);
    CHECK_THROWS_AS(rate_limiter(1e-9, 2), std::invalid_argument);
    rate_limiter l(10, 5);
    CHECK(l.rate() == 10);
    CHECK(l.burst() == 5);
    CHECK_THROWS_AS((void)l.acquire(6), std::invalid_argument);
    CHECK_THROWS_AS((void)l.acquire_for(1h, 6), std::invalid_argument);
    CHECK(!l.try_acquire(6));
}

TEST_CASE("a rate_limiter begins with its burst and goes on at its rate") {
    in_a_world("rate_limiter", 1, [](parley::sim::world &world, runtime &) -> task<> {
        rate_limiter l(10, 5);
        const auto start = world.now();
        for (int i = 0; i < 5; ++i)
            co_await l.acquire();
        world.expect(world.now() - start < 50ms, "the burst is there at once");
        world.expect(!l.try_acquire(), "and is used up");
        for (int i = 0; i < 20; ++i)
            co_await l.acquire();
        auto took = world.now() - start;
        world.expect(took >= 1999ms && took < 2100ms, "20 more take 2 seconds");
        co_await parley::sleep_for(24h);
        world.expect(l.try_acquire(5), "after a rest the burst is there again");
        world.expect(!l.try_acquire(), "and not more than that");
        co_await parley::sleep_for(101ms);
        world.expect(l.try_acquire() && !l.try_acquire(), "one every 100 ms");
        co_await l.acquire(0);
    });
}

TEST_CASE("a rate_limiter is first come, first served, and those behind one that leaves come sooner") {
    in_a_world("rate_limiter: order", 2, [](parley::sim::world &world, runtime &rt) -> task<> {
        rate_limiter l(10, 10);
        world.expect(l.try_acquire(10), "it is empty now");
        const auto start = world.now();
        std::string order;
        co_await parley::with_scope([&](scope &all) -> task<> {
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn([&]() -> task<> {
                    co_await l.acquire(10);
                    order += 'x';
                });
                co_await yields(2);
                all.spawn([&]() -> task<> {
                    co_await parley::resume_on(rt.loop(1));
                    co_await l.acquire(2);
                    order += 'b';
                });
                co_await parley::sleep_for(100ms);
                all.spawn([&]() -> task<> {
                    co_await l.acquire(1);
                    order += 'c';
                });
                auto late = co_await l.acquire_for(50ms);
                world.expect(!late && late.error() == parley::errc::timed_out, "it times out");
                world.expect(late.error().peer() == "rate_limiter" && late.error().elapsed() >= 50ms,
                             "and says of what");
                world.expect(!l.try_acquire(), "nobody passes those who wait");
                s.cancel();
            });
        });
        const auto took = world.now() - start;
        world.expect(order == "bc", "in the order of asking: " + order);
        world.expect(took >= 299ms && took < 400ms, "three tokens take 300 ms");
    });
}

TEST_CASE("a rate_limiter with a time limit takes the tokens that come before its end") {
    in_a_world("rate_limiter.acquire_for", 1, [](parley::sim::world &world, runtime &) -> task<> {
        rate_limiter l(1, 1);
        world.expect(l.try_acquire(), "the first is there");
        auto now = co_await l.acquire_for(0s);
        world.expect(!now, "without time it is a try");
        auto soon = co_await l.acquire_for(999ms);
        world.expect(!soon, "a little too short");
        auto in_time = co_await l.acquire_for(10ms);
        world.expect(bool(in_time), "nothing was taken by those that failed");
        auto until = co_await l.acquire_until(std::chrono::steady_clock::time_point::max());
        world.expect(bool(until), "there is time enough");
    });
}

namespace {

task<> use(rate_limiter &l, std::atomic<long> &taken, dice &random) {
    const std::size_t n = 1 + random(3);
    switch (random(3)) {
    case 0:
        co_await l.acquire(n);
        break;
    case 1: {
        auto in_time = co_await l.acquire_for(std::chrono::microseconds(random(500)), n);
        if (!in_time)
            co_return;
        break;
    }
    default:
        if (!l.try_acquire(n))
            co_return;
    }
    taken += static_cast<long>(n);
}

} // namespace

TEST_CASE("a wait for a rate_limiter ends once, whatever of tokens, time and cancel is first") {
    churn_in_worlds("rate_limiter: tokens, time and cancel", 300, [](parley::sim::world &world) {
        rate_limiter l(20'000, 4); // one every 50 us
        std::atomic<long> taken{0};
        churn_in(world, [&](dice &random) { return use(l, taken, random); });
        const long may = 4 + static_cast<long>(world.now() / 50us) + 1;
        world.expect(taken <= may, "not more than the rate allows");
        world.expect(taken > 0, "something was taken");
    });
}

TEST_CASE("tasks of four loops share a rate_limiter, under cancels") {
    no_frames_left check;
    rate_limiter l(1'000'000, 4);
    std::atomic<long> taken{0};
    const auto start = parley::detail::monotonic_now();
    churn_for_real([&](dice &random) { return use(l, taken, random); }, 200);
    const auto took = parley::detail::monotonic_now() - start;
    CHECK(taken > 0);
    CHECK(taken <= 4 + took / 1000 + 1);
}
