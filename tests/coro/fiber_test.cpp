#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <parley/parley.hpp>

#include "coro_test.hpp"
#include "in_world.hpp"

using namespace std::chrono_literals;
using parley::await;
using parley::in_fiber;
using parley::task;
namespace sim = parley::sim;

namespace {

task<int> at_once(int value) {
    co_return value;
}

// Plain functions below a fiber, each a frame on its stack.
int sum_below(int depth) {
    char room[256];
    room[0] = static_cast<char>(depth);
    asm volatile("" : : "r"(room) : "memory");
    return depth == 0 ? await(after(1s, 7)) : sum_below(depth - 1) + (room[0] == static_cast<char>(depth));
}

extern "C" int compare_slowly(const void *left, const void *right, void *count) {
    ++*static_cast<int *>(count);
    await(parley::sleep_for(1ms));
    return *static_cast<const int *>(left) - *static_cast<const int *>(right);
}

} // namespace

TEST_CASE("a fiber awaits from any depth, and the loop does other things meanwhile") {
    no_frames_left check;
    int ticks = 0;
    int value = 0;
    auto took = in_world([&](sim::world &) -> task<> {
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                for (; ticks < 4; ++ticks)
                    co_await parley::sleep_for(200ms);
            });
            auto work = [] { return sum_below(100); };
            value = co_await in_fiber(work);
            CHECK(ticks == 4);
        });
    });
    CHECK(value == 107);
    CHECK(about(took, 1s));
}

TEST_CASE("a C library's sort awaits in its callback") {
    std::vector<int> numbers = {5, 3, 9, 1, 7};
    int count = 0;
    auto took = in_world([&](sim::world &) -> task<> {
        co_await in_fiber(
            [&] { qsort_r(numbers.data(), numbers.size(), sizeof(int), &compare_slowly, &count); });
    });
    CHECK(numbers == std::vector{1, 3, 5, 7, 9});
    CHECK(count > 4);
    CHECK(took >= count * 1ms);
}

TEST_CASE("a fiber gives a value, nothing, a reference, or what can only be moved") {
    no_frames_left check;
    parley::run([]() -> task<> {
        int here = 1;
        CHECK(co_await in_fiber([] { return 3; }) == 3);
        co_await in_fiber([&] { here = await(at_once(2)); });
        int &same = co_await in_fiber([&]() -> int & { return here; });
        CHECK(&same == &here);
        CHECK(here == 2);
        auto owned = co_await in_fiber([] { return std::make_unique<int>(await(at_once(4))); });
        CHECK(*owned == 4);
        const std::string text = co_await in_fiber([]() -> const std::string { return "five"; });
        CHECK(text == "five");
    }());
}

TEST_CASE("await() gives what co_await would: references, results, values of leaves") {
    parley::run([]() -> task<> {
        co_await in_fiber([] {
            static int there = 8;
            auto refer = []() -> task<int &> { co_return there; };
            int &same = await(refer());
            CHECK(&same == &there);
            await(parley::yield());
            auto late = await(parley::with_timeout(0s, parley::sleep_for(1h)));
            CHECK(late.error() == parley::errc::timed_out);
            auto [a, b] = await(parley::when_all(at_once(1), at_once(2)));
            CHECK(a + b == 3);
            parley::mutex m;
            auto lock = await(m.lock());
            CHECK_FALSE(m.try_lock());
        });
    }());
}

TEST_CASE("exceptions cross the border both ways, with the awaits that they came through") {
    no_frames_left check;
    in_world([](sim::world &) -> task<> {
        std::string caught, inside;
        try {
            co_await in_fiber([&] {
                try {
                    await(fail_after(1s, "from below"));
                } catch (const std::runtime_error &e) {
                    inside = e.what();
                    CHECK(parley::await_trace().size() == 1);
                }
                throw std::runtime_error("from the fiber");
            });
        } catch (const std::runtime_error &e) {
            caught = e.what();
        }
        CHECK(inside == "from below");
        CHECK(caught == "from the fiber");
    });
}

