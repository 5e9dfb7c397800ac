#include "primitives_test.hpp"

using namespace primitives;
using parley::shared_mutex;

namespace {

struct room {
    std::atomic<int> readers{0};
    std::atomic<int> writers{0};
    std::atomic<int> together{0}; // rounds in which readers met
    faults found;
};

task<> read_for_a_while(room &r, dice &random) {
    struct out {
        room &in;
        ~out() { --in.readers; }
    } leave{r};
    if (++r.readers > 1)
        ++r.together;
    r.found.expect(r.writers == 0, "no writer beside readers");
    co_await yields(random(3));
    r.found.expect(r.writers == 0, "no writer beside readers");
}

task<> write_for_a_while(room &r, dice &random) {
    struct out {
        room &in;
        ~out() { --in.writers; }
    } leave{r};
    r.found.expect(++r.writers == 1 && r.readers == 0, "a writer is alone");
    co_await yields(random(3));
    r.found.expect(r.writers == 1 && r.readers == 0, "a writer is alone");
}

task<> use(shared_mutex &m, room &r, dice &random) {
    const auto limit = std::chrono::microseconds(random(400));
    switch (random(6)) {
    case 0: {
        auto g = co_await m.lock();
        co_await write_for_a_while(r, random);
        break;
    }
    case 1: {
        auto g = co_await m.lock_for(limit);
        if (g)
            co_await write_for_a_while(r, random);
        break;
    }
    case 2: {
        auto g = m.try_lock();
        if (g)
            co_await write_for_a_while(r, random);
        break;
    }
    case 3: {
        auto g = co_await m.lock_shared_for(limit);
        if (g)
            co_await read_for_a_while(r, random);
        break;
    }
    case 4: {
        auto g = m.try_lock_shared();
        if (g)
            co_await read_for_a_while(r, random);
        break;
    }
    default: {
        auto g = co_await m.lock_shared();
        co_await read_for_a_while(r, random);
    }
    }
}

} // namespace

TEST_CASE("readers hold a shared_mutex together, a writer alone") {
    parley::run([]() -> task<> {
        shared_mutex m;
        {
            shared_mutex::shared_guard a = co_await m.lock_shared();
            shared_mutex::shared_guard b = m.try_lock_shared();
            CHECK(a);
            CHECK(b);
            CHECK(!m.try_lock());
            a.unlock();
            CHECK(!m.try_lock());
        }
        {
            shared_mutex::guard w = co_await m.lock();
            CHECK(!m.try_lock());
            CHECK(!m.try_lock_shared());
        }
        CHECK(m.try_lock());
    }());
}

TEST_CASE("a shared_mutex is first come, first served; readers in a row are let in together") {
    no_frames_left check;
    std::string order;
    parley::run([](std::string &entered) -> task<> {
        shared_mutex m;
        co_await parley::with_scope([&](scope &s) -> task<> {
            auto mine = co_await m.lock_shared();
            for (char who : std::string("WrrWr"))
                s.spawn([&, who]() -> task<> {
                    if (who == 'W') {
                        auto g = co_await m.lock();
                        entered += 'W';
                        co_await yields(3);
                        entered += 'w';
                    } else {
                        auto g = co_await m.lock_shared();
                        entered += 'R';
                        co_await yields(3);
                        entered += 'r';
                    }
                });
            co_await yields(3);
            CHECK(!m.try_lock_shared()); // a writer waits
            mine.unlock();
        });
    }(order));
    CHECK(order == "WwRRrrWwRr");
}

TEST_CASE("readers behind a writer go on when it is cancelled or its time is over") {
    in_a_world("a writer gives up", 1, [](parley::sim::world &world, runtime &) -> task<> {
        shared_mutex m;
        int readers = 0;
        auto mine = co_await m.lock_shared();
        for (int round = 0; round < 2; ++round)
            co_await parley::with_scope([&](scope &all) -> task<> {
                co_await parley::with_scope([&](scope &s) -> task<> {
                    s.spawn([&]() -> task<> {
                        const std::chrono::hours limit(round == 0 ? 1 : 1000);
                        auto g = co_await m.lock_for(limit);
                        world.expect(!g, "it does not get the lock");
                    });
                    co_await parley::sleep_for(1ms);
                    all.spawn([&]() -> task<> {
                        auto g = co_await m.lock_shared();
                        ++readers;
                    });
                    co_await parley::sleep_for(1ms);
                    world.expect(readers == round, "the reader waits behind the writer");
                    if (round == 1)
                        s.cancel();
                });
                co_await parley::sleep_for(1ms);
                world.expect(readers == round + 1, "the reader is let in");
            });
        mine.unlock();
        world.expect(bool(m.try_lock()), "it is free at the end");
    });
}

TEST_CASE("a wait for a shared_mutex ends once, whatever of time, lock and cancel is first") {
    churn_in_worlds("shared_mutex: time, lock and cancel", 300, [](parley::sim::world &world) {
        shared_mutex m;
        room r;
        churn_in(world, [&](dice &random) { return use(m, r, random); });
        world.expect(!r.found.what(), r.found.what() ? r.found.what() : "");
        world.expect(bool(m.try_lock()), "no lock is lost");
    });
}

TEST_CASE("readers and writers of four loops keep apart, under cancels") {
    no_frames_left check;
    shared_mutex m;
    room r;
    churn_for_real([&](dice &random) { return use(m, r, random); }, 300);
    CHECK_MESSAGE(!r.found.what(), r.found.what());
    CHECK(r.together > 0);
    CHECK(m.try_lock());
}
