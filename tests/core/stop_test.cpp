#include <doctest/doctest.h>

#include <fcntl.h>
#include <poll.h>

#include <memory>

#include "peers.h"

using namespace peers;

namespace {

const std::string bulk(16 << 20, 'x'); // more than any socket's buffers take

// Both ways of running completions; the contract is the same.
constexpr size_t both[] = {0, 2};

struct Watcher : CommWatch {
    int state = -1, error = -1, handled = 0;
    bool on_loop = false;
    void handle(int result, int code) override {
        state = result;
        error = code;
        on_loop = CommLoop::current() != nullptr;
        handled++;
    }
};

struct Push : CommPush {
    Line line{"push"};
    int state = -1, error = -1, handled = 0;
    using CommPush::CommPush;
    CommMessageOut *message_out() override { return &line; }
    void handle(int result, int code) override {
        state = result;
        error = code;
        handled++;
    }
};

// Connections to it stay half open: its backlog is full.
class Deaf {
public:
    Deaf() : listener_(Socket::listening(loopback(), 0)) {
        for (int i = 0; i < 8; i++) {
            Socket filler(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
            Address to = listener_.address();
            (void)connect(filler.fd(), to.get(), to.size);
            fillers_.push_back(std::move(filler));
        }
    }
    Address address() const { return listener_.address(); }

private:
    Socket listener_;
    std::vector<Socket> fillers_;
};

} // namespace

TEST_CASE("deinit() ends a request that is connecting with STOPPED") {
    for (size_t handlers : both) {
        Running comm(1, handlers);
        Deaf deaf;
        Target target(deaf.address());
        Ask ask("x");
        REQUIRE(comm.request(&ask, &target) == 0);
        comm.deinit();
        CHECK(ask.is(CS_STATE_STOPPED, 0));
        CHECK(ask.cause == CC_STOP);
        CHECK(ask.started.count() == 0);
        CHECK(target.released == 1);
    }
}

TEST_CASE("deinit() ends a request that is being sent with STOPPED") {
    for (size_t handlers : both) {
        Running comm(1, handlers);
        Socket listener = Socket::listening();
        Target target(listener.address());
        Ask ask(bulk);
        REQUIRE(comm.request(&ask, &target) == 0);
        Socket peer = listener.accepted();
        REQUIRE(ask.started.wait());
        CHECK(peer.receive(1) == "x");
        comm.deinit();
        CHECK(ask.is(CS_STATE_STOPPED, 0));
        CHECK(ask.cause == CC_STOP);
        CHECK(target.released == 1);
    }
}

TEST_CASE("deinit() ends a request that awaits its answer, or has it in part, with STOPPED") {
    for (size_t handlers : both) {
        Running comm(2, handlers);
        Socket listener = Socket::listening();
        Target target(listener.address());
        Ask awaiting("x"), partly("x");
        REQUIRE(comm.request(&awaiting, &target) == 0);
        Socket first = listener.accepted();
        CHECK(first.receive(2) == "x\n");
        REQUIRE(comm.request(&partly, &target) == 0);
        Socket second = listener.accepted();
        CHECK(second.receive(2) == "x\n");
        CHECK(second.send("half a li"));
        comm.deinit();
        CHECK(awaiting.is(CS_STATE_STOPPED, 0));
        CHECK(partly.is(CS_STATE_STOPPED, 0));
        CHECK(target.released == 2);
        CHECK(first.at_end());
        CHECK(second.at_end());
    }
}

TEST_CASE("deinit() ends a service session that is receiving with STOPPED") {
    for (size_t handlers : both) {
        Running comm(2, handlers);
        Lines service;
        std::atomic<int> state{-1}, error{-1}, cause{-1};
        service.on_end = [&](Served &session, int result, int code) {
            state = result;
            error = code;
            cause = session.get_cause();
        };
        service.on_stop = [&](int) { comm.unbind(&service); };
        REQUIRE(service.start(comm) == 0);
        Socket client = Socket::connected(service.address());
        REQUIRE(client.send("half a li"));
        REQUIRE(service.receiving.wait());
        comm.deinit();
        CHECK(service.ended.count() == 1);
        CHECK(state == CS_STATE_STOPPED);
        CHECK(error == 0);
        CHECK(cause == CC_STOP);
        CHECK(service.requests.count() == 0);
        CHECK(service.unbound.count() == 1);
        CHECK(client.at_end());
    }
}

TEST_CASE(
    "deinit() tells a session that awaits its reply nothing, and every call on it is ENOENT from then on") {
    for (size_t handlers : both) {
        Running comm(2, handlers);
        Lines service;
        service.hold = true;
        service.on_stop = [&](int) { comm.unbind(&service); };
        REQUIRE(service.start(comm) == 0);
        Socket client = Socket::connected(service.address());
        REQUIRE(client.send("x\n"));
        Served *session = service.take();
        REQUIRE(session != nullptr);
        Push push(session);
        comm.deinit();
        CHECK(client.at_end());
        CHECK(service.ended.count() == 0);
        CHECK_FALSE(session->peer_there());
        CHECK(session->connection() != nullptr); // pinned
        CHECK(service.alive == 1);
        CHECK(service.unbound.count() == 0);

        auto refused = [](int result, int expected) { return result == -1 && errno == expected; };
        CHECK(refused(comm.reply(session), ENOENT));
        CHECK(refused(comm.shutdown(session), ENOENT));
        CHECK(refused(comm.push("x", 1, session), ENOENT));
        CHECK(refused(comm.push(&push), ESHUTDOWN));
        CHECK(push.handled == 0);
        CHECK(service.ended.count() == 0);

        delete session; // the last that holds the service
        CHECK(service.unbound.count() == 1);
        CHECK(service.alive == 0);
    }
}

TEST_CASE("deinit() ends a reply that is being written with STOPPED") {
    for (size_t handlers : both) {
        Running comm(1, handlers);
        Lines service;
        std::atomic<int> state{-1}, error{-1};
        service.on_request = [&](Served &session) {
            session.out.text = bulk;
            CHECK(comm.reply(&session) == 0);
        };
        service.on_end = [&](Served &, int result, int code) {
            state = result;
            error = code;
        };
        service.on_stop = [&](int) { comm.unbind(&service); };
        REQUIRE(service.start(comm) == 0);
        Socket client = Socket::connected(service.address());
        REQUIRE(client.send("x\n"));
        CHECK(client.receive(1) == "x"); // it has begun
        CHECK(service.ended.count() == 0);
        comm.deinit();
        CHECK(service.ended.count() == 1);
        CHECK(state == CS_STATE_STOPPED);
        CHECK(error == 0);
        CHECK(service.unbound.count() == 1);
    }
}

TEST_CASE("deinit() disrupts timers, those that never fire too") {
    for (size_t handlers : both) {
        Running comm(2, handlers);
        Nap longer(3600s), never(0s);
        never.length = {-1, 0};
        REQUIRE(comm.sleep(&longer) == 0);
        REQUIRE(comm.sleep(&never) == 0);
        comm.deinit();
        CHECK(longer.is(SS_STATE_DISRUPTED, 0));
        CHECK(never.is(SS_STATE_DISRUPTED, 0));
        CHECK(comm.unsleep(&longer) == -1);
        CHECK(errno == ENOENT);
    }
}

TEST_CASE("deinit() stops watches, on their loop") {
    for (size_t handlers : both) {
        Running comm(1, handlers);
        int fd[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
        while (send(fd[0], bulk.data(), 65536, MSG_DONTWAIT) > 0) {
        }
        Watcher reader, writer;
        REQUIRE(run_on(comm.loop(0), [&] {
            CHECK(comm.watch(&reader, fd[0], false) == 0);
            CHECK(comm.watch(&writer, fd[0], true) == 0);
        }));
        comm.deinit();
        for (Watcher *each : {&reader, &writer}) {
            CHECK(each->state == CS_STATE_STOPPED);
            CHECK(each->error == 0);
            CHECK(each->handled == 1);
            CHECK(each->on_loop);
        }
        close(fd[0]);
        close(fd[1]);
    }
}

TEST_CASE("deinit() completes a queued push with STOPPED") {
    Running comm;
    Lines service;
    service.hold = true;
    service.on_stop = [&](int) { comm.unbind(&service); };
    REQUIRE(service.start(comm) == 0);
    Socket client = Socket::connected(service.address());
    REQUIRE(client.send("x\n"));
    Served *session = service.take();
    REQUIRE(session != nullptr);
    Push push(session);
    push.line.text = bulk;
    REQUIRE(comm.push(&push) == 0);
    CHECK(client.receive(1) == "x");
    comm.deinit();
    CHECK(push.handled == 1);
    CHECK(push.state == CS_STATE_STOPPED);
    CHECK(push.error == 0);
    delete session;
    CHECK(service.unbound.count() == 1);
}

TEST_CASE("a submission from inside a callback of the stop is ESHUTDOWN and its handle() never runs") {
    for (size_t handlers : both) {
        Running comm(2, handlers);
        Socket listener = Socket::listening();
        Target target(listener.address());
        Lines other;
        Address at = loopback();
        other.init(at.get(), at.size, -1, -1);
        other.communicator = &comm;
        Ask ask("x"), more("y");
        Nap nap(3600s), nap_more(0ms);
        std::atomic<int> refusals{0};
        auto submit = [&] {
            errno = 0;
            refusals += comm.request(&more, &target) == -1 && errno == ESHUTDOWN;
            errno = 0;
            refusals += comm.sleep(&nap_more) == -1 && errno == ESHUTDOWN;
            errno = 0;
            refusals += comm.bind(&other) == -1 && errno == ESHUTDOWN;
        };
        ask.then = [&](Ask &) { submit(); };
        nap.then = [&](Nap &) { submit(); };
        REQUIRE(comm.request(&ask, &target) == 0);
        REQUIRE(comm.sleep(&nap) == 0);
        Socket peer = listener.accepted();
        REQUIRE(ask.started.wait());
        comm.deinit();
        CHECK(ask.is(CS_STATE_STOPPED, 0));
        CHECK(nap.is(SS_STATE_DISRUPTED, 0));
        CHECK(refusals == 6);
        CHECK(more.handled == 0);
        CHECK(nap_more.handled == 0);
        CHECK(other.unbound.count() == 0);
    }
}

TEST_CASE("a service learns of deinit() once by handle_stop(0), and unbind() inside it is done when deinit() "
          "returns") {
    for (size_t handlers : both) {
        for (size_t loops : {1U, 4U}) {
            Running comm(loops, handlers);
            Lines service;
            service.on_stop = [&](int) { comm.unbind(&service); };
            REQUIRE(service.start(comm) == 0);
            std::vector<Socket> clients;
            for (int i = 0; i < 12; i++) {
                clients.push_back(Socket::connected(service.address()));
                REQUIRE(clients.back().send("x\n"));
                CHECK(clients.back().receive(2) == "x\n");
            }
            comm.deinit();
            CHECK(service.stopped.count() == 1);
            CHECK(service.stop_error == 0);
            CHECK(service.unbound.count() == 1);
            CHECK(service.alive == 0);
            CHECK(service.sessions == 0);
            for (auto &client : clients)
                CHECK(client.at_end());
        }
    }
}

TEST_CASE("unbind() after deinit() has returned completes on the caller's thread") {
    for (size_t handlers : both) {
        Running comm(3, handlers);
        Lines service;
        REQUIRE(service.start(comm) == 0);
        Socket client = Socket::connected(service.address());
        REQUIRE(client.send("x\n"));
        CHECK(client.receive(2) == "x\n");
        comm.deinit();
        CHECK(service.stopped.count() == 1);
        CHECK(service.unbound.count() == 0);
        comm.unbind(&service);
        CHECK(service.unbound.count() == 1);
        comm.unbind(&service); // nothing is bound: nothing happens
        CHECK(service.unbound.count() == 1);
        CHECK(service.alive == 0);
    }
}

TEST_CASE("a service that was unbound before deinit() hears no handle_stop()") {
    Running comm(2, 1);
    Lines service;
    REQUIRE(service.start(comm) == 0);
    REQUIRE(service.finish());
    comm.deinit();
    CHECK(service.stopped.count() == 0);
    CHECK(service.unbound.count() == 1);
}

TEST_CASE("the connection object of a session that outlives its Communicator goes with the session") {
    Lines service;
    Served *session;
    {
        Running comm(2, 1);
        service.hold = true;
        service.on_stop = [&](int) { comm.unbind(&service); };
        REQUIRE(service.start(comm) == 0);
        Socket client = Socket::connected(service.address());
        REQUIRE(client.send("x\n"));
        session = service.take();
        REQUIRE(session != nullptr);
    }
    CHECK(service.alive == 1);
    CHECK(session->connection() != nullptr);
    delete session;
    CHECK(service.alive == 0);
    CHECK(service.unbound.count() == 1);
}

TEST_CASE("a client session and its ticket may be asked anything after deinit()") {
    Running comm;
    Socket listener = Socket::listening();
    Target target(listener.address());
    Ask ask("x");
    CommTicket ticket = ask.ticket();
    REQUIRE(comm.request(&ask, &target) == 0);
    Socket peer = listener.accepted();
    comm.deinit();
    CHECK(ask.is(CS_STATE_STOPPED, 0));
    CHECK(comm.cancel(ticket) == -1);
    CHECK(errno == ENOENT);
    CHECK(comm.push("x", 1, &ask) == -1);
    CHECK(errno == ENOENT);
    CHECK(ask.handled == 1);
}

TEST_CASE("deinit() at any moment of a busy life ends everything exactly once") {
    for (int round = 0; round < 30; round++) {
        Communicator comm;
        REQUIRE(comm.init(1 + static_cast<size_t>(round) % 3, static_cast<size_t>(round) % 2 * 2) == 0);
        Lines service;
        service.on_stop = [&](int) { comm.unbind(&service); };
        REQUIRE(service.start(comm) == 0);
        Target target(service.address());
        // Each asks again as soon as it is answered, until it is refused.
        struct Again : Ask {
            std::atomic<int> submitted{1}, refused{0};
            using Ask::Ask;
        };
        std::vector<std::unique_ptr<Again>> asks;
        Signal going;
        for (int i = 0; i < 8; i++) {
            asks.push_back(std::make_unique<Again>("x"));
            asks.back()->then = [&](Ask &self) {
                auto &again = static_cast<Again &>(self);
                again.in.text.clear();
                if (self.state != CS_STATE_SUCCESS)
                    return;
                if (self.handled == 5)
                    going.set();
                again.submitted++;
                if (comm.request(&again, &target) < 0) {
                    again.submitted--;
                    again.refused += errno == ESHUTDOWN;
                }
            };
            REQUIRE(comm.request(asks.back().get(), &target) == 0);
        }
        std::vector<std::unique_ptr<Nap>> naps;
        for (int i = 0; i < 50; i++) {
            naps.push_back(std::make_unique<Nap>(std::chrono::microseconds(i * 100)));
            REQUIRE(comm.sleep(naps.back().get()) == 0);
        }
        REQUIRE(going.wait(1 + round % 8));
        comm.deinit();
        for (auto &ask : asks) {
            CHECK(ask->handled == ask->submitted);
            CHECK((ask->state == CS_STATE_STOPPED || ask->refused == 1 || ask->error == ECONNRESET));
        }
        for (auto &nap : naps)
            CHECK(nap->handled == 1);
        CHECK(target.released == [&] {
            int all = 0;
            for (auto &ask : asks)
                all += ask->handled;
            return all;
        }());
        CHECK(service.unbound.count() == 1);
        CHECK(service.sessions == 0);
        CHECK(service.alive == 0);
    }
}

TEST_CASE("deinit() ends a reply that waits behind an older request with STOPPED") {
    for (size_t handlers : both) {
        Running comm(1, handlers);
        Lines service;
        service.hold = true;
        service.pipeline = 2;
        std::atomic<int> state{-1}, error{-1};
        service.on_end = [&](Served &, int result, int code) {
            state = result;
            error = code;
        };
        service.on_stop = [&](int) { comm.unbind(&service); };
        REQUIRE(service.start(comm) == 0);
        Socket client = Socket::connected(service.address());
        REQUIRE(client.send("a\nb\n"));
        Served *older = service.take(), *newer = service.take();
        REQUIRE(newer != nullptr);
        if (older->sequence() > newer->sequence()) // with two handler threads either may be first
            std::swap(older, newer);
        CHECK(comm.reply(newer) == 0);
        comm.deinit();
        CHECK(service.ended.count() == 1);
        CHECK(state == CS_STATE_STOPPED);
        CHECK(error == 0);
        CHECK(comm.reply(older) == -1);
        CHECK(errno == ENOENT);
        delete older;
        CHECK(service.unbound.count() == 1);
        CHECK(client.at_end());
    }
}
