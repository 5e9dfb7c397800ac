// What happens around a message: feedback to its sender, stray bytes behind it, how long its connection
// is kept, how its turns are counted, and whose session may do what.

#include "scripted.h"

using namespace scripted;
using wire::Listener;
using wire::Peer;

namespace {

std::string line_of(size_t n) {
    std::string text(n, 'f');
    text.back() = '\n';
    return text;
}

} // namespace

TEST_CASE("feedback from append is sent at once and in order with the reply") {
    Net net;
    wire::Address at = wire::Address::loopback();
    SUBCASE("over TCP") {}
    SUBCASE("over AF_UNIX") {
        at = wire::Address::local();
    }
    Service service(net.comm, at);
    int taken = 0;
    service.at_birth = [&](Served *session) {
        session->in.script = [&taken, session](const char *bytes, size_t *size) {
            int complete = session->in.take(bytes, size);
            taken += session->in.feedback("so far: ", 8);
            return complete;
        };
    };
    service.start();
    Peer peer(service.address());
    peer.send("pi");
    CHECK(peer.read(8) == "so far: ");
    peer.send("ng\n");
    CHECK(peer.line() == "so far: ping\n");
    CHECK(service.ends.take() == success(0));
    CHECK(taken == 16);
}

TEST_CASE("feedback larger than the socket holds is kept whole and in order") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    std::string large = line_of(700000);
    int taken = 0;
    service.at_birth = [&](Served *session) {
        session->in.script = [&, session](const char *bytes, size_t *size) {
            taken = session->in.feedback(large.data(), large.size());
            return session->in.take(bytes, size);
        };
    };
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    CHECK((peer.line() == large));
    CHECK(peer.line() == "ping\n");
    CHECK(service.ends.take() == success(0));
    CHECK(taken == static_cast<int>(large.size()));
}

TEST_CASE("feedback is refused with EAGAIN when too much waits already") {
    Net net;
    net.comm.set_push_high_water(100000);
    Service service(net.comm);
    service.use_small_buffers();
    std::string chunk = line_of(50000);
    int whole = 0, refused = 0, error = 0;
    service.at_birth = [&](Served *session) {
        session->in.script = [&, session](const char *bytes, size_t *size) {
            while (session->in.feedback(chunk.data(), chunk.size()) == static_cast<int>(chunk.size()))
                whole++;
            error = errno;
            refused++;
            return session->in.take(bytes, size);
        };
    };
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    std::string got;
    while ((got = peer.line()) != "ping\n")
        CHECK((got == chunk));
    CHECK(service.ends.take() == success(0));
    CHECK(refused == 1);
    CHECK(error == EAGAIN);
    CHECK(whole >= 2);
}

TEST_CASE("a client's message may feed back too") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    client.in.script = [&](const char *bytes, size_t *size) {
        int complete = client.in.take(bytes, size);
        if (!complete)
            CHECK(client.in.feedback("more\n", 5) == 5);
        return complete;
    };
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    CHECK(peer.line() == "ping\n");
    peer.send("po");
    CHECK(peer.line() == "more\n");
    peer.send("ng\n");
    CHECK(client.end() == success(0));
    CHECK(client.answer() == "pong\n");
}

TEST_CASE("feedback outside append is refused") {
    Line line;
    CHECK(line.feedback("x", 1) == -1);
    CHECK(errno == ENOENT);
    line.renew(); // and this does nothing
}

TEST_CASE("bytes behind an answer end the connection but not the exchange") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    peer.line();
    peer.send("pong\nstray\n");
    CHECK(client.end() == success(0));
    CHECK(client.answer() == "pong\n");
    CHECK_FALSE(target.has_idle_conn());
    CHECK(peer.rest().empty());
}

TEST_CASE("bytes on an idle connection discard it: they never answer the next request") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    peer.line();
    peer.send("pong\n");
    CHECK(client.end() == success(0));
    CHECK(target.has_idle_conn());
    peer.send("stray\n");
    wire::until([&] { return !target.has_idle_conn(); });
    Client next;
    REQUIRE(net.comm.request(&next, &target) == 0);
    Peer other = listener.accept();
    CHECK(other.line() == "ping\n");
    other.send("right\n");
    CHECK(next.end() == success(0));
    CHECK(next.answer() == "right\n");
    CHECK(target.released == 2);
}

TEST_CASE("keep_alive_timeout 0 closes a client's connection, -1 keeps it, n keeps it for n ms") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    int keep = 0;
    SUBCASE("0") {
        keep = 0;
    }
    SUBCASE("-1") {
        keep = -1;
    }
    SUBCASE("50") {
        keep = 50;
    }
    client.timeouts.keep_alive = keep;
    bool pooled_in_handle = false;
    client.at_end = [&](Client *, const End &) { pooled_in_handle = target.has_idle_conn(); };
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    peer.line();
    wire::Stopwatch watch;
    peer.send("pong\n");
    CHECK(client.end() == success(0));
    CHECK(pooled_in_handle == (keep != 0));
    if (keep < 0) {
        net.settle();
        CHECK_FALSE(peer.readable_now());
        CHECK(target.has_idle_conn());
    } else {
        CHECK(peer.rest().empty());
        CHECK(watch.ms() >= keep - 1);
        wire::until([&] { return !target.has_idle_conn(); });
    }
}

