#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include <parley/parley.hpp>

#include "coro_test.hpp"

using namespace std::chrono_literals;
using parley::resume_on;
using parley::runtime;
using parley::scope;
using parley::task;
using parley::this_loop;

namespace {

std::size_t here() {
    CHECK(this_loop().is_current());
    return this_loop().index();
}

task<std::size_t> index_after_hop(runtime &rt, std::size_t to) {
    co_await resume_on(rt.loop(to));
    co_await parley::yield();
    co_return here();
}

task<> fail_over_there(runtime &rt, std::size_t to) {
    co_await resume_on(rt.loop(to));
    throw std::runtime_error("far away");
}

} // namespace

TEST_CASE("a task goes on where it asked to, and its awaiter where it was") {
    no_frames_left check;
    runtime rt(on_loops(3));
    rt.sync_wait(rt.loop(0), [](runtime &r) -> task<> {
        CHECK(here() == 0);
        std::size_t there = co_await index_after_hop(r, 1);
        CHECK(there == 1);
        CHECK(here() == 0);
        co_await resume_on(r.loop(2));
        CHECK(here() == 2);
        there = co_await index_after_hop(r, 0);
        CHECK(there == 0);
        CHECK(here() == 2);
        co_await resume_on(r.loop(1)); // from one foreign loop to another
        CHECK(here() == 1);
        co_await resume_on(r.loop(1)); // already there
        CHECK(here() == 1);
        co_await resume_on(r.loop(0)); // home
        CHECK(here() == 0);
        co_await parley::sleep_for(1ms);
        CHECK(here() == 0);
    }(rt));
}

TEST_CASE("a task that ends on another loop is reported on its own") {
    no_frames_left check;
    runtime rt(on_loops(2));
    CHECK(rt.sync_wait(rt.loop(0), index_after_hop(rt, 1)) == 1);
    CHECK_THROWS_AS(rt.sync_wait(rt.loop(1), fail_over_there(rt, 0)), std::runtime_error);
}

TEST_CASE("children of a scope may move and come back to be joined") {
    no_frames_left check;
    runtime rt(on_loops(2));
    rt.sync_wait(rt.loop(0), [](runtime &r) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (std::size_t i = 0; i < 50; ++i) {
                s.spawn([](runtime &x, std::size_t n) -> task<> {
                    co_await resume_on(x.loop(n % 2));
                    CHECK(here() == n % 2);
                }(r, i));
            }
            co_return;
        });
        CHECK(here() == 0);
        try {
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn(fail_over_there(r, 1));
                co_await parley::sleep_for(1h);
            });
            FAIL("an exception was expected");
        } catch (const std::runtime_error &) {
            CHECK(here() == 0);
        }
    }(rt));
}

TEST_CASE("a scope that is opened over there lives there") {
    no_frames_left check;
    runtime rt(on_loops(2));
    rt.sync_wait(rt.loop(0), [](runtime &r) -> task<> {
        co_await resume_on(r.loop(1));
        co_await parley::with_scope([&](scope &s) -> task<> {
            CHECK(here() == 1);
            s.spawn([]() -> task<> {
                co_await parley::sleep_for(1ms);
                CHECK(here() == 1);
            }());
            co_return;
        });
        CHECK(here() == 1);
    }(rt));
}

TEST_CASE("a cancel reaches a task on the loop where it is") {
    no_frames_left check;
    runtime rt(on_loops(2));
    std::atomic<int> stopped{0};
    rt.sync_wait(rt.loop(0), [](runtime &r, std::atomic<int> &count) -> task<> {
        std::atomic<int> asleep{0};
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int i = 0; i < 10; ++i) {
                s.spawn([](runtime &x, std::atomic<int> &near, std::atomic<int> &c) -> task<> {
                    co_await resume_on(x.loop(1));
                    near.fetch_add(1);
                    try {
                        co_await parley::sleep_for(1h);
                    } catch (const parley::cancelled &) {
                        CHECK(here() == 1);
                        c.fetch_add(1);
                        throw;
                    }
                }(r, asleep, count));
            }
            while (asleep.load() != 10)
                co_await parley::yield();
            s.cancel();
        });
        CHECK(count == 10);
    }(rt, stopped));
}

TEST_CASE("cancels race with hops in both directions") {
    no_frames_left check;
    runtime rt(on_loops(2));
    rt.sync_wait(rt.loop(0), [](runtime &r) -> task<> {
        for (int i = 0; i < 300; ++i) {
            co_await parley::with_scope([&](scope &s) -> task<> {
                for (int n = 0; n < 3; ++n) {
                    s.spawn([](runtime &x) -> task<> {
                        for (;;) {
                            co_await resume_on(x.loop(1));
                            co_await resume_on(x.loop(0));
                        }
                    }(r));
                }
                for (int n = 0; n < i % 7; ++n)
                    co_await parley::yield();
                s.cancel();
            });
        }
    }(rt));
}

TEST_CASE("stop reaches tasks that are away and the runtime joins them") {
    no_frames_left check;
    runtime rt(on_loops(3));
    for (std::size_t i = 0; i < 30; ++i) {
        rt.start(
            rt.loop(i % 3),
            [](runtime &r, std::size_t n) -> task<> {
                co_await resume_on(r.loop((n + 1) % 3));
                co_await resume_on(r.loop((n + 2) % 3));
                co_await parley::sleep_for(1h);
            }(rt, i),
            [](parley::outcome<>) {});
    }
}

TEST_CASE("another runtime's loop is refused") {
    no_frames_left check;
    runtime one(on_loops(1));
    runtime two(on_loops(1));
    CHECK_THROWS_AS(one.sync_wait([](runtime &other) -> task<> { co_await resume_on(other.loop(0)); }(two)),
                    std::invalid_argument);
}
