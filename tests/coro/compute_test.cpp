#include <doctest/doctest.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>

#include <parley/parley.hpp>

#include "coro_test.hpp"

using parley::scope;
using parley::task;

namespace {

parley::runtime_options one_thread() {
    parley::runtime_options o;
    o.loops = 1;
    o.executor_threads = 1;
    return o;
}

// Opens once; those who wait block their thread.
class door {
public:
    void open() {
        std::lock_guard lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }
    void pass() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return open_; });
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool open_ = false;
};

} // namespace

TEST_CASE("compute runs on another thread and its value comes home") {
    no_frames_left check;
    parley::run([]() -> task<> {
        const std::thread::id loop_thread = std::this_thread::get_id();
        std::thread::id worker;
        int x = co_await parley::compute([&] {
            worker = std::this_thread::get_id();
            return 42;
        });
        CHECK(x == 42);
        CHECK(worker != loop_thread);
        CHECK(std::this_thread::get_id() == loop_thread);
        co_await parley::compute([] {});
        std::unique_ptr<int> p = co_await parley::compute([] { return std::make_unique<int>(5); });
        CHECK(*p == 5);
        int &r = co_await parley::compute([&]() -> int & { return x; });
        CHECK(&r == &x);
    }());
}

TEST_CASE("an exception in compute is thrown by the await, on the loop") {
    no_frames_left check;
    std::string what = parley::run([]() -> task<std::string> {
        const std::thread::id loop_thread = std::this_thread::get_id();
        try {
            co_await parley::compute([] { throw std::runtime_error("in the pool"); });
        } catch (const std::runtime_error &e) {
            CHECK(std::this_thread::get_id() == loop_thread);
            co_return e.what();
        }
        co_return "";
    }());
    CHECK(what == "in the pool");
}

TEST_CASE("a named function is kept by reference") {
    no_frames_left check;
    int sum = parley::run([]() -> task<int> {
        auto owned = std::make_unique<int>(20);
        auto work = [p = std::move(owned)] { return ++*p; };
        int a = co_await parley::compute(work);
        int b = co_await parley::compute(work);
        co_return a + b;
    }());
    CHECK(sum == 43);
}

TEST_CASE("many computations at once all come home") {
    no_frames_left check;
    int sum = 0;
    parley::run([](int &total) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            for (int i = 0; i < 2000; ++i) {
                s.spawn([](int &t, int n) -> task<> {
                    int x = co_await parley::compute([&n] { return n; });
                    t += x;
                }(total, i));
            }
            co_return;
        });
    }(sum));
    CHECK(sum == 1999 * 2000 / 2);
}

TEST_CASE("a computation that waits for a thread is taken back by a cancel, one that runs is awaited") {
    no_frames_left check;
    door started;
    door may_end;
    std::atomic<bool> ended{false};
    bool second_ran = false;
    std::thread opener;
    parley::run(
        one_thread(),
        [](door &begun, door &end, std::atomic<bool> &over, bool &ran, std::thread &helper) -> task<> {
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn([&]() -> task<> {
                    co_await parley::compute([&] {
                        begun.open();
                        end.pass();
                        over = true;
                    });
                    FAIL("it was cancelled");
                });
                s.spawn([&]() -> task<> { co_await parley::compute([&] { ran = true; }); });
                co_await parley::yield();
                begun.pass(); // the one thread is busy now
                co_await parley::yield();
                s.cancel();
                for (int i = 0; i < 5; ++i) {
                    try {
                        co_await parley::yield();
                    } catch (const parley::cancelled &) {
                    }
                }
                CHECK(!over);
                CHECK(s.children() >= 1);
                helper = std::thread([&] { end.open(); });
            });
            CHECK(over);
        }(started, may_end, ended, second_ran, opener));
    opener.join();
    CHECK(!second_ran);
}

TEST_CASE("cancels that race with computations lose nothing") {
    no_frames_left check;
    parley::run(one_thread(), []() -> task<> {
        for (int i = 0; i < 500; ++i) {
            co_await parley::with_scope([&](scope &s) -> task<> {
                for (int n = 0; n < 3; ++n)
                    s.spawn([]() -> task<> { co_await parley::compute([] {}); }());
                for (int n = 0; n < i % 4; ++n)
                    co_await parley::yield();
                s.cancel();
            });
        }
    }());
}
