#include "CommScheduler.h"

#include "echo_fixture.h"

#include <doctest/doctest.h>

#include <errno.h>
#include <limits.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace fixture;

namespace {

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
void fill(CommSchedTarget &target, size_t n) {
    for (; n > 0; n--) {
        Waiter waiter;
        REQUIRE(target.wait_slot(&waiter) == 1);
    }
}

void release(CommSchedTarget &target, size_t n) {
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
void await_waiter(CommSchedTarget &target) {
    for (;;) {
        Group probe;
        if (probe.add(&target) < 0) {
            CHECK(errno == EBUSY);
            return;
        }
        std::this_thread::yield();
    }
}

} // namespace

TEST_SUITE_BEGIN("scheduler");

TEST_CASE("a target for no connections at all is refused") {
    CommSchedTarget target;
    struct sockaddr_in nowhere = {};
    errno = 0;

    CHECK(target.init(reinterpret_cast<struct sockaddr *>(&nowhere), sizeof nowhere, -1, -1, 0) == -1);
    CHECK(errno == EINVAL);
}

TEST_CASE("a target gives out as many slots as it has and takes them back") {
    Slots target(3);
    CHECK(target.get_max_load() == 3);

    fill(target, 3);
    CHECK(target.get_cur_load() == 3);
    CHECK(Acquirer().acquire(target, 0) == EAGAIN);

    target.release();
    CHECK(target.get_cur_load() == 2);
    CHECK(Acquirer().acquire(target, 0) == 0);

    release(target, 2);
    CHECK(target.get_cur_load() == 0);
}

TEST_CASE("a target without a limit worth the name can be loaded and grouped") {
    Slots target(SIZE_MAX);
    Group group({&target});

    CHECK(Acquirer().acquire(group, 0) == 0);
    fill(target, 5);
    CHECK(group.get_cur_load() == 5);
    release(target, 5);
}

TEST_CASE("a waiter that finds a free slot has it at once") {
    Slots target(1);
    Waiter waiter;

    CHECK(target.wait_slot(&waiter) == 1);
    CHECK(waiter.get_target() == &target);
    CHECK(waiter.target() == nullptr);
    target.release();
}

TEST_CASE("waiters are granted slots in the order in which they came") {
    Slots target(2);
    fill(target, 2);
    Waiter first, second, third;
    for (Waiter *waiter : {&first, &second, &third})
        REQUIRE(target.wait_slot(waiter) == 0);

    target.release();
    CHECK(first.target() == &target);
    CHECK(second.target() == nullptr);

    release(target, 2);
    CHECK(second.target() == &target);
    CHECK(third.target() == &target);
    CHECK(target.get_cur_load() == 2);
    release(target, 2);
    CHECK(target.get_cur_load() == 0);
}

TEST_CASE("who comes later does not pass a waiter by") {
    Slots target(1);
    fill(target, 1);
    Waiter waiter;
    REQUIRE(target.wait_slot(&waiter) == 0);

    target.release();
    CHECK(waiter.target() == &target);
    CHECK(Acquirer().acquire(target, 0) == EAGAIN);
    target.release();
}

TEST_CASE("a waiter that leaves the queue is passed over") {
    Slots target(1);
    fill(target, 1);
    Waiter second;
    {
        Waiter first;
        REQUIRE(target.wait_slot(&first) == 0);
        REQUIRE(target.wait_slot(&second) == 0);
        CHECK(target.cancel_wait(&first) == 0);
    }

    target.release();
    CHECK(second.target() == &target);
    target.release();
}

TEST_CASE("a waiter that was never queued, or was granted its slot, cannot leave") {
    Slots target(1);
    Waiter waiter;
    CHECK(target.cancel_wait(&waiter) == -1);
    CHECK(errno == ENOENT);

    fill(target, 1);
    REQUIRE(target.wait_slot(&waiter) == 0);
    target.release();
    errno = 0;
    CHECK(target.cancel_wait(&waiter) == -1);
    CHECK(errno == ENOENT);
    target.release();
}

TEST_CASE("when the last waiter has left, slots are taken and freed as before") {
    Slots target(1);
    fill(target, 1);
    Waiter waiter;
    REQUIRE(target.wait_slot(&waiter) == 0);
    REQUIRE(target.cancel_wait(&waiter) == 0);

    target.release();
    CHECK(target.get_cur_load() == 0);
    CHECK(Acquirer().acquire(target, 0) == 0);
}

TEST_CASE("a waiter may queue again, or be gone, while it is granted its slot") {
    Slots target(1);
    fill(target, 1);
    size_t grants = 0;

    struct Again : CommSlotWaiter {
        Slots &slots;
        size_t &granted_so_far;
        Again(Slots &its_slots, size_t &so_far) : slots(its_slots), granted_so_far(so_far) {}
        void granted(CommTarget *) override {
            if (++granted_so_far < 3)
                CHECK(slots.wait_slot(this) == 0);
            else
                delete this;
        }
    };
    REQUIRE(target.wait_slot(new Again(target, grants)) == 0);

    release(target, 3);
    CHECK(grants == 3);
    target.release();
    CHECK(target.get_cur_load() == 0);
}

TEST_CASE("a hundred thousand waiters that pass the slot on do not pile up on the stack") {
    Slots target(1);
    fill(target, 1);
    size_t grants = 0;
    std::deque<Waiter> waiters;
    for (int i = 0; i < 100'000; i++) {
        waiters.emplace_back([&](CommTarget *) {
            grants++;
            target.release();
        });
        REQUIRE(target.wait_slot(&waiters.back()) == 0);
    }

    target.release();
    CHECK(grants == 100'000);
    CHECK(target.get_cur_load() == 0);
}

TEST_CASE("a waiter that a loop queued is granted its slot there, and not inside wait_slot()") {
    Communicator comm;
    REQUIRE(comm.init(2, 0) == 0);
    Slots target(1);
    Waiter from_other_thread, from_loop;
    CommLoop *loop = comm.loop(1);

    fill(target, 1);
    run_on(loop, [&] { CHECK(target.wait_slot(&from_other_thread) == 0); });
    target.release();
    from_other_thread.wait();
    CHECK(from_other_thread.loop() == loop);

    run_on(loop, [&] {
        CHECK(target.wait_slot(&from_loop) == 0);
        target.release();
        CHECK(from_loop.target() == nullptr);
    });
    from_loop.wait();
    CHECK(from_loop.loop() == loop);
    target.release();
}

TEST_CASE("a loop takes back a grant that is on its way, and the next waiter has the slot") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Slots target(1);
    Slots other(1);
    Group group({&other});
    Waiter second, third;
    fill(target, 1);
    fill(other, 1);

    run_on(comm.loop(0), [&] {
        auto first = std::make_unique<Waiter>();
        CHECK(target.wait_slot(first.get()) == 0);
        CHECK(target.wait_slot(&second) == 0);
        target.release();
        CHECK(target.cancel_wait(first.get()) == 0);
        CHECK(target.cancel_wait(first.get()) == -1);
        first.reset();

        auto of_group = std::make_unique<Waiter>();
        CHECK(group.wait_slot(of_group.get()) == 0);
        CHECK(group.wait_slot(&third) == 0);
        other.release();
        CHECK(group.cancel_wait(of_group.get()) == 0);
    });

    second.wait();
    CHECK(second.target() == &target);
    third.wait();
    CHECK(third.target() == &other);
    target.release();
    other.release();
}

TEST_CASE("a grant that is on its way to another thread's loop can not be taken back") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Slots target(1);
    Waiter waiter;
    fill(target, 1);
    run_on(comm.loop(0), [&] { CHECK(target.wait_slot(&waiter) == 0); });
    {
        BusyLoop busy(comm.loop(0));
        target.release();
        CHECK(target.cancel_wait(&waiter) == -1);
        CHECK(errno == ENOENT);
        CHECK(waiter.target() == nullptr);
    }
    waiter.wait();
    target.release();
}

