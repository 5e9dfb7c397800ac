#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <parley/parley.hpp>

#include "coro_test.hpp"
#include "in_world.hpp"

using namespace std::chrono_literals;
using parley::task;
using parley::when_all;
namespace sim = parley::sim;

namespace {

task<> pause(std::chrono::nanoseconds time) {
    co_await parley::sleep_for(time);
}

// Ends by a cancel only, which it counts; then takes its time to unwind.
task<int> wait_for_cancel(int &cancelled, std::chrono::nanoseconds goodbye = 0s) {
    auto forever = []() -> task<> { co_await parley::sleep_for(24h); };
    co_await parley::finally(forever(), [&]() -> task<> {
        co_await parley::sleep_for(goodbye);
        ++cancelled;
    });
    co_return 0;
}

task<int> stop_itself() {
    co_await parley::yield();
    throw parley::cancelled();
}

} // namespace

TEST_CASE("when_all gives the values of all in their order, however long each takes") {
    no_frames_left check;
    auto took = in_world([](sim::world &) -> task<> {
        auto [one, nothing, text] =
            co_await when_all(after(3s, 1), pause(2s), after(1s, std::string("three")));
        CHECK(one == 1);
        CHECK(nothing == std::monostate());
        CHECK(text == "three");
    });
    CHECK(about(took, 3s)); // at once, not one after the other
}

TEST_CASE("when_all takes tasks, functions, operations and awaitables of others") {
    no_frames_left check;
    parley::run([]() -> task<> {
        int captured = 20;
        auto make = [captured = std::make_unique<int>(captured)]() -> task<int> {
            co_await parley::yield();
            co_return *captured;
        };
        auto [a, b, c, d] = co_await when_all(
            after(0s, std::make_unique<int>(10)), make, [&]() -> task<int> { co_return captured + 10; },
            parley::yield());
        static_assert(std::is_same_v<decltype(d), std::monostate>);
        CHECK(*a == 10);
        CHECK(b == 20);
        CHECK(c == 30);
    }());
}

TEST_CASE("when_all of a vector gives a vector; of task<> nothing; of none it ends at once") {
    no_frames_left check;
    auto took = in_world([](sim::world &) -> task<> {
        std::vector<task<int>> numbers;
        for (int i = 0; i < 100; ++i)
            numbers.push_back(after(std::chrono::milliseconds(100 - i), i));
        std::vector<int> values = co_await when_all(std::move(numbers));
        CHECK(values.size() == 100);
        for (int i = 0; i < 100; ++i)
            CHECK(values[static_cast<std::size_t>(i)] == i);

        std::vector<task<>> pauses;
        pauses.push_back(pause(1ms));
        pauses.push_back(pause(2ms));
        co_await when_all(std::move(pauses));

        std::vector<int> none = co_await when_all(std::vector<task<int>>());
        CHECK(none.empty());
        co_await when_all(std::vector<task<>>());
    });
    CHECK(about(took, 102ms));
}

TEST_CASE("the first exception cancels the others and is thrown when they have ended") {
    no_frames_left check;
    int cancelled = 0;
    std::string caught;
    auto took = in_world([&](sim::world &) -> task<> {
        try {
            auto all = when_all(wait_for_cancel(cancelled, 5s), fail_after(1s, "first"),
                                wait_for_cancel(cancelled, 2s));
            co_await std::move(all);
        } catch (const std::runtime_error &e) {
            caught = e.what();
            CHECK(cancelled == 2);
        }
    });
    CHECK(caught == "first");
    CHECK(about(took, 6s));
}

TEST_CASE("an exception of a vector's task does the same") {
    no_frames_left check;
    int cancelled = 0;
    in_world([&](sim::world &) -> task<> {
        std::vector<task<int>> tasks;
        for (int i = 0; i < 50; ++i)
            tasks.push_back(wait_for_cancel(cancelled));
        tasks.push_back(fail_after(1s, "first"));
        auto all = when_all(std::move(tasks));
        bool thrown = false;
        try {
            co_await all;
        } catch (const std::runtime_error &) {
            thrown = true;
        }
        CHECK(thrown);
        CHECK(cancelled == 50);
    });
}

TEST_CASE("an error that is a value cancels nobody") {
    auto took = in_world([](sim::world &) -> task<> {
        auto failing = []() -> task<parley::result<int>> {
            co_return parley::unexpected(parley::errc::closed);
        };
        auto [failed, one] = co_await when_all(failing(), after(1s, 1));
        CHECK(failed.error() == parley::errc::closed);
        CHECK(one == 1);
    });
    CHECK(about(took, 1s));
}

TEST_CASE("a cancel from above ends all; one that comes when all have their values is too late") {
    no_frames_left check;
    int cancelled = 0, late = 0;
    in_world([&](sim::world &) -> task<> {
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await when_all(wait_for_cancel(cancelled), wait_for_cancel(cancelled),
                                  parley::sleep_for(1h));
                FAIL("went on");
            });
            s.spawn([&]() -> task<> {
                auto [one, two] = co_await when_all([]() -> task<int> { co_return 1; },
                                                    [&]() -> task<int> {
                                                        s.cancel();
                                                        co_return 2;
                                                    });
                late = one + two;
                co_await parley::yield();
                FAIL("went on");
            });
            co_await parley::sleep_for(1h);
        });
    });
    CHECK(cancelled == 2);
    CHECK(late == 3);
}

TEST_CASE("a child that stops by itself stops the others and the one who awaits") {
    no_frames_left check;
    int cancelled = 0;
    bool after_it = false;
    in_world([&](sim::world &) -> task<> {
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await when_all(stop_itself(), wait_for_cancel(cancelled));
                after_it = true;
            });
            co_return;
        });
    });
    CHECK(cancelled == 1);
    CHECK_FALSE(after_it);
}

TEST_CASE("an empty task is refused before anything begins") {
    no_frames_left check;
    int begun = 0;
    auto count = [&]() -> task<int> { co_return ++begun; };
    parley::run([&]() -> task<> {
        auto moved_from = count();
        auto taken = std::move(moved_from);
        bool thrown = false;
        try {
            co_await when_all(count(), std::move(moved_from)); // NOLINT
        } catch (const std::invalid_argument &) {
            thrown = true;
        }
        CHECK(thrown);
        std::vector<task<int>> tasks;
        tasks.push_back(count());
        tasks.emplace_back();
        try {
            thrown = false;
            auto all = when_all(std::move(tasks));
            co_await all;
        } catch (const std::invalid_argument &) {
            thrown = true;
        }
        CHECK(thrown);
    }());
    CHECK(begun == 0);
}

TEST_CASE("nests with itself, deep") {
    no_frames_left check;
    struct nest {
        static task<int> level(int depth) {
            if (depth == 0)
                co_return 1;
            auto [a, b] = co_await when_all(level(depth - 1), level(depth - 1));
            co_return a + b;
        }
        static task<int> chain(int depth) {
            if (depth == 0)
                co_return 1;
            auto [a] = co_await when_all(chain(depth - 1));
            co_return a + 1;
        }
    };
    CHECK(parley::run(nest::level(10)) == 1024);
    CHECK(parley::run(nest::chain(20'000)) == 20'001);
}
