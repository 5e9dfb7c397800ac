#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <ranges>
#include <stdexcept>
#include <string>
#include <vector>

#include <parley/parley.hpp>

#include "coro_test.hpp"
#include "in_world.hpp"

using namespace std::chrono_literals;
using parley::for_each_concurrently;
using parley::task;
namespace sim = parley::sim;

TEST_CASE("every element is taken once, in order, and never more than the limit at a time") {
    no_frames_left check;
    auto took = in_world([](sim::world &) -> task<> {
        std::vector<int> numbers(100);
        for (int i = 0; i < 100; ++i)
            numbers[static_cast<std::size_t>(i)] = i;
        std::vector<int> seen;
        int running = 0, most = 0;
        co_await for_each_concurrently(numbers, 10, [&](int &n) -> task<> {
            seen.push_back(n);
            most = std::max(most, ++running);
            n = -n;
            co_await parley::sleep_for(1s);
            --running;
        });
        CHECK(most == 10);
        CHECK(seen.size() == 100);
        CHECK(std::is_sorted(seen.begin(), seen.end()));
        CHECK(numbers[99] == -99);
    });
    CHECK(about(took, 10s));
}

TEST_CASE("fewer elements than the limit, one, none") {
    no_frames_left check;
    parley::run([]() -> task<> {
        int calls = 0;
        auto count = [&](int) -> task<> {
            ++calls;
            co_await parley::yield();
        };
        co_await for_each_concurrently(std::vector<int>(3), 100, count);
        CHECK(calls == 3);
        co_await for_each_concurrently(std::vector<int>(1), 100, count);
        CHECK(calls == 4);
        co_await for_each_concurrently(std::vector<int>(), 100, count);
        CHECK(calls == 4);
        CHECK_THROWS_AS(static_cast<void>(for_each_concurrently(std::vector<int>(1), 0, count)),
                        std::invalid_argument);
    }());
}

TEST_CASE("an exception cancels what runs and begins no more, of an endless range too") {
    no_frames_left check;
    in_world([](sim::world &) -> task<> {
        int begun = 0, cancelled = 0;
        std::string caught;
        try {
            co_await for_each_concurrently(std::views::iota(0), 5, [&](int n) -> task<> {
                ++begun;
                if (n == 7)
                    throw std::runtime_error("seven");
                bool in_time = false;
                struct note {
                    bool &in_time;
                    int &count;
                    ~note() { count += !in_time; }
                } at_end{in_time, cancelled};
                co_await parley::sleep_for(1s);
                in_time = true;
            });
        } catch (const std::runtime_error &e) {
            caught = e.what();
        }
        CHECK(caught == "seven");
        CHECK(begun == 8);
        CHECK(cancelled == 4); // all that had begun and not ended
    });
}
