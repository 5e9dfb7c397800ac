#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>

#include <parley/parley.hpp>

#include "coro_test.hpp"
#include "in_world.hpp"

using namespace std::chrono_literals;
using parley::task;
namespace sim = parley::sim;

TEST_CASE("what is shielded finishes, and the task ends at its next await") {
    no_frames_left check;
    int value = 0;
    bool went_on = false;
    auto took = in_world([&](sim::world &) -> task<> {
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                value = co_await parley::shield(after(10s, 5));
                co_await parley::yield();
                went_on = true;
            });
            co_await parley::sleep_for(1s);
            s.cancel();
        });
    });
    CHECK(value == 5);
    CHECK_FALSE(went_on);
    CHECK(about(took, 10s));
}

TEST_CASE("limits of time from above do not reach what is shielded, its own do") {
    auto took = in_world([](sim::world &) -> task<> {
        auto late = co_await parley::with_timeout(1s, []() -> task<> {
            co_await parley::shield([]() -> task<> {
                auto none = co_await parley::time_left();
                CHECK_FALSE(none);
                auto own = co_await parley::with_timeout(5s, parley::sleep_for(1h));
                CHECK(own.error() == parley::errc::timed_out);
            });
            co_await parley::yield();
            FAIL("went on");
        });
        CHECK(late.error() == parley::errc::timed_out);
    });
    CHECK(about(took, 5s));
}

namespace {
task<> clean_up() {
    co_await parley::yield();
}
} // namespace

TEST_CASE("a function is as good as a lambda") {
    parley::run([]() -> task<> {
        CHECK(co_await parley::finally(after(0s, 2), &clean_up) == 2);
        co_await parley::shield(&clean_up);
        co_await parley::shield(clean_up);
        auto in_time = co_await parley::with_timeout(1h, &clean_up);
        CHECK(in_time);
    }());
}

TEST_CASE("an exception of what is shielded is thrown") {
    in_world([](sim::world &) -> task<> {
        std::string caught;
        try {
            co_await parley::shield(fail_after(1s, "inside"));
        } catch (const std::runtime_error &e) {
            caught = e.what();
        }
        CHECK(caught == "inside");
    });
}

TEST_CASE("a clean-up runs after a value, an exception and a cancel, and the work's end stays") {
    no_frames_left check;
    std::string story;
    auto took = in_world([&](sim::world &) -> task<> {
        auto tell = [&]() -> task<> {
            co_await parley::sleep_for(1s);
            story += "cleaned ";
        };
        auto moved = co_await parley::finally(
            []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(4); }(), tell);
        CHECK(*moved == 4);
        try {
            co_await parley::finally(fail_after(1s, "failed"), tell);
        } catch (const std::runtime_error &e) {
            story += e.what();
        }
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await parley::finally(after(1h, 1), tell);
                story += "went on";
            });
            co_await parley::sleep_for(1s);
            s.cancel();
        });
        story += "end";
    });
    CHECK(story == "cleaned cleaned failedcleaned end");
    CHECK(about(took, 5s));
}

TEST_CASE("an exception of the clean-up is thrown, unless the work threw") {
    in_world([](sim::world &) -> task<> {
        auto bad = []() -> task<> {
            co_await parley::yield();
            throw std::logic_error("clean-up");
        };
        std::string caught;
        try {
            co_await parley::finally(after(1s, 1), bad);
        } catch (const std::logic_error &e) {
            caught = e.what();
        }
        CHECK(caught == "clean-up");
        try {
            co_await parley::finally(fail_after(1s, "work"), bad);
        } catch (const std::exception &e) {
            caught = e.what();
        }
        CHECK(caught == "work");
    });
}

TEST_CASE("in a task that was told to stop before, neither work nor clean-up begins") {
    no_frames_left check;
    int begun = 0;
    in_world([&](sim::world &) -> task<> {
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                s.cancel();
                auto count = [&]() -> task<> {
                    ++begun;
                    co_return;
                };
                co_await parley::finally(count(), count);
            });
            co_return;
        });
    });
    CHECK(begun == 0);
}

TEST_CASE("a runtime that stops waits for what is shielded") {
    no_frames_left check;
    bool finished = false;
    sim::world world{1};
    world.run([&] {
        parley::runtime_options options;
        options.loops = 1;
        parley::runtime rt(options);
        rt.start(parley::detail::call_kept([&]() -> task<> {
                     co_await parley::shield([&]() -> task<> {
                         rt.stop();
                         co_await parley::sleep_for(1s);
                         finished = true;
                     });
                 }),
                 [](parley::outcome<>) {});
    });
    CHECK(finished);
}
