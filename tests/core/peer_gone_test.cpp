// The peer of a session that awaits its reply is gone, or sends nothing more: who is told, where, and what the
// session may do then.

#include "scripted.h"

using namespace scripted;
using wire::Peer;

namespace {

// How often a session was told, and whether on its loop.
struct Told {
    explicit Told(Net &net) : loop(net.comm.loop(0)) {}
    void operator()(Served *) {
        times++;
        on_loop = CommLoop::current() == loop;
    }
    CommLoop *loop;
    std::atomic<int> times{0};
    std::atomic<bool> on_loop{false};
};

} // namespace

TEST_CASE("handle_peer_closed tells a session that is handled in place, and no other") {
    bool in_place = false, expected = false;
    size_t handlers = 0;
    SUBCASE("in place, without handlers") {
        in_place = expected = true;
    }
    SUBCASE("in place, beside handlers") {
        in_place = expected = true;
        handlers = 1;
    }
    SUBCASE("not in place") {}
    SUBCASE("on handlers") {
        handlers = 1;
    }
    Net net(1, handlers);
    Service service(net.comm);
    Told told(net);
    service.at_birth = [&](Served *session) {
        session->in_place = in_place;
        session->at_peer_closed = std::ref(told);
    };
    service.at_request = service.hold();
    service.start();

    Peer peer(service.address());
    peer.send("ping\n");
    Served *session = service.requests.take();
    peer.reset();
    wire::until([&] { return !session->target()->has_idle_conn(); });
    net.settle();
    CHECK(told.times == expected);
    CHECK(told.on_loop == expected);
    CHECK(net.comm.reply(session) == -1);
    CHECK(errno == ENOENT);
    delete session;
}

TEST_CASE("a bare FIN is not the end of the peer: the reply still goes out") {
    Net net;
    Service service(net.comm);
    Told told(net);
    service.at_birth = [&](Served *session) {
        session->in_place = true;
        session->at_peer_closed = std::ref(told);
    };
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    peer.finish();
    Served *session = service.requests.take();
    net.settle();
    CHECK(session->target()->has_idle_conn());
    CHECK(session->reply("pong\n") == 0);
    CHECK(peer.rest() == "pong\n");
    CHECK(service.ends.take() == success(0));
    CHECK(told.times == 0);
}

TEST_CASE("handle_half_closed tells a session that is handled in place, once, and its reply goes out") {
    bool in_place = true, at_once = false;
    SUBCASE("the FIN comes later") {}
    SUBCASE("the FIN comes with the request") {
        at_once = true;
    }
    SUBCASE("not in place") {
        in_place = false;
    }
    Net net;
    Service service(net.comm);
    Told told(net);
    service.at_birth = [&](Served *session) {
        session->in_place = in_place;
        session->at_half_closed = std::ref(told);
    };
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    if (at_once)
        peer.finish();
    Served *session = service.requests.take();
    if (!at_once) {
        net.settle();
        CHECK(told.times == 0);
        peer.finish();
    }
    if (in_place)
        wire::until([&] { return told.times > 0; });
    net.settle();
    CHECK(session->reply("pong\n") == 0);
    CHECK(peer.rest() == "pong\n");
    CHECK(service.ends.take() == success(0));
    CHECK(told.times == in_place);
    CHECK(told.on_loop == in_place);
}

TEST_CASE("a session may delete itself in handle_half_closed") {
    Net net;
    Service service(net.comm);
    service.at_birth = [&](Served *session) {
        session->in_place = true;
        session->at_half_closed = [](Served *self) { delete self; };
    };
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    service.requests.take();
    peer.finish();
    CHECK(peer.rest().empty());
}

TEST_CASE("a session may delete itself in handle_peer_closed") {
    Net net;
    Service service(net.comm, wire::Address::local());
    int requests = 1;
    SUBCASE("the only one of its connection") {
        requests = service.pipeline = 1;
    }
    SUBCASE("one of as many as there may be") {
        requests = service.pipeline = 4;
    }
    SUBCASE("one of several") {
        service.pipeline = 4;
        requests = 2;
    }
    service.at_birth = [&](Served *session) {
        session->in_place = true;
        session->at_peer_closed = [](Served *self) { delete self; };
    };
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    for (int i = 0; i < requests; i++) {
        peer.send("ping\n");
        service.requests.take();
    }
    peer.close(); // AF_UNIX: both directions at once
    wire::until([&] { return service.sessions.dead == requests; });
    service.stop();
    CHECK(service.ends.size() == 0);
}
