#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/resource.h>

#include <array>
#include <memory>

#include "peers.h"

using namespace peers;

namespace {

Socket kept_alive(const Address &at) {
    Socket client = Socket::connected(at);
    if (!client.send("x\n") || client.receive(2) != "x\n")
        client.close();
    return client;
}

bool refuses(const Address &at) {
    return eventually([&] { return !Socket::connected(at); });
}

} // namespace

TEST_CASE(
    "unbind() closes idle and silent connections at once, and then handle_unbound() comes, once and last") {
    for (size_t handlers : {0U, 2U}) {
        for (size_t loops : {1U, 4U}) {
            Running comm(loops, handlers);
            Lines service;
            std::atomic<int> alive{-1}, sessions{-1};
            service.on_unbound = [&] {
                alive = service.alive.load();
                sessions = service.sessions.load();
            };
            REQUIRE(service.start(comm) == 0); // no timeout would ever close them
            std::vector<Socket> clients;
            for (int i = 0; i < 8; i++) {
                clients.push_back(kept_alive(service.address()));
                clients.push_back(Socket::connected(service.address()));
            }
            REQUIRE(service.connected.wait(16));
            Address at = service.address();
            comm.unbind(&service);
            for (auto &client : clients)
                CHECK(client.at_end());
            REQUIRE(service.unbound.wait());
            CHECK(alive == 0);
            CHECK(sessions == 0);
            CHECK(refuses(at));
            comm.deinit();
            CHECK(service.unbound.count() == 1);
            CHECK(service.stopped.count() == 0);
        }
    }
}

TEST_CASE("unbind() lets a request that awaits its reply finish, and closes after the reply") {
    for (size_t handlers : {0U, 2U}) {
        Running comm(2, handlers);
        Lines service;
        service.hold = true;
        REQUIRE(service.start(comm) == 0);
        Socket client = Socket::connected(service.address());
        REQUIRE(client.send("x\n"));
        Served *session = service.take();
        REQUIRE(session != nullptr);
        comm.unbind(&service);
        CHECK(refuses(service.address()));
        CHECK(service.unbound.count() == 0);
        session->out.text = "answer";
        REQUIRE(comm.reply(session) == 0);
        CHECK(client.rest() == "answer\n");
        REQUIRE(service.unbound.wait());
    }
}

TEST_CASE("unbind() lets a message that came in part be completed and answered") {
    Running comm(2);
    Lines service;
    REQUIRE(service.start(comm) == 0);
    Socket client = Socket::connected(service.address());
    REQUIRE(client.send("half"));
    REQUIRE(service.receiving.wait());
    comm.unbind(&service);
    CHECK(refuses(service.address()));
    REQUIRE(client.send(" line\n"));
    CHECK(client.rest() == "half line\n");
    REQUIRE(service.unbound.wait());
}

TEST_CASE("unbind() lets a reply that is being written reach its end") {
    Running comm(1);
    Lines service;
    const std::string bulk(8 << 20, 'y');
    service.on_request = [&](Served &session) {
        session.out.text = bulk;
        comm.reply(&session);
    };
    REQUIRE(service.start(comm) == 0);
    Socket client = Socket::connected(service.address());
    REQUIRE(client.send("x\n"));
    CHECK(client.receive(1) == "y");
    comm.unbind(&service);
    std::string rest = client.rest();
    CHECK(rest.size() == bulk.size());
    REQUIRE(service.unbound.wait());
}

TEST_CASE("unbind() answers every pipelined request that was taken, and takes no more") {
    Running comm(1);
    Lines service;
    service.hold = true;
    service.pipeline = 4;
    REQUIRE(service.start(comm) == 0);
    Socket client = Socket::connected(service.address());
    REQUIRE(client.send("a\nb\nc\n"));
    std::vector<Served *> sessions;
    for (int i = 0; i < 3; i++) {
        sessions.push_back(service.take());
        REQUIRE(sessions.back() != nullptr);
    }
    comm.unbind(&service);
    CHECK(refuses(service.address()));
    REQUIRE(run_on(comm.loop(0), [] {}));
    REQUIRE(client.send("d\n")); // too late
    REQUIRE(run_on(comm.loop(0), [] {}));
    for (size_t i : {0U, 2U, 1U}) {
        sessions[i]->out.text = "re " + sessions[i]->in.text;
        REQUIRE(comm.reply(sessions[i]) == 0);
    }
    CHECK(client.receive(15) == "re a\nre b\nre c\n");
    CHECK(client.at_end());
    REQUIRE(service.unbound.wait());
    CHECK(service.requests.count() == 3);
}

