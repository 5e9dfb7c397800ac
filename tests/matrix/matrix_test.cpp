#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include <parley/detail/frame_pool.hpp>
#include <parley/sim/search.hpp>

#include "driver.hpp"

namespace sim = parley::sim;

namespace {

constexpr unsigned rounds = 60; // of each of a kind's six cells

void on_real_threads(const std::vector<matrix::kind> &kinds) {
    const std::ptrdiff_t frames = parley::detail::live_frames();
    const std::size_t descriptors = matrix::ground::descriptors();
    {
        matrix::ground g;
        std::uint64_t seed = 0;
        for (const matrix::kind &one : kinds) {
            const matrix::tally counted = matrix::run_kind(g, one, rounds, ++seed);
            REQUIRE(g.fault() == "");
            MESSAGE(std::string(one.name), ": at completion ", counted.finished, " finished, ",
                    counted.cancelled, " cancelled");
        }
    }
    CHECK(parley::detail::live_frames() == frames);
    CHECK(matrix::ground::descriptors() == descriptors);
}

// In each world one kind, with few rounds: what differs is the seed.
void in_worlds(const char *name, const std::vector<matrix::kind> &kinds) {
    auto failure = sim::search(name, 4 * kinds.size(), [&](sim::world &world) {
        const matrix::kind &one = kinds[world.seed() % kinds.size()];
        world.run([&] {
            const auto start = world.now();
            {
                matrix::ground g;
                matrix::run_kind(g, one, 3, world.draw(1u << 30));
                if (!g.fault().empty())
                    world.fail(g.fault());
            }
            // A wait that is not cut short lasts an hour.
            world.expect(world.now() - start < std::chrono::minutes(30), "a cancel was not felt");
            world.expect(parley::detail::live_frames() == 0, "frames are left");
        });
    });
    if (failure)
        FAIL(*failure);
}

} // namespace

TEST_CASE("locks, events and their like, cancelled at every moment") {
    on_real_threads(matrix::primitive_kinds());
}
TEST_CASE("channels, cancelled at every moment") {
    on_real_threads(matrix::channel_kinds());
}
TEST_CASE("time, computing, files and callbacks, cancelled at every moment") {
    on_real_threads(matrix::callback_kinds());
}
TEST_CASE("children of every combinator, cancelled at every moment") {
    on_real_threads(matrix::task_kinds());
}
TEST_CASE("servers and clients, cancelled at every moment") {
    on_real_threads(matrix::network_kinds());
}
TEST_CASE("what has half happened on the wire, cancelled at every moment") {
    on_real_threads(matrix::halfway_kinds());
}

TEST_CASE("locks, events and their like, cancelled in simulated worlds") {
    in_worlds("locks, events and their like, cancelled in simulated worlds", matrix::primitive_kinds());
}
TEST_CASE("channels, cancelled in simulated worlds") {
    in_worlds("channels, cancelled in simulated worlds", matrix::channel_kinds());
}
TEST_CASE("time, computing, files and callbacks, cancelled in simulated worlds") {
    in_worlds("time, computing, files and callbacks, cancelled in simulated worlds",
              matrix::callback_kinds());
}
TEST_CASE("children of every combinator, cancelled in simulated worlds") {
    in_worlds("children of every combinator, cancelled in simulated worlds", matrix::task_kinds());
}
TEST_CASE("servers and clients, cancelled in simulated worlds") {
    in_worlds("servers and clients, cancelled in simulated worlds", matrix::network_kinds());
}
TEST_CASE("what has half happened on the wire, cancelled in simulated worlds") {
    in_worlds("what has half happened on the wire, cancelled in simulated worlds", matrix::halfway_kinds());
}
