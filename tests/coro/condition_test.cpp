#include "primitives_test.hpp"

#include <deque>
#include <stdexcept>

using namespace primitives;
using parley::condition;
using parley::mutex;

TEST_CASE("notify_one wakes the oldest, notify_all everybody, each with the lock") {
    no_frames_left check;
    std::vector<int> order;
    parley::run([](std::vector<int> &woken) -> task<> {
        mutex m;
        condition c;
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int i = 0; i < 4; ++i)
                s.spawn([&, i]() -> task<> {
                    auto g = co_await m.lock();
                    co_await c.wait(g);
                    CHECK(g.owns_lock());
                    CHECK(!m.try_lock());
                    woken.push_back(i);
                    co_await parley::yield();
                });
            co_await yields(3);
            CHECK(m.try_lock()); // those who wait do not hold it
            c.notify_one();
            co_await yields(4);
            CHECK(woken == std::vector<int>{0});
            {
                auto g = co_await m.lock();
                c.notify_all();
                co_await yields(4);
                CHECK(woken.size() == 1); // not without the lock
            }
        });
        c.notify_one(); // nobody there: nothing is kept
        CHECK(m.try_lock());
    }(order));
    CHECK(order == std::vector<int>{0, 1, 2, 3});
}

TEST_CASE("a condition refuses a guard without a lock") {
    parley::run([]() -> task<> {
        condition c;
        mutex::guard none;
        CHECK_THROWS_AS((void)c.wait(none), std::invalid_argument);
        co_return;
    }());
}

TEST_CASE("a task that is told to stop while it waits for a condition unwinds with the lock") {
    no_frames_left check;
    parley::run([]() -> task<> {
        mutex m;
        condition c;
        bool unwound = false;
        co_await parley::with_scope([&](scope &all) -> task<> {
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn([&]() -> task<> {
                    auto g = co_await m.lock();
                    struct note {
                        mutex &m;
                        mutex::guard &g;
                        bool &done;
                        ~note() {
                            CHECK(g.owns_lock());
                            CHECK(!m.try_lock());
                            done = true;
                        }
                    } at_end{m, g, unwound};
                    co_await c.wait(g);
                    FAIL("it was cancelled");
                });
                co_await yields(3);
                auto mine = co_await m.lock();
                s.cancel();
                all.spawn([&, held = std::make_unique<mutex::guard>(std::move(mine))]() -> task<> {
                    co_await yields(5);
                    CHECK(!unwound); // it waits for the lock
                    held->unlock();
                });
            });
            CHECK(unwound);
        });
        CHECK(m.try_lock());
        c.notify_all(); // it is in the queue no more
    }());
}

TEST_CASE("a notification that a task gets before it is told to stop is not lost") {
    no_frames_left check;
    parley::run([]() -> task<> {
        mutex m;
        condition c;
        bool had = false;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                auto g = co_await m.lock();
                co_await c.wait(g);
                had = true;
                co_await parley::yield();
                FAIL("it was cancelled");
            });
            co_await yields(3);
            c.notify_one();
            s.cancel();
        });
        CHECK(had);
        CHECK(m.try_lock());
    }());
}

TEST_CASE("a timed wait for a condition ends with the lock in any case") {
    in_a_world("condition.wait_for", 1, [](parley::sim::world &world, runtime &) -> task<> {
        mutex m;
        condition c;
        auto g = co_await m.lock();
        auto late = co_await c.wait_for(g, 1h);
        world.expect(!late && late.error() == parley::errc::timed_out && late.error().peer() == "condition",
                     "it says that it timed out");
        world.expect(g.owns_lock() && !m.try_lock(), "and has the lock");
        bool flag = false;
        auto set = [&] { return flag; };
        auto never = co_await c.wait_for(g, 1h, set);
        world.expect(!never && never.error() == parley::errc::timed_out, "the predicate stays false");
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                auto mine = co_await m.lock();
                co_await parley::sleep_for(1h);
                c.notify_all(); // too early, and for nothing
                mine.unlock();
                co_await parley::sleep_for(1h);
                mine = co_await m.lock();
                flag = true;
                c.notify_all();
            });
            // The polling way lets the other have the lock, too.
            auto polled = co_await c.wait_for(g, 0s);
            world.expect(!polled && g.owns_lock(), "without time it times out");
            const auto end = std::chrono::steady_clock::time_point(
                std::chrono::nanoseconds(parley::detail::monotonic_now()) + 10h);
            auto in_time = co_await c.wait_until(g, end, set);
            world.expect(in_time && flag, "it was set in time");
        });
        auto at_once = co_await c.wait_for(g, -1s, set);
        world.expect(bool(at_once), "a predicate that holds needs no time");
        g.unlock();
        world.expect(bool(m.try_lock()), "the lock is free at the end");
    });
}

