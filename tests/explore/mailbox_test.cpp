#include <doctest/doctest.h>
#include <parley/sim/search.hpp>
#include "CommScheduler.h"
TEST_CASE("x") {
    auto all = parley::sim::explore("init", {.preemptions = 1}, [](parley::sim::world &world) {
        world.run([&] {
            CommScheduler c;
            world.expect(c.init(1, 0) == 0, "init");
            c.deinit();
        });
    });
    MESSAGE(all);
}
