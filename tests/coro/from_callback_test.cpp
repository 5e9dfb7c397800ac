#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <parley/parley.hpp>

#include "coro_test.hpp"

using namespace std::chrono_literals;
using parley::from_callback;
using parley::scope;
using parley::task;

namespace {

// C libraries of three habits.
using user_last = void (*)(int status, void *user);
using user_first = void (*)(void *user, int status);

void c_call_at_once(int status, user_last f, void *user) {
    f(status, user);
}

void c_call_user_first(int status, user_first f, void *user) {
    f(user, status);
}

void c_call_later(int status, user_last f, void *user, std::vector<std::thread> &threads) {
    threads.emplace_back([=] { f(status, user); });
}

} // namespace

TEST_CASE("a callback that comes inside the initiating call does not suspend") {
    no_frames_left check;
    parley::run([]() -> task<> {
        int x = co_await from_callback<int>([](auto &done) { done(3); });
        CHECK(x == 3);
        co_await from_callback<>([](auto &done) { done(); });
        auto [a, b] = co_await from_callback<int, std::string>([](auto &done) { done(1, "two"); });
        CHECK(a == 1);
        CHECK(b == "two");
        std::unique_ptr<int> p =
            co_await from_callback<std::unique_ptr<int>>([](auto &done) { done(std::make_unique<int>(4)); });
        CHECK(*p == 4);
    }());
}

TEST_CASE("a C library calls back with its user pointer last, or first") {
    no_frames_left check;
    std::vector<std::thread> threads;
    parley::run([](std::vector<std::thread> &ts) -> task<> {
        int a = co_await from_callback<int>([](auto &done) { c_call_at_once(1, done.invoke, done.data()); });
        int b = co_await from_callback<int>(
            [](auto &done) { c_call_user_first(2, done.invoke_first, done.data()); });
        int c =
            co_await from_callback<int>([&](auto &done) { c_call_later(3, done.invoke, done.data(), ts); });
        CHECK(a == 1);
        CHECK(b == 2);
        CHECK(c == 3);
        CHECK(parley::loop::current() != nullptr);
    }(threads));
    for (std::thread &t : threads)
        t.join();
}

TEST_CASE("callbacks from other threads race with the suspension and none is lost") {
    no_frames_left check;
    constexpr int rounds = 3000;
    std::atomic<void *> slot{nullptr};
    std::atomic<bool> end{false};
    using done_type = parley::callback_done<int>;
    std::thread caller([&] {
        int n = 0;
        while (!end) {
            if (void *user = slot.exchange(nullptr))
                done_type::invoke(n++, user);
        }
    });
    long long sum = parley::run([](std::atomic<void *> &place) -> task<long long> {
        long long total = 0;
        for (int i = 0; i < rounds; ++i) {
            int x = co_await from_callback<int>([&](auto &done) {
                place.store(done.data());
                if (i % 3 == 0) { // often enough it is called before this returns
                    while (place.load())
                        std::this_thread::yield();
                }
            });
            total += x;
        }
        co_return total;
    }(slot));
    end = true;
    caller.join();
    CHECK(sum == static_cast<long long>(rounds) * (rounds - 1) / 2);
}

TEST_CASE("an exception of the initiating function is thrown by the await") {
    no_frames_left check;
    CHECK_THROWS_WITH_AS(parley::run([]() -> task<> {
                             co_await from_callback<>(
                                 [](auto &) { throw std::runtime_error("cannot start"); });
                         }()),
                         "cannot start", std::runtime_error);
}

TEST_CASE("a function object is called once, however many copies there are") {
    no_frames_left check;
    std::vector<std::function<void(int)>> kept;
    int x = parley::run([](std::vector<std::function<void(int)>> &copies) -> task<int> {
        int value = co_await from_callback<int>([&](auto &done) {
            std::function<void(int)> f = done.callback();
            copies = {f, f, f};
            f(7);
            f(8);
        });
        co_return value;
    }(kept));
    CHECK(x == 7);
    for (auto &f : kept)
        f(9); // after the await: nothing happens
}

TEST_CASE("a function object that is destroyed uncalled ends the wait with errc::dropped") {
    no_frames_left check;
    std::function<void()> held;
    std::thread dropper;
    parley::run([](std::function<void()> &h, std::thread &t) -> task<> {
        try {
            co_await from_callback<>([](auto &done) { auto f = done.callback(); });
            FAIL("an exception was expected");
        } catch (const parley::exception &e) {
            CHECK(e.code() == parley::errc::dropped);
        }
        try {
            co_await from_callback<>([&](auto &done) {
                h = done.callback();
                t = std::thread([&h] { h = nullptr; });
            });
            FAIL("an exception was expected");
        } catch (const parley::exception &e) {
            CHECK(e.code() == parley::errc::dropped);
        }
    }(held, dropper));
    dropper.join();
}

TEST_CASE("a cancel hook that says the callback will not come ends the wait at once") {
    no_frames_left check;
    int hooks = 0;
    parley::run([](int &called) -> task<> {
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await from_callback<int>([](auto &) {},
                                            [&] {
                                                ++called;
                                                return true;
                                            });
                FAIL("it was cancelled");
            });
            co_await parley::yield();
            co_await parley::yield();
            s.cancel();
        });
    }(hooks));
    CHECK(hooks == 1);
}

TEST_CASE("a cancel hook that only asks leaves the wait to the callback") {
    no_frames_left check;
    int hooks = 0;
    parley::run([](int &called) -> task<> {
        void *user = nullptr;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await from_callback<int>([&](auto &done) { user = done.data(); }, [&] { ++called; });
                FAIL("it was cancelled");
            });
            co_await parley::yield();
            co_await parley::yield();
            s.cancel();
            CHECK(called == 1);
            CHECK(s.children() == 1);
            parley::callback_done<int>::invoke(5, user);
        });
    }(hooks));
    CHECK(hooks == 1);
}

TEST_CASE("without a hook a cancel waits for the callback") {
    no_frames_left check;
    std::thread later;
    bool ended = false;
    parley::run([](std::thread &t, bool &over) -> task<> {
        void *user = nullptr;
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                struct note {
                    bool &b;
                    ~note() { b = true; }
                } at_end{over};
                co_await from_callback<>([&](auto &done) { user = done.data(); });
            });
            co_await parley::yield();
            co_await parley::yield();
            s.cancel();
            CHECK(!over);
            t = std::thread([user] { parley::callback_done<>::invoke(user); });
        });
        CHECK(over);
    }(later, ended));
    later.join();
    CHECK(ended);
}

TEST_CASE("cancels with a hook race with callbacks from another thread") {
    no_frames_left check;
    std::atomic<void *> slot{nullptr};
    std::atomic<bool> end{false};
    std::thread caller([&] {
        while (!end) {
            if (void *user = slot.exchange(nullptr))
                parley::callback_done<>::invoke(user);
        }
    });
    parley::run([](std::atomic<void *> &place) -> task<> {
        for (int i = 0; i < 1000; ++i) {
            co_await parley::with_scope([&](scope &s) -> task<> {
                s.spawn([&]() -> task<> {
                    co_await from_callback<>([&](auto &done) { place.store(done.data()); },
                                             // Taken back before the thread has seen it: it will not be
                                             // called.
                                             [&] { return place.exchange(nullptr) != nullptr; });
                });
                for (int n = 0; n < 2 + i % 3; ++n)
                    co_await parley::yield();
                s.cancel();
            });
        }
    }(slot));
    end = true;
    caller.join();
}