// The C++ runtime counts exceptions for each thread: two fibers that are left in a catch block would take
// each other's.
TEST_CASE("fibers that await in a catch block keep their exceptions apart") {
    no_frames_left check;
    in_world([](sim::world &) -> task<> {
        auto within = [](std::string name, std::chrono::milliseconds pause) -> task<> {
            auto call = [&] {
                for (int i = 0; i < 20; ++i) {
                    try {
                        throw std::runtime_error(name);
                    } catch (...) {
                        await(parley::sleep_for(pause));
                        std::string again;
                        try {
                            throw;
                        } catch (const std::exception &e) {
                            again = e.what();
                        }
                        CHECK(again == name);
                    }
                    CHECK(std::current_exception() == nullptr);
                }
            };
            co_await in_fiber(call);
        };
        co_await parley::when_all(within("first", 3ms), within("second", 2ms), within("third", 5ms));
        CHECK(std::current_exception() == nullptr);
    });
}

TEST_CASE("a fiber may await while it unwinds, and others see no exception then") {
    struct closer {
        int &seen;
        ~closer() {
            await(parley::shield(after(1s, 1)));
            seen = std::uncaught_exceptions();
        }
    };
    in_world([](sim::world &) -> task<> {
        int inside = -1, outside = -1;
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await parley::sleep_for(500ms);
                outside = std::uncaught_exceptions();
            });
            auto call = [&] {
                try {
                    closer at_end{inside};
                    throw std::runtime_error("now");
                } catch (const std::runtime_error &) {
                }
            };
            co_await in_fiber(call);
        });
        CHECK(inside == 1);
        CHECK(outside == 0);
    });
}

TEST_CASE("a cancel unwinds the fiber's stack, in order") {
    no_frames_left check;
    struct trace {
        std::vector<int> &list;
        int n;
        ~trace() { list.push_back(n); }
    };
    std::vector<int> ended;
    bool again = false, went_on = false;
    auto took = in_world([&](sim::world &) -> task<> {
        auto late = co_await parley::with_timeout(1s, [&]() -> task<> {
            auto call = [&] {
                trace outer{ended, 1};
                auto below = [&] {
                    trace inner{ended, 2};
                    try {
                        await(parley::sleep_for(1h));
                    } catch (const parley::cancelled &) {
                        try {
                            await(parley::yield());
                        } catch (const parley::cancelled &) {
                            again = true;
                        }
                        throw;
                    }
                };
                below();
                went_on = true;
            };
            co_await in_fiber(call);
            went_on = true;
        });
        CHECK(late.error() == parley::errc::timed_out);
        CHECK(late.error().stage() == parley::stage::sleep);
    });
    CHECK(ended == std::vector{2, 1});
    CHECK(again);
    CHECK_FALSE(went_on);
    CHECK(about(took, 1s));
}

TEST_CASE("a fiber whose work is done at once when the cancel comes still ends at its next await") {
    in_world([](sim::world &) -> task<> {
        bool shielded = false, went_on = false;
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                auto call = [&] {
                    shielded = await(parley::shield(after(2s, 1))) == 1;
                    await(at_once(1));
                    went_on = true;
                };
                co_await in_fiber(call);
            });
            co_await parley::sleep_for(1s);
            s.cancel();
        });
        CHECK(shielded);
        CHECK_FALSE(went_on);
    });
}

TEST_CASE("fibers nest, and each comes back to its own") {
    no_frames_left check;
    in_world([](sim::world &) -> task<> {
        auto outer = [] {
            int sum = await(after(1ms, 1));
            auto middle = [&] {
                auto inner = [] { return await(after(1ms, 10)); };
                return await(in_fiber(inner)) + await(after(1ms, 100));
            };
            sum += await(in_fiber(middle));
            return sum + await(after(1ms, 1000));
        };
        CHECK(co_await in_fiber(outer) == 1111);
    });
}

