// Completions that other threads bring (core/completion.cpp, service.cpp, push.cpp): a session that is
// handled on a handler thread while its connection is reset, its Communicator ends, or somebody else answers,
// drops or cancels it. One of them decides, all are told the truth, and nothing is left.

#include <doctest/doctest.h>

#include <errno.h>

#include <functional>
#include <memory>
#include <vector>

#include "sessions.h"

using namespace explored;

namespace {

// A service that was asked for one byte: the request reaches its session, on a handler thread if there is
// one, a millisecond after the constructor has returned, and what the client does reaches the service a
// millisecond later.
class Served {
public:
    Served(sim::world &world, size_t handlers) : world_(world), service(world, session.get()) {
        world.link(world.local(), world.local(), {.latency = milliseconds(1)});
        world.expect(comm.init(1, handlers) == 0, "init");
        settle(world);
        world.expect(comm.bind(&service) == 0, "bind");
        settle(world);
        client = std::make_unique<Asking>(world, OneRequest::port);
    }
    ~Served() {
        // One after the other: what is tried in every order is what came before.
        world_.sleep(milliseconds(10));
        session.reset();
        world_.sleep(milliseconds(10));
        client.reset();
        world_.sleep(milliseconds(10));
        comm.unbind(&service);
        world_.sleep(milliseconds(10));
        world_.expect(service.unbound.value() == 1, "unbound once");
        service.deinit();
        comm.deinit();
    }

    // 1: it did it; 0: ENOENT.
    int reply() { return did(comm.reply(session.get())); }
    int drop() { return did(comm.shutdown(session.get())); }

private:
    int did(int result) {
        world_.expect(result == 0 || errno == ENOENT, "done or ENOENT");
        return result == 0;
    }

    sim::world &world_;

public:
    Communicator comm;
    std::unique_ptr<Request> session = std::make_unique<Request>();
    OneRequest service;
    std::unique_ptr<Asking> client;
};

bool awaits_reply(const Request &session) {
    return session.outcome.state == CS_STATE_TOREPLY;
}

// Somebody on another thread takes the request that awaits its reply while the loop sees its peer go: one of
// them has it, and the session is told of the other's doing only by who was first.
void taken_while_its_peer_resets(sim::world &world, const std::function<int(Served &)> &take, bool more) {
    int taken = 0;
    Outcome last;
    int peers_gone = 0;
    {
        Served it(world, 0);
        it.session->in_place = true;
        it.session->then = [&] { last = it.session->outcome; };
        world.sleep(milliseconds(1));
        it.client->reset();
        world.sleep(milliseconds(1)); // it arrives
        taken = take(it);
        world.sleep(milliseconds(10));
        peers_gone = it.session->peers_gone;
    }
    world.expect(taken + peers_gone == 1, "it is taken, or its peer has gone before");
    world.expect(last.calls == 1 + (more ? taken : 0), "and handle() is called once more if that was said");
}

} // namespace

TEST_CASE("a reply from a handler thread to a peer that resets the connection is refused or completes once") {
    in_every_order("completion: reply and reset", 2, 100, [](sim::world &world) {
        int replied = -1;
        Outcome last;
        {
            Served it(world, 1);
            it.session->then = [&] {
                last = it.session->outcome;
                if (!awaits_reply(*it.session))
                    return;
                world.sleep(milliseconds(1)); // the reset arrives
                replied = it.reply();
            };
            world.sleep(milliseconds(1));
            it.client->reset();
        }
        world.expect(replied != -1, "it was asked");
        world.expect(last.calls == 1 + replied, "handle() once more if reply() returned 0");
        world.expect(last.calls == 1 || last.state == CS_STATE_SUCCESS || last.state == CS_STATE_ERROR,
                     "with its end");
    });
}

TEST_CASE("a reply from another thread to a peer that resets was in time, or the loop has told of the peer") {
    in_every_order("completion: reply, or the peer has gone", 2, 100, [](sim::world &world) {
        taken_while_its_peer_resets(world, [](Served &it) { return it.reply(); }, true);
    });
}

