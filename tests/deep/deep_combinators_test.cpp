// Every combinator, a million times in a row and a hundred thousand deep: whatever completes, throws, is
// cancelled or destroyed there leaves the stack flat.

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <stdexcept>
#include <stop_token>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include <parley/parley.hpp>

#include "coro/coro_test.hpp"

using parley::task;
using namespace std::chrono_literals;

namespace {

constexpr int many = 1'000'000;
constexpr int deep = 100'000;

// What one level gives when the work below it was stopped.
constexpr int stopped = -1;

int cleanups = 0;
constinit parley::task_local<int> depth_here;
std::stop_source stops;

// One level of each: around(work, level) gives what the work gives. The deeper the work, the lower is its
// level.

struct with_when_all {
    static task<int> around(task<int> work, int) {
        auto [value] = co_await parley::when_all(std::move(work));
        co_return value;
    }
};

struct with_when_any {
    static task<int> around(task<int> work, int) {
        auto first = co_await parley::when_any(std::move(work), parley::sleep_for(24h));
        co_return std::get<0>(first);
    }
};

// The limit below is the nearer one, so that each level has a timer.
struct with_a_timeout {
    static task<int> around(task<int> work, int level) {
        auto value = co_await parley::with_timeout(1h + std::chrono::milliseconds(level), std::move(work));
        co_return value.value();
    }
};

struct with_a_deadline {
    static task<int> around(task<int> work, int level) {
        const auto when = std::chrono::steady_clock::now() + 1h + std::chrono::milliseconds(level);
        auto value = co_await parley::with_deadline(when, std::move(work));
        co_return value.value();
    }
};

struct with_a_shield {
    static task<int> around(task<int> work, int) {
        int value = co_await parley::shield(std::move(work));
        co_return value;
    }
};

struct with_finally {
    static task<> clean() {
        ++cleanups;
        co_return;
    }
    static task<int> around(task<int> work, int) {
        int value = co_await parley::finally(std::move(work), []() -> task<> { return clean(); });
        co_return value;
    }
};

struct with_stop_as_error {
    static task<int> around(task<int> work, int) {
        auto value = co_await parley::stop_as_error(std::move(work));
        co_return value ? *value : stopped;
    }
};

struct with_a_stop_token {
    static task<int> around(task<int> work, int) {
        auto value = co_await parley::with_stop_token(stops.get_token(), std::move(work));
        co_return value ? *value : stopped;
    }
};

struct with_a_scope {
    static task<int> around(task<int> work, int) {
        int value = co_await parley::with_scope([&work](parley::scope &) -> task<int> {
            int below = co_await std::move(work);
            co_return below;
        });
        co_return value;
    }
};

struct with_a_spawned_child {
    static task<> keep(task<int> work, int &value) { value = co_await std::move(work); }
    static task<int> around(task<int> work, int) {
        int value = 0;
        co_await parley::with_scope([&work, &value](parley::scope &s) -> task<> {
            s.spawn(keep(std::move(work), value));
            co_return;
        });
        co_return value;
    }
};

struct with_for_each {
    static task<int> around(task<int> work, int) {
        int value = 0;
        std::array<task<int> *, 1> elements{&work};
        co_await parley::for_each_concurrently(
            elements, 2, [&value](task<int> *element) -> task<> { value = co_await std::move(*element); });
        co_return value;
    }
};

struct with_a_value {
    static task<int> around(task<int> work, int level) {
        int value = co_await parley::with_value(depth_here, level, std::move(work));
        co_return value;
    }
};

// A producer, which awaits the work, and a consumer, which waits for that.
struct with_a_channel {
    static task<> produce(task<int> work, parley::channel<int> &to) {
        int value = co_await std::move(work);
        auto pushed = co_await to.push(value);
        pushed.value();
    }
    static task<int> around(task<int> work, int) {
        parley::channel<int> between(1);
        int value = co_await parley::with_scope([&work, &between](parley::scope &s) -> task<int> {
            s.spawn(produce(std::move(work), between));
            auto popped = co_await between.pop();
            co_return popped.value();
        });
        co_return value;
    }
};

// A task that holds the lock while it awaits the work, and one that waits for the lock.
struct with_a_mutex {
    static task<int> hold(task<int> work, parley::mutex &door) {
        auto guard = co_await door.lock();
        int value = co_await std::move(work);
        co_return value;
    }
    static task<> follow(parley::mutex &door) {
        auto guard = co_await door.lock();
        static_cast<void>(guard);
    }
    static task<int> around(task<int> work, int) {
        parley::mutex door;
        auto both = co_await parley::when_all(hold(std::move(work), door), follow(door));
        co_return std::get<0>(both);
    }
};

// Nothing of it has begun.
template <class W>
task<int> nest(task<int> work) {
    for (int level = 0; level < deep; ++level)
        work = W::around(std::move(work), level);
    return work;
}

task<int> ready(int x) {
    co_return x;
}

task<int> throws() {
    throw std::runtime_error("from the bottom");
    co_return 0;
}

struct bottom {
    parley::event open;
    bool reached = false;
    bool passed = false;
    bool ended = false;

