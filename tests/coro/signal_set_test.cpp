#include <doctest/doctest.h>

#include <chrono>
#include <csignal>
#include <optional>
#include <thread>
#include <vector>

#include <parley/parley.hpp>
#include <parley/sim/search.hpp>
#include <parley/sim/world.hpp>

#include "coro_test.hpp"
#include "in_world.hpp"
#include "signals_test.hpp"

using namespace std::chrono_literals;
namespace sim = parley::sim;
using parley::scope;
using parley::signal_set;
using parley::task;

namespace {

// The signal's handler has run when this returns. On a thread of its own: loops block all signals.
void deliver(int number) {
    std::thread([number] {
        sigset_t all;
        sigemptyset(&all);
        pthread_sigmask(SIG_SETMASK, &all, nullptr);
        ::raise(number);
    }).join();
}

// What the next wait gives now; nothing when it would have to wait.
task<std::optional<int>> look(signal_set &from) {
    std::optional<int> got;
    auto first = co_await parley::when_any(from.wait(), [](int rounds) -> task<> {
        for (; rounds > 0; --rounds)
            co_await parley::yield();
    }(20));
    if (const int *number = std::get_if<0>(&first))
        got = *number;
    co_return got;
}

} // namespace

TEST_CASE("a signal that comes while nobody waits is there for the next wait, and nowhere else") {
    no_frames_left check;
    own_handler mine(SIGUSR1);
    parley::run([]() -> task<> {
        signal_set all(SIGUSR1);
        for (int i = 0; i < 3; ++i) {
            deliver(SIGUSR1);
            int number = co_await all.wait();
            CHECK(number == SIGUSR1);
            auto more = co_await look(all);
            CHECK_FALSE(more);
        }
    }());
    CHECK(own_handler_calls == 0);
    deliver(SIGUSR1);
    CHECK(own_handler_calls == 1);
}

TEST_CASE("a signal that comes while somebody waits ends the wait") {
    no_frames_left check;
    own_handler mine(SIGUSR2);
    parley::run([]() -> task<> {
        signal_set all(SIGUSR1, SIGUSR2);
        for (int i = 0; i < 3; ++i) {
            int got = 0;
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn([&]() -> task<> { got = co_await all.wait(); });
                for (int round = 0; round < 4; ++round)
                    co_await parley::yield();
                CHECK(got == 0);
                deliver(SIGUSR2);
            });
            CHECK(got == SIGUSR2);
        }
    }());
}

TEST_CASE("signals that came together are given one by one, and each once however often it came") {
    no_frames_left check;
    own_handler guard1(SIGUSR1);
    own_handler guard2(SIGUSR2);
    parley::run([]() -> task<> {
        signal_set all(SIGUSR2, SIGUSR1);
        for (int number : {SIGUSR2, SIGUSR1, SIGUSR2, SIGUSR1})
            deliver(number);
        auto first = co_await look(all);
        auto second = co_await look(all);
        auto third = co_await look(all);
        CHECK(first == SIGUSR1);
        CHECK(second == SIGUSR2);
        CHECK_FALSE(third);
    }());
}

TEST_CASE("every set gets every signal, and so does wait_signal") {
    no_frames_left check;
    own_handler mine(SIGUSR1);
    parley::run([]() -> task<> {
        signal_set one(SIGUSR1);
        signal_set two(SIGUSR1, SIGUSR2);
        int third = 0;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> { third = co_await parley::wait_signal(SIGUSR1); });
            co_await parley::yield();
            co_await parley::yield();
            deliver(SIGUSR1);
        });
        int first = co_await one.wait();
        int second = co_await two.wait();
        CHECK(first == SIGUSR1);
        CHECK(second == SIGUSR1);
        CHECK(third == SIGUSR1);
    }());
    CHECK(own_handler_calls == 0);
}

TEST_CASE("of two tasks that wait for one set the second is refused, and the first goes on waiting") {
    no_frames_left check;
    own_handler mine(SIGUSR1);
    parley::run([]() -> task<> {
        signal_set all(SIGUSR1);
        int got = 0;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> { got = co_await all.wait(); });
            co_await parley::yield();
            co_await parley::yield();
            try {
                int never = co_await all.wait();
                FAIL("got ", never);
            } catch (const parley::exception &e) {
                CHECK(e.code() == std::errc::device_or_resource_busy);
            }
            deliver(SIGUSR1);
        });
        CHECK(got == SIGUSR1);
    }());
}

TEST_CASE("what is no signal, or cannot be caught, is refused, among others too") {
    for (int wrong : {0, -1, 65, SIGKILL, SIGSTOP}) {
        CAPTURE(wrong);
        CHECK_THROWS_AS(signal_set{wrong}, parley::exception);
        try {
            signal_set all(SIGUSR1, wrong);
            FAIL("it was taken");
        } catch (const parley::exception &e) {
            CHECK(e.code() == std::errc::invalid_argument);
        }
        parley::run([](int number) -> task<> {
            try {
                int got = co_await parley::wait_signal(SIGUSR1, number);
                FAIL("got ", got);
            } catch (const parley::exception &e) {
                CHECK(e.code() == std::errc::invalid_argument);
            }
        }(wrong));
    }
    own_handler mine(SIGUSR1);
    deliver(SIGUSR1);
    CHECK(own_handler_calls == 1); // none of them is left in its place
}

TEST_CASE("a set is used on another loop than where it was made, and the runtime's end stops its wait") {
    own_handler mine(SIGUSR1);
    signal_set all(SIGUSR1);
    {
        parley::runtime_options options;
        options.loops = 2;
        parley::runtime rt(options);
        for (std::size_t i : {1U, 0U, 1U}) {
            deliver(SIGUSR1);
            CHECK(rt.sync_wait(rt.loop(i), [](signal_set &s) -> task<int> {
                co_return co_await s.wait();
            }(all)) == SIGUSR1);
        }
        rt.start([](signal_set &s) -> task<int> { co_return co_await s.wait(); }(all),
                 [](parley::outcome<int> how) { CHECK(how.stopped()); });
    }
    CHECK(own_handler_calls == 0);
}

TEST_CASE("a signal and a cancel in one moment: the signal is given or kept, in any order") {
    const auto failure = sim::search("signal_set", 300, [](sim::world &world) {
        parley::runtime_options options;
        options.loops = 2;
        world.run([&] {
            parley::run(options, [](sim::world &w) -> task<> {
                signal_set all(SIGUSR1);
                std::vector<int> got;
                parley::sync::thread other([&w] {
                    w.sleep(std::chrono::nanoseconds(w.draw(3) * 1'000'000));
                    w.raise(SIGUSR1);
                });
                for (int i = 0; i < 2; ++i) {
                    auto first = co_await parley::when_any(
                        all.wait(), parley::sleep_for(std::chrono::milliseconds(w.draw(3))));
                    if (const int *number = std::get_if<0>(&first))
                        got.push_back(*number);
                }
                co_await parley::compute([&other] { other.join(); });
                if (got.empty()) {
                    int number = co_await all.wait();
                    got.push_back(number);
                }
                auto more = co_await look(all);
                w.expect(got.size() == 1 && !more, "the signal was given once");
            }(world));
        });
    });
    CHECK_FALSE(failure);
}