TEST_CASE("a request that another thread drops while its peer resets is dropped, or the loop has told of the "
          "peer") {
    in_every_order("completion: shutdown, or the peer has gone", 2, 100, [](sim::world &world) {
        taken_while_its_peer_resets(world, [](Served &it) { return it.drop(); }, false);
    });
}

TEST_CASE("a reply from another thread while the Communicator ends is refused, written or stopped") {
    in_every_order("completion: reply and stop", 3, 100, [](sim::world &world) {
        int replied = 0;
        Outcome last;
        {
            Served it(world, 0);
            it.session->then = [&] { last = it.session->outcome; };
            world.sleep(milliseconds(2));
            sync::thread replying([&] { replied = it.reply(); });
            it.comm.deinit();
            replying.join();
        }
        world.expect(last.calls == 1 + replied, "handle() once more if reply() returned 0");
        world.expect(last.calls == 1 || last.is(CS_STATE_SUCCESS, 0) || last.is(CS_STATE_STOPPED, 0),
                     "with its end");
    });
}

TEST_CASE("a request that one thread answers and another drops is answered or dropped") {
    in_every_order("completion: reply and shutdown", 3, 100, [](sim::world &world) {
        int replied = 0;
        int dropped = 0;
        Outcome last;
        {
            Served it(world, 0);
            it.session->then = [&] { last = it.session->outcome; };
            world.sleep(milliseconds(2));
            sync::thread dropping([&] { dropped = it.drop(); });
            replied = it.reply();
            dropping.join();
        }
        world.expect(replied + dropped == 1, "one of the two");
        world.expect(last.calls == 1 + replied, "handle() once more if reply() returned 0, and only then");
    });
}

TEST_CASE("a request that is dropped while its peer resets is over with that, whoever was first") {
    in_every_order("completion: shutdown and reset", 2, 100, [](sim::world &world) {
        Outcome last;
        {
            Served it(world, 0);
            it.session->then = [&] { last = it.session->outcome; };
            world.sleep(milliseconds(1));
            it.client->reset();
            world.sleep(milliseconds(1)); // it arrives
            it.drop();
            it.session.reset();
        }
        world.expect(last.calls == 1, "handle() was told of the request and of nothing else");
    });
}

TEST_CASE("a request that is answered and cancelled completes as both were told") {
    make_ticket_table();
    in_every_order("completion: reply and cancel", 2, 500, [](sim::world &world) {
        int replied = 0;
        int cancelled = 0;
        Outcome last;
        {
            Served it(world, 0);
            it.session->then = [&] { last = it.session->outcome; };
            const CommTicket ticket = it.session->ticket();
            world.sleep(milliseconds(2));
            sync::thread cancelling([&] {
                cancelled = it.comm.cancel(ticket) == 0;
                world.expect(cancelled == 1 || errno == ENOENT, "done or ENOENT");
            });
            replied = it.reply();
            cancelling.join();
        }
        world.expect(replied + cancelled >= 1, "one of them found it");
        world.expect(last.calls == 1 + replied, "handle() once more if reply() returned 0");
        if (replied)
            world.expect(cancelled ? last.is(CS_STATE_ERROR, ECANCELED) : last.is(CS_STATE_SUCCESS, 0),
                         "as cancel() said");
    });
}

TEST_CASE("a request that is cancelled while its peer resets is over with that, whoever was first") {
    make_ticket_table();
    in_every_order("completion: cancel and reset", 2, 100, [](sim::world &world) {
        Outcome last;
        {
            Served it(world, 0);
            it.session->then = [&] { last = it.session->outcome; };
            const CommTicket ticket = it.session->ticket();
            world.sleep(milliseconds(1));
            it.client->reset();
            world.sleep(milliseconds(1)); // it arrives
            world.expect(it.comm.cancel(ticket) == 0 || errno == ENOENT, "done or ENOENT");
            it.session.reset();
        }
        world.expect(last.calls == 1, "handle() was told of the request and of nothing else");
    });
}

