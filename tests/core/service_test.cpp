#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <memory>

#include "peers.h"

using namespace peers;

namespace {

// After this every loop has returned from the callbacks that were under way.
void settle(Communicator &comm) {
    for (size_t i = 0; i < comm.loops(); i++)
        REQUIRE(run_on(comm.loop(i), [] {}));
}

// A client that has been answered once and is kept alive.
Socket kept_alive(const Address &at) {
    Socket client = Socket::connected(at);
    if (!client.send("x\n") || client.receive(2) != "x\n")
        client.close();
    return client;
}

} // namespace

TEST_CASE("new_connection() that returns nullptr drops that connection, and the listener goes on") {
    for (size_t loops : {1U, 4U}) {
        Running comm(loops);
        Lines service;
        std::atomic<int> calls{0};
        service.on_connection = [&](int) -> CommConnection * {
            if (calls++ % 2 == 0) {
                errno = EMFILE;
                return nullptr;
            }
            return new Lines::Connection(service);
        };
        REQUIRE(service.start(comm) == 0);
        for (int i = 0; i < 10; i++) {
            Socket dropped = Socket::connected(service.address());
            REQUIRE(dropped);
            CHECK(dropped.at_end());
            Socket taken = Socket::connected(service.address());
            REQUIRE(taken.send("x\n"));
            CHECK(taken.receive(2) == "x\n");
        }
        CHECK(service.stopped.count() == 0);
        REQUIRE(service.finish());
        CHECK(service.alive == 0);
    }
}

TEST_CASE("new_connection() is given a socket that may be written to before anything is read") {
    Running comm;
    Lines service;
    service.on_connection = [&](int fd) {
        CHECK(write(fd, "greetings\n", 10) == 10);
        return new Lines::Connection(service);
    };
    REQUIRE(service.start(comm) == 0);
    Socket client = Socket::connected(service.address());
    CHECK(client.receive(10) == "greetings\n");
    REQUIRE(client.send("x\n"));
    CHECK(client.receive(2) == "x\n");
    REQUIRE(service.finish());
}

TEST_CASE("new_session() that returns nullptr on a new connection closes it and nothing else") {
    Running comm(2);
    Lines service;
    std::atomic<bool> refuse{true};
    service.on_session = [&](long long) -> CommSession * {
        errno = ENOMEM;
        return refuse ? nullptr : new Served(service);
    };
    REQUIRE(service.start(comm) == 0);
    Socket refused = Socket::connected(service.address());
    REQUIRE(refused.send("x\n"));
    CHECK(refused.at_end());
    refuse = false;
    Socket client = kept_alive(service.address());
    CHECK(client);
    CHECK(service.ended.count() <= 1); // the second one's alone
    REQUIRE(service.finish());
    CHECK(service.alive == 0);
}

TEST_CASE("new_session() that returns nullptr on a kept-alive connection closes that one and leaves its "
          "neighbours") {
    for (size_t loops : {1U, 2U}) {
        Running comm(loops);
        Lines service;
        service.on_session = [&](long long seq) -> CommSession * {
            return seq == 1 ? nullptr : new Served(service);
        };
        REQUIRE(service.start(comm) == 0);
        std::vector<Socket> clients;
        for (int i = 0; i < 6; i++)
            clients.push_back(kept_alive(service.address()));
        // Middle, first and last of the keep-alive list.
        for (size_t i : {2U, 0U, 5U}) {
            REQUIRE(clients[i].send("x\n"));
            CHECK(clients[i].at_end());
        }
        CHECK(eventually([&] { return service.alive == 3; }));
        settle(comm);
        CHECK(service.drain(-1) == 3);
        for (size_t i : {1U, 3U, 4U})
            CHECK(clients[i].at_end());
        REQUIRE(service.finish());
        CHECK(service.alive == 0);
    }
}

TEST_CASE("drain(n) closes the n connections that have been idle longest and tells how many") {
    Running comm(1);
    Lines service;
    REQUIRE(service.start(comm) == 0);
    std::vector<Socket> clients;
    for (int i = 0; i < 6; i++)
        clients.push_back(kept_alive(service.address()));
    // The first is used again: now it is the most recent.
    REQUIRE(clients[0].send("y\n"));
    CHECK(clients[0].receive(2) == "y\n");
    settle(comm); // a reply is read before its connection is listed
    CHECK(service.drain(0) == 0);
    CHECK(service.drain(2) == 2);
    CHECK(clients[1].at_end());
    CHECK(clients[2].at_end());
    for (size_t i : {0U, 3U, 4U, 5U}) {
        REQUIRE(clients[i].send("z\n"));
        CHECK(clients[i].receive(2) == "z\n");
    }
    settle(comm);
    CHECK(service.drain(100) == 4);
    for (size_t i : {0U, 3U, 4U, 5U})
        CHECK(clients[i].at_end());
    CHECK(service.drain(-1) == 0);
    REQUIRE(service.finish());
}