TEST_CASE("waiters whose loop has ended are passed over") {
    constexpr size_t many = 1000;
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Slots target(1);
    fill(target, 1);
    std::deque<Waiter> lost(many);
    Waiter last;
    run_on(comm.loop(0), [&] {
        for (Waiter &waiter : lost)
            CHECK(target.wait_slot(&waiter) == 0);
    });
    REQUIRE(target.wait_slot(&last) == 0);
    comm.deinit();

    target.release();
    CHECK(last.target() == &target);
    for (Waiter &waiter : lost) {
        CHECK(waiter.target() == nullptr);
        CHECK(target.cancel_wait(&waiter) == 0);
    }
    target.release();
    CHECK(target.get_cur_load() == 0);
}

TEST_CASE("a waiter outlives the Communicator of its loop") {
    Slots target(1);
    fill(target, 1);
    Waiter waiter;
    {
        Communicator comm;
        REQUIRE(comm.init(1, 0) == 0);
        run_on(comm.loop(0), [&] { CHECK(target.wait_slot(&waiter) == 0); });
    }

    target.release();
    CHECK(waiter.target() == nullptr);
    CHECK(target.get_cur_load() == 0);
    CHECK(target.cancel_wait(&waiter) == 0);
}

TEST_CASE("a thread blocks until a slot is free") {
    Slots target(1);
    fill(target, 1);
    BlockedCaller caller(target);
    await_waiter(target);

    target.release();
    CHECK(caller.result() == 0);
    CHECK(caller.target() == &target);
    CHECK(target.get_cur_load() == 0);
}

