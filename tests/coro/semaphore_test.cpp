#include "primitives_test.hpp"

using namespace primitives;
using parley::semaphore;

namespace {

constexpr std::size_t places = 3;

task<> use(semaphore &sem, std::atomic<int> &taken, faults &found, dice &random) {
    const std::size_t n = 1 + random(places);
    semaphore::permit mine;
    switch (random(3)) {
    case 0:
        mine = co_await sem.acquire(n);
        break;
    case 1: {
        auto in_time = co_await sem.acquire_for(std::chrono::microseconds(random(400)), n);
        if (!in_time)
            co_return;
        mine = std::move(*in_time);
        break;
    }
    default:
        mine = sem.try_acquire(n);
        if (!mine)
            co_return;
    }
    found.expect(mine.count() == n, "as many as asked for");
    struct out {
        std::atomic<int> &of;
        int n;
        ~out() { of -= n; }
    } leave{taken, static_cast<int>(n)};
    found.expect((taken += leave.n) <= static_cast<int>(places), "not more than there are");
    co_await yields(random(3));
}

} // namespace

TEST_CASE("a semaphore gives out what it has, and takes it back") {
    parley::run([]() -> task<> {
        semaphore sem(3);
        semaphore::permit two = co_await sem.acquire(2);
        CHECK(two.count() == 2);
        CHECK(sem.available() == 1);
        CHECK(!sem.try_acquire(2));
        {
            semaphore::permit one = sem.try_acquire();
            CHECK(one);
            CHECK(sem.available() == 0);
        }
        CHECK(sem.available() == 1);
        two.give_back();
        two.give_back(); // does nothing
        CHECK(sem.available() == 3);
        semaphore::permit kept = sem.try_acquire();
        CHECK(kept.forget() == 1);
        CHECK(!kept);
        CHECK(sem.available() == 2);
        sem.release(5);
        CHECK(sem.available() == 7);
        semaphore::permit nothing = co_await sem.acquire(0);
        CHECK(nothing);
        CHECK(sem.available() == 7);
    }());
}

TEST_CASE("who wants many of a semaphore is not overtaken by those who want few") {
    no_frames_left check;
    std::vector<int> order;
    parley::run([](std::vector<int> &taken) -> task<> {
        semaphore sem(2);
        co_await parley::with_scope([&](scope &s) -> task<> {
            semaphore::permit mine = co_await sem.acquire(1);
            for (int n : {2, 1, 1})
                s.spawn([&, n]() -> task<> {
                    auto p = co_await sem.acquire(static_cast<std::size_t>(n));
                    taken.push_back(n);
                    co_await yields(2);
                });
            co_await yields(3);
            CHECK(taken.empty());
            CHECK(sem.available() == 1);
            CHECK(!sem.try_acquire());
            mine.give_back();
            co_await parley::yield();
            co_await parley::yield();
            CHECK(taken == std::vector<int>{2});
        });
    }(order));
    CHECK(order == std::vector<int>{2, 1, 1});
}

TEST_CASE("when a large request of a semaphore leaves, those behind it are served") {
    in_a_world("a large request gives up", 1, [](parley::sim::world &world, runtime &) -> task<> {
        semaphore sem(1);
        int served = 0;
        co_await parley::with_scope([&](scope &all) -> task<> {
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn([&]() -> task<> { auto p = co_await sem.acquire(5); });
                co_await yields(2);
                all.spawn([&]() -> task<> {
                    auto p = co_await sem.acquire();
                    ++served;
                });
                co_await yields(3);
                world.expect(served == 0, "it waits behind");
                s.cancel();
            });
            co_await yields(2);
            world.expect(served == 1, "a cancel lets it through");
            all.spawn([&]() -> task<> {
                auto p = co_await sem.acquire_for(1h, 5);
                world.expect(!p && p.error() == parley::errc::timed_out, "it times out");
                world.expect(p.error().peer() == "semaphore", "and says of what");
            });
            co_await yields(2);
            auto small = co_await sem.acquire_for(2h);
            world.expect(bool(small), "a time-out lets it through");
        });
        world.expect(sem.available() == 1, "all is given back");
    });
}

TEST_CASE("a wait for a semaphore ends once, whatever of time, permit and cancel is first") {
    churn_in_worlds("semaphore: time, permit and cancel", 300, [](parley::sim::world &world) {
        semaphore sem(places);
        faults found;
        std::atomic<int> taken{0};
        churn_in(world, [&](dice &random) { return use(sem, taken, found, random); });
        world.expect(!found.what(), found.what() ? found.what() : "");
        world.expect(sem.available() == places, "no permit is lost, and none is made");
    });
}

TEST_CASE("tasks of four loops share a semaphore, under cancels") {
    no_frames_left check;
    semaphore sem(places);
    faults found;
    std::atomic<int> taken{0};
    churn_for_real([&](dice &random) { return use(sem, taken, found, random); }, 300);
    CHECK_MESSAGE(!found.what(), found.what());
    CHECK(sem.available() == places);
}
