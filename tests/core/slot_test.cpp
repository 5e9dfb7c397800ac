#include "slots.h"

#include <doctest/doctest.h>

#include <errno.h>
#include <limits.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

using namespace fixture;
using namespace slots;

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
