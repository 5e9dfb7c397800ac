// Runs a program in many worlds and says which seed fails. Every world is a process of its own, forked
// from the caller: a crash, a deadlock or an abort is a failure like any other, and no run sees what
// another one left.
//
//     auto failure = sim::search("two clients, one slot", 1000, [](sim::world &world) {
//         world.run([&] { ...; world.expect(answers == 2, "both are answered"); });
//     });
//     CHECK_MESSAGE(!failure, *failure);
//
// A run that fails is run again and again with fewer faults, fewer changes of threads and smaller draws, as
// long as it fails in the same way, and what is told is the smallest, with its trace.
//
// The environment may say which seeds: PARLEY_SEEDS=N takes N new ones, PARLEY_SEED=S that one.
// `./parley test --seeds N` and `--seed S` set them.

#pragma once

#include <parley/sim/world.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace parley::sim {

struct failure {
    std::string name; // the search's
    std::uint64_t seed = 0;
    std::string what;               // what was found, by whom
    std::vector<std::string> trace; // of the smallest run that fails so
    std::size_t tries = 0;          // how often it was run to find that
    std::uint64_t choices = 0;      // how many choices of that run are not the plain one
    std::uint64_t choices_before = 0;
};

std::ostream &operator<<(std::ostream &out, const failure &it);

// The first failure of `seeds` seeds: the numbers 1, 2, ... unless the environment says others. Call it from
// a process without further threads (a test's main thread), since it forks. `program` makes the world's hosts
// and faults and then calls run() once; what it leaves in memory is gone after each run.
std::optional<failure> search(std::string_view name, std::size_t seeds,
                              const std::function<void(world &)> &program);

// How an exploration ended.
struct exploration {
    std::uint64_t schedules = 0;
    bool complete = false; // every schedule within the bound was run
    std::optional<failure> failed;
};

std::ostream &operator<<(std::ostream &out, const exploration &it);

struct exploration_bounds {
    // So many times a thread that could go on is taken off; changes where it waits or ends are all tried.
    // Most defects need one or two (Musuvathi and Qadeer, PLDI 2007).
    int preemptions = 2;
    std::uint64_t schedules = 1'000'000;
};

// Runs the program through every order of its threads within the bounds, depth first. For small programs of
// two to four threads, compiled with PARLEY_INSTRUMENTED_ATOMICS=1. They run one after the other in a process
// forked from the caller; `program` begins each time from nothing and decides nothing by itself.
exploration explore(std::string_view name, const exploration_bounds &bounds,
                    const std::function<void(world &)> &program);

} // namespace parley::sim