TEST_CASE("a thread blocks no longer than it said") {
    Slots target(1);
    Group group({&target});
    fill(target, 1);

    CHECK(Acquirer().acquire(target, 1) == ETIMEDOUT);
    CHECK(Acquirer().acquire(group, 1) == ETIMEDOUT);
    target.release();
    CHECK(Acquirer().acquire(target, 1) == 0);
    CHECK(Acquirer().acquire(group, 1) == 0);
}

TEST_CASE("blocked threads and waiters share one queue") {
    Slots target(1);
    fill(target, 1);
    BlockedCaller caller(target); // frees the slot again when it had it
    await_waiter(target);
    Waiter waiter;
    REQUIRE(target.wait_slot(&waiter) == 0);
    CHECK(target.get_cur_load() == 1);

    target.release();
    waiter.wait();
    CHECK(caller.result() == 0);
    target.release();
}

TEST_CASE("on a loop a wait is refused with EDEADLK, but a free slot is taken") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Slots target(1);
    Group group({&target});
    int full[3] = {}, free[2] = {};

    run_on(comm.loop(0), [&] {
        fill(target, 1);
        full[0] = Acquirer().acquire(target, -1);
        full[1] = Acquirer().acquire(group, 10);
        full[2] = Acquirer().acquire(target, 0);
        target.release();
        free[0] = Acquirer().acquire(target, -1);
        free[1] = Acquirer().acquire(group, 10);
    });
    CHECK(full[0] == EDEADLK);
    CHECK(full[1] == EDEADLK);
    CHECK(full[2] == EAGAIN);
    CHECK(free[0] == 0);
    CHECK(free[1] == 0);
}

TEST_CASE("a target is in one group at most") {
    Slots target(1);
    Group group({&target}), other;

    CHECK(group.add(&target) == -1);
    CHECK(errno == EEXIST);
    CHECK(other.add(&target) == -1);
    CHECK(errno == EINVAL);
    CHECK(other.remove(&target) == -1);
    CHECK(errno == ENOENT);
    CHECK(group.remove(&target) == 0);
    CHECK(other.add(&target) == 0);
}

TEST_CASE("a target with waiters neither enters nor leaves a group") {
    Slots inside(1), outside(1);
    Group group({&inside});
    fill(inside, 1);
    fill(outside, 1);
    Waiter in, out;
    REQUIRE(inside.wait_slot(&in) == 0);
    REQUIRE(outside.wait_slot(&out) == 0);

    CHECK(group.add(&outside) == -1);
    CHECK(errno == EBUSY);
    CHECK(group.remove(&inside) == -1);
    CHECK(errno == EBUSY);

    release(inside, 2);
    release(outside, 2);
    CHECK(group.remove(&inside) == 0);
    CHECK(group.add(&outside) == 0);
}

