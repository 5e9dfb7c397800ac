// The real kernel with a clock that a test puts forward: a second passes when the test says so.

#pragma once

#include <atomic>
#include <chrono>

#include "core/forwarding_world.h"
#include "net.hpp"

namespace net {

class patient_world : public fixture::ForwardingWorld {
public:
    int64_t monotonic_ns() override { return real.monotonic_ns() + ahead_; }
    // Returns when the loops have seen it, and have done what follows from it.
    void pass(parley::runtime &rt, std::chrono::nanoseconds time) {
        ahead_ += time.count();
        settle(rt);
    }
    static void settle(parley::runtime &rt) {
        for (int i = 0; i < 3; i++)
            for (std::size_t n = 0; n < rt.loops(); n++)
                rt.sync_wait(rt.loop(n), []() -> parley::task<> { co_await parley::yield(); }());
    }

private:
    std::atomic<int64_t> ahead_{0};
};

} // namespace net
