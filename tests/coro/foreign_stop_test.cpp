// Awaitables of other libraries that can be told to stop, in a task that is.

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <optional>
#include <stop_token>
#include <thread>

#include <parley/parley.hpp>
#include <parley/sim/search.hpp>
#include <parley/sim/world.hpp>

#include "coro_test.hpp"

using namespace std::chrono_literals;
namespace sim = parley::sim;
using parley::errc;
using parley::scope;
using parley::task;

namespace {

// Somebody else's: ends when it is told to, on the thread that tells, or by finish().
class endless {
public:
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> awaiting, std::stop_token stop) {
        awaiting_ = awaiting;
        told_.emplace(std::move(stop), finisher{this});
    }
    int await_resume() noexcept {
        told_.reset();
        return 7;
    }
    ~endless() { told_.reset(); }
    void finish() {
        if (!over_.exchange(true))
            awaiting_.resume();
    }
    endless() = default;
    endless(const endless &) = delete;

    int stops = 0;

private:
    struct finisher {
        endless *of;
        void operator()() const {
            of->stops++;
            of->finish();
        }
    };
    std::coroutine_handle<> awaiting_;
    std::optional<std::stop_callback<finisher>> told_;
    std::atomic<bool> over_{false};
};

struct keeping : endless {
    static constexpr bool keeps_result = true;
};

// Ends on a thread of its own, which looks at the token.
class polling {
public:
    explicit polling(std::thread &on, std::atomic<bool> &stopped) : thread_(on), stopped_(stopped) {}
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> awaiting, std::stop_token stop) {
        thread_ = std::thread([awaiting, stop, &out = stopped_] {
            while (!stop.stop_requested())
                std::this_thread::yield();
            out = true;
            awaiting.resume();
        });
        return true;
    }
    void await_resume() const noexcept {}

private:
    std::thread &thread_;
    std::atomic<bool> &stopped_;
};

// Can be awaited in both ways; parley takes the one with the token.
struct both {
    bool *with_token;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>) const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>, std::stop_token stop) const noexcept {
        *with_token = stop.stop_possible() && !stop.stop_requested();
        return false;
    }
    int await_resume() const noexcept { return 1; }
};
struct gives_both {
    bool *with_token;
    both operator co_await() const noexcept { return both{with_token}; }
};

} // namespace

TEST_CASE("a foreign operation is told to stop, and the task ends when it has ended") {
    no_frames_left check;
    endless op;
    bool went_on = false;
    parley::run([](endless &e, bool &on) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                int got = co_await e;
                on = got != 0;
            });
            co_await parley::yield();
            co_await parley::yield();
            CHECK(e.stops == 0);
            s.cancel();
        });
        CHECK(e.stops == 1);
    }(op, went_on));
    CHECK_FALSE(went_on);
}

TEST_CASE("a foreign operation that ends by itself is not told, and its result is taken") {
    no_frames_left check;
    endless op;
    int got = parley::run([](endless &e) -> task<int> {
        int value = 0;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> { value = co_await e; });
            co_await parley::yield();
            co_await parley::yield();
            e.finish();
        });
        co_return value;
    }(op));
    CHECK(got == 7);
    CHECK(op.stops == 0);
}

TEST_CASE("a task that was told to stop before does not begin the foreign operation") {
    no_frames_left check;
    endless op;
    parley::run([](endless &e) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                int got = co_await e;
                FAIL("got ", got);
            });
            s.cancel();
            co_return;
        });
    }(op));
    CHECK(op.stops == 0);
}

TEST_CASE("a budget ends a foreign operation, also one that ends on a thread of its own") {
    no_frames_left check;
    std::thread thread;
    std::atomic<bool> stopped{false};
    parley::run([](std::thread &t, std::atomic<bool> &out) -> task<> {
        auto late = co_await parley::with_timeout(1ms, polling(t, out));
        CHECK(late.error() == errc::timed_out);
        CHECK(out);
    }(thread, stopped));
    thread.join();
}

TEST_CASE("the form with a token is chosen, for awaiters and for what has operator co_await") {
    no_frames_left check;
    bool first = false, second = false;
    parley::run([](bool &a, bool &b) -> task<> {
        int one = co_await both{&a};
        int two = co_await gives_both{&b};
        CHECK(one + two == 2);
    }(first, second));
    CHECK(first);
    CHECK(second);
}

TEST_CASE("a result that comes with the cancel is dropped, unless the foreign awaiter keeps it") {
    no_frames_left check;
    keeping op;
    int got = parley::run([](keeping &e) -> task<int> {
        int value = 0;
        bool went_on = false;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                value = co_await e;
                co_await parley::yield();
                went_on = true;
            });
            co_await parley::yield();
            co_await parley::yield();
            s.cancel();
        });
        CHECK_FALSE(went_on);
        co_return value;
    }(op));
    CHECK(got == 7);
    CHECK(op.stops == 1);
}

TEST_CASE("a combinator tells its foreign losers to stop") {
    no_frames_left check;
    endless op;
    parley::run([](endless &e) -> task<> {
        auto first = co_await parley::when_any(e, parley::yield());
        CHECK(first.index() == 1);
    }(op));
    CHECK(op.stops == 1);
}

TEST_CASE("a foreign operation that ends elsewhere in the moment of the cancel, in any order") {
    const auto failure = sim::search("foreign_stop", 300, [](sim::world &world) {
        world.run([&] {
            parley::runtime_options options;
            options.loops = 1;
            options.executor_threads = 1;
            parley::run(options, [](sim::world &w) -> task<> {
                endless op;
                std::optional<int> got;
                co_await parley::with_scope([&](scope &s) -> task<> {
                    s.spawn([&]() -> task<> { got = co_await op; });
                    co_await parley::sleep_for(1ms);
                    parley::sync::thread other([&] {
                        w.sleep(std::chrono::nanoseconds(w.draw(3) * 1000));
                        op.finish();
                    });
                    co_await parley::sleep_for(std::chrono::nanoseconds(w.draw(3) * 1000));
                    s.cancel();
                    co_await parley::shield(parley::compute([&other] { other.join(); }));
                });
                w.expect(!got || *got == 7, "the result or nothing");
            }(world));
        });
    });
    CHECK_FALSE(failure);
}