namespace {

struct box {
    mutex m;
    condition filled, emptied;
    std::deque<int> items;
    long put = 0, got = 0;
    int inside = 0;
    faults found;

    bool alone() { // under the lock, without a suspension: nobody else may see it so
        const bool is = inside++ == 0;
        --inside;
        return is;
    }
};

task<> use(box &b, dice &random) {
    auto g = co_await b.m.lock();
    if (random(2) == 0) {
        auto room = [&] { return b.items.size() < 2; };
        auto ok = co_await b.emptied.wait_for(g, std::chrono::microseconds(random(500)), room);
        b.found.expect(g.owns_lock() && !b.m.try_lock() && b.alone(), "the lock is held after a wait");
        if (!ok)
            co_return;
        b.found.expect(b.items.size() < 2, "the predicate holds");
        b.items.push_back(1);
        ++b.put;
        b.filled.notify_one();
    } else if (random(2) == 0) {
        auto some = [&] { return !b.items.empty(); };
        auto ok = co_await b.filled.wait_for(g, std::chrono::microseconds(random(500)), some);
        b.found.expect(!b.m.try_lock() && b.alone(), "the lock is held after a wait");
        if (!ok)
            co_return;
        b.found.expect(!b.items.empty(), "the predicate holds");
        b.items.pop_front();
        ++b.got;
        b.emptied.notify_one();
    } else {
        b.filled.notify_all();
        b.emptied.notify_all();
    }
}

// So many items go through a box of two places, from producers to consumers on other loops.
task<> produce(box &b, int count) {
    for (int i = 1; i <= count; ++i) {
        auto g = co_await b.m.lock();
        while (b.items.size() >= 2)
            co_await b.emptied.wait(g);
        b.items.push_back(i);
        b.filled.notify_one();
    }
}
task<> consume(box &b, int count) {
    for (int i = 1; i <= count; ++i) {
        auto g = co_await b.m.lock();
        auto some = [&] { return !b.items.empty(); };
        co_await b.filled.wait(g, some);
        b.got += b.items.front();
        b.items.pop_front();
        b.emptied.notify_one();
    }
}

} // namespace

TEST_CASE("a wait for a condition ends once and locked, whatever of time, notification and cancel is first") {
    churn_in_worlds("condition: time, notification and cancel", 300, [](parley::sim::world &world) {
        box b;
        churn_in(world, [&](dice &random) { return use(b, random); });
        world.expect(!b.found.what(), b.found.what() ? b.found.what() : "");
        world.expect(b.put - b.got == static_cast<long>(b.items.size()), "no item is lost");
        world.expect(bool(b.m.try_lock()), "no lock is lost");
    });
}

TEST_CASE("conditions of four loops, under cancels") {
    no_frames_left check;
    box b;
    churn_for_real([&](dice &random) { return use(b, random); }, 200);
    CHECK_MESSAGE(!b.found.what(), b.found.what());
    CHECK(b.put - b.got == static_cast<long>(b.items.size()));
    CHECK(b.m.try_lock());
}

TEST_CASE("producers and consumers of four loops meet through two conditions") {
    no_frames_left check;
    constexpr int count = 1000;
    box b;
    runtime rt(on_loops(4));
    on_all_loops(rt, 8, [&](unsigned k) { return k % 8 < 4 ? produce(b, count) : consume(b, count); });
    CHECK(b.got == 4L * count * (count + 1) / 2);
    CHECK(b.items.empty());
}
