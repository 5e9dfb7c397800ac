// Coroutines of other libraries in parley's tasks, and the other way round.

#include <doctest/doctest.h>

#include <coroutine>
#include <exception>
#include <stdexcept>
#include <thread>
#include <utility>

#include <parley/parley.hpp>

#include "coro_test.hpp"

using namespace std::chrono_literals;
using parley::task;

namespace {

// Somebody else's awaitable: resumes on a thread of its own.
struct on_thread {
    int value;
    std::thread &thread;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) {
        thread = std::thread([h] { h.resume(); });
    }
    int await_resume() const noexcept { return value; }
};

struct at_once {
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>) const noexcept { return false; }
    int await_resume() const noexcept { return 2; }
};

struct transfers {
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> h) const noexcept { return h; }
    int await_resume() const noexcept { return 3; }
};

struct has_operator {};
at_once operator co_await(has_operator) noexcept {
    return at_once();
}

struct refuses {
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<>) const { throw std::runtime_error("refused"); }
    void await_resume() const noexcept {}
};

// Somebody else's coroutine: starts at once, destroys itself.
struct fire_and_forget {
    struct promise_type {
        fire_and_forget get_return_object() noexcept { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() noexcept {}
        void unhandled_exception() noexcept { std::terminate(); }
    };
};

task<int> half(int x) {
    co_await parley::yield();
    if (x % 2 != 0)
        throw std::runtime_error("odd");
    co_return x / 2;
}

fire_and_forget use_parley(int &result, bool &done) {
    co_await parley::sleep_for(1ms);
    int x = co_await half(8);
    try {
        int y = co_await half(3);
        x += y;
    } catch (const std::runtime_error &) {
        x += 100;
    }
    co_await parley::yield();
    int z = co_await parley::compute([] { return 1000; });
    result = x + z;
    done = true;
}

} // namespace

TEST_CASE("a task awaits foreign awaitables and comes home") {
    no_frames_left check;
    std::thread thread;
    int sum = parley::run([](std::thread &t) -> task<int> {
        const std::thread::id home = std::this_thread::get_id();
        int a = co_await on_thread{1, t};
        CHECK(std::this_thread::get_id() == home);
        int b = co_await at_once();
        int c = co_await transfers();
        int d = co_await has_operator();
        co_return a + b + c + d;
    }(thread));
    thread.join();
    CHECK(sum == 8);
}

TEST_CASE("an exception of a foreign await_suspend is thrown by the await") {
    no_frames_left check;
    auto refused = []() -> task<> { co_await refuses(); };
    CHECK_THROWS_WITH_AS(parley::run(refused()), "refused", std::runtime_error);
}

TEST_CASE("a foreign coroutine awaits tasks and operations of parley") {
    no_frames_left check;
    int result = 0;
    parley::run([](int &r) -> task<> {
        bool done = false;
        use_parley(r, done);
        while (!done)
            co_await parley::yield();
    }(result));
    CHECK(result == 1104);
}

TEST_CASE("a foreign coroutine outside of a runtime gets no_runtime") {
    no_frames_left check;
    bool refused = false;
    [](bool &r) -> fire_and_forget {
        try {
            int x = co_await half(2);
            static_cast<void>(x);
        } catch (const parley::exception &e) {
            r = e.code() == parley::errc::no_runtime;
        }
    }(refused);
    CHECK(refused);
}
