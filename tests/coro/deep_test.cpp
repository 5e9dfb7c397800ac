// Whatever completes at once, however often and however deep, leaves the stack flat.

#include <doctest/doctest.h>

#include <stdexcept>

#include <parley/parley.hpp>

#include "coro_test.hpp"

using parley::task;

namespace {

constexpr int many = 1'000'000;
constexpr int deep = 100'000;

task<int> ready(int x) {
    co_return x;
}

// Done before it suspends, in two ways.
struct ready_leaf {
    bool await_ready() const noexcept { return true; }
    bool await_suspend(std::coroutine_handle<>, parley::detail::context &) const noexcept { return true; }
    int await_resume() const noexcept { return 1; }
};
struct quick_leaf {
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>, parley::detail::context &) const noexcept { return false; }
    int await_resume() const noexcept { return 1; }
};

task<int> descend(int n) {
    if (n == 0)
        co_return 0;
    int below = co_await descend(n - 1);
    co_return below + 1;
}

task<int> descend_and_wait(int n) {
    if (n == 0) {
        co_await parley::yield();
        co_return 0;
    }
    int below = co_await descend_and_wait(n - 1);
    co_return below + 1;
}

task<> descend_and_throw(int n) {
    if (n == 0)
        throw std::runtime_error("from the bottom");
    co_await descend_and_throw(n - 1);
}

task<> descend_and_sleep(int n) {
    if (n == 0)
        co_await parley::sleep_for(std::chrono::hours(1));
    else
        co_await descend_and_sleep(n - 1);
}

task<> nested_scopes(int n) {
    if (n == 0) {
        co_await parley::sleep_for(std::chrono::hours(1));
        co_return;
    }
    co_await parley::with_scope([&n](parley::scope &) -> task<> { co_await nested_scopes(n - 1); });
}

} // namespace

TEST_CASE("a million awaits of ready tasks") {
    no_frames_left check;
    long long sum = parley::run([]() -> task<long long> {
        long long all = 0;
        for (int i = 0; i < many; ++i) {
            int x = co_await ready(i & 1);
            all += x;
        }
        co_return all;
    }());
    CHECK(sum == many / 2);
}

TEST_CASE("a million awaits of operations that are ready or complete inside await_suspend") {
    no_frames_left check;
    long long sum = parley::run([]() -> task<long long> {
        long long all = 0;
        for (int i = 0; i < many / 2; ++i) {
            int x = co_await ready_leaf();
            int y = co_await quick_leaf();
            all += x + y;
        }
        co_return all;
    }());
    CHECK(sum == many);
}

TEST_CASE("a chain of a hundred thousand tasks that are ready") {
    no_frames_left check;
    CHECK(parley::run(descend(deep)) == deep);
}

TEST_CASE("a chain of a hundred thousand tasks whose last one waits") {
    no_frames_left check;
    CHECK(parley::run(descend_and_wait(deep)) == deep);
}

TEST_CASE("an exception through a hundred thousand tasks") {
    no_frames_left check;
    CHECK_THROWS_AS(parley::run(descend_and_throw(deep)), std::runtime_error);
}

TEST_CASE("a chain of a hundred thousand tasks is cancelled") {
    no_frames_left check;
    parley::run([]() -> task<> {
        co_await parley::with_scope([](parley::scope &s) -> task<> {
            s.spawn(descend_and_sleep(deep));
            for (int i = 0; i < deep / 64 + 100; ++i)
                co_await parley::yield();
            s.cancel();
        });
    }());
}

TEST_CASE("scopes nested ten thousand deep are cancelled") {
    no_frames_left check;
    constexpr int scopes = 10'000;
    parley::run([]() -> task<> {
        co_await parley::with_scope([](parley::scope &s) -> task<> {
            s.spawn(nested_scopes(scopes));
            for (int i = 0; i < 2 * scopes + 100; ++i)
                co_await parley::yield();
            s.cancel();
        });
    }());
}

TEST_CASE("a chain that finds everything ready lets others run after at most 64 awaits") {
    no_frames_left check;
    int other_runs = 0;
    parley::run([](int &others) -> task<> {
        bool stop = false;
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([](bool &end, int &count) -> task<> {
                while (!end) {
                    ++count;
                    co_await parley::yield();
                }
            }(stop, others));
            co_await parley::yield();
            int before = others;
            for (int i = 0; i < 640; ++i)
                co_await ready_leaf();
            CHECK(others - before >= 9);
            before = others;
            for (int i = 0; i < 640; ++i)
                co_await quick_leaf();
            CHECK(others - before >= 9);
            before = others;
            for (int i = 0; i < 640; ++i) {
                int x = co_await ready(i);
                static_cast<void>(x);
            }
            CHECK(others - before >= 9);
            stop = true;
        });
    }(other_runs));
}
