// How tasks begin and end from outside: run, runtime, start, sync_wait, stop.

#include <doctest/doctest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <parley/parley.hpp>

#include "coro_test.hpp"

using namespace std::chrono_literals;
using parley::outcome;
using parley::runtime;
using parley::task;

namespace {

task<int> number(int x) {
    co_await parley::yield();
    co_return x;
}

task<std::size_t> where() {
    co_await parley::yield();
    co_return parley::this_loop().index();
}

task<> for_ever() {
    co_await parley::sleep_for(std::chrono::hours(24));
}

// Waits in one thread for what another one says.
template <class T>
class mail {
public:
    void put(T value) {
        std::lock_guard lock(mutex_);
        value_ = std::move(value);
        changed_.notify_one();
    }
    T take() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return value_.has_value(); });
        return std::move(*value_);
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::optional<T> value_;
};

} // namespace

TEST_CASE("run gives the task's value and rethrows its exception") {
    no_frames_left check;
    CHECK(parley::run(number(5)) == 5);
    CHECK(parley::run(on_loops(1), number(6)) == 6);
    CHECK_THROWS_AS(parley::run([]() -> task<> {
                        co_await parley::yield();
                        throw std::runtime_error("x");
                    }()),
                    std::runtime_error);
}

TEST_CASE("run begins on loop 0") {
    CHECK(parley::run(where()) == 0);
}

TEST_CASE("run can be called again and again, also inside compute") {
    no_frames_left check;
    for (int i = 0; i < 20; ++i)
        CHECK(parley::run(number(i)) == i);
    int inner = parley::run([]() -> task<int> {
        int x = co_await parley::compute([] { return parley::run(on_loops(1), number(3)); });
        co_return x;
    }());
    CHECK(inner == 3);
}

TEST_CASE("sync_wait runs a task on the loop that is named and blocks until its end") {
    no_frames_left check;
    runtime rt(on_loops(3));
    REQUIRE(rt.loops() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
        CHECK(rt.loop(i).index() == i);
        CHECK(rt.sync_wait(rt.loop(i), where()) == i);
    }
    CHECK(rt.sync_wait(number(1)) == 1);
}

TEST_CASE("sync_wait on a loop throws EDEADLK and the task does not begin") {
    no_frames_left check;
    runtime rt(on_loops(1));
    bool began = false;
    int error = rt.sync_wait([](runtime &r, bool &ran) -> task<int> {
        try {
            r.sync_wait([](bool &b) -> task<> {
                b = true;
                co_return;
            }(ran));
        } catch (const std::system_error &e) {
            co_return e.code().value();
        }
        co_return 0;
    }(rt, began));
    CHECK(error == EDEADLK);
    CHECK(!began);
}

TEST_CASE("start calls back on the task's loop with the value, the exception or neither") {
    no_frames_left check;
    runtime rt(on_loops(2));
    mail<int> value;
    rt.start(rt.loop(1), number(8), [&](outcome<int> how) {
        CHECK(parley::loop::current() == &rt.loop(1));
        value.put(std::move(how).get());
    });
    CHECK(value.take() == 8);

    mail<std::string> failure;
    rt.start(
        []() -> task<> {
            co_await parley::yield();
            throw std::runtime_error("planned");
        }(),
        [&](outcome<> how) {
            CHECK(!how.has_value());
            CHECK(!how.stopped());
            try {
                std::move(how).get();
            } catch (const std::exception &e) {
                failure.put(e.what());
            }
        });
    CHECK(failure.take() == "planned");
}

TEST_CASE("start keeps a callback that only moves until it was called") {
    no_frames_left check;
    runtime rt(on_loops(1));
    mail<int> value;
    auto owned = std::make_unique<int>(5);
    rt.start(number(1),
             [&value, p = std::move(owned)](outcome<int> how) { value.put(*p + std::move(how).get()); });
    CHECK(value.take() == 6);
}

TEST_CASE("start keeps a function that makes its task") {
    no_frames_left check;
    runtime rt(on_loops(1));
    mail<int> value;
    {
        auto owned = std::make_unique<int>(5);
        rt.start(
            [p = std::move(owned)]() -> task<int> {
                co_await parley::sleep_for(1ms);
                co_return *p;
            },
            [&](outcome<int> how) { value.put(std::move(how).get()); });
    }
    CHECK(value.take() == 5);
    mail<int> end;
    rt.start(
        rt.loop(0), []() -> task<> { co_await parley::yield(); },
        [&](outcome<> how) { end.put(how.has_value()); });
    CHECK(end.take() == 1);
}

TEST_CASE("an exception of a start callback goes no further") {
    no_frames_left check;
    runtime rt(on_loops(1));
    mail<int> called;
    rt.start(number(1), [&](outcome<int>) {
        called.put(1);
        throw std::runtime_error("this line on standard error belongs to the test");
    });
    CHECK(called.take() == 1);
    CHECK(rt.sync_wait(number(2)) == 2);
}

