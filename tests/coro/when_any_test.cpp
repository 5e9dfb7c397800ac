#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include <parley/parley.hpp>

#include "coro_test.hpp"
#include "in_world.hpp"

using namespace std::chrono_literals;
using parley::task;
using parley::when_any;
namespace sim = parley::sim;

namespace {

task<int> stop_itself() {
    co_await parley::yield();
    throw parley::cancelled();
}

// Counts those that live.
struct counted {
    explicit counted(int &count) : live(&count) { ++*live; }
    counted(counted &&other) noexcept : live(std::exchange(other.live, nullptr)) {}
    ~counted() {
        if (live)
            --*live;
    }
    int *live;
};

} // namespace

TEST_CASE("the first value wins, and the others have ended when it is given") {
    no_frames_left check;
    bool loser_over = false;
    auto took = in_world([&](sim::world &) -> task<> {
        auto slow_to_stop = [&]() -> task<int> {
            auto forever = []() -> task<> { co_await parley::sleep_for(24h); };
            co_await parley::finally(forever(), [&]() -> task<> {
                co_await parley::sleep_for(3s);
                loser_over = true;
            });
            co_return 0;
        };
        auto first = co_await when_any(slow_to_stop, after(1s, std::string("quick")), parley::sleep_for(2s));
        CHECK(first.index() == 1);
        CHECK(std::get<1>(first) == "quick");
        CHECK(loser_over);
    });
    CHECK(about(took, 4s));
}

TEST_CASE("operations compete without tasks of their own") {
    no_frames_left check;
    auto took = in_world([](sim::world &) -> task<> {
        for (int i = 0; i < 100; ++i) {
            auto first = co_await when_any(parley::sleep_for(1h), parley::sleep_for(1ms));
            CHECK(first.index() == 1);
        }
    });
    CHECK(about(took, 100ms));
}

TEST_CASE("an exception wins as a value does; what a loser throws later does not replace it") {
    no_frames_left check;
    in_world([](sim::world &) -> task<> {
        std::string caught;
        try {
            co_await when_any(after(2s, 1), fail_after(1s, "first"));
        } catch (const std::runtime_error &e) {
            caught = e.what();
        }
        CHECK(caught == "first");
        auto throws_when_cancelled = []() -> task<int> {
            try {
                co_await parley::sleep_for(1h);
            } catch (const parley::cancelled &) {
                throw std::logic_error("in the clean-up");
            }
            co_return 0;
        };
        auto first = co_await when_any(after(1s, 7), throws_when_cancelled());
        CHECK(std::get<0>(first) == 7);
    });
}

TEST_CASE("of several that end in one turn exactly one wins, and what the others gave is destroyed") {
    no_frames_left check;
    int live = 0;
    in_world([&](sim::world &) -> task<> {
        auto make = [&]() -> task<counted> {
            co_await parley::sleep_for(1s);
            co_return counted(live);
        };
        {
            auto first = co_await when_any(make(), make(), make());
            CHECK(first.index() == 0);
            CHECK(live == 1);
        }
        CHECK(live == 0);
    });
}

TEST_CASE("a child that stops by itself is no winner; when all do, so does the one who awaits") {
    no_frames_left check;
    bool after_it = false;
    in_world([&](sim::world &) -> task<> {
        auto first = co_await when_any(stop_itself(), after(1s, 5));
        CHECK(first.index() == 1);
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await when_any(stop_itself(), stop_itself());
                after_it = true;
            });
            co_return;
        });
    });
    CHECK_FALSE(after_it);
}

TEST_CASE("of a vector it says which, and its value") {
    no_frames_left check;
    in_world([](sim::world &) -> task<> {
        std::vector<task<std::unique_ptr<int>>> tasks;
        for (int i = 0; i < 20; ++i)
            tasks.push_back(after(std::chrono::seconds(i == 13 ? 1 : 60), std::make_unique<int>(i)));
        auto first = co_await when_any(std::move(tasks));
        CHECK(first.index == 13);
        CHECK(*first.value == 13);

        std::vector<task<>> pauses;
        for (int i = 3; i > 0; --i)
            pauses.push_back([](int s) -> task<> { co_await parley::sleep_for(std::chrono::seconds(s)); }(i));
        CHECK((co_await when_any(std::move(pauses))).index == 2);
        CHECK_THROWS_AS(static_cast<void>(when_any(std::vector<task<int>>())), std::invalid_argument);
    });
}

TEST_CASE("a cancel from above ends all that compete") {
    no_frames_left check;
    bool went_on = false;
    auto took = in_world([&](sim::world &) -> task<> {
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await when_any(parley::sleep_for(1h), after(2h, 1));
                went_on = true;
            });
            co_await parley::sleep_for(1s);
            s.cancel();
        });
    });
    CHECK_FALSE(went_on);
    CHECK(about(took, 1s));
}
