#include <doctest/doctest.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <thread>
#include <vector>

#include <pthread.h>
#include <unistd.h>

#include <parley/parley.hpp>

#include "coro_test.hpp"
#include "signals_test.hpp"

using parley::scope;
using parley::task;
using parley::wait_signal;

namespace {

std::ptrdiff_t open_descriptors() {
    namespace fs = std::filesystem;
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
}

task<> let_others_wait() {
    for (int i = 0; i < 4; ++i)
        co_await parley::yield();
}

} // namespace

TEST_CASE("a signal ends the wait with its number") {
    no_frames_left check;
    own_handler guard(SIGUSR2);
    int number = parley::run([]() -> task<int> {
        int got = 0;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> { got = co_await wait_signal(SIGUSR1, SIGUSR2); });
            co_await let_others_wait();
            ::kill(::getpid(), SIGUSR2);
        });
        co_return got;
    }());
    CHECK(number == SIGUSR2);
}

TEST_CASE("the old disposition comes back when the last who waits goes") {
    no_frames_left check;
    own_handler mine(SIGUSR1);
    own_handler_calls = 0;
    ::raise(SIGUSR1);
    CHECK(own_handler_calls == 1);
    parley::run([]() -> task<> {
        for (int i = 0; i < 2; ++i) {
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn([]() -> task<> {
                    int n = co_await wait_signal(SIGUSR1);
                    CHECK(n == SIGUSR1);
                }());
                co_await let_others_wait();
                ::kill(::getpid(), SIGUSR1);
            });
        }
    }());
    CHECK(own_handler_calls == 1);
    ::raise(SIGUSR1);
    CHECK(own_handler_calls == 2);
}

TEST_CASE("everybody who waits for a signal gets it, on every loop") {
    no_frames_left check;
    own_handler guard(SIGUSR1);
    parley::runtime_options options;
    options.loops = 2;
    parley::runtime rt(options);
    std::atomic<int> got{0};
    std::atomic<int> waiting{0};
    for (std::size_t i = 0; i < 6; ++i) {
        rt.start(
            rt.loop(i % 2),
            [](std::atomic<int> &w) -> task<int> {
                ++w;
                int n = co_await wait_signal(SIGUSR1);
                co_return n;
            }(waiting),
            [&](parley::outcome<int> how) { got += std::move(how).get() == SIGUSR1; });
    }
    while (waiting != 6)
        std::this_thread::yield();
    // The last to count itself may not have begun to wait: both loops do one more thing first.
    for (std::size_t i = 0; i < 2; ++i)
        rt.sync_wait(rt.loop(i), let_others_wait());
    ::kill(::getpid(), SIGUSR1);
    while (got != 6)
        std::this_thread::yield();
    CHECK(got == 6);
}

TEST_CASE("a wait for a signal is cancelled and leaves nothing behind") {
    no_frames_left check;
    own_handler mine(SIGUSR1);
    own_handler_calls = 0;
    parley::run([]() -> task<> {
        const std::ptrdiff_t before = open_descriptors();
        for (int i = 0; i < 3; ++i) {
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn([]() -> task<> {
                    int n = co_await wait_signal(SIGUSR1);
                    static_cast<void>(n);
                    FAIL("it was cancelled");
                }());
                co_await let_others_wait();
                CHECK(open_descriptors() == before + 1);
                s.cancel();
            });
        }
        CHECK(open_descriptors() == before);
    }());
    ::raise(SIGUSR1);
    CHECK(own_handler_calls == 1);
}

TEST_CASE("of two signals that arrive together the second is kept for the next wait") {
    no_frames_left check;
    own_handler guard1(SIGUSR1);
    own_handler guard2(SIGUSR2);
    parley::runtime_options options;
    options.loops = 2;
    parley::runtime rt(options);
    std::atomic<int> witnessed{0};
    std::vector<int> got;
    rt.sync_wait(rt.loop(0),
                 [](parley::runtime &r, std::atomic<int> &seen, std::vector<int> &numbers) -> task<> {
                     co_await parley::with_scope([&](scope &s) -> task<> {
                         s.spawn([&]() -> task<> {
                             for (int i = 0; i < 2; ++i) {
                                 int n = co_await wait_signal(SIGUSR1, SIGUSR2);
                                 numbers.push_back(n);
                             }
                         });
                         co_await let_others_wait();
                         // Two more wait on the other loop. The handler comes to them last: when they have
                         // their signals, both have arrived for the first, whose loop is kept busy until
                         // then.
                         std::atomic<int> waiting{0};
                         for (int number : {SIGUSR1, SIGUSR2}) {
                             r.start(
                                 r.loop(1),
                                 [](int n, std::atomic<int> &w) -> task<> {
                                     ++w;
                                     int arrived = co_await wait_signal(n);
                                     CHECK(arrived == n);
                                 }(number, waiting),
                                 [&](parley::outcome<>) { ++seen; });
                         }
                         while (waiting != 2)
                             std::this_thread::yield();
                         std::atomic<bool> begun{false};
                         r.start(r.loop(1), let_others_wait(), [&](parley::outcome<>) { begun = true; });
                         while (!begun)
                             std::this_thread::yield();
                         ::kill(::getpid(), SIGUSR2);
                         ::kill(::getpid(), SIGUSR1);
                         while (seen != 2)
                             std::this_thread::yield();
                     });
                 }(rt, witnessed, got));
    CHECK(got == std::vector<int>{SIGUSR1, SIGUSR2});
}

TEST_CASE("a signal that cannot be caught is an exception") {
    no_frames_left check;
    parley::run([]() -> task<> {
        for (int number : {SIGKILL, 0, 65, -3}) {
            try {
                int n = co_await wait_signal(number);
                static_cast<void>(n);
                FAIL("an exception was expected");
            } catch (const parley::exception &e) {
                CHECK(e.code() == std::errc::invalid_argument);
            }
        }
    }());
}

TEST_CASE("stop ends a wait for a signal") {
    no_frames_left check;
    parley::runtime rt;
    std::atomic<bool> stopped{false};
    rt.start([]() -> task<int> { co_return co_await wait_signal(SIGUSR1); }(),
             [&](parley::outcome<int> how) { stopped = how.stopped(); });
    rt.stop();
    while (!stopped)
        std::this_thread::yield();
}