TEST_CASE("start on a loop runs the task on that loop") {
    no_frames_left check;
    runtime rt(on_loops(2));
    mail<std::size_t> index;
    rt.sync_wait(rt.loop(1), [](runtime &r, mail<std::size_t> &m) -> task<> {
        r.start(where(), [&m](outcome<std::size_t> how) { m.put(std::move(how).get()); });
        co_return;
    }(rt, index));
    CHECK(index.take() == 1);
}

TEST_CASE("tasks are started from many threads at once") {
    no_frames_left check;
    runtime rt(on_loops(2));
    constexpr int threads = 4;
    constexpr int each = 500;
    std::atomic<int> sum{0};
    std::vector<std::thread> starters;
    for (int t = 0; t < threads; ++t) {
        starters.emplace_back([&] {
            for (int i = 0; i < each; ++i)
                rt.start(number(1), [&](outcome<int> how) { sum += std::move(how).get(); });
        });
    }
    for (std::thread &t : starters)
        t.join();
    for (std::size_t i = 0; i < rt.loops(); ++i) {
        // Whatever was posted before this has begun; yield until it has ended, too.
        rt.sync_wait(rt.loop(i), [](parley::loop &here) -> task<> {
            while (here.roots() > 1)
                co_await parley::yield();
        }(rt.loop(i)));
    }
    CHECK(sum == threads * each);
}

TEST_CASE("stop cancels every task and the runtime joins them") {
    no_frames_left check;
    std::atomic<int> stopped{0};
    {
        runtime rt(on_loops(2));
        for (int i = 0; i < 100; ++i)
            rt.start(for_ever(), [&](outcome<> how) { stopped += how.stopped(); });
        rt.stop();
        CHECK(rt.stopping());
    }
    CHECK(stopped == 100);
}

TEST_CASE("destroying a runtime stops its tasks") {
    no_frames_left check;
    std::atomic<int> stopped{0};
    {
        runtime rt(on_loops(1));
        rt.start(for_ever(), [&](outcome<> how) { stopped += how.stopped(); });
    }
    CHECK(stopped == 1);
}

TEST_CASE("a task started after stop does not begin and its outcome is stopped") {
    no_frames_left check;
    runtime rt(on_loops(1));
    rt.stop();
    bool ran = false;
    mail<bool> stopped;
    rt.start(
        [](bool &r) -> task<> {
            r = true;
            co_return;
        }(ran),
        [&](outcome<> how) { stopped.put(how.stopped()); });
    CHECK(stopped.take());
    CHECK(!ran);
    CHECK_THROWS_AS(rt.sync_wait(number(1)), parley::exception);
    try {
        static_cast<void>(rt.sync_wait(number(1)));
    } catch (const parley::exception &e) {
        CHECK(e.code() == std::errc::operation_canceled);
    }
}

TEST_CASE("stop may be called by a task, which then ends at its next await") {
    no_frames_left check;
    runtime rt(on_loops(1));
    bool went_on = false;
    CHECK_THROWS_AS(rt.sync_wait([](runtime &r, bool &after) -> task<> {
        r.stop();
        for (;;)
            co_await parley::sleep_for(1ms);
        after = true;
    }(rt, went_on)),
                    parley::exception);
    CHECK(!went_on);
}

TEST_CASE("tasks run beside callbacks on a scheduler that is borrowed") {
    no_frames_left check;
    CommScheduler scheduler;
    REQUIRE(scheduler.init(2, 1) == 0);
    for (int i = 0; i < 3; ++i) {
        runtime rt(scheduler);
        CHECK(&rt.scheduler() == &scheduler);
        REQUIRE(rt.loops() == 2);
        CHECK(rt.sync_wait(rt.loop(1), where()) == 1);
    }
    {
        runtime one(scheduler);
        runtime two(scheduler);
        CHECK(one.sync_wait(number(1)) + two.sync_wait(number(2)) == 3);
    }
    scheduler.deinit();
}

TEST_CASE("outside of tasks there is no current loop") {
    CHECK(parley::loop::current() == nullptr);
    CHECK_THROWS_AS(static_cast<void>(parley::this_loop()), parley::exception);
    try {
        static_cast<void>(parley::this_loop());
    } catch (const parley::exception &e) {
        CHECK(e.code() == parley::errc::no_runtime);
    }
}

TEST_CASE("locals are destroyed in order when a task is stopped") {
    no_frames_left check;
    std::vector<int> order;
    struct note {
        std::vector<int> &list;
        int number;
        ~note() { list.push_back(number); }
    };
    {
        runtime rt(on_loops(1));
        mail<int> ready;
        rt.start(
            [](std::vector<int> &o, mail<int> &m) -> task<> {
                note first{o, 1};
                note second{o, 2};
                m.put(1);
                co_await for_ever();
            }(order, ready),
            [](outcome<>) {});
        ready.take();
    }
    CHECK(order == std::vector<int>{2, 1});
}