TEST_CASE("an empty group refuses at once, whatever the timeout") {
    Group group;
    Waiter waiter;

    CHECK(Acquirer().acquire(group, 0) == EAGAIN);
    CHECK(Acquirer().acquire(group, -1) == EAGAIN);
    CHECK(group.wait_slot(&waiter) == -1);
    CHECK(errno == EAGAIN);
}

TEST_CASE("a group's load is the sum of its targets'") {
    Slots first(2), second(3);
    Group group({&first});
    fill(second, 2);
    CHECK(group.get_max_load() == 2);
    CHECK(group.get_cur_load() == 0);

    REQUIRE(group.add(&second) == 0);
    CHECK(group.get_max_load() == 5);
    CHECK(group.get_cur_load() == 2);

    fill(first, 1);
    second.release();
    CHECK(group.get_cur_load() == 2);

    REQUIRE(group.remove(&second) == 0);
    CHECK(group.get_max_load() == 2);
    CHECK(group.get_cur_load() == 1);
    CHECK(second.get_cur_load() == 1);
    second.release();
    first.release();
    CHECK(group.get_cur_load() == 0);
}

TEST_CASE("a group takes the target with the lowest ratio of load to maximum") {
    Slots small(2), large(5);
    Group group({&small, &large});
    std::vector<CommTarget *> order;

    for (int i = 0; i < 7; i++) {
        Waiter waiter;
        REQUIRE(group.wait_slot(&waiter) == 1);
        order.push_back(waiter.get_target());
    }
    CommTarget *s = &small, *l = &large;
    // Loads before each step: 0/2 0/5, 1/2 0/5, 1/2 1/5, 1/2 2/5, 1/2 3/5, 2/2 3/5, 2/2 4/5
    CHECK(order == std::vector{s, l, l, l, s, l, l});
    CHECK(Acquirer().acquire(group, 0) == EAGAIN);

    release(small, 2);
    release(large, 5);
}

TEST_CASE("targets that are equally loaded take turns") {
    Slots first(4), second(4), third(4);
    Group group({&first, &second, &third});
    std::vector<CommTarget *> order;

    for (int i = 0; i < 6; i++) {
        Waiter waiter;
        REQUIRE(group.wait_slot(&waiter) == 1);
        order.push_back(waiter.get_target());
        static_cast<CommSchedTarget *>(waiter.get_target())->release();
    }
    CHECK(order == std::vector<CommTarget *>{&first, &second, &third, &first, &second, &third});
}

TEST_CASE("of targets that are equally loaded the one with an idle connection is taken") {
    CommScheduler scheduler;
    REQUIRE(scheduler.init(1, 0) == 0);
    EchoService echo;
    echo.start(scheduler);
    LimitedTarget cold(echo, 2), warm(echo, 2), colder(echo, 2);
    Group group({&cold, &warm, &colder});
    CommTarget *target;
    LineCall call("warm up");
    REQUIRE(scheduler.request(&call, &warm, 0, &target) == 0);
    call.wait();
    REQUIRE(warm.has_idle_conn());

    for (int i = 0; i < 4; i++) {
        Waiter waiter;
        REQUIRE(group.wait_slot(&waiter) == 1);
        CHECK(waiter.get_target() == &warm);
        warm.release();
    }
    fill(warm, 1);
    Waiter waiter;
    REQUIRE(group.wait_slot(&waiter) == 1);
    CHECK(waiter.get_target() != &warm);
    static_cast<CommSchedTarget *>(waiter.get_target())->release();
    warm.release();
}

TEST_CASE("waiters of a target come before those of its group") {
    Slots target(1);
    Group group({&target});
    fill(target, 1);
    Waiter of_group, of_target;
    REQUIRE(group.wait_slot(&of_group) == 0);
    REQUIRE(target.wait_slot(&of_target) == 0);

    target.release();
    CHECK(of_target.target() == &target);
    CHECK(of_group.target() == nullptr);
    target.release();
    CHECK(of_group.target() == &target);
    target.release();
    CHECK(group.get_cur_load() == 0);
}

