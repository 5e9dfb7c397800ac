// Every timeout, what it bounds, and the cause it gives.

#include "late.h"

#include "forwarding_world.h"

using namespace scripted;
using wire::Listener;
using wire::Peer;
using wire::Stopwatch;
using wire::Swamp;

namespace {

// Time passes when the test says so.
class HeldClock : public fixture::ForwardingWorld {
public:
    std::atomic<size_t> sent{0}; // bytes

    void advance(int ms) { now_ += ms * INT64_C(1000000); }
    int64_t monotonic_ns() override { return now_; }
    ssize_t send(int fd, const void *buffer, size_t size, int flags) override {
        ssize_t n = real.send(fd, buffer, size, flags);
        sent += static_cast<size_t>(n > 0 ? n : 0);
        return n;
    }

private:
    std::atomic<int64_t> now_{INT64_C(1000000000)};
};

} // namespace

TEST_CASE("a connect that does not come about ends with ETIMEDOUT and CC_CONNECT") {
    Net net;
    Swamp swamp;
    int limit = soon;
    SUBCASE("after connect_timeout") {
        limit = soon;
    }
    SUBCASE("at once when that is 0") {
        limit = 0;
    }
    Target target(swamp.address(), limit);
    Client client;
    Stopwatch watch;
    REQUIRE(net.comm.request(&client, &target) == 0);
    CHECK(client.end() == End{CS_STATE_ERROR, ETIMEDOUT, CC_CONNECT, 0});
    CHECK(client.get_limit() == limit);
    CHECK(watch.ms() >= limit - turn);
    CHECK(client.message_sent() == nullptr);
    CHECK(client.outs == 0);
    CHECK(target.released == 1);
    wire::until([&] { return target.connections->dead == 1 || client.connection() != nullptr; });
}

TEST_CASE("a refused connect ends with ECONNREFUSED and CC_CONNECT") {
    Net net;
    Listener listener;
    wire::Address nobody = listener.address();
    listener.close();
    Target target(nobody, 1000);
    Client client;
    REQUIRE(net.comm.request(&client, &target) == 0);
    CHECK(client.end() == End{CS_STATE_ERROR, ECONNREFUSED, CC_CONNECT, 0});
    CHECK(client.get_limit() == -1);
    CHECK(client.outs == 0);
    CHECK(target.released == 1);
}

TEST_CASE("an answer that does not begin within response_timeout is late by CC_FIRST_BYTE") {
    Net net;
    Listener listener;
    Target target(listener.address(), -1, soon);
    Client client;
    Stopwatch watch;
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    CHECK(client.end() == End{CS_STATE_ERROR, ETIMEDOUT, CC_FIRST_BYTE, 0});
    CHECK(watch.ms() >= soon - turn);
    CHECK(client.message_received() == nullptr);
    CHECK(peer.rest() == "ping\n");
}

TEST_CASE("an answer that pauses for response_timeout is late by CC_GAP") {
    Net net;
    Listener listener;
    Target target(listener.address(), -1, soon);
    Client client;
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    Stopwatch watch;
    peer.send("po");
    CHECK(client.end() == End{CS_STATE_ERROR, ETIMEDOUT, CC_GAP, 0});
    CHECK(client.get_limit() == soon);
    CHECK(watch.ms() >= soon - turn);
    CHECK(client.answer() == "po");
}

TEST_CASE("a service closes a silent connection after response_timeout, and tells nobody") {
    Net net;
    Service service(net.comm, wire::Address::loopback(), soon);
    service.start();
    Stopwatch watch;
    Peer peer(service.address());
    CHECK(peer.rest().empty());
    CHECK(watch.ms() >= soon - turn);
    service.stop();
    CHECK(service.sessions.born == 0);
    CHECK(service.connections->dead == 1);
}

TEST_CASE("a request that pauses for response_timeout is late by CC_GAP") {
    Net net;
    Service service(net.comm, wire::Address::loopback(), soon);
    service.start();
    Peer peer(service.address());
    Stopwatch watch;
    peer.send("pi");
    CHECK(service.ends.take() == End{CS_STATE_ERROR, ETIMEDOUT, CC_GAP, 0});
    CHECK(watch.ms() >= soon - turn);
    CHECK(peer.rest().empty());
}

TEST_CASE("no timeout runs while a request awaits its reply") {
    Net net;
    Service service(net.comm, wire::Address::loopback(), soon);
    service.set_deadlines({soon, soon, soon});
    service.at_birth = [](Served *session) { session->timeouts = {soon, soon, -1, 0}; };
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    Served *session = service.requests.take();
    pass(later);
    CHECK(session->reply("pong\n") == 0);
    CHECK(peer.line() == "pong\n");
    CHECK(service.ends.take() == success(0));
}

