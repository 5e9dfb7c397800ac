#include <doctest/doctest.h>

#include <fcntl.h>
#include <stdlib.h>

#include <memory>

#include "peers.h"

using namespace peers;

namespace {

// A datagram is one message; "bad" is none, and one that begins with "more" is incomplete.
class Packet : public CommMessageIn, public CommMessageOut {
public:
    std::string bytes;
    int appended = 0;
    int fed = 0; // what feedback() returned
    std::string feed;

private:
    int encode(struct iovec vectors[], int) override {
        vectors[0] = {bytes.data(), bytes.size()};
        return 1;
    }
    int append(const void *buf, size_t *size) override {
        appended++;
        bytes.append(static_cast<const char *>(buf), *size);
        if (bytes == "bad") {
            errno = EILSEQ;
            return -1;
        }
        if (!feed.empty())
            fed = feedback(feed.data(), feed.size());
        return bytes.starts_with("more") ? 0 : 1;
    }
};

class Datagrams;

class Exchange : public CommSession {
public:
    Datagrams &service;
    Packet in, out;

    explicit Exchange(Datagrams &owner);
    ~Exchange() override;
    bool peer_there() const { return get_target()->has_idle_conn() != 0; }
    long long sequence() const { return get_seq(); }

private:
    CommMessageOut *message_out() override { return &out; }
    CommMessageIn *message_in() override { return &in; }
    void handle(int state, int error) override;
};

class Datagrams : public CommService {
public:
    Communicator &comm;
    std::atomic<int> connections{0}, sessions{0}, served{0};
    std::atomic<int> state{-1}, error{-1}; // the last end
    Signal requests, ended, unbound, stopped;
    std::function<CommConnection *(int)> on_connection;
    std::function<CommSession *()> on_session;
    std::function<void(Exchange &)> on_request; // default: echo

    struct Connection : CommConnection {
        Datagrams &service;
        explicit Connection(Datagrams &owner) : service(owner) { service.connections++; }
        ~Connection() override { service.connections--; }
    };

    explicit Datagrams(Communicator &communicator) : comm(communicator) {}
    int start(const Address &at = loopback()) {
        return init(at.get(), at.size, -1, -1) < 0 ? -1 : comm.bind(this);
    }
    [[nodiscard]] bool finish() {
        comm.unbind(this);
        return unbound.wait();
    }
    Address address() const { return local_address(*this); }

private:
    CommSession *new_session(long long, CommConnection *) override {
        return on_session ? on_session() : new Exchange(*this);
    }
    CommConnection *new_connection(int fd) override {
        return on_connection ? on_connection(fd) : new Connection(*this);
    }
    int create_listen_fd() override {
        const struct sockaddr *at;
        socklen_t size;
        get_addr(&at, &size);
        int fd = parley::sys::socket(at->sa_family, SOCK_DGRAM, 0), large = 4 << 20;
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof large);
        return fd;
    }
    void handle_stop(int) override { stopped.set(); }
    void handle_unbound() override { unbound.set(); }
};

Exchange::Exchange(Datagrams &owner) : service(owner) {
    service.sessions++;
}
Exchange::~Exchange() {
    service.sessions--;
}
void Exchange::handle(int state, int error) {
    if (state == CS_STATE_TOREPLY) {
        service.requests.set();
        if (service.on_request)
            return service.on_request(*this);
        service.served++;
        out.bytes = in.bytes;
        if (service.comm.reply(this) < 0)
            delete this;
        return;
    }
    service.state = state;
    service.error = error;
    service.ended.set();
    delete this;
}

Socket socket_to(const Address &to) {
    Socket client = Socket::connected(to, SOCK_DGRAM);
    REQUIRE(client);
    return client;
}

// One datagram, or "(none)" after the guard.
std::string receive(const Socket &client) {
    char buffer[65536];
    ssize_t n = recv(client.fd(), buffer, sizeof buffer, 0);
    return n < 0 ? "(none)" : std::string(buffer, static_cast<size_t>(n));
}

constexpr size_t both[] = {0, 2};

} // namespace

