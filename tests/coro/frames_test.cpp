// What tasks cost in memory.

#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <thread>
#include <vector>

#include <dlfcn.h>

#include <parley/parley.hpp>

#include "coro_test.hpp"

using namespace std::chrono_literals;
using parley::scope;
using parley::task;

namespace {

#if PARLEY_FRAME_POOL
task<int> trivial() {
    co_return 1;
}

std::atomic<long> allocations{0};
std::atomic<bool> counting{false};
#endif

} // namespace

#if PARLEY_FRAME_POOL
// Counts what the whole program allocates while `counting` is set. Not under sanitizers, which have their
// own.
extern "C" void *__libc_malloc(std::size_t size);
extern "C" void *malloc(std::size_t size) {
    if (counting.load(std::memory_order_relaxed))
        allocations.fetch_add(1, std::memory_order_relaxed);
    return __libc_malloc(size);
}

namespace {

long allocations_in(task<> (*work)()) {
    long counted = -1;
    parley::run([](task<> (*f)(), long &n) -> task<> {
        co_await f(); // warm
        allocations = 0;
        counting = true;
        co_await f();
        counting = false;
        n = allocations;
    }(work, counted));
    return counted;
}

task<> sleeps() {
    for (int i = 0; i < 100; ++i)
        co_await parley::sleep_for(1us);
}

task<> child_tasks() {
    for (int i = 0; i < 1000; ++i) {
        int x = co_await trivial();
        static_cast<void>(x);
    }
}

task<> scopes() {
    for (int i = 0; i < 10; ++i) {
        co_await parley::with_scope([](scope &s) -> task<> {
            for (int n = 0; n < 20; ++n)
                s.spawn([]() -> task<> { co_await parley::yield(); }());
            co_return;
        });
    }
}

task<> computations() {
    for (int i = 0; i < 100; ++i)
        co_await parley::compute([] {});
}

task<> callbacks() {
    for (int i = 0; i < 100; ++i)
        co_await parley::from_callback<>([](auto &done) { done(); });
}

} // namespace

TEST_CASE("a warm program allocates nothing for tasks, scopes, sleeps, computations and callbacks") {
    CHECK(allocations_in(child_tasks) == 0);
    CHECK(allocations_in(scopes) == 0);
    CHECK(allocations_in(sleeps) == 0);
    CHECK(allocations_in(computations) == 0);
    CHECK(allocations_in(callbacks) == 0);
}

TEST_CASE("frames made on one thread and freed on another are reused, and the pool is bounded") {
    no_frames_left check;
    constexpr int rounds = 200;
    constexpr int batch = 100;
    std::vector<void *> in_flight;
    counting = false;
    auto one_round = [&] {
        for (int i = 0; i < batch; ++i)
            in_flight.push_back(parley::detail::allocate_frame(256));
        std::thread([&] {
            for (void *frame : in_flight)
                parley::detail::free_frame(frame, 256);
        }).join();
        in_flight.clear();
    };
    one_round();
    allocations = 0;
    counting = true;
    for (int i = 0; i < rounds; ++i)
        one_round();
    counting = false;
    CHECK(allocations < rounds * batch / 4); // a few for each thread that is made
}
#endif

TEST_CASE("frames of all sizes can be made and freed anywhere") {
    no_frames_left check;
    std::vector<std::pair<void *, std::size_t>> frames;
    for (std::size_t size = 1; size < 6000; size += 37)
        frames.emplace_back(parley::detail::allocate_frame(size), size);
    for (auto [frame, size] : frames)
        CHECK(reinterpret_cast<std::uintptr_t>(frame) % alignof(std::max_align_t) == 0);
    CHECK(parley::detail::live_frames() >= static_cast<std::ptrdiff_t>(frames.size()));
    std::thread([&] {
        for (auto [frame, size] : frames)
            parley::detail::free_frame(frame, size);
    }).join();
}

TEST_CASE("frames may be freed while their thread ends") {
    no_frames_left check;
    struct late {
        void *frame = nullptr;
        ~late() {
            if (frame)
                parley::detail::free_frame(frame, 128);
        }
    };
    std::thread([] {
        static thread_local late holder; // destroyed after the pool, which is made later
        holder.frame = nullptr;
        holder.frame = parley::detail::allocate_frame(128);
    }).join();
}

TEST_CASE("the frame of a trivial task is small") {
    // g++ 12 adds 32 bytes to the promise, clang 24.
    CHECK(sizeof(parley::detail::promise<int>) + 32 < 160);
    CHECK(sizeof(parley::detail::promise<void>) + 32 < 160);
    CHECK(sizeof(parley::detail::context) <= 64);
}