TEST_CASE("a fiber that never awaits is a call") {
    parley::run([]() -> task<> {
        for (int i = 0; i < 1000; ++i)
            CHECK(co_await in_fiber([&] { return i; }) == i);
    }());
}

TEST_CASE("await() outside of a fiber says so") {
    CHECK_THROWS_WITH_AS(await(parley::yield()),
                         "parley: await() outside of in_fiber(); in a task write co_await", std::logic_error);
    parley::run([]() -> task<> {
        CHECK_THROWS_AS(await(parley::yield()), std::logic_error);
        co_await in_fiber([] {
            // A task below a fiber is none.
            auto below = []() -> task<> {
                CHECK_THROWS_AS(await(parley::yield()), std::logic_error);
                co_return;
            };
            await(below());
            CHECK_THROWS_AS(await(task<>()), std::invalid_argument);
        });
        CHECK_THROWS_AS(await(parley::yield()), std::logic_error);
    }());
}

TEST_CASE("errno is what it was before an await") {
    parley::run([]() -> task<> {
        co_await in_fiber([] {
            errno = ENOSPC;
            await(parley::yield());
            CHECK(errno == ENOSPC);
        });
    }());
}

TEST_CASE("an operation that cannot begin throws in the fiber") {
    struct refuses {
        bool await_ready() const noexcept { return false; }
        bool await_suspend(std::coroutine_handle<>, parley::detail::context &) {
            throw std::runtime_error("not today");
        }
        void await_resume() const noexcept {}
    };
    parley::run([]() -> task<> {
        co_await in_fiber([] {
            for (int i = 0; i < 3; ++i)
                CHECK_THROWS_WITH_AS(await(refuses()), "not today", std::runtime_error);
            CHECK(await(at_once(3)) == 3);
        });
    }());
}

TEST_CASE("stacks are used again, and are of the size that was asked for") {
    CHECK_THROWS_AS(parley::fiber_options().stack_size(1024), std::invalid_argument);
    parley::run([]() -> task<> {
        std::set<void *> places;
        for (int i = 0; i < 100; ++i)
            co_await in_fiber([&] {
                int local = 0;
                void *place = &local;
                asm volatile("" : "+r"(place));
                places.insert(reinterpret_cast<void *>(reinterpret_cast<std::uintptr_t>(place) & ~0xffffUL));
            });
#ifndef __SANITIZE_ADDRESS__ // a fake stack is somewhere else each time
        CHECK(places.size() <= 2);
#endif
        auto wide = parley::fiber_options().stack_size(std::size_t{4} << 20);
        auto fill = [] {
            char room[3 << 20];
            for (std::size_t i = 0; i < sizeof room; i += 1024)
                room[i] = 1;
            asm volatile("" : : "r"(room) : "memory");
            await(parley::yield());
            return room[1024];
        };
        CHECK(co_await in_fiber(wide, fill) == 1);
    }());
}

TEST_CASE("where there is no memory for a stack, in_fiber throws and nothing is half built") {
    no_frames_left check;
    parley::run([]() -> task<> {
        auto endless = parley::fiber_options().stack_size(std::size_t{1} << 50);
        bool called = false;
        std::error_code why;
        std::string said;
        try {
            co_await in_fiber(endless, [&] { called = true; });
        } catch (const std::system_error &e) {
            why = e.code();
            said = e.what();
        }
        CHECK(why == std::errc::not_enough_memory);
        CHECK(said.find("no stack for a fiber: mmap of 11258999") != std::string::npos);
        CHECK_FALSE(called);
        CHECK_THROWS_AS(co_await in_fiber(parley::fiber_options().stack_size(std::size_t(-1)), [] {}),
                        std::system_error);
    }());
}