    task<int> wait() {
        struct at_end {
            bool &ended;
            ~at_end() { ended = true; }
        } mark{ended};
        reached = true;
        co_await open.wait();
        passed = true;
        co_return 1;
    }
    task<> until_reached() {
        while (!reached)
            co_await parley::yield();
    }
};

// The work is not told to stop, and goes on until it ends by itself.
template <class W>
constexpr bool keeps_cancel_out = std::is_same_v<W, with_a_shield>;

task<> run_it(task<int> work) {
    int value = co_await std::move(work);
    static_cast<void>(value);
}

} // namespace

#define EVERY_COMBINATOR                                                                                     \
    with_when_all, with_when_any, with_a_timeout, with_a_deadline, with_a_shield, with_finally,              \
        with_stop_as_error, with_a_stop_token, with_a_scope, with_a_spawned_child, with_for_each,            \
        with_a_value, with_a_channel, with_a_mutex

TEST_CASE_TEMPLATE("a million awaits of it around what is ready", W, EVERY_COMBINATOR) {
    no_frames_left check;
    cleanups = 0;
    long long sum = parley::run([]() -> task<long long> {
        long long all = 0;
        for (int i = 0; i < many; ++i) {
            int x = co_await W::around(ready(i & 1), 0);
            all += x;
        }
        co_return all;
    }());
    CHECK(sum == many / 2);
    CHECK((cleanups == 0 || cleanups == many));
}

TEST_CASE_TEMPLATE("a hundred thousand of it around what is ready", W, EVERY_COMBINATOR) {
    no_frames_left check;
    CHECK(parley::run(nest<W>(ready(1))) == 1);
}

TEST_CASE_TEMPLATE("an exception through a hundred thousand of it", W, EVERY_COMBINATOR) {
    no_frames_left check;
    CHECK_THROWS_AS(parley::run(nest<W>(throws())), std::runtime_error);
}

TEST_CASE_TEMPLATE("a hundred thousand of it that never began are destroyed", W, EVERY_COMBINATOR) {
    no_frames_left check;
    task<int> unused = nest<W>(ready(1));
    CHECK(unused);
}

TEST_CASE_TEMPLATE("a hundred thousand of it are cancelled", W, EVERY_COMBINATOR) {
    no_frames_left check;
    bottom end;
    cleanups = 0;
    parley::run([](bottom &below) -> task<> {
        co_await parley::with_scope([&below](parley::scope &s) -> task<> {
            s.spawn(run_it(nest<W>(below.wait())));
            co_await below.until_reached();
            co_await parley::shield([&below, &s]() -> task<> {
                s.cancel();
                for (int i = 0; i < 3; ++i)
                    co_await parley::yield();
                CHECK(below.ended != keeps_cancel_out<W>);
                below.open.set();
            });
        });
    }(end));
    CHECK(end.ended);
    CHECK(end.passed == keeps_cancel_out<W>);
    CHECK((cleanups == 0 || cleanups == deep));
}

TEST_CASE("a hundred thousand of with_stop_token are stopped by their token") {
    no_frames_left check;
    bottom end;
    stops = std::stop_source();
    parley::run([](bottom &below) -> task<> {
        co_await parley::with_scope([&below](parley::scope &s) -> task<> {
            s.spawn(run_it(nest<with_a_stop_token>(below.wait())));
            co_await below.until_reached();
            stops.request_stop();
        });
    }(end));
    stops = std::stop_source();
    CHECK(end.ended);
    CHECK(!end.passed);
}