TEST_CASE("a datagram service answers each datagram to where it came from, IPv4 and IPv6") {
    for (size_t handlers : both) {
        for (const Address &at : {loopback(), loopback6()}) {
            Running comm(2, handlers);
            Datagrams service(comm);
            REQUIRE(service.start(at) == 0);
            Socket one = socket_to(service.address()), two = socket_to(service.address());
            for (int i = 0; i < 20; i++) {
                REQUIRE(one.send("one " + std::to_string(i)));
                REQUIRE(two.send("two " + std::to_string(i)));
                CHECK(receive(one) == "one " + std::to_string(i));
                CHECK(receive(two) == "two " + std::to_string(i));
            }
            REQUIRE(service.finish());
            CHECK(service.connections == 0);
            CHECK(service.sessions == 0);
        }
    }
}

TEST_CASE("a unix datagram service answers whoever has a name, and fails the reply to who has none") {
    Running comm(1);
    Datagrams service(comm);
    std::string name = "@parley-dgram-" + std::to_string(getpid());
    REQUIRE(service.start(unix_path(name)) == 0);
    Socket named(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    Address own = unix_path(name + "-client"), to = unix_path(name);
    REQUIRE(bind(named.fd(), own.get(), own.size) == 0);
    REQUIRE(connect(named.fd(), to.get(), to.size) == 0);
    REQUIRE(named.send("hello"));
    CHECK(receive(named) == "hello");
    Socket nameless = socket_to(to);
    REQUIRE(nameless.send("hello"));
    REQUIRE(service.requests.wait(2));
    REQUIRE(named.send("again"));
    CHECK(receive(named) == "again");
    REQUIRE(service.finish());
    CHECK(service.sessions == 0);
}

TEST_CASE("each datagram is a turn of its own: sequence 0, a connection object, one session") {
    Running comm(1);
    Datagrams service(comm);
    std::atomic<int> made{0};
    std::atomic<long long> highest{0};
    service.on_connection = [&](int fd) {
        made++;
        CHECK(fcntl(fd, F_GETFD) >= 0);
        return new Datagrams::Connection(service);
    };
    service.on_request = [&](Exchange &session) {
        highest = std::max(highest.load(), session.sequence());
        CHECK(session.peer_there());
        session.out.bytes = session.in.bytes;
        CHECK(comm.reply(&session) == 0);
    };
    REQUIRE(service.start() == 0);
    Socket client = socket_to(service.address());
    for (int i = 0; i < 5; i++) {
        REQUIRE(client.send("x"));
        CHECK(receive(client) == "x");
    }
    CHECK(made == 5);
    CHECK(highest == 0);
    REQUIRE(service.finish());
}

TEST_CASE("a datagram of no bytes is a message if the parser says so") {
    Running comm(1);
    Datagrams service(comm);
    REQUIRE(service.start() == 0);
    Socket client = socket_to(service.address());
    REQUIRE(send(client.fd(), "", 0, 0) == 0);
    CHECK(receive(client) == "");
    REQUIRE(client.send("x"));
    CHECK(receive(client) == "x");
    REQUIRE(service.finish());
}

TEST_CASE("the largest datagrams pass whole") {
    Running comm(1);
    Datagrams service(comm);
    REQUIRE(service.start() == 0);
    Socket client = socket_to(service.address());
    const std::string large(65507, 'x');
    REQUIRE(client.send(large));
    CHECK(receive(client) == large);
    REQUIRE(service.finish());
}

TEST_CASE("a bad datagram ends its session with the parser's errno, an incomplete one with EBADMSG; the "
          "service lives") {
    for (size_t handlers : both) {
        Running comm(1, handlers);
        Datagrams service(comm);
        REQUIRE(service.start() == 0);
        Socket client = socket_to(service.address());
        REQUIRE(client.send("bad"));
        REQUIRE(service.ended.wait());
        CHECK(service.state == CS_STATE_ERROR);
        CHECK(service.error == EILSEQ);
        REQUIRE(client.send("more to come"));
        REQUIRE(service.ended.wait(2));
        CHECK(service.state == CS_STATE_ERROR);
        CHECK(service.error == EBADMSG);
        REQUIRE(client.send("good"));
        CHECK(receive(client) == "good");
        CHECK(service.stopped.count() == 0);
        REQUIRE(service.finish());
        CHECK(service.sessions == 0);
    }
}

TEST_CASE("new_connection() or new_session() that returns nullptr drops that datagram only") {
    Running comm(1);
    Datagrams service(comm);
    std::atomic<int> connections{0}, sessions{0};
    service.on_connection = [&](int) -> CommConnection * {
        return connections++ % 3 == 0 ? nullptr : new Datagrams::Connection(service);
    };
    service.on_session = [&]() -> CommSession * {
        return sessions++ % 2 == 0 ? nullptr : new Exchange(service);
    };
    REQUIRE(service.start() == 0);
    Socket client = socket_to(service.address());
    for (int i = 0; i < 9; i++)
        REQUIRE(client.send(std::to_string(i)));
    // 0, 3, 6 get no connection; of 1, 2, 4, 5, 7, 8 every other one gets no session.
    CHECK(receive(client) == "2");
    CHECK(receive(client) == "5");
    CHECK(receive(client) == "8");
    CHECK(service.stopped.count() == 0);
    REQUIRE(service.finish());
    CHECK(service.connections == 0);
    CHECK(service.sessions == 0);
}

TEST_CASE("a datagram that is not answered but dropped leaves nothing behind") {
    for (size_t handlers : both) {
        Running comm(1, handlers);
        Datagrams service(comm);
        service.on_request = [&](Exchange &session) {
            if (session.in.bytes == "delete")
                delete &session;
            else if (session.in.bytes == "shutdown") {
                CHECK(comm.shutdown(&session) == 0);
                CHECK(comm.reply(&session) == -1);
                CHECK(errno == ENOENT);
                delete &session;
            } else {
                session.out.bytes = "answer";
                CHECK(comm.reply(&session) == 0);
            }
        };
        REQUIRE(service.start() == 0);
        Socket client = socket_to(service.address());
        REQUIRE(client.send("delete"));
        REQUIRE(client.send("shutdown"));
        REQUIRE(client.send("reply"));
        CHECK(receive(client) == "answer");
        REQUIRE(service.finish());
        CHECK(service.sessions == 0);
        CHECK(service.connections == 0);
    }
}

TEST_CASE("a second reply to a datagram is ENOENT") {
    Running comm(1);
    Datagrams service(comm);
    std::atomic<int> second{-2}, code{0};
    struct Twice : Exchange {
        using Exchange::Exchange;
        void handle(int state, int) override {
            if (state == CS_STATE_TOREPLY) {
                out.bytes = "once";
                CHECK(service.comm.reply(this) == 0);
            } else {
                // Inside the completion the session is still ours.
                result->store(service.comm.reply(this));
                code->store(errno);
                delete this;
            }
        }
        std::atomic<int> *result = nullptr, *code = nullptr;
    };
    service.on_session = [&] {
        auto *made = new Twice(service);
        made->result = &second;
        made->code = &code;
        return made;
    };
    REQUIRE(service.start() == 0);
    Socket client = socket_to(service.address());
    REQUIRE(client.send("x"));
    CHECK(receive(client) == "once");
    REQUIRE(service.finish());
    CHECK(second == -1);
    CHECK(code == ENOENT);
}

TEST_CASE("a reply that is too large for a datagram fails with EMSGSIZE; on the loop the caller keeps the "
          "session") {
    for (size_t handlers : both) {
        Running comm(1, handlers);
        Datagrams service(comm);
        std::atomic<int> result{-2}, code{0};
        service.on_request = [&](Exchange &session) {
            if (session.in.bytes != "large") {
                session.out.bytes = "fine";
                comm.reply(&session);
                return;
            }
            session.out.bytes.assign(70000, 'x');
            errno = 0;
            bool kept = handlers == 0; // on the loop: no handle() follows, and it may be answered again
            int got = comm.reply(&session);
            if (kept) {
                result = got;
                code = errno;
                session.out.bytes = "smaller";
                CHECK(comm.reply(&session) == 0);
            }
        };
        REQUIRE(service.start() == 0);
        Socket client = socket_to(service.address());
        REQUIRE(client.send("large"));
        if (handlers == 0) {
            CHECK(receive(client) == "smaller");
            CHECK(result == -1);
            CHECK(code == EMSGSIZE);
        } else {
            REQUIRE(service.ended.wait());
            CHECK(service.state == CS_STATE_ERROR);
            CHECK(service.error == EMSGSIZE);
        }
        REQUIRE(client.send("small"));
        CHECK(receive(client) == "fine");
        REQUIRE(service.finish());
        CHECK(service.sessions == 0);
    }
}

TEST_CASE("push() and feedback() send datagrams of their own to the peer") {
    for (size_t handlers : both) {
        Running comm(1, handlers);
        Datagrams service(comm);
        service.on_session = [&] {
            auto *made = new Exchange(service);
            made->in.feed = "fed";
            return made;
        };
        std::atomic<int> fed{0};
        service.on_request = [&](Exchange &session) {
            fed = session.in.fed;
            CHECK(comm.push("push one", 8, &session) == 8);
            CHECK(comm.push("push two", 8, &session) == 8);
            session.out.bytes = "reply";
            CHECK(comm.reply(&session) == 0);
        };
        REQUIRE(service.start() == 0);
        Socket client = socket_to(service.address());
        REQUIRE(client.send("x"));
        CHECK(receive(client) == "fed");
        CHECK(receive(client) == "push one");
        CHECK(receive(client) == "push two");
        CHECK(receive(client) == "reply");
        CHECK(fed == 3);
        REQUIRE(service.finish());
    }
}

TEST_CASE("after a burst of two thousand datagrams, more than can be kept, the service still serves") {
    for (size_t handlers : both) {
        Running comm(1, handlers);
        Datagrams service(comm);
        REQUIRE(service.start() == 0);
        Socket client = socket_to(service.address());
        for (int i = 0; i < 2000; i++)
            REQUIRE(client.send("burst " + std::to_string(i)));
        // Answers beyond what the client's own buffer holds are lost; the service is not.
        while (receive(client) != "burst 0") {
        }
        Socket other = socket_to(service.address());
        REQUIRE(other.send("still there?"));
        CHECK(receive(other) == "still there?");
        CHECK(service.stopped.count() == 0);
        REQUIRE(service.finish());
        CHECK(service.sessions == 0);
        CHECK(service.connections == 0);
    }
}

TEST_CASE("a reply to a port where nobody listens any more does not end the service") {
    Running comm(1);
    Datagrams service(comm);
    std::vector<Exchange *> held;
    service.on_request = [&](Exchange &session) {
        if (session.in.bytes == "hold") {
            held.push_back(&session);
            return;
        }
        session.out.bytes = session.in.bytes;
        comm.reply(&session);
    };
    REQUIRE(service.start() == 0);
    Socket gone = socket_to(service.address());
    for (int i = 0; i < 10; i++)
        REQUIRE(gone.send("hold"));
    REQUIRE(service.requests.wait(10));
    gone.close();
    REQUIRE(run_on(comm.loop(0), [&] {
        for (Exchange *session : held) {
            session->out.bytes = "late";
            if (comm.reply(session) < 0) // the ICMP error of the one before
                delete session;
        }
    }));
    Socket client = socket_to(service.address());
    REQUIRE(client.send("x"));
    CHECK(receive(client) == "x");
    CHECK(service.stopped.count() == 0);
    REQUIRE(service.finish());
    CHECK(service.sessions == 0);
}

TEST_CASE("a reply that is outstanding when the service is unbound still goes out, and then it is unbound") {
    for (size_t handlers : both) {
        Running comm(2, handlers);
        Datagrams service(comm);
        std::atomic<Exchange *> held{nullptr};
        Signal holding;
        service.on_request = [&](Exchange &session) {
            held = &session;
            holding.set();
        };
        REQUIRE(service.start() == 0);
        Address at = service.address();
        Socket client = socket_to(at);
        REQUIRE(client.send("x"));
        REQUIRE(holding.wait());
        comm.unbind(&service);
        for (size_t i = 0; i < 2; i++)
            REQUIRE(run_on(comm.loop(i), [] {}));
        CHECK(service.unbound.count() == 0);
        REQUIRE(client.send("unheard"));
        for (size_t i = 0; i < 2; i++)
            REQUIRE(run_on(comm.loop(i), [] {}));
        CHECK(service.requests.count() == 1);
        held.load()->out.bytes = "late but sure";
        REQUIRE(comm.reply(held) == 0);
        CHECK(receive(client) == "late but sure");
        REQUIRE(service.unbound.wait());
        CHECK(send(client.fd(), "x", 1, 0) == 1); // the socket is closed now: refused
        char byte;
        CHECK(recv(client.fd(), &byte, 1, 0) == -1);
        CHECK(errno == ECONNREFUSED);
    }
}

TEST_CASE(
    "a datagram service that is unbound inside a callback takes nothing more of what has come already") {
    for (bool refuse : {false, true}) {
        Running comm(1);
        Datagrams service(comm);
        std::atomic<int> calls{0};
        service.on_connection = [&](int) -> CommConnection * {
            if (calls++ == 0)
                comm.unbind(&service);
            return refuse ? nullptr : new Datagrams::Connection(service);
        };
        Signal entered, sent;
        Job block([&] {
            entered.set();
            CHECK(sent.wait());
        });
        REQUIRE(service.start() == 0);
        REQUIRE(comm.loop(0)->post(&block) == 0);
        REQUIRE(entered.wait());
        Socket client = socket_to(service.address());
        for (int i = 0; i < 16; i++)
            REQUIRE(client.send("x"));
        sent.set();
        REQUIRE(service.unbound.wait());
        REQUIRE(block.done.wait());
        CHECK(calls == 1);
        comm.deinit();
        CHECK(service.unbound.count() == 1);
        CHECK(service.sessions == 0);
        CHECK(service.connections == 0);
    }
}

TEST_CASE("deinit() with datagrams that await their replies: ENOENT from then on, and nothing leaks") {
    for (size_t handlers : both) {
        Running comm(1, handlers);
        Datagrams service(comm);
        std::mutex mutex;
        std::vector<Exchange *> held;
        Signal holding;
        service.on_request = [&](Exchange &session) {
            std::lock_guard lock(mutex);
            held.push_back(&session);
            holding.set();
        };
        REQUIRE(service.start() == 0);
        Socket client = socket_to(service.address());
        for (int i = 0; i < 5; i++)
            REQUIRE(client.send("x"));
        REQUIRE(holding.wait(5));
        comm.deinit();
        CHECK(service.stopped.count() == 1);
        comm.unbind(&service);
        CHECK(service.ended.count() == 0);
        for (Exchange *session : held) {
            CHECK_FALSE(session->peer_there());
            CHECK(comm.reply(session) == -1);
            CHECK(errno == ENOENT);
            CHECK(comm.push("x", 1, session) == -1);
            CHECK(service.unbound.count() == 0);
            delete session;
        }
        CHECK(service.unbound.count() == 1);
        CHECK(service.connections == 0);
    }
}

TEST_CASE("a session that has no message for a datagram, or for its reply, fails alone") {
    for (size_t handlers : both) {
        Running comm(1, handlers);
        Datagrams service(comm);
        struct Mute : Exchange {
            using Exchange::Exchange;
            bool no_in = false, no_out = false;
            CommMessageIn *message_in() override { return no_in ? errno = ENOMSG, nullptr : &in; }
            CommMessageOut *message_out() override { return no_out ? errno = ENODATA, nullptr : &out; }
        };
        std::atomic<bool> no_in{true}, no_out{false};
        std::atomic<int> result{-2}, code{0};
        service.on_session = [&] {
            auto *made = new Mute(service);
            made->no_in = no_in;
            made->no_out = no_out;
            return made;
        };
        service.on_request = [&](Exchange &session) {
            session.out.bytes = session.in.bytes;
            errno = 0;
            bool fails = no_out;
            int got = comm.reply(&session);
            if (fails && handlers == 0) { // the caller keeps it; elsewhere handle() tells
                result = got;
                code = errno;
                delete &session;
                service.ended.set();
            }
        };
        REQUIRE(service.start() == 0);
        Socket client = socket_to(service.address());
        REQUIRE(client.send("one"));
        REQUIRE(service.ended.wait(1));
        CHECK(service.state == CS_STATE_ERROR);
        CHECK(service.error == ENOMSG);
        no_in = false;
        no_out = true;
        REQUIRE(client.send("two"));
        REQUIRE(service.ended.wait(2));
        if (handlers == 0) {
            CHECK(result == -1);
            CHECK(code == ENODATA);
        } else {
            CHECK(service.error == ENODATA);
        }
        no_out = false;
        REQUIRE(client.send("three"));
        CHECK(receive(client) == "three");
        REQUIRE(service.finish());
        CHECK(service.sessions == 0);
    }
}
