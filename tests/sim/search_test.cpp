// A search finds what is wrong, brings it back by its seed, and tells it small.

#include <doctest/doctest.h>

#include <parley/sim/search.hpp>

#include <csignal>
#include <cstdlib>
#include <sstream>
#include <vector>

using namespace std::chrono_literals;
namespace sim = parley::sim;

namespace {

// Two threads add to a counter, and between reading and writing it another may go on.
void racing_counter(sim::world &world) {
    world.run([&] {
        int counter = 0;
        const auto add = [&] {
            const int seen = counter;
            world.point();
            counter = seen + 1;
        };
        const std::uint32_t others = 1 + world.draw(4);
        std::vector<parley::sync::thread> threads;
        for (std::uint32_t i = 0; i < others; i++)
            threads.emplace_back([&] {
                for (int k = 0; k < 5; k++)
                    add();
            });
        for (int k = 0; k < 5; k++)
            add();
        for (parley::sync::thread &one : threads)
            one.join();
        world.expect(counter == 5 * static_cast<int>(others + 1), "every addition counts");
    });
}

} // namespace

TEST_CASE("a planted race is found, and told with one other thread and few changes of threads") {
    auto failure = sim::search("racing counter", 1000, racing_counter);
    REQUIRE(failure);
    CHECK(failure->what == "every addition counts");
    CHECK(failure->choices < failure->choices_before);
    CHECK(failure->choices <= 4);
    std::ostringstream text;
    text << *failure;
    CHECK(text.str().find("./parley test --seed " + std::to_string(failure->seed) + " -k 'racing counter'") !=
          std::string::npos);
    // And brought back.
    setenv("PARLEY_SEED", std::to_string(failure->seed).c_str(), 1);
    auto again = sim::search("racing counter", 1000, racing_counter);
    unsetenv("PARLEY_SEED");
    REQUIRE(again);
    CHECK(again->seed == failure->seed);
    CHECK(again->what == failure->what);
    CHECK(again->trace == failure->trace);
}

TEST_CASE("what has nothing wrong passes every seed") {
    CHECK_FALSE(sim::search("locked counter", 200, [](sim::world &world) {
        world.run([&] {
            int counter = 0;
            parley::sync::mutex mutex;
            const auto add = [&] {
                parley::sync::lock_guard<parley::sync::mutex> lock(mutex);
                const int seen = counter;
                world.point();
                counter = seen + 1;
            };
            parley::sync::thread other([&] { add(); });
            add();
            other.join();
            world.expect(counter == 2, "every addition counts");
        });
    }));
}

TEST_CASE("a crash, an abort, an exit and an exception are failures with a seed") {
    auto crash = sim::search("crash", 1, [](sim::world &world) { world.run([] { raise(SIGABRT); }); });
    REQUIRE(crash);
    CHECK(crash->what.find("ABRT") != std::string::npos);
    auto left = sim::search("exit", 1, [](sim::world &world) { world.run([] { _Exit(5); }); });
    REQUIRE(left);
    CHECK(left->what.find("ended with code 5") != std::string::npos);
    auto thrown = sim::search(
        "exception", 1, [](sim::world &world) { world.run([] { throw std::runtime_error("too late"); }); });
    REQUIRE(thrown);
    CHECK(thrown->what == "the program threw: too late");
}

TEST_CASE("the environment says how many new seeds, or which one") {
    setenv("PARLEY_SEEDS", "nine", 1);
    CHECK_THROWS_AS(sim::search("none", 1, [](sim::world &) {}), std::invalid_argument);
    setenv("PARLEY_SEEDS", "3", 1);
    auto failure = sim::search("all fail", 1, [](sim::world &world) {
        world.run([&] { world.fail("seed " + std::to_string(world.seed())); });
    });
    unsetenv("PARLEY_SEEDS");
    REQUIRE(failure);
    CHECK(failure->what == "seed " + std::to_string(failure->seed));
}

TEST_CASE("an exploration runs every order there is, and no other") {
    // Two threads of two steps each, and main: the orders of a and b are six.
    std::vector<std::string> none;
    auto all = sim::explore("orders", {.preemptions = 9}, [](sim::world &world) {
        world.run([&] {
            parley::sync::thread a([&] { world.point(); });
            parley::sync::thread b([&] { world.point(); });
            a.join();
            b.join();
        });
    });
    CHECK(all.complete);
    CHECK_FALSE(all.failed);
    CHECK(all.schedules > 6);

    // [explore]
    auto race = sim::explore("race", {.preemptions = 1}, [](sim::world &world) {
        world.run([&] {
            int counter = 0;
            const auto add = [&] {
                const int seen = counter;
                world.point();
                counter = seen + 1;
            };
            parley::sync::thread other(add);
            add();
            other.join();
            world.expect(counter == 2, "every addition counts");
        });
    });
    // [/explore]
    REQUIRE(race.failed);
    CHECK(race.failed->what == "every addition counts");
    CHECK(race.failed->choices == 1); // not without taking a thread off
    CHECK_FALSE(race.failed->trace.empty());
}
