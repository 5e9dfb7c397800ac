#include "slots.h"

#include <doctest/doctest.h>

#include <errno.h>

#include <memory>
#include <vector>

using namespace fixture;
using namespace slots;

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
