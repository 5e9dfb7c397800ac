#include "slots.h"

#include <doctest/doctest.h>

#include <errno.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace fixture;
using namespace slots;

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
