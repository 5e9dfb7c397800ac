// What the tests of slots, of targets and of groups, have in common.

#pragma once

#include "CommScheduler.h"
#include "echo_fixture.h"

#include <doctest/doctest.h>

#include <errno.h>

#include <atomic>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

namespace slots {

using namespace fixture;

// A target that nothing is sent to: its slots are all that matters.
class Slots : public CommSchedTarget {
public:
    explicit Slots(size_t max) {
        struct sockaddr_in nowhere = {};
        nowhere.sin_family = AF_INET;
        REQUIRE(init(reinterpret_cast<struct sockaddr *>(&nowhere), sizeof nowhere, -1, -1, max) == 0);
    }
    ~Slots() override { deinit(); }
};

class Group : public CommSchedGroup {
public:
    explicit Group(std::vector<CommSchedTarget *> targets = {}) {
        REQUIRE(init() == 0);
        for (CommSchedTarget *target : targets)
            REQUIRE(add(target) == 0);
    }
    ~Group() override { deinit(); }
};

// A place in the queue that remembers what it was granted, or does something with it.
class Waiter : public CommSlotWaiter {
public:
    explicit Waiter(std::function<void(CommTarget *)> work = nullptr) : work_(std::move(work)) {}

    // nullptr until it was granted a slot.
    CommTarget *target() const { return target_; }
    CommLoop *loop() const { return loop_; }
    void wait() { granted_.wait(); }

private:
    void granted(CommTarget *target) override {
        target_ = target;
        loop_ = CommLoop::current();
        auto work = std::move(work_);
        granted_.set();
        if (work)
            work(target);
    }

    std::function<void(CommTarget *)> work_;
    std::atomic<CommTarget *> target_{nullptr};
    CommLoop *loop_ = nullptr;
    Event granted_;
};

// Holds slots of an object, taken at once.
inline void fill(CommSchedTarget &target, size_t n) {
    for (; n > 0; n--) {
        Waiter waiter;
        REQUIRE(target.wait_slot(&waiter) == 1);
    }
}

inline void release(CommSchedTarget &target, size_t n) {
    for (; n > 0; n--)
        target.release();
}

// What CommScheduler::request() acquires. The scheduler is not initialised, so that every request is refused
// after it got its slot.
class Acquirer {
public:
    // 0, and the slot has been given back; or why there was none.
    int acquire(CommSchedObject &object, int wait_timeout) {
        LineCall call("");
        target_ = nullptr;
        int result = scheduler_.request(&call, &object, wait_timeout, &target_);
        int error = errno;
        CHECK(result == -1);
        return target_ != nullptr && error == ESHUTDOWN ? 0 : error;
    }

    CommTarget *target() const { return target_; }

private:
    CommScheduler scheduler_;
    CommTarget *target_ = nullptr;
};

// A thread that blocks until it is given a slot.
class BlockedCaller {
public:
    explicit BlockedCaller(CommSchedObject &object, int wait_timeout = -1)
        : thread_([this, &object, wait_timeout] { error_ = acquirer_.acquire(object, wait_timeout); }) {}
    ~BlockedCaller() {
        if (thread_.joinable())
            thread_.join();
    }

    int result() {
        thread_.join();
        return error_;
    }
    CommTarget *target() const { return acquirer_.target(); }

private:
    Acquirer acquirer_;
    int error_ = -1;
    std::thread thread_;
};

// Returns when somebody is queued at the target: then no group takes it.
inline void await_waiter(CommSchedTarget &target) {
    for (;;) {
        Group probe;
        if (probe.add(&target) < 0) {
            CHECK(errno == EBUSY);
            return;
        }
        std::this_thread::yield();
    }
}

} // namespace slots
