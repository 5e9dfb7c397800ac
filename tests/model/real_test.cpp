// The same random programs on the real kernel, with threads that do meet at any time.

#include <doctest/doctest.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>

#include "program.h"

namespace {

// The seeds draw the program, not what the kernel makes of it: a failure may need many tries to come again.
void run_seeds(std::uint64_t count, std::size_t loops, std::size_t handler_threads) {
    const char *one = std::getenv("PARLEY_SEED");
    const std::uint64_t first = one != nullptr ? std::strtoull(one, nullptr, 10) : 1;
    for (std::uint64_t seed = first; seed < first + (one != nullptr ? 1 : count); seed++) {
        std::mt19937_64 numbers(seed);
        model::plan what =
            model::draw_plan([&](std::uint32_t n) { return static_cast<std::uint32_t>(numbers() % n); }, 12);
        what.loops = loops;
        what.handler_threads = handler_threads;
        model::surroundings in;
        in.around.deadlines = what.deadlines;
        in.object = [&](const std::string &broken) {
            // Threads are in the middle of things: there is no way back to the test.
            std::fprintf(stderr, "seed %llu: %s\n", static_cast<unsigned long long>(seed), broken.c_str());
            std::abort();
        };
        in.pause = [](int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); };
        model::run_program(what, in);
    }
}

} // namespace

TEST_CASE("random programs on the real kernel: one loop") {
    run_seeds(40, 1, 0);
}
TEST_CASE("random programs on the real kernel: two loops") {
    run_seeds(40, 2, 0);
}
TEST_CASE("random programs on the real kernel: four loops") {
    run_seeds(40, 4, 0);
}
TEST_CASE("random programs on the real kernel: one loop, three handler threads") {
    run_seeds(40, 1, 3);
}
TEST_CASE("random programs on the real kernel: two loops, three handler threads") {
    run_seeds(40, 2, 3);
}
TEST_CASE("random programs on the real kernel: four loops, three handler threads") {
    run_seeds(40, 4, 3);
}
