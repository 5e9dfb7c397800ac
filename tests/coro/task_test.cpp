#include <doctest/doctest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include <parley/parley.hpp>

#include "coro_test.hpp"

using namespace std::chrono_literals;
using parley::task;

namespace {

task<int> number(int x) {
    co_return x;
}

task<std::string> text(std::string s) {
    co_return s;
}

task<std::unique_ptr<int>> only_movable() {
    co_return std::make_unique<int>(7);
}

task<int &> reference(int &x) {
    co_return x;
}

task<int> throwing() {
    throw std::runtime_error("as planned");
    co_return 0;
}

task<> outer_of_throwing() {
    int x = co_await throwing();
    static_cast<void>(x);
}

// Counts its instances.
struct counted {
    static inline int alive = 0;
    static inline int copies = 0;
    counted() { ++alive; }
    counted(const counted &) {
        ++alive;
        ++copies;
    }
    counted(counted &&) noexcept { ++alive; }
    ~counted() { --alive; }
};

task<> takes(counted, bool &ran) {
    ran = true;
    co_return;
}

task<counted> gives() {
    counted local;
    co_return local;
}

template <class A>
concept awaitable = parley::detail::awaitable_in_task<A>;

} // namespace

TEST_CASE("a task gives its value to its awaiter") {
    no_frames_left check;
    std::string all = parley::run([]() -> task<std::string> {
        int seven = co_await number(7);
        std::string s = co_await text("a text that does not fit into the string object");
        std::unique_ptr<int> p = co_await only_movable();
        co_return s + std::to_string(seven + *p);
    }());
    CHECK(all == "a text that does not fit into the string object14");
}

TEST_CASE("a task of a reference refers to the same object") {
    no_frames_left check;
    int x = 1;
    parley::run([](int &outside) -> task<> {
        int &r = co_await reference(outside);
        r = 2;
    }(x));
    CHECK(x == 2);
    int &back = parley::run(reference(x));
    CHECK(&back == &x);
}

TEST_CASE("a task does not run until it is awaited") {
    no_frames_left check;
    bool ran = false;
    {
        task<> dropped = takes(counted(), ran);
        CHECK(counted::alive == 1);
        task<> moved = std::move(dropped);
        CHECK(!dropped);
        CHECK(bool(moved));
    }
    CHECK(!ran);
    CHECK(counted::alive == 0);
}

TEST_CASE("assigning to a task destroys the one it held") {
    no_frames_left check;
    bool ran = false;
    task<> t = takes(counted(), ran);
    t = takes(counted(), ran);
    CHECK(counted::alive == 1);
    t = task<>();
    CHECK(counted::alive == 0);
    CHECK(!ran);
}

TEST_CASE("arguments live until the await has ended and results are moved, not copied") {
    no_frames_left check;
    counted::copies = 0;
    bool ran = false;
    parley::run([](bool &r) -> task<> {
        co_await takes(counted(), r);
        CHECK(counted::alive == 0);
        counted c = co_await gives();
        CHECK(counted::alive == 1);
    }(ran));
    CHECK(ran);
    CHECK(counted::alive == 0);
    CHECK(counted::copies == 0);
}

TEST_CASE("an exception travels through tasks and out of run") {
    no_frames_left check;
    CHECK_THROWS_WITH_AS(parley::run(outer_of_throwing()), "as planned", std::runtime_error);
}

TEST_CASE("an exception can be caught around an await, which then may go on awaiting") {
    no_frames_left check;
    int sum = parley::run([]() -> task<int> {
        int caught = 0;
        for (int i = 0; i < 3; ++i) {
            try {
                co_await outer_of_throwing();
            } catch (const std::runtime_error &) {
                ++caught;
            }
            co_await parley::yield();
        }
        co_return caught;
    }());
    CHECK(sum == 3);
}

TEST_CASE("an exception that is not a std::exception travels as well") {
    no_frames_left check;
    CHECK_THROWS_AS(parley::run([]() -> task<> {
                        throw 42;
                        co_return;
                    }()),
                    int);
}

TEST_CASE("an empty task cannot be awaited") {
    no_frames_left check;
    CHECK_THROWS_AS(parley::run([]() -> task<> { co_await task<>(); }()), std::invalid_argument);
    CHECK_THROWS_AS(parley::run([]() -> task<> {
                        task<int> t = number(1);
                        int one = co_await std::move(t);
                        CHECK(one == 1);
                        int again = co_await std::move(t);
                        static_cast<void>(again);
                    }()),
                    std::invalid_argument);
}

TEST_CASE("a task is awaited by rvalue only, and what is no awaitable is refused") {
    static_assert(awaitable<task<int>>);
    static_assert(awaitable<task<int> &&>);
    static_assert(!awaitable<task<int> &>);
    static_assert(!awaitable<const task<int> &>);
    static_assert(!awaitable<const task<int>>);
    static_assert(!awaitable<int>);
    static_assert(!awaitable<std::suspend_always>);
    static_assert(awaitable<decltype(parley::sleep_for(1ms))>);
    static_assert(awaitable<decltype(parley::yield())>);
    static_assert(awaitable<decltype(parley::readable(0))>);
    static_assert(awaitable<parley::resume_on>);
    static_assert(!std::is_copy_constructible_v<task<int>>);
    static_assert(std::is_nothrow_move_constructible_v<task<int>>);
    static_assert(!std::is_move_constructible_v<decltype(parley::sleep_for(1ms))>);
}

TEST_CASE("a named operation can be awaited") {
    no_frames_left check;
    parley::run([]() -> task<> {
        auto nap = parley::sleep_for(1us);
        co_await nap;
    }());
}

TEST_CASE("a chain knows its innermost task, whatever the type of its result") {
    struct alignas(16) aligned {
        double values[2];
    };
    auto same = []<class T>(task<T> t) {
        auto frame = parley::detail::task_access::release(t);
        auto base = std::coroutine_handle<parley::detail::promise_base>::from_address(frame.address());
        CHECK(&base.promise() == &frame.promise());
        frame.destroy();
    };
    same([]() -> task<> { co_return; }());
    same([]() -> task<char> { co_return 'x'; }());
    same([]() -> task<aligned> { co_return aligned(); }());
    same([]() -> task<std::string> { co_return ""; }());
}

TEST_CASE("tasks that own tasks are destroyed without growing the stack") {
    no_frames_left check;
    task<> nest;
    for (int i = 0; i < 100'000; ++i)
        nest = [](task<> inner) -> task<> { co_await std::move(inner); }(std::move(nest));
    nest = task<>();
}