TEST_CASE(
    "unbind() with a deadline closes what is still busy then: receiving, awaiting a reply, writing one") {
    for (size_t handlers : {0U, 2U}) {
        Running comm(2, handlers);
        Lines service;
        service.hold = true;
        std::atomic<int> stopped{0};
        service.on_end = [&](Served &, int state, int error) {
            stopped += state == CS_STATE_STOPPED && error == 0;
        };
        REQUIRE(service.start(comm) == 0);
        Socket partly = Socket::connected(service.address());
        REQUIRE(partly.send("half"));
        Socket awaiting = Socket::connected(service.address());
        REQUIRE(awaiting.send("a\n"));
        Served *session = service.take();
        REQUIRE(session != nullptr);
        Socket reading = Socket::connected(service.address());
        REQUIRE(reading.send("b\n"));
        Served *writing = service.take();
        REQUIRE(writing != nullptr);
        writing->out.text.assign(16 << 20, 'y');
        REQUIRE(comm.reply(writing) == 0);
        CHECK(reading.receive(1) == "y");
        REQUIRE(service.receiving.wait(3));

        auto begin = std::chrono::steady_clock::now();
        comm.unbind(&service, 40);
        CHECK(partly.at_end());
        CHECK(std::chrono::steady_clock::now() - begin >= 40ms);
        CHECK(awaiting.at_end());
        REQUIRE(service.ended.wait(2));
        CHECK(stopped == 2);
        CHECK(eventually([&] { return !session->peer_there(); }));
        CHECK(comm.reply(session) == -1);
        CHECK(errno == ENOENT);
        CHECK(service.unbound.count() == 0); // the session holds it
        delete session;
        REQUIRE(service.unbound.wait());
    }
}

TEST_CASE("a deadline of 0 closes busy connections at once") {
    Running comm(1);
    Lines service;
    REQUIRE(service.start(comm) == 0);
    Socket client = Socket::connected(service.address());
    REQUIRE(client.send("half"));
    REQUIRE(service.receiving.wait());
    comm.unbind(&service, 0);
    CHECK(client.at_end());
    REQUIRE(service.unbound.wait());
    CHECK(service.ended.count() == 1);
}

TEST_CASE("when all is done before its deadline, unbind() does not wait for it") {
    Running comm(2);
    Lines service;
    REQUIRE(service.start(comm) == 0);
    Socket idle = kept_alive(service.address());
    Socket busy = Socket::connected(service.address());
    REQUIRE(busy.send("half"));
    REQUIRE(service.receiving.wait(2));
    comm.unbind(&service, 3600 * 1000);
    CHECK(idle.at_end());
    REQUIRE(busy.send("\n"));
    CHECK(busy.rest() == "half\n");
    REQUIRE(service.unbound.wait());
}

TEST_CASE("a session that is never deleted keeps its service bound until it is") {
    for (size_t handlers : {0U, 2U}) {
        Running comm(2, handlers);
        Lines service;
        service.hold = true;
        REQUIRE(service.start(comm) == 0);
        Socket client = Socket::connected(service.address());
        REQUIRE(client.send("x\n"));
        Served *session = service.take();
        REQUIRE(session != nullptr);
        comm.unbind(&service);
        client.close();
        for (size_t i = 0; i < 2; i++)
            REQUIRE(run_on(comm.loop(i), [] {}));
        CHECK(service.unbound.count() == 0);
        delete session;
        REQUIRE(service.unbound.wait());
        CHECK(service.alive == 0);
    }
}

TEST_CASE("a session that was answered but not deleted holds its service too") {
    Running comm(1);
    Lines service;
    Served *kept = nullptr;
    service.on_request = [&](Served &session) {
        session.kept = true;
        kept = &session;
        session.out.text = "answer";
        comm.reply(&session);
    };
    REQUIRE(service.start(comm) == 0);
    Socket client = Socket::connected(service.address());
    REQUIRE(client.send("x\n"));
    CHECK(client.receive(7) == "answer\n");
    REQUIRE(service.ended.wait());
    comm.unbind(&service);
    CHECK(client.at_end());
    REQUIRE(run_on(comm.loop(0), [] {}));
    CHECK(service.unbound.count() == 0);
    delete kept;
    REQUIRE(service.unbound.wait());
}

