// The real kernel with clocks that a test sets. Time passes when the test says so.

#pragma once

#include <atomic>

#include "forwarding_world.h"
#include "scripted.h"

namespace fixture {

class Clocks : public fixture::ForwardingWorld {
public:
    explicit Clocks(int64_t since_boot = 0) : ahead_(since_boot) {}

    int64_t monotonic_ns() override { return real.monotonic_ns() + ahead_; }
    int64_t realtime_ns() override { return real.realtime_ns() + wrong_; }

    // Returns when the loops have seen it.
    void pass(scripted::Net &net, int64_t time) {
        ahead_ += time;
        for (size_t i = 0; i < net.comm.loops(); i++)
            net.settle(i);
    }
    // The wall clock shows something else.
    void set_wall(scripted::Net &net, int64_t wrong) {
        wrong_ = wrong;
        pass(net, 0);
    }

private:
    std::atomic<int64_t> ahead_, wrong_{0};
};

} // namespace fixture
