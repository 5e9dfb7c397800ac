// What the tests of mutex, semaphore, event and their like share: tasks on several loops that use one
// primitive at random and are told to stop at random, on real threads and in simulated worlds.

#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <parley/parley.hpp>
#include <parley/sim/search.hpp>
#include <parley/sim/world.hpp>

#include "coro_test.hpp"

namespace primitives {

using namespace std::chrono_literals;
using parley::runtime;
using parley::scope;
using parley::task;

// What went wrong, from any thread: doctest's checks are for one thread at a time.
class faults {
public:
    void expect(bool holds, const char *what) noexcept {
        if (!holds)
            what_.store(what);
    }
    const char *what() const noexcept { return what_.load(); }

private:
    std::atomic<const char *> what_{nullptr};
};

// Runs make(k) for k below `count`, spread over the loops, and returns when all have ended.
using make_task = std::function<task<>(unsigned)>;
inline void on_all_loops(runtime &rt, unsigned count, const make_task &make) {
    rt.sync_wait([](runtime &here, unsigned n, const make_task &each) -> task<> {
        parley::latch ended(n);
        for (unsigned k = 0; k < n; ++k)
            here.start(here.loop(k % here.loops()), each(k),
                       [&ended](parley::outcome<>) { ended.count_down(); });
        co_await ended.wait();
    }(rt, count, make));
}

// `rounds` times: a child uses the thing, and is perhaps told to stop, by `random`. Some of the uses are
// begun after a while, so that cancels come before, in and at the end of waits.
using use_once = std::function<task<>(dice &)>;
inline task<> use_and_cancel(const use_once &use, std::uint64_t seed, unsigned rounds) {
    dice random(seed);
    for (unsigned i = 0; i < rounds; ++i) {
        const bool cancels = random(2) == 0;
        const unsigned before = random(4), pause = random(6);
        co_await parley::with_scope([&](scope &s) -> task<> {
            s.spawn([&]() -> task<> {
                co_await yields(before);
                co_await use(random);
            });
            if (!cancels)
                co_return;
            co_await yields(pause);
            if (random(3) == 0)
                co_await parley::sleep_for(std::chrono::microseconds(random(300)));
            s.cancel();
        });
    }
}

// On real threads: 4 loops, 16 tasks.
inline void churn_for_real(const use_once &use, unsigned rounds) {
    runtime rt(on_loops(4));
    on_all_loops(rt, 16, [&](unsigned k) { return use_and_cancel(use, k + 1, rounds); });
}

// In simulated worlds, one for each seed; `program` makes the primitive, calls churn_in() and checks.
inline void churn_in_worlds(std::string_view name, std::size_t seeds,
                            const std::function<void(parley::sim::world &)> &program) {
    auto failure = parley::sim::search(name, seeds, program);
    if (failure)
        FAIL(*failure);
}
inline void churn_in(parley::sim::world &world, const use_once &use) {
    const std::uint64_t seed = world.draw(1u << 30);
    if (world.draw(2) == 1) {
        parley::sim::faults odds;
        odds.stall = 0.05;
        odds.longest_stall = 1ms;
        world.set_faults(odds);
    }
    world.run([&] {
        runtime rt(on_loops(3));
        on_all_loops(rt, 6, [&](unsigned k) { return use_and_cancel(use, seed + k, 12); });
    });
}

// In the simulated world, which knows no waiting: what the task says about time is checked there.
inline void in_a_world(std::string_view name, std::size_t loops,
                       const std::function<task<>(parley::sim::world &, runtime &)> &make) {
    auto failure = parley::sim::search(name, 20, [&](parley::sim::world &world) {
        world.run([&] {
            runtime rt(on_loops(loops));
            rt.sync_wait(rt.loop(0), make(world, rt));
        });
    });
    if (failure)
        FAIL(*failure);
}

} // namespace primitives
