// The end of a program that does not tidy up: exit() on a loop, on a handler thread, in the middle
// of everything, with Communicators that are static. It ends with the status it said, and does not
// crash or hang.

#include <doctest/doctest.h>

#include "child.h"
#include "peers.h"

using namespace peers;

namespace {

// Who calls exit(), and what lives until then.
struct Ending {
    size_t handlers;
    bool is_static;
    bool busy; // with a request under way and timers pending
};

constexpr int status = 7;

void live_and_exit(const Ending &how) {
    static Communicator fixed;
    static Lines fixed_service;
    // Never destroyed here: exit() leaves the stack as it is.
    auto *comm = how.is_static ? &fixed : new Communicator;
    auto *service = how.is_static ? &fixed_service : new Lines;
    if (comm->init(2, how.handlers) < 0)
        process::Child::end(1);
    service->on_request = [](Served &session) {
        if (session.in.text == "exit")
            exit(status);
        // Everything else waits for an answer that never comes.
    };
    if (service->start(*comm) < 0)
        process::Child::end(2);
    auto *target = new Target(service->address());
    auto *waits = new Ask("wait");
    auto *nap = new Nap(1h);
    auto *last = new Ask("exit");
    if (how.busy && (comm->request(waits, target) < 0 || !service->requests.wait() || comm->sleep(nap) < 0))
        process::Child::end(3);
    if (comm->request(last, target) < 0)
        process::Child::end(4);
    for (;;)
        pause();
}

} // namespace

TEST_CASE("exit() from a callback ends the program with its status: on a loop or a handler thread, the "
          "Communicator on the heap") {
    for (size_t handlers : {0U, 2U}) {
        for (bool busy : {false, true}) {
            CAPTURE(handlers);
            CAPTURE(busy);
            process::Child child([&](process::Child &) { live_and_exit({handlers, false, busy}); });
            CHECK(child.status() == status);
        }
    }
}

TEST_CASE("exit() from a callback ends the program with its status: on a loop or a handler thread, the "
          "Communicator static") {
    for (size_t handlers : {0U, 2U}) {
        for (bool busy : {false, true}) {
            CAPTURE(handlers);
            CAPTURE(busy);
            process::Child child([&](process::Child &) { live_and_exit({handlers, true, busy}); });
            CHECK(child.status() == status);
        }
    }
}

TEST_CASE(
    "exit() from a timer of a static Communicator that has nothing else ends the program with its status") {
    for (size_t handlers : {0U, 1U}) {
        CAPTURE(handlers);
        process::Child child([&](process::Child &) {
            static Running comm(2, handlers);
            auto *nap = new Nap(0ms);
            nap->then = [](Nap &) { exit(status); };
            if (comm.sleep(nap) < 0)
                process::Child::end(1);
            for (;;)
                pause();
        });
        CHECK(child.status() == status);
    }
}

TEST_CASE("static Communicators, targets and timers of two instances go in whatever order at exit()") {
    for (bool targets_first : {false, true}) {
        CAPTURE(targets_first);
        process::Child child([&](process::Child &) {
            static Lines service; // outlives all of them: destroyed last
            auto make_targets = [](const Address &to) {
                static Target one(to), two(to);
                return std::pair<Target *, Target *>(&one, &two);
            };
            auto make_communicators = [] {
                static Running first(2, 1), second(1, 0);
                return std::pair<Communicator *, Communicator *>(&first, &second);
            };
            Address nowhere = loopback();
            // The service's address is known when it is bound; until then the targets have another.
            std::pair<Target *, Target *> targets;
            if (targets_first)
                targets = make_targets(nowhere);
            auto [first, second] = make_communicators();
            if (service.start(*first) < 0)
                process::Child::end(1);
            Address to = service.address();
            if (targets_first) {
                for (Target *target : {targets.first, targets.second}) {
                    target->deinit();
                    target->init(to.get(), to.size, -1, -1);
                }
            } else {
                targets = make_targets(to);
            }
            for (int i = 0; i < 3; i++) {
                Ask one("x"), two("x");
                if (first->request(&one, targets.first) < 0 || !one.done.wait() ||
                    !one.is(CS_STATE_SUCCESS, 0) || second->request(&two, targets.second) < 0 ||
                    !two.done.wait() || !two.is(CS_STATE_SUCCESS, 0))
                    process::Child::end(2);
            }
            if (!service.finish())
                process::Child::end(3);
            exit(status); // with idle connections in both pools
        });
        CHECK(child.status() == status);
    }
}