TEST_CASE("first_timeout bounds the wait for the first byte, alone") {
    Net net;
    Listener listener;
    Target target(listener.address(), -1, soon);
    Client client;
    SUBCASE("n ms") {
        client.timeouts.first = soon;
        client.timeouts.receive = 0; // does not run yet
        Stopwatch watch;
        REQUIRE(net.comm.request(&client, &target) == 0);
        CHECK(client.end() == End{CS_STATE_ERROR, ETIMEDOUT, CC_FIRST_BYTE, 0});
        CHECK(watch.ms() >= soon - turn);
    }
    SUBCASE("-1 waits beyond response_timeout and receive_timeout") {
        client.timeouts.first = -1;
        client.timeouts.receive = soon;
        REQUIRE(net.comm.request(&client, &target) == 0);
        Peer peer = listener.accept();
        peer.line();
        pass(later);
        peer.send("pong\n");
        CHECK(client.end() == success(0));
    }
    SUBCASE("at the first byte receive_timeout begins") {
        client.timeouts.first = -1;
        client.timeouts.receive = soon / 2;
        REQUIRE(net.comm.request(&client, &target) == 0);
        Peer peer = listener.accept();
        peer.line();
        pass(soon);
        peer.send("po");
        CHECK(client.end() == End{CS_STATE_ERROR, ETIMEDOUT, CC_RECEIVE, 0});
    }
}

TEST_CASE("receive_timeout bounds the whole answer, progress or not") {
    Net net;
    Listener listener;
    Target target(listener.address(), -1, 10000);
    Client client;
    client.timeouts.receive = soon;
    Stopwatch watch;
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    drip(peer);
    CHECK(client.end() == End{CS_STATE_ERROR, ETIMEDOUT, CC_RECEIVE, 0});
    CHECK(client.get_limit() == soon);
    CHECK(watch.ms() >= soon - turn);
}

TEST_CASE("receive_timeout bounds the whole request from its first byte, progress or not") {
    Net net;
    Service service(net.comm, wire::Address::loopback(), 10000);
    service.at_birth = [](Served *session) { session->timeouts.receive = soon; };
    service.start();
    Peer peer(service.address());
    pass(later); // not before the first byte
    Stopwatch watch;
    drip(peer);
    CHECK(service.ends.take() == End{CS_STATE_ERROR, ETIMEDOUT, CC_RECEIVE, 0});
    CHECK(watch.ms() >= soon - turn);
}

TEST_CASE("receive_timeout 0 expires at once") {
    Net net;
    SUBCASE("on a client") {
        Listener listener;
        Target target(listener.address());
        Client client;
        client.timeouts.receive = 0;
        REQUIRE(net.comm.request(&client, &target) == 0);
        CHECK(client.end() == End{CS_STATE_ERROR, ETIMEDOUT, CC_RECEIVE, 0});
    }
    SUBCASE("on a service") {
        Service service(net.comm);
        service.at_birth = [](Served *session) { session->timeouts.receive = 0; };
        service.start();
        Peer peer(service.address());
        peer.send("pi");
        CHECK(service.ends.take() == End{CS_STATE_ERROR, ETIMEDOUT, CC_RECEIVE, 0});
    }
    SUBCASE("but not before a message that came whole") {
        Service service(net.comm);
        service.at_birth = [](Served *session) { session->timeouts.receive = 0; };
        service.start();
        Peer peer(service.address());
        peer.send("ping\n");
        CHECK(service.ends.take() == success(0));
    }
}

TEST_CASE("data that has arrived beats a timer that has expired") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    client.timeouts.receive = soon;
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    peer.line();
    net.on_loop([&] {
        peer.send("pong\n");
        pass(later);
    });
    CHECK(client.end() == success(0));
}

TEST_CASE("send_timeout holds against a reader that dribbles") {
    Net net;
    SUBCASE("a client's request") {
        Listener listener(wire::Address::loopback(), 16, 4096);
        Target target(listener.address(), -1, 10000);
        target.send_buffer = 4096;
        Client client(huge);
        client.timeouts.send = soon;
        Stopwatch watch;
        REQUIRE(net.comm.request(&client, &target) == 0);
        Peer peer = listener.accept();
        dribble(peer, [&] { return client.ends.size() > 0; });
        CHECK(client.end() == End{CS_STATE_ERROR, ETIMEDOUT, CC_SEND, 0});
        CHECK(client.get_limit() == soon);
        CHECK(watch.ms() >= soon - turn);
    }
    SUBCASE("a service's reply") {
        Service service(net.comm, wire::Address::loopback(), 10000);
        service.use_small_buffers();
        service.at_birth = [](Served *session) { session->timeouts.send = soon; };
        service.at_request = [](Served *session) { session->reply(huge); };
        service.start();
        Peer peer(service.address(), 4096);
        Stopwatch watch;
        peer.send("ping\n");
        dribble(peer, [&] { return service.ends.size() > 0; });
        CHECK(service.ends.take() == End{CS_STATE_ERROR, ETIMEDOUT, CC_SEND, 0});
        CHECK(watch.ms() >= soon - turn);
    }
}