TEST_CASE("keep_alive_timeout of a service's session closes after 0, n ms or never") {
    Net net;
    Service service(net.comm);
    int keep = 0;
    SUBCASE("0") {
        keep = 0;
    }
    SUBCASE("-1") {
        keep = -1;
    }
    SUBCASE("50") {
        keep = 50;
    }
    service.at_birth = [&](Served *session) { session->timeouts.keep_alive = keep; };
    service.start();
    Peer peer(service.address());
    wire::Stopwatch watch;
    peer.send("ping\n");
    CHECK(peer.line() == "ping\n");
    CHECK(service.ends.take() == success(0));
    if (keep < 0) {
        net.settle();
        CHECK_FALSE(peer.readable_now());
    } else {
        CHECK(peer.rest().empty());
        CHECK(watch.ms() >= keep - 1);
    }
    service.stop();
    CHECK(service.ends.size() == 0); // nobody is told of an idle connection's end
}

TEST_CASE("get_seq counts the turns of a connection wherever it is asked") {
    Net net;
    Service service(net.comm);
    std::vector<long long> served;
    service.make_session = [&](long long seq, CommConnection *) -> CommSession * {
        auto *session = new Served(service);
        served.push_back(seq);
        session->out.script = [session, &served](struct iovec *vectors, int) {
            served.push_back(session->seq());
            vectors[0] = {session->out.text.data(), session->out.text.size()};
            return 1;
        };
        session->in.script = [session, &served](const char *bytes, size_t *size) {
            served.push_back(session->seq());
            return session->in.take(bytes, size);
        };
        return session;
    };
    service.start();
    Target target(service.address());
    for (long long turn = 0; turn < 3; turn++) {
        Client client;
        std::vector<long long> seen;
        client.out.script = [&](struct iovec *vectors, int) {
            seen.push_back(client.seq());
            vectors[0] = {client.out.text.data(), client.out.text.size()};
            return 1;
        };
        client.in.script = [&](const char *bytes, size_t *size) {
            seen.push_back(client.seq());
            return client.in.take(bytes, size);
        };
        client.at_end = [&](Client *self, const End &) { seen.push_back(self->seq()); };
        REQUIRE(net.comm.request(&client, &target) == 0);
        CHECK(client.end() == success(turn));
        CHECK(seen == std::vector<long long>(3, turn));
        CHECK(service.ends.take() == success(turn));
        CHECK(served == std::vector<long long>(3, turn));
        served.clear();
    }
}

TEST_CASE("get_message_out is empty until the connection stands, get_message_in until the first byte") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    bool out_before = true, in_before = true;
    client.out.script = [&](struct iovec *vectors, int) {
        in_before = client.message_received() != nullptr;
        vectors[0] = {client.out.text.data(), client.out.text.size()};
        return 1;
    };
    net.on_loop([&] {
        net.comm.request(&client, &target);
        out_before = client.message_sent() != nullptr;
    });
    Peer peer = listener.accept();
    peer.line();
    CHECK_FALSE(out_before);
    CHECK_FALSE(in_before);
    peer.send("pong\n");
    CHECK(client.end() == success(0));
    CHECK(client.message_sent() == &client.out);
    CHECK(client.message_received() == &client.in);
}

TEST_CASE("request is for a client's session, reply for a service's") {
    Net net;
    Service service(net.comm);
    int requested = 0, error = 0;
    Target target(wire::Address::loopback());
    service.at_request = [&](Served *session) {
        requested = net.comm.request(session, &target);
        error = errno;
        session->reply("pong\n");
    };
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    CHECK(peer.line() == "pong\n");
    CHECK(service.ends.take() == success(0));
    CHECK(requested == -1);
    CHECK(error == EINVAL);
    Client client;
    CHECK(net.comm.reply(&client) == -1);
    CHECK(errno == EINVAL);
}

TEST_CASE("a new_session that gives nothing closes the connection, also a kept one") {
    Net net;
    Service service(net.comm);
    std::atomic<int> calls{0};
    int good = 0;
    SUBCASE("the first message") {
        good = 0;
    }
    SUBCASE("the second") {
        good = 1;
    }
    service.make_session = [&](long long, CommConnection *) -> CommSession * {
        if (calls++ < good)
            return new Served(service);
        errno = ENOMEM;
        return nullptr;
    };
    service.start();
    Peer peer(service.address());
    if (good > 0) {
        peer.send("ping\n");
        CHECK(peer.line() == "ping\n");
    }
    peer.send("ping\n");
    CHECK(peer.rest().empty());
    CHECK(service.drain(-1) == 0);
    service.stop();
    CHECK(service.connections->dead == 1);
}

TEST_CASE("an answer that comes before the request is all sent ends the exchange and the connection") {
    Net net;
    Listener listener(wire::Address::loopback(), 16, 4096);
    Target target(listener.address());
    target.send_buffer = 4096;
    Client client(std::string(size_t{8} << 20, 'x'));
    bool pooled = true;
    client.at_end = [&](Client *, const End &) { pooled = target.has_idle_conn(); };
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    CHECK(peer.read(1000).size() == 1000);
    peer.send("enough\n");
    CHECK(client.end() == success(0));
    CHECK(client.answer() == "enough\n");
    CHECK_FALSE(pooled);
    CHECK(peer.rest().size() < client.out.text.size() - 1000);
}

TEST_CASE("an answer with the end of the stream behind it is delivered, and its connection not pooled") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    bool pooled = true;
    client.at_end = [&](Client *, const End &) { pooled = target.has_idle_conn(); };
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    CHECK(peer.line() == "ping\n");
    net.on_loop([&] { // which sees both at once: the FIN has been acknowledged
        peer.send("pong\n");
        peer.finish();
        wire::until([&] {
            struct tcp_info info = {};
            socklen_t size = sizeof info;
            getsockopt(peer.fd(), IPPROTO_TCP, TCP_INFO, &info, &size);
            return info.tcpi_state == TCP_FIN_WAIT2;
        });
    });
    CHECK(client.end() == success(0));
    CHECK(client.answer() == "pong\n");
    CHECK_FALSE(pooled);
}