TEST_CASE("a request that one thread drops and another cancels is over, and handle() is not told") {
    make_ticket_table();
    in_every_order("completion: shutdown and cancel", 2, 100, [](sim::world &world) {
        int dropped = 0;
        int cancelled = 0;
        Outcome last;
        {
            Served it(world, 0);
            it.session->then = [&] { last = it.session->outcome; };
            const CommTicket ticket = it.session->ticket();
            world.sleep(milliseconds(2));
            sync::thread cancelling([&] {
                cancelled = it.comm.cancel(ticket) == 0;
                world.expect(cancelled == 1 || errno == ENOENT, "done or ENOENT");
            });
            dropped = it.drop();
            cancelling.join();
        }
        world.expect(dropped + cancelled >= 1, "one of them found it");
        world.expect(last.calls == 1, "handle() was told of the request and of nothing else");
    });
}

TEST_CASE(
    "a session that is deleted by a handler thread while its connection is reset is not touched again") {
    in_every_order("completion: destruction and reset", 2, 100, [](sim::world &world) {
        Served it(world, 1);
        bool asked = false;
        it.session->then = [&] {
            world.sleep(milliseconds(1)); // the reset arrives
            asked = true;
            it.session.reset();
        };
        world.sleep(milliseconds(1));
        it.client->reset();
        world.sleep(milliseconds(5));
        world.expect(asked, "it was asked");
    });
}

TEST_CASE("a push from a handler thread to a connection that is reset is refused or completes once") {
    in_every_order("completion: push and reset", 2, 100, [](sim::world &world) {
        struct Push : CommPush {
            using CommPush::CommPush;
            ByteOut out;
            int calls = 0;

        private:
            CommMessageOut *message_out() override { return &out; }
            void handle(int, int) override { calls++; }
        };
        int pushed = -1;
        std::unique_ptr<Push> push;
        {
            Served it(world, 1);
            it.session->then = [&] {
                world.sleep(milliseconds(1)); // the reset arrives
                push = std::make_unique<Push>(it.session.get());
                pushed = it.comm.push(push.get()) == 0;
                world.expect(pushed == 1 || errno == ENOENT, "taken or ENOENT");
            };
            world.sleep(milliseconds(1));
            it.client->reset();
        }
        world.expect(pushed != -1, "it was asked");
        world.expect(push->calls == pushed, "it completes once if it was taken");
    });
}

TEST_CASE(
    "completions that a CommEventHandler runs on threads of its own have all run when deinit() returns") {
    in_every_order("completion: event handler", 2, 100, [](sim::world &world) {
        class Threads : public CommEventHandler {
        public:
            int scheduled = 0;

        private:
            void schedule(void (*routine)(void *), void *context) override {
                sync::lock_guard<sync::mutex> lock(mutex_);
                scheduled++;
                threads_.emplace_back([routine, context] { routine(context); });
            }
            void wait() override {
                for (sync::thread &one : threads_)
                    one.join();
                threads_.clear();
            }

            sync::mutex mutex_;
            std::vector<sync::thread> threads_;
        } threads;
        Communicator comm;
        comm.customize_event_handler(&threads);
        world.expect(comm.init(1, 0) == 0, "init");
        Nap due(milliseconds(10));
        Nap late(milliseconds(3'600'000));
        world.expect(comm.sleep(&due) == 0 && comm.sleep(&late) == 0, "they sleep");
        world.sleep(milliseconds(10));
        comm.deinit();
        world.expect(threads.scheduled == 2, "both by way of the event handler");
        world.expect(due.outcome.calls == 1 && late.outcome.calls == 1, "each once");
        world.expect(late.outcome.is(SS_STATE_DISRUPTED, 0), "the late one is disrupted");
        world.expect(due.outcome.is(SS_STATE_DISRUPTED, 0) || due.outcome.is(SS_STATE_COMPLETE, 0),
                     "the other fires or not");
    });
}