TEST_CASE("send_timeout is not asked when the message goes out at once") {
    Net net;
    Service service(net.comm);
    service.at_birth = [](Served *session) { session->timeouts.send = 0; };
    service.start();
    Target target(service.address());
    Client client;
    client.timeouts.send = 0;
    REQUIRE(net.comm.request(&client, &target) == 0);
    CHECK(client.end() == success(0));
    CHECK(service.ends.take() == success(0));
}

TEST_CASE("a write that makes no progress for response_timeout fails with CC_SEND") {
    Net net;
    Service service(net.comm, wire::Address::loopback(), soon);
    service.use_small_buffers();
    service.at_request = [](Served *session) { session->reply(huge); };
    service.start();
    Peer peer(service.address(), 4096);
    Stopwatch watch;
    peer.send("ping\n");
    CHECK(service.ends.take() == End{CS_STATE_ERROR, ETIMEDOUT, CC_SEND, 0});
    CHECK(watch.ms() >= soon - turn);
}

TEST_CASE("renew begins the account anew: first_timeout, then receive_timeout") {
    Net net;
    Listener listener;
    Target target(listener.address(), -1, later);
    Client client;
    client.timeouts.receive = soon;
    client.in.script = [&](const char *bytes, size_t *size) {
        int complete = client.in.take(bytes, size);
        if (!complete)
            client.in.renew();
        return complete;
    };
    SUBCASE("first_timeout -1 waits") {
        client.timeouts.first = -1;
        REQUIRE(net.comm.request(&client, &target) == 0);
        Peer peer = listener.accept();
        for (int i = 0; i < 3; i++) {
            peer.send("package ");
            pass(soon);
        }
        peer.send("end\n");
        CHECK(client.end() == success(0));
        CHECK(client.answer() == "package package package end\n");
    }
    SUBCASE("first_timeout n ends") {
        client.timeouts.first = soon;
        REQUIRE(net.comm.request(&client, &target) == 0);
        Peer peer = listener.accept();
        peer.send("package ");
        CHECK(client.end() == End{CS_STATE_ERROR, ETIMEDOUT, CC_FIRST_BYTE, 0});
    }
    SUBCASE("receive_timeout runs again from the next byte") {
        client.timeouts.first = -1;
        client.in.script = [&](const char *bytes, size_t *size) {
            if (client.in.calls == 1)
                client.in.renew();
            return client.in.take(bytes, size);
        };
        REQUIRE(net.comm.request(&client, &target) == 0);
        Peer peer = listener.accept();
        peer.send("package ");
        pass(soon);
        peer.send("part");
        CHECK(client.end() == End{CS_STATE_ERROR, ETIMEDOUT, CC_RECEIVE, 0});
    }
}

TEST_CASE("renew works for a service's request too") {
    Net net;
    Service service(net.comm, wire::Address::loopback(), soon);
    service.at_birth = [](Served *session) {
        session->timeouts.first = -1;
        session->timeouts.receive = soon;
        session->in.script = [session](const char *bytes, size_t *size) {
            int complete = session->in.take(bytes, size);
            if (!complete)
                session->in.renew();
            return complete;
        };
    };
    service.start();
    Peer peer(service.address());
    for (int i = 0; i < 2; i++) {
        peer.send("package ");
        pass(later);
    }
    peer.send("end\n");
    CHECK(peer.line() == "package package end\n");
    CHECK(service.ends.take() == success(0));
}

TEST_CASE("the idle time of a pooled connection does not run on into the next request") {
    Net net;
    Listener listener(wire::Address::loopback(), 16, 4096);
    Target target(listener.address());
    target.send_buffer = 4096;
    Client first;
    first.timeouts.keep_alive = soon;
    Client second(huge); // does not go out at once
    first.at_end = [&](Client *, const End &) { net.comm.request(&second, &target); };
    REQUIRE(net.comm.request(&first, &target) == 0);
    Peer peer = listener.accept();
    CHECK(peer.line() == "ping\n");
    peer.send("pong\n");
    CHECK(first.end() == success(0));
    pass(later);
    CHECK((peer.line() == huge));
    peer.send("pong\n");
    CHECK(second.end() == success(1));
}

TEST_CASE("what is received while the request is still being sent is not late before it is sent") {
    Net net;
    Listener listener(wire::Address::loopback(), 16, 4096);
    int response = -1, receive = -1;
    SUBCASE("by receive_timeout") {
        receive = 4 * soon;
    }
    SUBCASE("by response_timeout") {
        response = 4 * soon;
    }
    Target target(listener.address(), -1, response);
    target.send_buffer = 4096;
    Client client(huge);
    client.timeouts.receive = receive;
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    Stopwatch watch;
    peer.send("100 ");
    dribble(peer, [&] { return watch.ms() > 5 * soon || client.ends.size() > 0; });
    peer.line();
    peer.send("200\n");
    CHECK(client.end() == success(0));
    CHECK(client.answer() == "100 200\n");
}

