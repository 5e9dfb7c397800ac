#include "primitives_test.hpp"

using namespace primitives;
using parley::mutex;

namespace {

constinit mutex static_mutex; // needs no code before main()

// Takes the lock in one of its ways, checks that it is alone, and counts.
task<> use(mutex &m, int &inside, long &done, faults &found, dice &random) {
    mutex::guard held;
    switch (random(3)) {
    case 0:
        held = co_await m.lock();
        break;
    case 1: {
        auto in_time = co_await m.lock_for(std::chrono::microseconds(random(400)));
        if (!in_time)
            co_return;
        held = std::move(*in_time);
        break;
    }
    default:
        held = m.try_lock();
        if (!held)
            co_return;
    }
    found.expect(inside++ == 0, "one holds the lock");
    ++done;
    struct out {
        int &n;
        ~out() { --n; }
    } leave{inside};
    co_await yields(random(3));
}

} // namespace

TEST_CASE("a free mutex is locked without waiting, and not locked twice") {
    parley::run([]() -> task<> {
        mutex::guard first = co_await static_mutex.lock();
        CHECK(first.owns_lock());
        CHECK(!static_mutex.try_lock());
        first.unlock();
        first.unlock(); // does nothing
        CHECK(!first);
        mutex::guard second = static_mutex.try_lock();
        CHECK(second);
        mutex::guard moved = std::move(second);
        CHECK(!second);
        CHECK(moved.release() == &static_mutex);
        CHECK(!static_mutex.try_lock());
        static_mutex.unlock();
        CHECK(static_mutex.try_lock());
    }());
}

TEST_CASE("a mutex is handed over in the order of asking, and nobody comes in between") {
    no_frames_left check;
    std::vector<int> order;
    parley::run([](std::vector<int> &taken) -> task<> {
        mutex m;
        co_await parley::with_scope([&](scope &s) -> task<> {
            mutex::guard mine = co_await m.lock();
            for (int i = 0; i < 5; ++i)
                s.spawn([&, i]() -> task<> {
                    mutex::guard g = co_await m.lock();
                    taken.push_back(i);
                    co_await parley::yield();
                });
            co_await yields(3);
            mine.unlock();
            CHECK(taken.empty()); // resumed by the loop, not in unlock()
            CHECK(!m.try_lock());
            mine = co_await m.lock();
            taken.push_back(5);
        });
    }(order));
    CHECK(order == std::vector<int>{0, 1, 2, 3, 4, 5});
}

TEST_CASE("a cancelled waiter leaves the queue of a mutex, and a task that was given the lock keeps it") {
    no_frames_left check;
    parley::run([]() -> task<> {
        mutex m;
        bool second = false, kept = false;
        co_await parley::with_scope([&](scope &all) -> task<> {
            mutex::guard mine = co_await m.lock();
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn([&]() -> task<> {
                    auto g = co_await m.lock();
                    FAIL("it was cancelled");
                });
                co_await yields(2);
                all.spawn([&]() -> task<> {
                    auto g = co_await m.lock();
                    second = true;
                });
                co_await yields(2);
                s.cancel();
            });
            mine.unlock();
            co_await yields(2);
            CHECK(second);

            mine = co_await m.lock();
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn([&]() -> task<> {
                    auto g = co_await m.lock();
                    kept = g.owns_lock();
                    co_await parley::yield();
                    FAIL("it was cancelled");
                });
                co_await yields(2);
                mine.unlock(); // given to the child, which does not run before it is cancelled
                s.cancel();
            });
            CHECK(kept);
            CHECK(m.try_lock());
        });
    }());
}

TEST_CASE("lock_for gives up after its time, and has the lock if it comes before") {
    in_a_world("lock_for", 2, [](parley::sim::world &world, runtime &) -> task<> {
        mutex m;
        mutex::guard mine = co_await m.lock();
        auto now = m.lock_for(0s);
        auto at_once = co_await now;
        world.expect(!at_once && at_once.error() == parley::errc::timed_out, "without time it only tries");
        const auto start = world.now();
        auto late = co_await m.lock_for(3h);
        world.expect(!late && late.error() == parley::errc::timed_out, "it times out");
        world.expect(late.error().elapsed() >= 3h && late.error().peer() == "mutex", "the error says it all");
        world.expect(world.now() - start >= 3h && world.now() - start < 3h + 1min, "after its time");
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await parley::sleep_for(1h);
                mine.unlock();
            });
            auto g = co_await m.lock_until(std::chrono::steady_clock::time_point(
                std::chrono::nanoseconds(parley::detail::monotonic_now()) + 100h));
            world.expect(g && g->owns_lock(), "it came in time");
            world.expect(!m.try_lock(), "it is locked");
        });
        world.expect(bool(m.try_lock()), "the guard has unlocked it");
    });
}

TEST_CASE("a timed wait for a mutex ends once, whatever of time, lock and cancel is first") {
    churn_in_worlds("mutex: time, lock and cancel", 300, [](parley::sim::world &world) {
        mutex m;
        faults found;
        int inside = 0;
        long done = 0;
        churn_in(world, [&](dice &random) { return use(m, inside, done, found, random); });
        world.expect(!found.what(), found.what() ? found.what() : "");
        world.expect(inside == 0 && bool(m.try_lock()), "no lock is lost");
    });
}

TEST_CASE("a mutex between four loops protects an int, under cancels") {
    no_frames_left check;
    mutex m;
    faults found;
    int inside = 0;
    long done = 0;
    churn_for_real([&](dice &random) { return use(m, inside, done, found, random); }, 300);
    CHECK_MESSAGE(!found.what(), found.what());
    CHECK(inside == 0);
    CHECK(done > 0);
    CHECK(m.try_lock());
}

TEST_CASE("many tasks of four loops count under one mutex, with a thread that is no loop") {
    no_frames_left check;
    mutex m;
    long counter = 0;
    long by_thread = 0;
    runtime rt(on_loops(4));
    parley::sync::thread outsider([&] {
        for (int i = 0; i < 2000; ++i) {
            if (auto g = m.try_lock()) {
                ++counter;
                ++by_thread;
            }
            parley::sync::yield();
        }
    });
    on_all_loops(rt, 32, [&](unsigned) -> task<> {
        return [](mutex &door, long &n) -> task<> {
            for (int i = 0; i < 500; ++i) {
                auto g = co_await door.lock();
                ++n;
                if (i % 8 == 0)
                    co_await parley::yield();
            }
        }(m, counter);
    });
    outsider.join();
    CHECK(counter == 32 * 500 + by_thread);
}

TEST_CASE("foreign coroutines lock a mutex") {
    struct plain {
        struct promise_type {
            plain get_return_object() noexcept { return {}; }
            std::suspend_never initial_suspend() const noexcept { return {}; }
            std::suspend_never final_suspend() const noexcept { return {}; }
            void return_void() const noexcept {}
            void unhandled_exception() const noexcept { std::terminate(); }
        };
    };
    no_frames_left check;
    parley::run([]() -> task<> {
        mutex m;
        parley::event over;
        bool had = false;
        mutex::guard mine = co_await m.lock();
        auto foreign = [](mutex &door, bool &locked, parley::event &end) -> plain {
            {
                mutex::guard g = co_await door.lock();
                locked = g.owns_lock();
            }
            end.set();
        };
        foreign(m, had, over);
        co_await yields(3);
        CHECK(!had);
        mine.unlock();
        co_await over.wait();
        CHECK(had);
        CHECK(m.try_lock());
    }());
}
