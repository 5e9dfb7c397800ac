// Loops that are kept busy for too long, and who says so.

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <unistd.h>

#include <parley/parley.hpp>
#include <parley/sim/world.hpp>

#include "coro_test.hpp"
#include "signals_test.hpp"

using namespace std::chrono_literals;
namespace sim = parley::sim;
using parley::runtime;
using parley::stall_report;
using parley::task;

namespace {

// What a runtime in a world reports; `threshold` is 100 ms.
class watched {
public:
    explicit watched(sim::world &world, std::size_t loops = 1) : world_(world) {
        options.loops = loops;
        options.executor_threads = 1;
        options.stall_threshold = 100ms;
        options.on_stall = [this](const stall_report &report) { reports.push_back(report); };
    }
    // The calling thread does nothing else for this long, whoever waits for it.
    void compute(std::chrono::nanoseconds time) { world_.sleep(time); }

    parley::runtime_options options;
    std::vector<stall_report> reports; // read when the runtime has ended

private:
    sim::world &world_;
};

void in_watched_world(void (*body)(watched &), std::size_t loops = 1) {
    sim::world world{1};
    world.run([&] {
        watched w(world, loops);
        body(w);
    });
}

void check_pair(const std::vector<stall_report> &reports, std::size_t at, std::chrono::nanoseconds busy,
                std::size_t loop = 0) {
    REQUIRE(reports.size() >= at + 2);
    const stall_report &begun = reports[at];
    const stall_report &over = reports[at + 1];
    CHECK(begun.loop == loop);
    CHECK_FALSE(begun.over);
    CHECK(begun.lasted >= 100ms);
    CHECK(begun.lasted < 126ms);
    CHECK(over.loop == loop);
    CHECK(over.over);
    CHECK(over.lasted >= busy);
    CHECK(over.lasted < busy + 26ms);
    CHECK(over.in_task == begun.in_task);
    CHECK(over.where.line() == begun.where.line());
}

} // namespace

TEST_CASE("a task that computes for 300 ms is reported once, with its line, and once that it is over") {
    in_watched_world([](watched &w) {
        unsigned line = 0;
        parley::run(w.options, [](watched &its, unsigned &awaited) -> task<> {
            co_await parley::sleep_for(1s);
            awaited = __LINE__ - 1;
            its.compute(300ms);
            co_await parley::sleep_for(1s);
        }(w, line));
        REQUIRE(w.reports.size() == 2);
        check_pair(w.reports, 0, 300ms);
        if constexpr (PARLEY_SIGHT) {
            CHECK(w.reports[0].in_task);
            CHECK(w.reports[0].where.line() == line);
            std::ostringstream text;
            text << w.reports[0] << '\n' << w.reports[1];
            CAPTURE(text.str());
            CHECK(text.str().starts_with("loop 0 is blocked for 0.1"));
            CHECK(text.str().find("\nloop 0 was blocked for 0.3") != std::string::npos);
            CHECK(text.str().find("which went on at " + std::string(__FILE__) + ':' + std::to_string(line)) !=
                  std::string::npos);
        }
    });
}

TEST_CASE("what stays below the threshold is not reported, however often it comes") {
    in_watched_world([](watched &w) {
        parley::run(w.options, [](watched &its) -> task<> {
            for (int i = 0; i < 50; ++i) {
                its.compute(99ms);
                co_await parley::sleep_for(1us);
            }
        }(w));
        CHECK(w.reports.empty());
    });
}

TEST_CASE("many that compute for a little each keep the loop from its sockets as well") {
    in_watched_world([](watched &w) {
        parley::run(w.options, [](watched &its) -> task<> {
            for (int i = 0; i < 30; ++i) {
                its.compute(10ms);
                co_await parley::yield(); // within one turn of the loop
            }
            co_await parley::sleep_for(1s);
        }(w));
        REQUIRE(w.reports.size() == 2);
        check_pair(w.reports, 0, 300ms);
    });
}

TEST_CASE("a loop that rests is not reported") {
    in_watched_world([](watched &w) {
        parley::run(w.options, []() -> task<> { co_await parley::sleep_for(10min); }());
        CHECK(w.reports.empty());
    });
}

TEST_CASE("a task that computes before its first await, and one after another") {
    in_watched_world([](watched &w) {
        parley::run(w.options, [](watched &its) -> task<> {
            its.compute(200ms);
            co_await parley::sleep_for(50ms);
            its.compute(500ms);
        }(w));
        REQUIRE(w.reports.size() >= 3); // the last may end with the runtime
        check_pair(w.reports, 0, 200ms);
        CHECK_FALSE(w.reports[2].over);
        std::ostringstream text;
        text << w.reports[0];
        if constexpr (PARLEY_SIGHT)
            CHECK(text.str().ends_with("in a task that has awaited nothing yet"));
    });
}

