// Tests whose time is a simulated world's: an hour passes in no time, and every run of a seed is the same.

#pragma once

#include <chrono>
#include <cstdint>

#include <parley/run.hpp>
#include <parley/runtime.hpp>
#include <parley/sim/world.hpp>

// Runs the task that `make(world)` makes on a runtime in a world of that seed, and returns how long it took
// there.
template <class F>
std::chrono::nanoseconds in_world(F make, std::uint64_t seed = 1, std::size_t loops = 1) {
    parley::sim::world world{seed};
    std::chrono::nanoseconds took{};
    world.run([&] {
        parley::runtime_options options;
        options.loops = loops;
        const auto start = world.now();
        parley::run(options, make(world));
        took = world.now() - start;
    });
    return took;
}

// About: what scheduling in the world adds is less than a millisecond.
inline bool about(std::chrono::nanoseconds took, std::chrono::nanoseconds expected) {
    return took >= expected && took < expected + std::chrono::milliseconds(1);
}