TEST_CASE("a waiter of a group has the first slot that any target frees") {
    Slots first(1), second(1);
    Group group({&first, &second});
    fill(first, 1);
    fill(second, 1);
    Waiter waiter, cancelled;
    REQUIRE(group.wait_slot(&cancelled) == 0);
    REQUIRE(group.wait_slot(&waiter) == 0);
    CHECK(group.cancel_wait(&cancelled) == 0);

    second.release();
    CHECK(waiter.target() == &second);
    CHECK(group.cancel_wait(&waiter) == -1);
    CHECK(errno == ENOENT);
    first.release();
    second.release();
}

TEST_CASE("a target that joins a group brings its free slots to those who wait there") {
    Slots old(1), fresh(3);
    Group group({&old});
    fill(old, 1);
    fill(fresh, 1);
    Waiter first, second, third;
    for (Waiter *waiter : {&first, &second, &third})
        REQUIRE(group.wait_slot(waiter) == 0);

    REQUIRE(group.add(&fresh) == 0);
    CHECK(first.target() == &fresh);
    CHECK(second.target() == &fresh);
    CHECK(third.target() == nullptr);
    CHECK(group.get_cur_load() == 4);

    old.release();
    CHECK(third.target() == &old);
    old.release();
    release(fresh, 3);
}

TEST_CASE("a group and its targets may go in any order") {
    auto first = std::make_unique<Slots>(1);
    auto second = std::make_unique<Slots>(1);
    auto group = std::make_unique<Group>(std::vector<CommSchedTarget *>{first.get(), second.get()});

    first.reset();
    CHECK(group->get_max_load() == 1);
    group.reset();
    fill(*second, 1);
    second->release();
    CHECK(second->get_cur_load() == 0);
}

TEST_CASE("under a storm from many threads no slot is lost or given twice") {
    constexpr size_t max = 3;
    constexpr int rounds = 2000;
    Slots alone(max), first(max), second(max);
    Group group({&first, &second});
    std::atomic<size_t> in_use[3] = {};
    std::atomic<bool> overbooked{false};
    CommTarget *targets[3] = {&alone, &first, &second};

    auto use = [&](CommTarget *target) {
        auto index = static_cast<size_t>(std::find(targets, targets + 3, target) - targets);
        if (in_use[index].fetch_add(1) >= max)
            overbooked = true;
        in_use[index].fetch_sub(1);
        static_cast<CommSchedTarget *>(target)->release();
    };
    auto storm = [&](unsigned seed) {
        Acquirer acquirer;
        for (int i = 0; i < rounds; i++) {
            seed = seed * 1664525 + 1013904223;
            unsigned choice = seed >> 16;
            CommSchedTarget *target = choice % 3 == 0 ? &alone : choice % 3 == 1 ? &first : nullptr;
            if (choice / 3 % 2 == 0) {
                CommSchedObject &object = target != nullptr ? static_cast<CommSchedObject &>(*target) : group;
                int error = acquirer.acquire(object, choice / 6 % 3 == 0 ? 0 : -1);
                if (error != 0 && error != EAGAIN)
                    overbooked = true;
                continue;
            }
            Waiter waiter(use);
            int taken = target != nullptr ? target->wait_slot(&waiter) : group.wait_slot(&waiter);
            if (taken == 1) {
                use(waiter.get_target());
            } else if (choice / 6 % 2 == 0) {
                waiter.wait();
            } else if ((target != nullptr ? target->cancel_wait(&waiter) : group.cancel_wait(&waiter)) < 0) {
                waiter.wait();
            }
        }
    };
    {
        std::vector<std::jthread> threads;
        for (unsigned i = 0; i < 6; i++)
            threads.emplace_back(storm, i);
    }
    CHECK_FALSE(overbooked);
    CHECK(alone.get_cur_load() == 0);
    CHECK(first.get_cur_load() == 0);
    CHECK(second.get_cur_load() == 0);
    CHECK(group.get_cur_load() == 0);
}

namespace {

// Asks for a slot on a loop. Has it for one turn of the loop; or changes its mind, at once or one turn later.
class Visitor : public CommSlotWaiter {
public:
    enum Mind { PATIENT, HASTY, WAVERING };

