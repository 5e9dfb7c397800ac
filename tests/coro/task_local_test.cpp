#include <parley/task_local.hpp>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>

#include <doctest/doctest.h>

#include <parley/parley.hpp>

#include "coro_test.hpp"

using parley::runtime;
using parley::scope;
using parley::task;
using parley::with_value;

namespace {

constinit parley::task_local<std::string> name;
constinit parley::task_local<int> depth;

task<std::string> ask() {
    co_await parley::yield();
    co_return name.value_or("none");
}

} // namespace

TEST_CASE("a value is seen inside and below, and nowhere else") {
    no_frames_left check;
    CHECK(name.get() == nullptr);
    parley::run([]() -> task<> {
        CHECK(name.get() == nullptr);
        auto inside = co_await with_value(name, "a", ask());
        CHECK(inside == "a");
        CHECK(name.get() == nullptr);
        auto body = [&]() -> task<int> {
            CHECK(*name.get() == "outer");
            auto deeper = co_await with_value(name, std::string("inner"), ask());
            CHECK(deeper == "inner");
            CHECK(*name.get() == "outer");
            CHECK(depth.get() == nullptr);
            auto both = co_await with_value(depth, 2, ask());
            CHECK(both == "outer");
            co_return 5;
        };
        auto five = co_await with_value(name, "outer", body);
        CHECK(five == 5);
        auto outside = co_await ask();
        CHECK(outside == "none");
    }());
}

TEST_CASE("children of a scope inherit a value, each chain its own, also between loops") {
    no_frames_left check;
    runtime rt([] {
        parley::runtime_options options;
        options.loops = 2;
        options.executor_threads = 1;
        return options;
    }());
    rt.sync_wait(rt.loop(0), [](runtime &here) -> task<> {
        std::atomic<int> seen{0};
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int i = 0; i < 10; ++i)
                s.spawn([&, i]() -> task<> {
                    auto body = [&]() -> task<> {
                        co_await parley::with_scope([&](scope &inner) -> task<> {
                            inner.spawn([&]() -> task<> {
                                for (int n = 0; n < 5; ++n) {
                                    co_await parley::yield();
                                    CHECK(*depth.get() == i);
                                }
                                co_await parley::resume_on(here.loop(1));
                                CHECK(*depth.get() == i);
                                seen.fetch_add(1);
                            });
                            co_await parley::yield();
                        });
                    };
                    co_await with_value(depth, i, body);
                    CHECK(depth.get() == nullptr);
                });
            co_await parley::yield();
            CHECK(depth.get() == nullptr);
        });
        CHECK(seen == 10);
    }(rt));
}

TEST_CASE("exceptions and cancels go through with_value") {
    no_frames_left check;
    parley::run([]() -> task<> {
        auto fails = []() -> task<> {
            co_await parley::yield();
            throw std::runtime_error("inside");
        };
        bool threw = false;
        try {
            co_await with_value(depth, 1, fails);
        } catch (const std::runtime_error &) {
            threw = true;
        }
        CHECK(threw);
        bool ended = false;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                auto body = [&]() -> task<> {
                    struct note {
                        bool &b;
                        ~note() { b = depth.get() && *depth.get() == 3; }
                    } at_end{ended};
                    co_await parley::sleep_for(std::chrono::hours(1));
                };
                co_await with_value(depth, 3, body);
                FAIL("it was cancelled");
            });
            co_await parley::yield();
            co_await parley::yield();
            s.cancel();
        });
        CHECK(ended);
        task<> empty;
        CHECK_THROWS_AS(co_await with_value(depth, 1, std::move(empty)), std::invalid_argument);
    }());
}
