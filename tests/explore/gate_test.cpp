// The gate that deinit() closes (core/Communicator.cpp) before those who submit from other threads: each
// submission is refused with ESHUTDOWN or completes exactly once before deinit() has returned, and nothing is
// left.

#include <doctest/doctest.h>

#include <errno.h>

#include "sessions.h"

using namespace explored;

namespace {

// 0, or the errno of a submission: nothing but ESHUTDOWN.
int result_of(sim::world &world, int returned) {
    const int error = returned == 0 ? 0 : errno;
    world.expect(error == 0 || error == ESHUTDOWN, "taken, or refused with ESHUTDOWN");
    return error;
}

// One timer, one thread that sets it, and the end of a Communicator with so many handler threads.
void timer_at_the_gate(sim::world &world, size_t handlers) {
    Communicator comm;
    world.expect(comm.init(1, handlers) == 0, "init");
    settle(world);
    Nap nap(milliseconds(3'600'000));
    int refused = 0;
    sync::thread submitting([&] { refused = result_of(world, comm.sleep(&nap)); });
    comm.deinit();
    const int calls = nap.outcome.calls;
    submitting.join();
    world.expect(nap.outcome.calls == calls, "nothing completes once deinit() has returned");
    world.expect(calls == (refused == 0 ? 1 : 0), "it completes once if it was taken, else never");
    world.expect(calls == 0 || nap.outcome.is(SS_STATE_DISRUPTED, 0), "it is disrupted");
}

} // namespace

TEST_CASE("a timer that is set while deinit() runs is refused or disrupted") {
    in_every_order("gate: sleep", 3, 500, [](sim::world &world) { timer_at_the_gate(world, 0); });
}

TEST_CASE("a timer that is set while deinit() runs is refused or disrupted on a handler thread") {
    in_every_order("gate: sleep, handlers", 3, 500, [](sim::world &world) { timer_at_the_gate(world, 1); });
}

TEST_CASE("two submissions of a thread on two loops while deinit() runs: once refused is refused for good") {
    in_every_order("gate: two loops", 2, 500, [](sim::world &world) {
        Communicator comm;
        world.expect(comm.init(2, 0) == 0, "init");
        settle(world);
        Nap first(milliseconds(3'600'000));
        Nap second(milliseconds(3'600'000));
        int refused[2] = {};
        sync::thread submitting([&] {
            refused[0] = result_of(world, comm.sleep(&first));
            refused[1] = result_of(world, comm.sleep(&second));
        });
        comm.deinit();
        submitting.join();
        world.expect(first.outcome.calls == (refused[0] == 0 ? 1 : 0),
                     "the first completes once if it was taken");
        world.expect(second.outcome.calls == (refused[1] == 0 ? 1 : 0),
                     "the second completes once if it was taken");
    });
}

TEST_CASE("a request that is made while deinit() runs is refused, fails or is stopped, and lets go of its "
          "target once") {
    in_every_order("gate: request", 3, 500, [](sim::world &world) {
        Communicator comm;
        world.expect(comm.init(1, 0) == 0, "init");
        settle(world);
        {
            Mute peer(world, 7000);
            Peer target(world, 7000);
            Request request;
            int refused = 0;
            sync::thread submitting([&] { refused = result_of(world, comm.request(&request, &target)); });
            comm.deinit();
            const int calls = request.outcome.calls;
            submitting.join();
            world.expect(request.outcome.calls == calls, "nothing completes once deinit() has returned");
            world.expect(calls == (refused == 0 ? 1 : 0), "it completes once if it was taken, else never");
            world.expect(target.released == calls, "the target is let go of as often");
            world.expect(calls == 0 || request.outcome.is(CS_STATE_STOPPED, 0), "it is stopped");
        }
    });
}

TEST_CASE("a request by way of handler threads while deinit() runs completes before that returns") {
    in_every_order("gate: request, handlers", 3, 500, [](sim::world &world) {
        Communicator comm;
        world.expect(comm.init(1, 1) == 0, "init");
        settle(world);
        {
            Peer target(world, 7001); // nobody is there
            Request request;
            int refused = 0;
            sync::thread submitting([&] { refused = result_of(world, comm.request(&request, &target)); });
            comm.deinit();
            const int calls = request.outcome.calls;
            submitting.join();
            world.expect(request.outcome.calls == calls, "nothing completes once deinit() has returned");
            world.expect(calls == (refused == 0 ? 1 : 0), "it completes once if it was taken, else never");
            world.expect(target.released == calls, "the target is let go of as often");
        }
    });
}

