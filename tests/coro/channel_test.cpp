#include <parley/channel.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <parley/parley.hpp>
#include <parley/sim/search.hpp>

#include "coro_test.hpp"

using namespace std::chrono_literals;
using parley::channel;
using parley::errc;
using parley::runtime;
using parley::scope;
using parley::task;

namespace {

// Its move throws when told to.
struct bomb {
    explicit bomb(int n) : value(n) {}
    bomb(bomb &&other) : value(other.value) {
        if (armed && value < 0)
            throw std::runtime_error("move");
    }
    int value;
    static inline bool armed = false;
};

} // namespace

TEST_CASE("values leave a channel in the order in which they came, of whatever width it is") {
    no_frames_left check;
    for (std::size_t width : {std::size_t{0}, std::size_t{1}, std::size_t{3}, SIZE_MAX}) {
        std::vector<int> got;
        parley::run([](std::size_t n, std::vector<int> &out) -> task<> {
            channel<int> c(n);
            CHECK(c.capacity() == n);
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn([&]() -> task<> {
                    for (int i = 0; i < 2000; ++i) {
                        auto sent = co_await c.push(i);
                        CHECK(sent);
                    }
                    c.close();
                });
                while (auto v = co_await c.pop())
                    out.push_back(*v);
            });
            auto after = co_await c.pop();
            CHECK(after.error() == errc::end_of_stream);
        }(width, got));
        REQUIRE(got.size() == 2000);
        for (int i = 0; i < 2000; ++i)
            REQUIRE(got[static_cast<std::size_t>(i)] == i);
    }
}

TEST_CASE("tasks that wait are served in their order, and nobody comes in between") {
    no_frames_left check;
    parley::run([]() -> task<> {
        auto c = channel<int>::bounded(1);
        std::vector<int> order;
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int i = 0; i < 3; ++i)
                s.spawn([&, i]() -> task<> {
                    auto v = co_await c.pop();
                    order.push_back(10 * i + *v);
                });
            co_await yields(2);
            CHECK(c.try_push(0));
            CHECK(!c.try_pop());  // it belongs to the first that waits
            CHECK(order.empty()); // which is resumed by the loop, not in try_push
            CHECK(c.try_push(1));
            CHECK(c.try_push(2));
        });
        CHECK(order == std::vector<int>{0, 11, 22});
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int i = 0; i < 4; ++i)
                s.spawn([&, i]() -> task<> {
                    auto sent = co_await c.push(i);
                    CHECK(sent);
                });
            co_await yields(2);
            CHECK(!c.try_push(9));
            for (int i = 0; i < 4; ++i)
                CHECK(c.try_pop() == i);
            CHECK(!c.try_pop());
        });
    }());
}

TEST_CASE("closing fails those who wait to push, who keep their values, and ends those who wait to pop") {
    no_frames_left check;
    parley::run([]() -> task<> {
        auto full = channel<std::unique_ptr<int>>::bounded(1);
        auto empty = channel<int>::rendezvous();
        int ended = 0;
        co_await parley::with_scope([&](scope &s) -> task<> {
            auto first = co_await full.push(std::make_unique<int>(1));
            CHECK(first);
            s.spawn([&]() -> task<> {
                auto mine = std::make_unique<int>(2);
                auto sent = co_await full.push(std::move(mine));
                CHECK(sent.error() == errc::closed);
                REQUIRE(mine);
                CHECK(*mine == 2);
                ++ended;
            });
            s.spawn([&]() -> task<> {
                auto v = co_await empty.pop();
                CHECK(v.error() == errc::end_of_stream);
                ++ended;
            });
            co_await yields(2);
            full.close();
            full.close();
            empty.close();
            CHECK(ended == 0);
        });
        CHECK(ended == 2);
        CHECK(full.closed());
        auto more = std::make_unique<int>(3);
        auto sent = co_await full.push(std::move(more));
        CHECK(!sent);
        CHECK(more);
        CHECK(!full.try_push(std::move(more)));
        CHECK(more);
        auto left = full.drain();
        REQUIRE(left.size() == 1);
        CHECK(*left[0] == 1);
        auto end = co_await full.pop();
        CHECK(end.error() == errc::end_of_stream);
    }());
}