#if PARLEY_FRAME_POOL // a sanitizer has its own way to say it
namespace {
volatile int enough = 1 << 30;

int bottomless(int depth) {
    if (depth == enough)
        return 0;
    char room[4096];
    room[0] = static_cast<char>(depth);
    asm volatile("" : : "r"(room) : "memory");
    return bottomless(depth + 1) + room[0];
}
} // namespace

TEST_CASE("a stack that overflows ends the program at once and harms nothing") {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::signal(SIGSEGV, SIG_DFL); // doctest's handler wants a stack
        const rlimit none{0, 0};
        ::setrlimit(RLIMIT_CORE, &none);
        parley::run([]() -> task<> { co_await in_fiber([] { return bottomless(0); }); }());
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGSEGV);
}
#endif

TEST_CASE("a million ready awaits in one fiber let others run") {
    parley::run([]() -> task<> {
        bool other = false, seen = false;
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                other = true;
                co_return;
            });
            auto call = [&] {
                long sum = 0;
                for (int i = 0; i < 1'000'000; ++i) {
                    sum += await(at_once(1));
                    seen = seen || (other && i < 1000);
                }
                return sum;
            };
            CHECK(co_await in_fiber(call) == 1'000'000);
        });
        CHECK(seen);
    }());
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PARLEY_FEW_FIBERS 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(PARLEY_FEW_FIBERS)
constexpr int many = 500; // ThreadSanitizer has room for some 8,000, with all that it keeps for each
#else
constexpr int many = 10'000;
#endif

TEST_CASE("ten thousand fibers wait at the same time and are cancelled together") {
    no_frames_left check;
    int unwound = 0;
    in_world([&](sim::world &) -> task<> {
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            auto small = parley::fiber_options().stack_size(std::size_t{16} * 1024);
            for (int i = 0; i < many; ++i)
                s.spawn([&, small]() -> task<> {
                    auto call = [&] {
                        try {
                            await(parley::sleep_for(1h));
                        } catch (const parley::cancelled &) {
                            ++unwound;
                            throw;
                        }
                    };
                    co_await in_fiber(small, call);
                });
            co_await parley::sleep_for(1s);
            s.cancel();
        });
    });
    CHECK(unwound == many);
}

TEST_CASE("fibers on several loops hand work over by primitives, on real threads") {
    no_frames_left check;
    parley::runtime_options options;
    options.loops = 2;
    std::atomic<int> done{0};
    parley::run(options, [](std::atomic<int> &count) -> task<> {
        parley::channel<int> numbers(4);
        parley::loop &here = parley::this_loop();
        parley::loop &there = here.runtime().loop(1 - here.index());
        auto produce = [&]() -> task<> {
            co_await parley::resume_on(there);
            auto call = [&] {
                for (int i = 0; i < 2000; ++i)
                    if (auto pushed = await(numbers.push(i)); !pushed)
                        FAIL("closed");
                numbers.close();
            };
            co_await in_fiber(call);
        };
        auto consume = [&]() -> task<> {
            auto call = [&] {
                while (auto number = await(numbers.pop()))
                    count += *number >= 0;
            };
            co_await in_fiber(call);
        };
        co_await parley::when_all(produce, consume, consume);
    }(done));
    CHECK(done == 2000);
}

TEST_CASE("a fiber's cancel from another thread unwinds it, whatever it does just then") {
    no_frames_left check;
    for (int round = 0; round < 200; ++round) {
        std::atomic<bool> inside{false};
        std::stop_source stop;
        std::thread canceller([&] {
            while (!inside)
                std::this_thread::yield();
            stop.request_stop();
        });
        parley::run([](std::stop_token token, std::atomic<bool> &begun) -> task<> {
            auto how = co_await parley::stop_as_error(parley::with_stop_token(token, [&]() -> task<> {
                auto call = [&] {
                    for (;;) {
                        begun = true;
                        await(parley::sleep_for(1us));
                        await(at_once(1));
                    }
                };
                co_await in_fiber(call);
            }));
            CHECK_FALSE(how);
        }(stop.get_token(), inside));
        canceller.join();
    }
}
