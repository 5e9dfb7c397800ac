#include "primitives_test.hpp"

using namespace primitives;
using parley::latch;

TEST_CASE("a latch ends all waits when it comes to zero") {
    no_frames_left check;
    int woken = 0;
    parley::run([](int &n) -> task<> {
        latch l(3);
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int i = 0; i < 2; ++i)
                s.spawn([&]() -> task<> {
                    co_await l.wait();
                    ++n;
                });
            co_await yields(2);
            l.count_down();
            co_await yields(2);
            CHECK(n == 0);
            CHECK(!l.try_wait());
            l.count_down(2);
            CHECK(l.try_wait());
            CHECK(n == 0); // resumed by the loop, not in count_down()
            co_await l.wait();
        });
        latch none(0);
        co_await none.wait();
    }(woken));
    CHECK(woken == 2);
}

TEST_CASE("arrive_and_wait brings tasks of several loops together") {
    no_frames_left check;
    runtime rt(on_loops(4));
    for (int round = 0; round < 200; ++round) {
        latch l(8);
        std::atomic<int> arrived{0};
        faults found;
        on_all_loops(rt, 8, [&](unsigned) -> task<> {
            return [](latch &all, std::atomic<int> &n, faults &f) -> task<> {
                ++n;
                co_await all.arrive_and_wait();
                f.expect(n == 8, "all have arrived");
            }(l, arrived, found);
        });
        CHECK_MESSAGE(!found.what(), found.what());
    }
}

TEST_CASE("waits for a latch are cancelled and time out, and it goes on counting") {
    in_a_world("latch", 1, [](parley::sim::world &world, runtime &) -> task<> {
        latch l(2);
        auto late = co_await l.wait_for(1h);
        world.expect(!late && late.error() == parley::errc::timed_out && late.error().peer() == "latch",
                     "it says that it timed out");
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await l.arrive_and_wait();
                world.expect(false, "it was cancelled");
            });
            co_await yields(2);
            s.cancel();
        });
        world.expect(!l.try_wait(), "one is left");
        l.count_down();
        auto in_time = co_await l.wait_until(std::chrono::steady_clock::time_point::max());
        world.expect(bool(in_time), "none is left");
    });
}

TEST_CASE("a wait for a latch ends once, whatever of time, zero and cancel is first") {
    churn_in_worlds("latch: time, zero and cancel", 200, [](parley::sim::world &world) {
        latch l(12);
        std::atomic<int> left{12}, early{0};
        churn_in(world, [&](dice &random) -> task<> {
            return [](latch &all, std::atomic<int> &n, std::atomic<int> &before, dice &r) -> task<> {
                if (r(3) == 0) {
                    if (--n >= 0)
                        all.count_down();
                } else if (r(2) == 0) {
                    auto over = co_await all.wait_for(std::chrono::microseconds(r(400)));
                    before += over && n > 0;
                } else if (n <= 0 || r(4) == 0) {
                    auto over = co_await all.wait_for(24h * (1 + r(3)));
                    before += over && n > 0;
                }
            }(l, left, early, random);
        });
        world.expect(early == 0, "no wait ends before zero");
    });
}