    Visitor(CommSchedGroup &group, Mind mind, Latch &done) : group_(group), mind_(mind), done_(done) {
        node_.visitor = this;
    }

    // Once.
    void visit(CommLoop *loop) {
        node_.run = [](CommNode *node) {
            Visitor *visitor = static_cast<Node *>(node)->visitor;
            if (std::exchange(visitor->inside_, true))
                visitor->leave();
            else
                visitor->enter();
        };
        loop->post(&node_);
    }

    size_t failures = 0;

private:
    struct Node : CommNode {
        Visitor *visitor = nullptr;
    };

    void enter() {
        if (group_.wait_slot(this) == 1) {
            target_ = get_target();
            CommLoop::current()->post(&node_);
        } else if (mind_ == WAVERING) {
            CommLoop::current()->post(&node_);
        } else if (mind_ == HASTY) {
            leave();
        }
    }

    void granted(CommTarget *target) override {
        target_ = target;
        if (mind_ == PATIENT)
            CommLoop::current()->post(&node_);
    }

    void leave() {
        if (target_ != nullptr)
            static_cast<CommSchedTarget *>(target_)->release();
        else if (group_.cancel_wait(this) < 0)
            failures++;
        done_.count_down();
    }

    CommSchedGroup &group_;
    const Mind mind_;
    Latch &done_;
    CommTarget *target_ = nullptr;
    bool inside_ = false;
    Node node_;
};

} // namespace

TEST_CASE("a storm of waiters on loops, some of which change their mind, leaves nothing behind") {
    constexpr size_t many = 3000;
    Communicator comm;
    REQUIRE(comm.init(3, 0) == 0);
    Slots first(2), second(1);
    Group group({&first, &second});
    Latch done(many);
    std::deque<Visitor> visitors;
    for (size_t i = 0; i < many; i++)
        visitors.emplace_back(group, static_cast<Visitor::Mind>(i / 3 % 3), done).visit(comm.loop(i % 3));

    done.wait();
    comm.deinit();
    CHECK(std::all_of(visitors.begin(), visitors.end(), [](const Visitor &v) { return v.failures == 0; }));
    CHECK(group.get_cur_load() == 0);
    CHECK(first.get_cur_load() == 0);
    CHECK(second.get_cur_load() == 0);
}

TEST_CASE("a refused request gives its slot back and keeps the errno") {
    CommScheduler scheduler;
    Slots target(1);
    LineCall call("");
    CommTarget *used = nullptr;

    CHECK(scheduler.request(&call, &target, 0, &used) == -1);
    CHECK(errno == ESHUTDOWN);
    CHECK(used == &target);
    CHECK(target.get_cur_load() == 0);
}

TEST_CASE("a request keeps the caller's errno and says which target it uses") {
    CommScheduler scheduler;
    REQUIRE(scheduler.init(1, 0) == 0);
    EchoService echo;
    echo.start(scheduler);
    LimitedTarget target(echo, 1);
    LineCall call("hello");
    CommTarget *used = nullptr;

    errno = E2BIG;
    REQUIRE(scheduler.request(&call, &target, 0, &used) == 0);
    CHECK(errno == E2BIG);
    CHECK(used == &target);
    call.wait();
    CHECK(call.state() == CS_STATE_SUCCESS);
    CHECK(call.reply() == "hello");
}

TEST_CASE("the slot and the connection are free before handle() runs") {
    for (size_t handlers : {0u, 2u}) {
        CAPTURE(handlers);
        CommScheduler scheduler;
        REQUIRE(scheduler.init(1, handlers) == 0);
        EchoService echo;
        echo.start(scheduler);
        LimitedTarget target(echo, 1);
        LineCall first("first"), second("second");
        CommTarget *used;
        size_t load = 7;
        int result = -1;
        first.then = [&] {
            load = target.get_cur_load();
            result = scheduler.request(&second, &target, 0, &used);
        };

        REQUIRE(scheduler.request(&first, &target, 0, &used) == 0);
        first.wait();
        CHECK(load == 0);
        REQUIRE(result == 0);
        second.wait();
        CHECK(second.reply() == "second");
        CHECK(first.seq() == 0);
        CHECK(second.seq() == 1);
    }
}

