// A test of somebody else's: their program in a simulated world.
#include <parley/parley.hpp>
#include <parley/sim/search.hpp>

#include <chrono>
#include <iostream>

int main() {
    auto failure = parley::sim::search("an hour", 3, [](parley::sim::world &world) {
        world.run([&] {
            parley::run([]() -> parley::task<> { co_await parley::sleep_for(std::chrono::hours(1)); }());
            world.expect(world.now() >= std::chrono::hours(1), "an hour has passed");
        });
    });
    if (failure)
        std::cerr << *failure;
    return failure ? 1 : 0;
}
