// Random programs in simulated worlds, against the reference. The atomics are instrumented: threads may
// change at each operation on one.

#include <doctest/doctest.h>

#include <parley/sim/search.hpp>

#include <cerrno>
#include <chrono>

#include "program.h"

namespace sim = parley::sim;

namespace {

void run_in(sim::world &world, const model::circumstances &around) {
    world.run([&] {
        const model::plan what = model::draw_plan([&](std::uint32_t n) { return world.draw(n); }, 12);
        model::surroundings in;
        in.around = around;
        in.around.deadlines = what.deadlines;
        in.object = [&](const std::string &broken) { world.fail(broken); };
        in.pause = [&](int ms) { world.sleep(std::chrono::milliseconds(ms)); };
        model::run_program(what, in);
    });
}

void no_failure(const std::optional<sim::failure> &it) {
    if (it)
        FAIL(*it);
}

} // namespace

TEST_CASE("random programs in a kind world keep every rule") {
    no_failure(sim::search("random programs in a kind world keep every rule", 300,
                           [](sim::world &world) { run_in(world, {}); }));
}

TEST_CASE("random programs keep every rule where reads and writes are short, events late and threads stall") {
    no_failure(sim::search(
        "random programs keep every rule where reads and writes are short, events late and threads "
        "stall",
        300, [](sim::world &world) {
            sim::faults odds;
            odds.short_read = 0.2;
            odds.short_write = 0.2;
            odds.would_block = 0.1;
            odds.late_event = 0.1;
            odds.spurious_event = 0.1;
            odds.stale_event = 0.1;
            odds.stall = 0.002;
            world.set_faults(odds);
            world.link(world.local(), world.local(),
                       {std::chrono::microseconds(world.draw(3) * 500),
                        std::chrono::microseconds(world.draw(3) * 500), 0, 0, 0});
            run_in(world, {});
        }));
}

TEST_CASE("random programs keep every rule where connections are reset") {
    no_failure(sim::search("random programs keep every rule where connections are reset", 300,
                           [](sim::world &world) {
                               sim::faults odds;
                               odds.short_read = 0.1;
                               odds.short_write = 0.1;
                               odds.reset = 0.05;
                               world.set_faults(odds);
                               run_in(world, {.network_faults = true});
                           }));
}

TEST_CASE("random programs keep every rule where system calls fail") {
    no_failure(
        sim::search("random programs keep every rule where system calls fail", 300, [](sim::world &world) {
            const auto seldom = [&](sim::call which, int error) {
                world.fail_calls_by_chance(which, error, 0.01 * world.draw(10));
            };
            seldom(sim::call::socket, EMFILE);
            seldom(sim::call::accept, ENFILE);
            seldom(sim::call::accept, ECONNABORTED);
            seldom(sim::call::connect, EADDRNOTAVAIL);
            seldom(sim::call::epoll_ctl, ENOSPC);
            seldom(sim::call::allocate, ENOMEM);
            seldom(sim::call::recv, EINTR);
            seldom(sim::call::sendmsg, ENOBUFS);
            run_in(world, {.network_faults = true, .system_faults = true});
        }));
}
