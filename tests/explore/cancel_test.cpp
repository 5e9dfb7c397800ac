// Cancelling from another thread (core/ticket.cpp, core/sleep.cpp): against completion, timeout, stop, reuse
// and destruction of the session. handle() comes exactly once for each submission, and with ECANCELED if, and
// only if, the cancel returned 0.

#include <doctest/doctest.h>

#include <errno.h>

#include <memory>

#include "sessions.h"

using namespace explored;

namespace {

// 1: it was cancelled; 0: there was nothing to cancel.
int cancelled_by(sim::world &world, Communicator &comm, CommTicket ticket) {
    if (comm.cancel(ticket) == 0)
        return 1;
    world.expect(errno == ENOENT, "ENOENT");
    return 0;
}
int woken_by(sim::world &world, Communicator &comm, Nap &nap) {
    if (comm.unsleep(&nap) == 0)
        return 1;
    world.expect(errno == ENOENT, "ENOENT");
    return 0;
}

// A Communicator that is idle, and ends with the test.
class Running : public Communicator {
public:
    Running(sim::world &world, size_t handlers) {
        world.expect(init(1, handlers) == 0, "init");
        settle(world);
    }
    ~Running() override { deinit(); }
};

} // namespace

TEST_CASE(
    "a request that is cancelled while it is submitted is refused by nobody and ends as cancel() said") {
    make_ticket_table();
    in_every_order("cancel: submission", 2, 500, [](sim::world &world) {
        Running comm(world, 0);
        Mute peer(world, 7000);
        Peer target(world, 7000);
        Count ended;
        Request request(&ended, 10);
        const CommTicket ticket = request.ticket();
        int cancelled = 0;
        sync::thread cancelling([&] { cancelled = cancelled_by(world, comm, ticket); });
        world.expect(comm.request(&request, &target) == 0, "taken");
        ended.wait_for(1);
        cancelling.join();
        world.expect(request.outcome.calls == 1, "it ends once");
        world.expect(request.outcome.is(CS_STATE_ERROR, cancelled ? ECANCELED : ETIMEDOUT),
                     "as cancel() said");
        world.expect(target.released == 1, "the target is let go of once");
    });
}

TEST_CASE("a request that is cancelled from two threads is cancelled by one of them") {
    make_ticket_table();
    in_every_order("cancel: twice", 2, 500, [](sim::world &world) {
        Running comm(world, 0);
        Mute peer(world, 7000);
        Peer target(world, 7000);
        Count ended;
        Request request(&ended);
        const CommTicket ticket = request.ticket();
        world.expect(comm.request(&request, &target) == 0, "taken");
        settle(world);
        int first = 0;
        sync::thread cancelling([&] { first = cancelled_by(world, comm, ticket); });
        const int second = cancelled_by(world, comm, ticket);
        ended.wait_for(1);
        cancelling.join();
        world.expect(first + second == 1, "one of the two");
        world.expect(request.outcome.calls == 1 && request.outcome.is(CS_STATE_ERROR, ECANCELED), "once");
    });
}

TEST_CASE(
    "a request that times out while it is cancelled and while the Communicator ends has one of the three") {
    make_ticket_table();
    in_every_order("cancel: timeout and stop", 2, 500, [](sim::world &world) {
        Running comm(world, 0);
        Mute peer(world, 7000);
        Peer target(world, 7000);
        Request request(nullptr, 10);
        const CommTicket ticket = request.ticket();
        world.expect(comm.request(&request, &target) == 0, "taken");
        int cancelled = 0;
        sync::thread cancelling([&] {
            world.sleep(milliseconds(10));
            cancelled = cancelled_by(world, comm, ticket);
        });
        world.sleep(milliseconds(10)); // all three at the same moment
        comm.deinit();
        cancelling.join();
        const Outcome &it = request.outcome;
        world.expect(it.calls == 1, "it ends once");
        world.expect(it.is(CS_STATE_ERROR, ECANCELED) == (cancelled == 1), "as cancel() said");
        world.expect(cancelled || it.is(CS_STATE_ERROR, ETIMEDOUT) || it.is(CS_STATE_STOPPED, 0),
                     "or as it is");
    });
}

TEST_CASE("a session that deletes itself on a handler thread, while it is cancelled, is not touched again") {
    make_ticket_table();
    in_every_order("cancel: destruction", 2, 500, [](sim::world &world) {
        Running comm(world, 1);
        Mute peer(world, 7000);
        Peer target(world, 7000);
        Count ended;
        auto *request = new Request(&ended, 10);
        Outcome seen;
        request->then = [request, &seen] {
            seen = request->outcome;
            delete request;
        };
        const CommTicket ticket = request->ticket();
        world.expect(comm.request(request, &target) == 0, "taken");
        world.sleep(milliseconds(10)); // its timer is due
        const int cancelled = cancelled_by(world, comm, ticket);
        ended.wait_for(1);
        world.expect(seen.is(CS_STATE_ERROR, cancelled ? ECANCELED : ETIMEDOUT), "as cancel() said");
        world.expect(cancelled_by(world, comm, ticket) == 0, "the ticket names nothing any more");
    });
}

TEST_CASE("the ticket of a request that is over does not cancel the next one of the same session") {
    make_ticket_table();
    in_every_order("cancel: reuse", 2, 500, [](sim::world &world) {
        Running comm(world, 0);
        Mute peer(world, 7000);
        Peer target(world, 7000);
        Count ended;
        Request request(&ended, 10);
        Outcome first;
        request.then = [&] {
            if (first.calls == 0) {
                first = request.outcome;
                world.expect(comm.request(&request, &target) == 0, "taken again");
            }
        };
        const CommTicket ticket = request.ticket();
        world.expect(comm.request(&request, &target) == 0, "taken");
        world.sleep(milliseconds(10)); // the first is due
        const int cancelled = cancelled_by(world, comm, ticket);
        ended.wait_for(2);
        world.expect(first.is(CS_STATE_ERROR, cancelled ? ECANCELED : ETIMEDOUT),
                     "the first as cancel() said");
        world.expect(request.outcome.calls == 2 && request.outcome.is(CS_STATE_ERROR, ETIMEDOUT),
                     "not the second");
    });
}