TEST_CASE(
    "a ticket names a thread that is blocked for its session's slot: the request fails with ECANCELED") {
    CommScheduler scheduler;
    REQUIRE(scheduler.init(1, 0) == 0);
    EchoService echo;
    echo.start(scheduler);
    LimitedTarget target(echo, 1);
    CommSchedGroup group;
    REQUIRE(group.init() == 0);
    for (bool grouped : {false, true}) {
        CAPTURE(grouped);
        if (grouped)
            REQUIRE(group.add(&target) == 0);
        CommSchedObject *object = grouped ? static_cast<CommSchedObject *>(&group) : &target;
        fill(target, 1);
        LineCall call("never"), next("next");
        const CommTicket ticket = call.ticket();
        int result = 0, error = 0;
        CHECK(scheduler.communicator().cancel(ticket) == -1); // not yet
        std::thread blocked([&] {
            CommTarget *used;
            result = scheduler.request(&call, object, -1, &used);
            error = errno;
        });
        while (scheduler.communicator().cancel(ticket) < 0)
            std::this_thread::yield();
        blocked.join();
        CHECK(result == -1);
        CHECK(error == ECANCELED);
        CHECK(call.get_cause() == CC_CANCEL);
        CHECK(scheduler.communicator().cancel(ticket) == -1); // the ticket is used up
        CHECK(!call.is_done());
        // The queue is as if it had never been there.
        CHECK(target.get_cur_load() == 1);
        target.release();
        CHECK(target.get_cur_load() == 0);
        CommTarget *used;
        REQUIRE(scheduler.request(&next, object, 0, &used) == 0);
        next.wait();
        CHECK(next.reply() == "next");
    }
    REQUIRE(group.remove(&target) == 0);
    group.deinit();
}

TEST_CASE("a slot that is freed while its waiter is cancelled is not lost") {
    CommScheduler scheduler;
    REQUIRE(scheduler.init(1, 0) == 0);
    EchoService echo;
    echo.start(scheduler);
    LimitedTarget target(echo, 1);
    for (int i = 0; i < 300; i++) {
        fill(target, 1);
        LineCall call("x");
        const CommTicket ticket = call.ticket();
        int result = 0, error = 0;
        std::atomic<bool> cancelled{false}, over{false};
        std::thread blocked([&] {
            CommTarget *used;
            result = scheduler.request(&call, &target, -1, &used);
            error = errno;
            if (result == 0)
                call.wait();
            over = true;
        });
        std::thread canceller([&] {
            while (!over && !cancelled)
                cancelled = scheduler.communicator().cancel(ticket) == 0;
        });
        target.release();
        blocked.join();
        canceller.join();
        if (result == 0) {
            CHECK(call.error() == (cancelled ? ECANCELED : 0));
        } else {
            CHECK(error == ECANCELED);
            CHECK(cancelled);
        }
        REQUIRE(target.get_cur_load() == 0);
    }
}

TEST_CASE("handlers that block for a slot do not keep slots from being freed") {
    constexpr size_t many = 62;
    Communicator elsewhere; // whose callbacks need none of the handlers that block
    REQUIRE(elsewhere.init(1, 0) == 0);
    EchoService echo;
    echo.start(elsewhere);
    CommScheduler scheduler;
    REQUIRE(scheduler.init(1, 2) == 0);
    LimitedTarget target(echo, 2);
    std::deque<LineCall> calls;
    std::atomic<size_t> refused{0};
    for (size_t i = 0; i < many; i++)
        calls.emplace_back(std::to_string(i));
    auto send = [&](LineCall &call) {
        CommTarget *used;
        if (scheduler.request(&call, &target, -1, &used) < 0)
            refused++;
    };
    // Two calls, each of whose handlers sends thirty more.
    for (size_t i = 0; i < 2; i++) {
        calls[i].then = [&, i] {
            for (size_t j = 0; j < 30; j++)
                send(calls[2 + i * 30 + j]);
        };
    }

    send(calls[0]);
    send(calls[1]);
    for (LineCall &call : calls)
        call.wait();
    CHECK(refused == 0);
    CHECK(
        std::all_of(calls.begin(), calls.end(), [](auto &call) { return call.state() == CS_STATE_SUCCESS; }));
    CHECK(target.get_cur_load() == 0);
    CHECK(echo.connections.value() <= 2);
}

