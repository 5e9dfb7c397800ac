// What the programs of this room have in common: a world that runs them in every order, and ways to wait in
// it.

#pragma once

#include <doctest/doctest.h>

#include <parley/sim/search.hpp>

#include <functional>
#include <string_view>

#include "CommLoop.h"
#include "Sync.h"

namespace explored {

namespace sim = parley::sim;
namespace sync = parley::sync;

// Runs `program` in a world, in every order with at most so many preemptions. `more_than`: so many orders
// there are at least; fewer mean that the atomics do not ask the scheduler any more.
inline void in_every_order(std::string_view name, int preemptions, std::uint64_t more_than,
                           const std::function<void(sim::world &)> &program) {
#ifdef PARLEY_SANITIZED
    // Ten times as slow, and there to see what touches freed memory: the orders nearest to the plain one do.
    preemptions = 1;
    more_than = 0;
#endif
    const sim::exploration all =
        sim::explore(name, {.preemptions = preemptions, .schedules = 10'000'000},
                     [&program](sim::world &world) { world.run([&] { program(world); }); });
    CHECK_MESSAGE(!all.failed, all);
    if (!all.failed) {
        REQUIRE(all.complete);
        CHECK(all.schedules > more_than);
    }
}

// Nobody has anything left to do but to wait: no orders are tried until then that only differ in who begins
// when.
inline void settle(sim::world &world) {
    world.sleep(std::chrono::milliseconds(1));
}

// A number that others wait for.
class Count {
public:
    void add() {
        sync::lock_guard<sync::mutex> lock(mutex_);
        value_++;
        changed_.notify_all();
    }
    void wait_for(int value) {
        sync::unique_lock<sync::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return value_ >= value; });
    }
    // Once nobody adds any more.
    int value() const { return value_; }

private:
    sync::mutex mutex_;
    sync::condition_variable changed_;
    int value_ = 0;
};

// A node that says how often it ran, and when.
struct Note : CommNode {
    int runs = 0;
    int owed = 0; // how often it should have
    Count *told = nullptr;
    int *clock = nullptr; // ticks with every run
    int time = 0;         // of the last one

    Note(Count *whom = nullptr, int *ticking = nullptr) : told(whom), clock(ticking) {
        run = [](CommNode *node) {
            auto *self = static_cast<Note *>(node);
            self->runs++;
            if (self->clock != nullptr)
                self->time = ++*self->clock;
            if (self->told != nullptr)
                self->told->add(); // the last step: it may be gone then
        };
    }
};

} // namespace explored