TEST_CASE("a session that is deleted while a cancel that came too late looks at it") {
    make_ticket_table();
    in_every_order("cancel: a slot that is given on", 2, 500, [](sim::world &world) {
        Running comm(world, 0);
        Peer target(world, 7001); // nobody is there: refused at once
        Count ended;
        auto request = std::make_unique<Request>(&ended);
        const CommTicket ticket = request->ticket();
        world.expect(comm.request(request.get(), &target) == 0, "taken");
        int cancelled = 0;
        sync::thread cancelling([&] { cancelled = cancelled_by(world, comm, ticket); });
        ended.wait_for(1);
        const Outcome seen = request->outcome;
        request.reset();
        Request next; // has the slot of the one before
        const CommTicket its = next.ticket();
        world.expect(comm.request(&next, &target) == 0, "taken");
        cancelling.join();
        settle(world);
        world.expect(seen.is(CS_STATE_ERROR, cancelled ? ECANCELED : ECONNREFUSED), "as cancel() said");
        world.expect(next.outcome.calls == 1 && next.outcome.is(CS_STATE_ERROR, ECONNREFUSED),
                     "not the next one");
        world.expect(cancelled_by(world, comm, its) == 0, "which is over");
    });
}

TEST_CASE("a timer that fires while it is cancelled has one outcome, as unsleep() said") {
    in_every_order("unsleep: fires", 3, 500, [](sim::world &world) {
        Running comm(world, 0);
        Count ended;
        Nap nap(milliseconds(10), &ended);
        world.expect(comm.sleep(&nap) == 0, "it sleeps");
        world.sleep(milliseconds(10));
        const int cancelled = woken_by(world, comm, nap);
        ended.wait_for(1);
        comm.deinit();
        world.expect(nap.outcome.calls == 1, "once");
        world.expect(cancelled ? nap.outcome.is(SS_STATE_ERROR, ECANCELED)
                               : nap.outcome.is(SS_STATE_COMPLETE, 0),
                     "as unsleep() said");
    });
}

TEST_CASE(
    "a timer that is cancelled from two threads, before or after its loop knows of it, is cancelled by one") {
    in_every_order("unsleep: twice", 3, 500, [](sim::world &world) {
        Running comm(world, 0);
        Count ended;
        Nap nap(milliseconds(3'600'000), &ended);
        world.expect(comm.sleep(&nap) == 0, "it sleeps");
        int first = 0;
        sync::thread cancelling([&] { first = woken_by(world, comm, nap); });
        const int second = woken_by(world, comm, nap);
        ended.wait_for(1);
        cancelling.join();
        comm.deinit();
        world.expect(first + second == 1, "one of the two");
        world.expect(nap.outcome.calls == 1 && nap.outcome.is(SS_STATE_ERROR, ECANCELED), "once");
    });
}

TEST_CASE("a timer that is set again whenever it fires, and cancelled at that moment, ends with the cancel "
          "it was told of") {
    in_every_order("unsleep: set again", 3, 500, [](sim::world &world) {
        Running comm(world, 0);
        // handle() and who cancels agree under a lock on whether it is set, as unsleep() asks of them.
        sync::mutex mutex;
        bool set = true;
        Count ended;
        Nap nap(milliseconds(10));
        nap.then = [&] {
            sync::lock_guard<sync::mutex> lock(mutex);
            set = nap.outcome.is(SS_STATE_COMPLETE, 0) && nap.outcome.calls == 1 && comm.sleep(&nap) == 0;
            if (!set)
                ended.add();
        };
        world.expect(comm.sleep(&nap) == 0, "it sleeps");
        world.sleep(milliseconds(10));
        int cancelled = 0;
        {
            sync::lock_guard<sync::mutex> lock(mutex);
            cancelled = set ? woken_by(world, comm, nap) : 0;
        }
        ended.wait_for(1);
        comm.deinit();
        world.expect(cancelled ? nap.outcome.is(SS_STATE_ERROR, ECANCELED)
                               : nap.outcome.is(SS_STATE_COMPLETE, 0) && nap.outcome.calls == 2,
                     "it ends as unsleep() said");
    });
}

TEST_CASE("of two timers that are due at once the first cancels the second, and so does another thread: one "
          "of them does") {
    in_every_order("unsleep: equal deadlines", 3, 500, [](sim::world &world) {
        Running comm(world, 0);
        Count ended;
        Nap first(milliseconds(10), &ended);
        Nap second(milliseconds(10), &ended);
        int on_loop = 0;
        first.then = [&] { on_loop = woken_by(world, comm, second); };
        world.expect(comm.sleep(&first) == 0 && comm.sleep(&second) == 0, "they sleep");
        world.sleep(milliseconds(10));
        const int elsewhere = woken_by(world, comm, second);
        ended.wait_for(2);
        comm.deinit();
        world.expect(on_loop + elsewhere == 1,
                     "the first is earlier than the second, so it is one of the two");
        world.expect(first.outcome.calls == 1 && first.outcome.is(SS_STATE_COMPLETE, 0), "the first fires");
        world.expect(second.outcome.calls == 1 && second.outcome.is(SS_STATE_ERROR, ECANCELED),
                     "the second does not");
    });
}