TEST_CASE("of several loops the one that is blocked is named") {
    in_watched_world(
        [](watched &w) {
            runtime rt(w.options);
            rt.sync_wait(rt.loop(2), [](watched &its) -> task<> {
                co_await parley::sleep_for(1s);
                its.compute(1s);
                co_await parley::sleep_for(1s);
            }(w));
            REQUIRE(w.reports.size() == 2);
            check_pair(w.reports, 0, 1s, 2);
        },
        3);
}

TEST_CASE("a callback that blocks its loop is reported as one") {
    in_watched_world([](watched &w) {
        {
            runtime rt(w.options);
            struct blocking : CommNode {
                watched *its = nullptr;
            } node;
            node.its = &w;
            node.run = [](CommNode *self) { static_cast<blocking *>(self)->its->compute(300ms); };
            REQUIRE(rt.loop(0).core().post(&node) == 0);
            rt.sync_wait([]() -> task<> { co_await parley::sleep_for(1s); }());
        }
        REQUIRE(w.reports.size() == 2);
        check_pair(w.reports, 0, 300ms);
        CHECK_FALSE(w.reports[0].in_task);
        std::ostringstream text;
        text << w.reports[0];
        CHECK(text.str().ends_with("in a callback"));
    });
}

TEST_CASE("what the sink throws goes no further, and the next stall is reported as well") {
    in_watched_world([](watched &w) {
        int calls = 0;
        w.options.on_stall = [&calls](const stall_report &) {
            ++calls;
            throw std::runtime_error("no room in the log (a test)");
        };
        parley::run(w.options, [](watched &its) -> task<> {
            for (int i = 0; i < 2; ++i) {
                co_await parley::sleep_for(1s);
                its.compute(300ms);
            }
            co_await parley::sleep_for(1s);
        }(w));
        CHECK(calls == 4);
    });
}

TEST_CASE("a runtime ends while one of its loops is blocked, and waits for that loop") {
    in_watched_world([](watched &w) {
        bool ended = false;
        {
            runtime rt(w.options);
            rt.start(
                [](watched &its, bool &out) -> task<> {
                    co_await parley::yield();
                    its.compute(10s);
                    out = true;
                }(w, ended),
                [](parley::outcome<>) {});
        }
        CHECK(ended);
        REQUIRE_FALSE(w.reports.empty());
        CHECK_FALSE(w.reports[0].over);
    });
}

TEST_CASE("a runtime on a borrowed scheduler watches its loops too") {
    in_watched_world([](watched &w) {
        CommScheduler scheduler;
        REQUIRE(scheduler.init(2, 0) == 0);
        {
            runtime rt(scheduler, w.options);
            rt.sync_wait(rt.loop(1), [](watched &its) -> task<> {
                co_await parley::sleep_for(1s);
                its.compute(300ms);
                co_await parley::sleep_for(1s);
            }(w));
        }
        scheduler.deinit();
        REQUIRE(w.reports.size() == 2);
        check_pair(w.reports, 0, 300ms, 1);
    });
}

TEST_CASE("no threshold, no thread: nobody watches") {
    for (const auto none : {0ns, -1ns}) {
        sim::world world{1};
        world.run([&] {
            watched w(world);
            w.options.stall_threshold = none;
            parley::run(w.options, [](watched &its) -> task<> {
                co_await parley::yield();
                its.compute(1h);
            }(w));
            CHECK(w.reports.empty());
        });
    }
}

TEST_CASE("on the real kernel a task that never lets go is seen, while it does not") {
    no_frames_left check;
    std::atomic<bool> seen{false};
    parley::runtime_options options;
    options.loops = 2;
    options.stall_threshold = 1ms;
    options.on_stall = [&seen](const stall_report &) { seen = true; };
    parley::run(options, [](std::atomic<bool> &told) -> task<> {
        co_await parley::yield();
        while (!told) {
        }
    }(seen));
    CHECK(seen);
}

#if PARLEY_SIGHT
TEST_CASE("the signal of the options writes the tasks to standard error while the runtime lives") {
    counted_flushes buffer;
    struct redirected {
        std::streambuf *before;
        explicit redirected(std::streambuf *to) : before(std::cerr.rdbuf(to)) {}
        ~redirected() { std::cerr.rdbuf(before); }
    } const here(&buffer);
    {
        parley::runtime_options options;
        options.loops = 1;
        options.dump_signal = SIGUSR1;
        parley::run(options, [](std::atomic<int> &flushes) -> task<> {
            co_await parley::compute([&flushes] {
                const int before = flushes;
                ::kill(::getpid(), SIGUSR1);
                flushes.wait(before);
            });
        }(buffer.flushes));
    }
    CHECK(buffer.str().find(": compute") != std::string::npos);
}
#endif

TEST_CASE("a signal that there is not makes no runtime, and leaves nothing of it") {
    parley::runtime_options options;
    options.loops = 1;
    options.stall_threshold = 1s;
    options.dump_signal = SIGKILL;
    CHECK_THROWS_AS(runtime{options}, std::system_error);
    options.dump_signal = 65;
    CHECK_THROWS_AS(runtime{options}, std::system_error);
}