TEST_CASE("what ends because deinit() runs is told on a handler thread, be it older or set meanwhile") {
    in_every_order("gate: told by handlers", 2, 500, [](sim::world &world) {
        Communicator comm;
        world.expect(comm.init(1, 1) == 0, "init");
        settle(world);
        {
            Mute peer(world, 7000);
            Peer target(world, 7000);
            Request asked;
            Nap old(milliseconds(3'600'000));
            Nap fresh(milliseconds(3'600'000));
            int on_handlers = 0;
            asked.then = old.then = fresh.then = [&] { on_handlers += comm.is_handler_thread(); };
            world.expect(comm.request(&asked, &target) == 0 && comm.sleep(&old) == 0, "they are taken");
            settle(world);
            int refused = 0;
            sync::thread submitting([&] { refused = result_of(world, comm.sleep(&fresh)); });
            comm.deinit();
            submitting.join();
            world.expect(asked.outcome.calls == 1 && asked.outcome.is(CS_STATE_STOPPED, 0), "it is stopped");
            world.expect(old.outcome.calls == 1 && old.outcome.is(SS_STATE_DISRUPTED, 0), "it is disrupted");
            world.expect(fresh.outcome.calls == (refused == 0 ? 1 : 0), "disrupted too, or refused");
            const int ends = 2 + fresh.outcome.calls;
            world.expect(on_handlers == ends, "each was told on a handler thread");
        }
    });
}

TEST_CASE("a node posted while deinit() runs is refused or runs on the loop, and may submit: it is refused "
          "or ends") {
    in_every_order("gate: post, then sleep", 3, 500, [](sim::world &world) {
        struct Posted : CommNode {
            sim::world *world;
            Communicator *comm;
            Nap nap{milliseconds(3'600'000)};
            int runs = 0;
            int refused = -1;
        } node;
        node.run = [](CommNode *it) {
            auto *self = static_cast<Posted *>(it);
            self->runs++;
            self->refused = result_of(*self->world, self->comm->sleep(&self->nap));
        };
        Communicator comm;
        world.expect(comm.init(1, 0) == 0, "init");
        settle(world);
        node.world = &world;
        node.comm = &comm;
        CommLoop *loop = comm.loop(0);
        int refused = 0;
        sync::thread posting([&] { refused = result_of(world, loop->post(&node)); });
        comm.deinit();
        posting.join();
        world.expect(node.runs == (refused == 0 ? 1 : 0), "it runs once if it was taken, else never");
        world.expect(node.nap.outcome.calls == (node.refused == 0 ? 1 : 0), "and so does what it submits");
    });
}

TEST_CASE("who submits again whenever it is told of an end is refused in the end") {
    in_every_order("gate: again and again", 2, 200, [](sim::world &world) {
        Communicator comm;
        world.expect(comm.init(1, 1) == 0, "init");
        settle(world);
        Nap nap(milliseconds(0));
        int taken = 0;
        int refused = 0;
        const auto submit = [&] {
            if (taken < 3 && result_of(world, comm.sleep(&nap)) == 0)
                taken++;
            else
                refused++;
        };
        nap.then = submit;
        sync::thread submitting(submit);
        comm.deinit();
        submitting.join();
        world.expect(refused == 1, "the last one is refused, or was one too many");
        world.expect(nap.outcome.calls == taken, "each that was taken completed once");
    });
}

TEST_CASE("a timer that is taken back while deinit() runs is cancelled or disrupted, as unsleep() says") {
    in_every_order("gate: unsleep", 3, 500, [](sim::world &world) {
        Communicator comm;
        world.expect(comm.init(1, 0) == 0, "init");
        settle(world);
        Nap nap(milliseconds(3'600'000));
        world.expect(comm.sleep(&nap) == 0, "it sleeps");
        settle(world);
        int cancelled = 0;
        sync::thread cancelling([&] {
            cancelled = comm.unsleep(&nap) == 0;
            world.expect(cancelled == 1 || errno == ENOENT, "cancelled or ENOENT");
        });
        comm.deinit();
        cancelling.join();
        world.expect(nap.outcome.calls == 1, "it completes once");
        world.expect(cancelled ? nap.outcome.is(SS_STATE_ERROR, ECANCELED)
                               : nap.outcome.is(SS_STATE_DISRUPTED, 0),
                     "as unsleep() said");
    });
}
