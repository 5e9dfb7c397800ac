#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include <parley/parley.hpp>

#include "coro_test.hpp"

using namespace std::chrono_literals;
using parley::task;

namespace {

void must_not_be_called(const std::exception_ptr &) {
    FAIL("no exception was expected");
}

} // namespace

TEST_CASE("a detached task runs on its loop without being awaited, and the runtime waits for it") {
    no_frames_left check;
    std::atomic<int> ended{0};
    {
        parley::runtime rt;
        parley::loop &where = rt.loop(rt.loops() - 1);
        for (int i = 0; i < 10; ++i) {
            parley::detach_on(
                where,
                [](parley::loop &expected, std::atomic<int> &n) -> task<> {
                    CHECK(parley::loop::current() == &expected);
                    ++n;
                    co_return;
                }(where, ended),
                must_not_be_called);
        }
    }
    CHECK(ended == 10);
}

TEST_CASE("an exception of a detached task goes to its function and no further") {
    no_frames_left check;
    std::string what;
    parley::run([](std::string &text) -> task<> {
        parley::detach_on(
            parley::this_loop(),
            []() -> task<> {
                co_await parley::yield();
                throw std::runtime_error("detached");
            }(),
            [&text, p = std::make_unique<int>(1)](const std::exception_ptr &e) {
                try {
                    std::rethrow_exception(e);
                } catch (const std::exception &caught) {
                    text = caught.what();
                }
                throw std::logic_error("this line on standard error belongs to the test");
            });
        while (text.empty())
            co_await parley::yield();
    }(what));
    CHECK(what == "detached");
}

TEST_CASE("detach_on keeps a function that makes its task") {
    no_frames_left check;
    std::atomic<int> got{0};
    {
        parley::runtime rt;
        auto owned = std::make_unique<int>(5);
        parley::detach_on(
            rt.loop(0),
            [&got, p = std::move(owned)]() -> task<> {
                co_await parley::yield();
                got = *p;
            },
            must_not_be_called);
        while (got == 0)
            std::this_thread::yield();
    }
    CHECK(got == 5);
}

TEST_CASE("stop cancels detached tasks, which is no exception") {
    no_frames_left check;
    parley::run([]() -> task<> {
        parley::detach_on(
            parley::this_loop(), []() -> task<> { co_await parley::sleep_for(1h); }(), must_not_be_called);
        co_await parley::yield();
    }());
}