TEST_CASE("requests from all sides keep to the limit and balance the load") {
    constexpr size_t max = 4;
    constexpr size_t threads = 3, per_thread = 100;
    for (size_t handlers : {0u, 2u}) {
        CAPTURE(handlers);
        CommScheduler scheduler;
        REQUIRE(scheduler.init(2, handlers) == 0);
        EchoService echo;
        echo.start(scheduler);
        LimitedTarget first(echo, max), second(echo, max);
        Group group({&first, &second});
        std::atomic<bool> overloaded{false};
        std::atomic<size_t> succeeded{0};
        std::deque<LineCall> calls;
        for (size_t i = 0; i < threads * per_thread; i++) {
            calls.emplace_back(std::to_string(i)).then = [&] {
                if (first.get_cur_load() > max || second.get_cur_load() > max ||
                    group.get_cur_load() > 2 * max)
                    overloaded = true;
            };
        }
        {
            std::vector<std::jthread> senders;
            for (size_t i = 0; i < threads; i++) {
                senders.emplace_back([&, i] {
                    CommSchedObject &object = i == 0 ? static_cast<CommSchedObject &>(first) : group;
                    CommTarget *used;
                    for (size_t j = 0; j < per_thread; j++)
                        if (scheduler.request(&calls[i * per_thread + j], &object, -1, &used) < 0)
                            overloaded = true;
                });
            }
        }
        for (LineCall &call : calls) {
            call.wait();
            succeeded += call.state() == CS_STATE_SUCCESS;
        }
        CHECK_FALSE(overloaded);
        CHECK(succeeded == calls.size());
        CHECK(first.get_cur_load() == 0);
        CHECK(second.get_cur_load() == 0);
        CHECK(group.get_cur_load() == 0);
    }
}

TEST_CASE("waiters on every loop share the connections of one target") {
    constexpr size_t many = 300;
    constexpr size_t max = 2;
    CommScheduler scheduler;
    REQUIRE(scheduler.init(3, 0) == 0);
    Communicator &comm = scheduler.communicator();
    EchoService echo;
    echo.start(scheduler);
    LimitedTarget target(echo, max);
    std::deque<LineCall> calls;
    std::deque<Waiter> waiters;
    std::atomic<size_t> refused{0};
    for (size_t i = 0; i < many; i++) {
        LineCall &call = calls.emplace_back(std::to_string(i));
        waiters.emplace_back([&](CommTarget *granted) {
            if (comm.request(&call, granted) < 0)
                refused++;
        });
    }

    for (size_t i = 0; i < many; i++) {
        run_on(comm.loop(i % 3), [&] {
            if (target.wait_slot(&waiters[i]) == 1 && comm.request(&calls[i], &target) < 0)
                refused++;
        });
    }
    for (LineCall &call : calls)
        call.wait();
    CHECK(refused == 0);
    CHECK(
        std::all_of(calls.begin(), calls.end(), [](auto &call) { return call.state() == CS_STATE_SUCCESS; }));
    CHECK(target.get_cur_load() == 0);
    CHECK(echo.connections.value() <= max);
}

TEST_CASE("targets and groups outlive the scheduler") {
    std::unique_ptr<CommSchedTarget> target(new CommSchedTarget);
    CommSchedGroup group;
    REQUIRE(group.init() == 0);
    {
        CommScheduler scheduler;
        REQUIRE(scheduler.init(2, 1) == 0);
        EchoService echo;
        echo.start(scheduler);
        REQUIRE(target->init(echo.address(), echo.address_size(), -1, -1, 2) == 0);
        REQUIRE(group.add(target.get()) == 0);
        LineCall call("hello");
        CommTarget *used;
        REQUIRE(scheduler.request(&call, &group, 0, &used) == 0);
        call.wait();
        scheduler.deinit();
    }
    group.deinit();
    target->deinit();
    target.reset();
}

TEST_SUITE_END();