TEST_CASE("drain() counts over all loops and never promises a connection twice") {
    Running comm(4);
    Lines service;
    REQUIRE(service.start(comm) == 0);
    std::vector<Socket> clients;
    for (int i = 0; i < 40; i++)
        clients.push_back(kept_alive(service.address()));
    settle(comm);
    std::atomic<int> promised{0};
    std::vector<std::thread> drainers;
    for (int t = 0; t < 4; t++)
        drainers.emplace_back([&] {
            for (int i = 0; i < 5; i++)
                promised += service.drain(1);
        });
    for (auto &drainer : drainers)
        drainer.join();
    CHECK(promised == 20);
    CHECK(eventually([&] { return service.alive == 20; }));
    CHECK(service.drain(-1) == 20);
    CHECK(eventually([&] { return service.alive == 0; }));
    REQUIRE(service.finish());
}

TEST_CASE("drain() leaves silent and busy connections alone") {
    Running comm(1);
    Lines service;
    service.hold = true;
    REQUIRE(service.start(comm) == 0);
    Socket silent = Socket::connected(service.address());
    Socket partly = Socket::connected(service.address());
    Socket busy = Socket::connected(service.address());
    REQUIRE(partly.send("half"));
    REQUIRE(busy.send("x\n"));
    Served *session = service.take();
    REQUIRE(session != nullptr);
    REQUIRE(service.receiving.wait(2));
    CHECK(service.drain(-1) == 0);
    session->out.text = "answer";
    REQUIRE(comm.reply(session) == 0);
    CHECK(busy.receive(7) == "answer\n");
    CHECK(service.alive == 3);
    REQUIRE(partly.send(" line\n"));
    session = service.take();
    REQUIRE(session != nullptr);
    CHECK(session->in.text == "half line");
    delete session;
    CHECK(partly.at_end());
    REQUIRE(service.finish());
}

TEST_CASE("drain() from new_connection() makes room for the newcomer, as servers with a limit do it") {
    Running comm(1);
    Lines service;
    std::atomic<int> drained{0};
    service.on_connection = [&](int) -> CommConnection * {
        if (service.alive >= 4)
            drained += service.drain(1);
        return new Lines::Connection(service);
    };
    REQUIRE(service.start(comm) == 0);
    std::vector<Socket> clients;
    for (int i = 0; i < 12; i++)
        clients.push_back(kept_alive(service.address()));
    for (size_t i = 0; i < 8; i++)
        CHECK(clients[i].at_end());
    CHECK(drained == 8);
    CHECK(eventually([&] { return service.alive == 4; }));
    REQUIRE(service.finish());
}

TEST_CASE("drain() of a service that is not bound is 0") {
    Lines service;
    CHECK(service.drain(-1) == 0);
    Running comm;
    REQUIRE(service.start(comm) == 0);
    REQUIRE(service.finish());
    CHECK(service.drain(-1) == 0);
}

TEST_CASE("a drained connection that the client uses in the same moment is answered or closed, never half "
          "answered") {
    Running comm(2);
    Lines service;
    REQUIRE(service.start(comm) == 0);
    int answered = 0, closed = 0;
    for (int i = 0; i < 300; i++) {
        Socket client = kept_alive(service.address());
        std::thread drainer([&] { service.drain(-1); });
        bool sent = client.send("again\n");
        drainer.join();
        std::string got = sent ? client.receive(6) : "";
        answered += got == "again\n";
        closed += got.empty();
    }
    CHECK(answered + closed == 300);
    REQUIRE(service.finish());
    CHECK(service.alive == 0);
    CHECK(service.sessions == 0);
}

TEST_CASE("incref() keeps a service from becoming unbound until decref()") {
    for (size_t handlers : {0U, 1U}) {
        Running comm(2, handlers);
        Lines service;
        REQUIRE(service.start(comm) == 0);
        service.incref();
        Socket client = kept_alive(service.address());
        comm.unbind(&service);
        CHECK(client.at_end());
        CHECK(eventually([&] { return service.alive == 0; }));
        settle(comm);
        CHECK(service.unbound.count() == 0);
        service.decref();
        REQUIRE(service.unbound.wait());
        CHECK(service.unbound.count() == 1);
    }
}

TEST_CASE("incref() counts from before bind(), and without a bind() it harms nobody") {
    Running comm(2);
    Lines service;
    service.incref();
    service.decref();
    service.incref();
    REQUIRE(service.start(comm) == 0);
    comm.unbind(&service);
    settle(comm);
    CHECK(service.unbound.count() == 0);
    service.decref();
    REQUIRE(service.unbound.wait());
}

TEST_CASE("a connection object is destroyed before its descriptor is closed when no session holds it") {
    Running comm;
    Lines service;
    struct Watching : CommConnection {
        int fd;
        std::atomic<int> *open;
        Signal *gone;
        ~Watching() override {
            *open += fcntl(fd, F_GETFD) >= 0;
            gone->set();
        }
    };
    std::atomic<int> open{0};
    service.on_connection = [&](int fd) {
        auto *made = new Watching;
        made->fd = fd;
        made->open = &open;
        made->gone = &service.gone;
        return made;
    };
    REQUIRE(service.start(comm) == 0);
    {
        Socket silent = Socket::connected(service.address());
        REQUIRE(service.connected.wait());
    }
    REQUIRE(service.gone.wait());
    CHECK(open == 1);
    {
        Socket used = kept_alive(service.address());
    }
    REQUIRE(service.gone.wait(2));
    CHECK(open == 2);
    REQUIRE(service.finish());
}

