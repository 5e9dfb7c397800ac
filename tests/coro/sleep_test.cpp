#include <doctest/doctest.h>

#include <chrono>
#include <vector>

#include <parley/parley.hpp>

#include "coro_test.hpp"

using namespace std::chrono_literals;
using parley::scope;
using parley::task;
using std::chrono::steady_clock;

namespace {

task<> note_after(std::chrono::milliseconds d, int n, std::vector<int> &order) {
    co_await parley::sleep_for(d);
    order.push_back(n);
}

} // namespace

TEST_CASE("sleepers wake in the order of their times") {
    no_frames_left check;
    std::vector<int> order;
    parley::run([](std::vector<int> &o) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn(note_after(30ms, 3, o));
            s.spawn(note_after(10ms, 1, o));
            s.spawn(note_after(20ms, 2, o));
            s.spawn(note_after(0ms, 0, o));
            co_return;
        });
    }(order));
    CHECK(order == std::vector<int>{0, 1, 2, 3});
}

TEST_CASE("a sleep is never shorter than asked for") {
    no_frames_left check;
    parley::run([]() -> task<> {
        for (auto d : {100us, 1000us, 5000us}) {
            auto start = steady_clock::now();
            co_await parley::sleep_for(d);
            CHECK(steady_clock::now() - start >= d);
        }
        auto steady = steady_clock::now() + 3ms;
        co_await parley::sleep_until(steady);
        CHECK(steady_clock::now() >= steady);
        auto wall = std::chrono::system_clock::now() + 3ms;
        co_await parley::sleep_until(wall);
        CHECK(std::chrono::system_clock::now() >= wall);
    }());
}

TEST_CASE("a sleep of no time or less is a yield") {
    no_frames_left check;
    parley::run([]() -> task<> {
        co_await parley::sleep_for(0s);
        co_await parley::sleep_for(-5s);
        co_await parley::sleep_until(steady_clock::now() - 1h);
        co_await parley::sleep_for(steady_clock::duration::min());
    }());
}

TEST_CASE("a sleep of the longest duration has no end but a cancel") {
    no_frames_left check;
    parley::run([]() -> task<> {
        co_await parley::with_scope([](scope &s) -> task<> {
            s.spawn([]() -> task<> { co_await parley::sleep_for(std::chrono::hours::max()); }());
            s.spawn([]() -> task<> { co_await parley::sleep_until(steady_clock::time_point::max()); }());
            s.spawn([]() -> task<> { co_await parley::sleep_for(std::chrono::duration<double>(1e300)); }());
            for (int i = 0; i < 3; ++i)
                co_await parley::yield();
            CHECK(s.children() == 3);
            s.cancel();
        });
    }());
}

TEST_CASE("durations of any kind are rounded up") {
    using parley::detail::nanoseconds_of;
    CHECK(nanoseconds_of(1ns) == 1);
    CHECK(nanoseconds_of(std::chrono::duration<double>(1.5e-9)) == 2);
    CHECK(nanoseconds_of(std::chrono::duration<int, std::pico>(1)) == 1);
    CHECK(nanoseconds_of(2min) == 120'000'000'000);
    CHECK(nanoseconds_of(std::chrono::years(400)) == parley::detail::sleep_await::for_ever);
}

TEST_CASE("yield runs what else is to be done before it goes on") {
    no_frames_left check;
    std::vector<int> order;
    parley::run([](std::vector<int> &o) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int n = 0; n < 2; ++n) {
                s.spawn([](std::vector<int> &list, int id) -> task<> {
                    for (int i = 0; i < 3; ++i) {
                        list.push_back(id);
                        co_await parley::yield();
                    }
                }(o, n));
            }
            co_return;
        });
    }(order));
    CHECK(order == std::vector<int>{0, 1, 0, 1, 0, 1});
}

TEST_CASE("a hundred thousand tasks sleep at once") {
    no_frames_left check;
    int awake = 0;
    parley::run([](int &count) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int i = 0; i < 100'000; ++i) {
                s.spawn([](int &c, int n) -> task<> {
                    co_await parley::sleep_for(std::chrono::microseconds(n % 1000));
                    ++c;
                }(count, i));
            }
            co_return;
        });
    }(awake));
    CHECK(awake == 100'000);
}

TEST_CASE("a cancel that comes together with the end of a sleep stops it once") {
    no_frames_left check;
    int ended = 0;
    parley::run([](int &count) -> task<> {
        for (int i = 0; i < 300; ++i) {
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn([](int &c) -> task<> {
                    struct note {
                        int &n;
                        ~note() { ++n; }
                    } at_end{c};
                    co_await parley::sleep_for(50us);
                }(count));
                co_await parley::sleep_for(50us);
                s.cancel();
            });
        }
    }(ended));
    CHECK(ended == 300);
}
