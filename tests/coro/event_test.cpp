#include "primitives_test.hpp"

using namespace primitives;
using parley::event;
using parley::reset;

TEST_CASE("a manual event ends all waits until it is reset") {
    no_frames_left check;
    int woken = 0;
    parley::run([](int &n) -> task<> {
        event e;
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int i = 0; i < 3; ++i)
                s.spawn([&]() -> task<> {
                    co_await e.wait();
                    ++n;
                });
            co_await yields(3);
            CHECK(n == 0);
            CHECK(!e.is_set());
            e.set();
            e.set();
            CHECK(n == 0); // resumed by the loop, not in set()
            CHECK(e.is_set());
            co_await e.wait();
            co_await yields(2);
            CHECK(n == 3);
            e.reset();
            e.reset();
            CHECK(!e.is_set());
            CHECK(!e.try_wait());
        });
        event ready(reset::manual, true);
        CHECK(ready.try_wait());
        CHECK(ready.try_wait());
    }(woken));
    CHECK(woken == 3);
}

TEST_CASE("an automatic event ends one wait each time, the oldest first, or the next one") {
    no_frames_left check;
    std::vector<int> order;
    parley::run([](std::vector<int> &woken) -> task<> {
        event e(reset::automatic);
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int i = 0; i < 3; ++i)
                s.spawn([&, i]() -> task<> {
                    co_await e.wait();
                    woken.push_back(i);
                });
            co_await yields(3);
            for (std::size_t i = 1; i <= 3; ++i) {
                e.set();
                CHECK(!e.is_set());
                co_await yields(2);
                CHECK(woken.size() == i);
            }
        });
        e.set();
        e.set();
        co_await e.wait();
        CHECK(!e.is_set());
        CHECK(!e.try_wait());
    }(order));
    CHECK(order == std::vector<int>{0, 1, 2});
}

TEST_CASE("an automatic event that was given to a task told to stop is not lost") {
    no_frames_left check;
    parley::run([]() -> task<> {
        event e(reset::automatic);
        bool had = false;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await e.wait();
                had = true;
                co_await parley::yield();
                FAIL("it was cancelled");
            });
            co_await yields(2);
            e.set();
            s.cancel();
        });
        CHECK(had);
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await e.wait();
                FAIL("it was cancelled");
            });
            co_await yields(2);
            s.cancel();
            e.set(); // nobody waits any more
        });
        CHECK(e.try_wait());
    }());
}

TEST_CASE("wait_for gives up on an event after its time") {
    in_a_world("event.wait_for", 1, [](parley::sim::world &world, runtime &) -> task<> {
        event e;
        const auto start = world.now();
        auto late = co_await e.wait_for(2h);
        world.expect(!late && late.error() == parley::errc::timed_out && late.error().peer() == "event",
                     "it says that it timed out");
        world.expect(world.now() - start >= 2h && world.now() - start < 2h + 1min, "after its time");
        auto at_once = co_await e.wait_for(-1s);
        world.expect(!at_once, "without time it is a try");
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await parley::sleep_for(1h);
                e.set();
            });
            auto set = co_await e.wait_until(std::chrono::system_clock::time_point::max());
            world.expect(bool(set), "it was set");
        });
        auto ready = co_await e.wait_for(0s);
        world.expect(bool(ready), "it is set");
    });
}

namespace {

// Everybody sets and everybody waits: each wait that returned is paid for by a set().
task<> use(event &e, std::atomic<int> &sets, std::atomic<int> &waits, dice &random) {
    if (random(2) == 0) {
        ++sets;
        e.set();
        co_return;
    }
    auto woken = co_await e.wait_for(std::chrono::microseconds(100 + random(400)));
    if (woken)
        ++waits;
}

} // namespace

TEST_CASE("a wait for an automatic event ends once, whatever of time, set and cancel is first") {
    churn_in_worlds("event: time, set and cancel", 300, [](parley::sim::world &world) {
        event e(reset::automatic);
        std::atomic<int> sets{0}, waits{0};
        churn_in(world, [&](dice &random) { return use(e, sets, waits, random); });
        world.expect(waits <= sets, "no wait ends without a set()");
        (void)e.try_wait();
        world.expect(!e.try_wait(), "it is taken once");
    });
}

TEST_CASE("automatic events hand turns between two loops, and none is lost") {
    no_frames_left check;
    constexpr int rounds = 2000;
    event ping(reset::automatic), pong(reset::automatic);
    runtime rt(on_loops(2));
    std::atomic<int> turns{0};
    on_all_loops(rt, 2, [&](unsigned k) -> task<> {
        return [](event &mine, event &theirs, bool first, std::atomic<int> &n) -> task<> {
            for (int i = 0; i < rounds; ++i) {
                if (first)
                    theirs.set();
                co_await mine.wait();
                ++n;
                if (!first)
                    theirs.set();
            }
        }(k == 0 ? ping : pong, k == 0 ? pong : ping, k == 0, turns);
    });
    CHECK(turns == 2 * rounds);
}

TEST_CASE("an event that is set from a thread wakes each wait, and may end with it") {
    no_frames_left check;
    std::atomic<event *> place{nullptr};
    std::atomic<bool> end{false};
    parley::sync::thread setter([&] {
        while (!end) {
            if (event *e = place.exchange(nullptr))
                e->set();
            parley::sync::yield();
        }
    });
    parley::run([](std::atomic<event *> &where) -> task<> {
        for (int i = 0; i < 3000; ++i) {
            event e; // ends while set() may still be in it
            where = &e;
            if (i % 3 == 0)
                while (!e.is_set())
                    parley::sync::yield();
            co_await e.wait();
        }
    }(place));
    end = true;
    setter.join();
}