TEST_CASE("a session pins its connection object beyond the connection") {
    for (size_t handlers : {0U, 2U}) {
        Running comm(1, handlers);
        Lines service;
        service.hold = true;
        REQUIRE(service.start(comm) == 0);
        Socket client = Socket::connected(service.address());
        REQUIRE(client.send("x\n"));
        Served *session = service.take();
        REQUIRE(session != nullptr);
        CommConnection *connection = session->connection();
        client.reset();
        CHECK(eventually([&] { return !session->peer_there(); }));
        CHECK(service.alive == 1);
        CHECK(session->connection() == connection);
        CHECK(comm.reply(session) == -1);
        CHECK(errno == ENOENT);
        delete session;
        REQUIRE(service.gone.wait());
        CHECK(service.alive == 0);
        REQUIRE(service.finish());
    }
}

TEST_CASE("sequence numbers count the turns of a connection from 0, in new_session() and in the session") {
    Running comm;
    Lines service;
    std::vector<long long> given, seen;
    service.on_session = [&](long long seq) {
        given.push_back(seq);
        return new Served(service);
    };
    service.on_request = [&](Served &session) {
        seen.push_back(session.sequence());
        session.out.text = session.in.text;
        comm.reply(&session);
    };
    REQUIRE(service.start(comm) == 0);
    for (int n = 0; n < 2; n++) {
        Socket client = Socket::connected(service.address());
        for (int i = 0; i < 3; i++) {
            REQUIRE(client.send("x\n"));
            CHECK(client.receive(2) == "x\n");
        }
    }
    REQUIRE(service.finish());
    CHECK(given == std::vector<long long>{0, 1, 2, 0, 1, 2});
    CHECK(seen == given);
}

TEST_CASE("a loop that is given work first by one service serves another as well") {
    Running comm(2);
    std::vector<std::unique_ptr<Lines>> services;
    for (int i = 0; i < 10; i++) {
        services.push_back(std::make_unique<Lines>());
        REQUIRE(services.back()->start(comm) == 0);
    }
    for (auto &service : services)
        CHECK(kept_alive(service->address()));
    for (auto &service : services)
        REQUIRE(service->finish());
}

TEST_CASE("response_timeout closes a connection that never says anything, silently") {
    Running comm(2);
    Lines service;
    REQUIRE(service.start(comm, loopback(), 30) == 0);
    auto begin = std::chrono::steady_clock::now();
    Socket silent = Socket::connected(service.address());
    CHECK(silent.at_end());
    CHECK(std::chrono::steady_clock::now() - begin >= 30ms);
    CHECK(service.sessions == 0);
    CHECK(service.ended.count() == 0);
    CHECK(service.stopped.count() == 0);
    REQUIRE(service.finish());
}

TEST_CASE("drain(), pausing and a second unbind() may come while the service becomes unbound") {
    for (size_t handlers : {0u, 1u}) {
        Running comm(2, handlers);
        for (int round = 0; round < 20; round++) {
            Lines service;
            REQUIRE(service.start(comm) == 0);
            Socket client = kept_alive(service.address());
            Signal begun;
            std::atomic<bool> over{false};
            std::thread meddler([&] {
                while (!over) {
                    service.drain(-1);
                    service.pause_accept();
                    service.resume_accept();
                    if (begun.count() > 0)
                        comm.unbind(&service);
                    begun.set();
                }
            });
            REQUIRE(begun.wait());
            REQUIRE(service.finish());
            over = true;
            meddler.join();
            CHECK(service.drain(-1) == 0);
            CHECK(service.unbound.count() == 1);
            CHECK(service.alive == 0);
        }
    }
}

TEST_CASE(
    "drain(-1) of two thousand connections returns while their loop is busy, and then they are closed") {
    struct rlimit before, wanted;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
    wanted = before;
    wanted.rlim_cur = before.rlim_max;
    setrlimit(RLIMIT_NOFILE, &wanted);
    size_t count = std::min<size_t>(2000, (wanted.rlim_cur - 200) / 2);
    {
        Running comm(1);
        Lines service;
        REQUIRE(service.start(comm) == 0);
        std::vector<Socket> clients;
        for (size_t i = 0; i < count; i++)
            clients.push_back(kept_alive(service.address()));
        settle(comm);
        Signal entered, drained;
        Job busy([&] {
            entered.set();
            CHECK(drained.wait());
        });
        REQUIRE(comm.loop(0)->post(&busy) == 0);
        REQUIRE(entered.wait());
        CHECK(service.drain(-1) == static_cast<int>(count));
        CHECK(service.alive == static_cast<int>(count)); // it has had no chance yet
        drained.set();
        size_t ended = 0;
        for (auto &client : clients)
            ended += client.at_end();
        CHECK(ended == count);
        REQUIRE(busy.done.wait());
        REQUIRE(service.finish());
        CHECK(service.alive == 0);
    }
    setrlimit(RLIMIT_NOFILE, &before);
}