TEST_CASE("a session at connect learns that the idle time is over") {
    Net net;
    Service service(net.comm);
    service.at_connect = true;
    service.at_birth = [](Served *session) { session->timeouts.keep_alive = soon; };
    service.start();
    Peer peer(service.address());
    Stopwatch watch;
    peer.send("ping\n");
    CHECK(peer.line() == "ping\n");
    CHECK(service.ends.take() == success(0));
    CHECK(service.ends.take() == End{CS_STATE_ERROR, ETIMEDOUT, CC_IDLE, 1});
    CHECK(watch.ms() >= soon - turn);
    CHECK(peer.rest().empty());
}

TEST_CASE("a session at connect learns that the first request is late") {
    Net net;
    int response = -1;
    CommDeadlines limits;
    End expected = {};
    SUBCASE("by response_timeout") {
        response = soon;
        expected = {CS_STATE_ERROR, ETIMEDOUT, CC_FIRST_BYTE, 0};
    }
    SUBCASE("by the deadline of the first message") {
        limits.first_message = soon;
        expected = {CS_STATE_ERROR, ETIMEDOUT, CC_RECEIVE, 0};
    }
    Service service(net.comm, wire::Address::loopback(), response);
    service.set_deadlines(limits);
    service.at_connect = true;
    service.start();
    Peer peer(service.address());
    CHECK(service.ends.take() == expected);
}

TEST_CASE("listen_timeout is the life of the listener and ends in handle_stop") {
    Net net;
    Service service(net.comm, wire::Address::loopback(), -1, soon);
    Stopwatch watch;
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    CHECK(peer.line() == "ping\n");
    CHECK(service.stops.take() == ETIMEDOUT);
    CHECK(watch.ms() >= soon - turn);
    // What was accepted before goes on.
    peer.send("ping\n");
    CHECK(peer.line() == "ping\n");
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(fd, service.address().get(), service.address().size) == -1);
    CHECK(errno == ECONNREFUSED);
    close(fd);
    service.stop();
    CHECK(service.stops.size() == 0);
}

TEST_CASE("each step of progress begins response_timeout anew") {
    HeldClock clock;
    fixture::InstalledWorld installed(clock);
    Net net;
    SUBCASE("of a client's answer") {
        Listener listener;
        Target target(listener.address(), -1, soon);
        Client client;
        REQUIRE(net.comm.request(&client, &target) == 0);
        Peer peer = listener.accept();
        CHECK(peer.line() == "ping\n");
        for (int i = 1; i <= 5; i++) {
            clock.advance(soon - 10);
            peer.send("x");
            for (bool taken = false; !taken;)
                net.on_loop([&] { taken = client.in.calls == i; });
        }
        CHECK(client.ends.size() == 0);
        clock.advance(later);
        CHECK(client.end() == End{CS_STATE_ERROR, ETIMEDOUT, CC_GAP, 0});
    }
    SUBCASE("of a service's request") {
        Service service(net.comm, wire::Address::loopback(), soon);
        Served *session = nullptr;
        service.at_birth = [&](Served *born) { session = born; };
        service.start();
        Peer peer(service.address());
        for (int i = 1; i <= 5; i++) {
            clock.advance(soon - 10);
            peer.send("x");
            for (bool taken = false; !taken;)
                net.on_loop([&] { taken = session != nullptr && session->in.calls == i; });
        }
        CHECK(service.ends.size() == 0);
        clock.advance(later);
        CHECK(service.ends.take() == End{CS_STATE_ERROR, ETIMEDOUT, CC_GAP, 0});
    }
    SUBCASE("of a reply that waits for room") {
        Service service(net.comm, wire::Address::loopback(), soon);
        service.use_small_buffers();
        service.at_request = [](Served *session) { session->reply(huge); };
        service.start();
        Peer peer(service.address(), 4096);
        peer.send("ping\n");
        peer.wait_readable();
        net.settle();
        for (int i = 1; i <= 5; i++) {
            clock.advance(soon - 10);
            net.settle(); // the loop, too, knows how late it is
            for (size_t before = clock.sent; clock.sent == before;)
                peer.read(1000);
        }
        CHECK(service.ends.size() == 0);
        wire::until([&] { // the kernel may still find room for some more
            clock.advance(later);
            return service.ends.size() > 0;
        });
        CHECK(service.ends.take() == End{CS_STATE_ERROR, ETIMEDOUT, CC_SEND, 0});
    }
}