TEST_CASE("unbind() from inside a callback of the service itself") {
    for (int where = 0; where < 3; where++) {
        for (size_t handlers : {0U, 2U}) {
            Running comm(2, handlers);
            Lines service;
            if (where == 0)
                service.on_connection = [&](int) {
                    comm.unbind(&service);
                    return new Lines::Connection(service);
                };
            else if (where == 1)
                service.on_connection = [&](int) -> CommConnection * {
                    comm.unbind(&service);
                    return nullptr;
                };
            else
                service.on_request = [&](Served &session) {
                    comm.unbind(&service);
                    session.out.text = session.in.text;
                    comm.reply(&session);
                };
            REQUIRE(service.start(comm) == 0);
            Socket client = Socket::connected(service.address());
            (void)client.send("x\n");
            if (where == 2)
                CHECK(client.rest() == "x\n");
            else
                CHECK(client.at_end());
            REQUIRE(service.unbound.wait());
        }
    }
}

TEST_CASE("unbind() on a loop that has not yet heard of the bind()") {
    for (int round = 0; round < 20; round++) {
        Running comm(1);
        Lines service, other;
        // A request and a second one are both readable when the loop wakes: the first unbinds, and what that
        // posts runs before the mailbox, where bind()'s news still is.
        other.on_request = [&](Served &session) {
            if (session.in.text == "unbind")
                comm.unbind(&service);
            session.out.text = "done";
            comm.reply(&session);
        };
        REQUIRE(other.start(comm) == 0);
        Socket one = Socket::connected(other.address()), two = Socket::connected(other.address());
        REQUIRE(other.connected.wait(2));
        Signal entered, bound;
        Job block([&] {
            entered.set();
            CHECK(bound.wait());
        });
        REQUIRE(comm.loop(0)->post(&block) == 0);
        REQUIRE(entered.wait());
        REQUIRE(service.start(comm) == 0);
        REQUIRE(one.send("unbind\n"));
        REQUIRE(two.send("later\n"));
        bound.set();
        CHECK(one.receive(5) == "done\n");
        CHECK(two.receive(5) == "done\n");
        REQUIRE(service.unbound.wait());
        REQUIRE(block.done.wait());
        REQUIRE(other.finish());
    }
}

TEST_CASE("a connection that arrives while unbind() is under way is closed, never served") {
    for (int round = 0; round < 20; round++) {
        Running comm(4);
        Lines service;
        REQUIRE(service.start(comm) == 0);
        Address at = service.address();
        std::atomic<bool> over{false};
        std::thread storm([&] {
            while (!over) {
                Socket client = Socket::connected(at);
                if (client && client.send("x\n"))
                    (void)client.receive(2);
            }
        });
        REQUIRE(service.requests.wait(5));
        REQUIRE(service.finish());
        int served = service.requests.count();
        CHECK(service.alive == 0);
        CHECK(service.sessions == 0);
        over = true;
        storm.join();
        CHECK(service.requests.count() == served);
    }
}

TEST_CASE("unbind() with five thousand idle connections is done at once, from another thread and on one loop "
          "or more") {
    struct rlimit before, wanted;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
    wanted = before;
    wanted.rlim_cur = before.rlim_max;
    setrlimit(RLIMIT_NOFILE, &wanted);
    size_t count = std::min<size_t>(5000, (wanted.rlim_cur - 200) / 2);
    size_t descriptors = open_descriptors();
    for (size_t loops : {1U, 2U}) {
        Running comm(loops, loops - 1);
        Lines service;
        REQUIRE(service.start(comm) == 0);
        Address at = service.address();
        std::vector<Socket> clients;
        for (size_t i = 0; i < count; i++) {
            clients.push_back(Socket::connected(at));
            REQUIRE(clients.back());
            if (i % 2 == 0) { // the others stay silent
                REQUIRE(clients.back().send("x\n"));
                REQUIRE(clients.back().receive(2) == "x\n");
            }
        }
        REQUIRE(service.connected.wait(static_cast<int>(count)));
        REQUIRE(service.finish());
        CHECK(service.alive == 0);
        size_t ended = 0;
        for (auto &client : clients)
            ended += client.at_end();
        CHECK(ended == count);
    }
    CHECK(eventually([&] { return open_descriptors() <= descriptors + 8; }));
    setrlimit(RLIMIT_NOFILE, &before);
}

TEST_CASE(
    "the last session of a service, deleted on another thread, may be the end of its Communicator too") {
    for (int round = 0; round < 60; round++) {
        auto comm = std::make_unique<Running>(1, static_cast<size_t>(round) % 3);
        Lines service;
        service.hold = true;
        REQUIRE(service.start(*comm) == 0);
        Socket client = Socket::connected(service.address());
        REQUIRE(client.send("x\n"));
        Served *session = service.take();
        REQUIRE(session != nullptr);
        comm->unbind(&service);
        std::thread last([&] { delete session; });
        REQUIRE(service.unbound.wait());
        comm.reset(); // while the other may still be on its way out of the destructor
        last.join();
        CHECK(service.unbound.count() == 1);
    }
}