TEST_CASE("a cancelled push keeps its value, a cancelled pop leaves it, and a value handed over is kept") {
    no_frames_left check;
    parley::run([]() -> task<> {
        auto c = channel<std::unique_ptr<int>>::rendezvous();
        auto mine = std::make_unique<int>(1);
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                auto sent = co_await c.push(std::move(mine));
                FAIL("it was cancelled");
            });
            co_await yields(2);
            s.cancel();
        });
        REQUIRE(mine);
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                auto v = co_await c.pop();
                FAIL("it was cancelled");
            });
            co_await yields(2);
            s.cancel();
        });
        CHECK(!c.try_push(std::move(mine))); // nobody waits any more
        std::unique_ptr<int> kept;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                auto v = co_await c.pop();
                kept = std::move(*v);
                co_await parley::yield();
                FAIL("it was cancelled");
            });
            co_await yields(2);
            CHECK(c.try_push(std::move(mine)));
            s.cancel(); // before it could run
        });
        CHECK(kept);
    }());
}

TEST_CASE("what T's move throws reaches one of the two, and the channel goes on") {
    no_frames_left check;
    bomb::armed = true;
    parley::run([]() -> task<> {
        auto c = channel<bomb>::bounded(1);
        bomb bad(-1);
        CHECK_THROWS_AS(static_cast<void>(c.try_push(std::move(bad))), std::runtime_error);
        int got = 0;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                auto v = co_await c.pop();
                got = v->value;
            });
            co_await yields(2);
            bool threw = false;
            try {
                auto sent = co_await c.push(std::move(bad));
            } catch (const std::runtime_error &) {
                threw = true;
            }
            CHECK(threw);
            CHECK(got == 0); // still waits
            CHECK(c.try_push(bomb(5)));
        });
        CHECK(got == 5);
        CHECK(c.try_push(bomb(1)));
        int failed = 0;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                bomb mine(-2);
                try {
                    auto sent = co_await c.push(std::move(mine));
                } catch (const std::runtime_error &) {
                    ++failed;
                }
            });
            s.spawn([&]() -> task<> {
                auto sent = co_await c.push(bomb(2));
                CHECK(sent);
            });
            co_await yields(3);
            auto one = co_await c.pop();
            CHECK(one->value == 1);
            auto two = co_await c.pop();
            CHECK(two->value == 2);
        });
        CHECK(failed == 1);
    }());
    bomb::armed = false;
}

TEST_CASE("waiting for a limited time, in a simulated world") {
    auto failure = parley::sim::search("channel_for", 20, [](parley::sim::world &world) {
        world.run([&] {
            runtime rt(on_loops(1));
            rt.sync_wait([](parley::sim::world &here) -> task<> {
                auto c = channel<int>::bounded(1);
                auto none = co_await c.pop_for(1s);
                here.expect(!none && none.error() == errc::timed_out, "no value in time");
                auto at_once = co_await c.pop_for(0s);
                here.expect(!at_once && at_once.error() == errc::timed_out, "no value now");
                auto op = c.pop_for(1s);
                auto late = co_await op;
                here.expect(!late && c.try_push(4), "not yet");
                auto again = co_await op; // an awaiter with a name may be awaited again
                here.expect(again && *again == 4, "now");
                auto first = co_await c.push_for(1s, 1);
                here.expect(bool(first), "there was room");
                auto second = co_await c.push_for(1s, 2);
                here.expect(!second && second.error() == errc::timed_out, "there was no room");
                co_await parley::with_scope([&](scope &s) -> task<> {
                    s.spawn([&]() -> task<> {
                        auto third = co_await c.push_for(1h, 3);
                        here.expect(bool(third), "room came");
                    });
                    co_await parley::sleep_for(1s);
                    auto one = co_await c.pop_for(1s);
                    here.expect(one && *one == 1, "the first");
                    auto three = co_await c.pop_for(1s);
                    here.expect(three && *three == 3, "the one that waited");
                    s.spawn([&]() -> task<> { auto v = co_await c.pop_for(1h); });
                    co_await parley::sleep_for(1s);
                    s.cancel();
                });
                here.expect(c.empty() && c.try_push(7) && c.size() == 1, "nobody waits");
            }(world));
        });
    });
    if (failure)
        FAIL(*failure);
}
