// Answering a request: on the loop and from elsewhere, at once and slowly, well and badly, and what
// becomes of a session that is not answered.

#include "scripted.h"

#include <latch>
#include <thread>

using namespace scripted;
using wire::Peer;

namespace {

const std::string large = std::string(size_t{1} << 20, 'x') + "\n"; // more than small buffers hold

} // namespace

TEST_CASE("a reply that the socket takes at once has been handled before reply returns") {
    Net net;
    Service service(net.comm);
    bool handled = false, handled_in_reply = false;
    bool deletes_itself = false;
    SUBCASE("and its session is deleted in handle") {
        deletes_itself = true;
    }
    SUBCASE("and its session lives on") {
        deletes_itself = false;
    }
    service.at_birth = [&](Served *session) { session->stays = !deletes_itself; };
    service.at_end = [&](Served *, const End &) { handled = true; };
    int result = -1;
    service.at_request = [&](Served *session) {
        result = session->reply("pong\n");
        handled_in_reply = handled;
        if (!deletes_itself)
            delete session;
    };
    service.start();

    Peer peer(service.address());
    peer.send("ping\n");
    CHECK(peer.line() == "pong\n");
    CHECK(service.ends.take() == success(0));
    service.stop();
    CHECK(result == 0);
    CHECK(handled_in_reply);
    CHECK(service.sessions.dead == 1);
}

TEST_CASE("a reply to a slow reader is handled when the kernel has its last byte") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    std::atomic<bool> handled{false};
    bool handled_in_reply = true, deletes_itself = false;
    SUBCASE("and its session is deleted in handle") {
        deletes_itself = true;
    }
    SUBCASE("and its session lives on") {
        deletes_itself = false;
    }
    service.at_birth = [&](Served *session) { session->stays = !deletes_itself; };
    service.at_end = [&](Served *, const End &) { handled = true; };
    wire::Inbox<Served *> replied;
    int result = -1;
    service.at_request = [&](Served *session) {
        result = session->reply(large);
        handled_in_reply = handled;
        replied.put(session);
    };
    service.start();

    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    Served *session = replied.take();
    net.settle();
    CHECK_FALSE(handled);
    CHECK((peer.line() == large));
    CHECK(service.ends.take() == success(0));
    if (!deletes_itself)
        delete session;
    service.stop();
    CHECK(result == 0);
    CHECK_FALSE(handled_in_reply);
    CHECK(service.sessions.dead == 1);
}

TEST_CASE("a reply that cannot be encoded returns 0, fails later and closes") {
    Net net;
    Service service(net.comm);
    bool handled = false, handled_in_reply = true, deletes_itself = false;
    SUBCASE("and its session is deleted in handle") {
        deletes_itself = true;
    }
    SUBCASE("and its session lives on") {
        deletes_itself = false;
    }
    service.at_birth = [&](Served *session) {
        session->stays = !deletes_itself;
        session->out.script = [](struct iovec *, int) {
            errno = ENODATA;
            return -1;
        };
    };
    service.at_end = [&](Served *, const End &) { handled = true; };
    int result = -1;
    Served *kept = nullptr;
    service.at_request = [&](Served *session) {
        kept = session;
        result = session->reply("");
        handled_in_reply = handled;
    };
    service.start();

    Peer peer(service.address());
    peer.send("ping\n");
    CHECK(peer.rest().empty());
    CHECK(service.ends.take() == End{CS_STATE_ERROR, ENODATA, CC_SEND, 0});
    if (!deletes_itself)
        delete kept;
    service.stop();
    CHECK(result == 0);
    CHECK_FALSE(handled_in_reply);
}

TEST_CASE("a reply whose reader resets the connection in the middle ends with an error, once") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    wire::Inbox<int> replied;
    service.at_request = [&](Served *session) { replied.put(session->reply(large)); };
    service.start();

    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    CHECK(replied.take() == 0);
    CHECK(peer.read(1000).size() == 1000);
    peer.reset();
    End end = service.ends.take();
    CHECK(end.state == CS_STATE_ERROR);
    CHECK((end.error == ECONNRESET || end.error == EPIPE));
    service.stop();
    CHECK(service.ends.size() == 0);
    CHECK(service.sessions.dead == 1);
}

TEST_CASE("a session is replied to once: a second reply returns ENOENT") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    std::string answer;
    SUBCASE("while the first is being written") {
        answer = large;
    }
    SUBCASE("after the first was written") {
        answer = "pong\n";
    }
    int second = 0, error = 0;
    service.at_birth = [](Served *session) { session->stays = true; };
    wire::Inbox<Served *> sessions;
    service.at_request = [&](Served *session) {
        session->reply(answer);
        second = service.comm.reply(session);
        error = errno;
        sessions.put(session);
    };
    service.start();

    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    CHECK((peer.line() == answer));
    CHECK(service.ends.take() == success(0));
    delete sessions.take();
    CHECK(second == -1);
    CHECK(error == ENOENT);
    CHECK(service.ends.size() == 0);
}

TEST_CASE("a reply to a vanished peer returns ENOENT and leaves the session with the caller") {
    Net net;
    Service service(net.comm);
    service.at_request = service.hold();
    service.start();

    Peer peer(service.address());
    peer.send("ping\n");
    Served *session = service.requests.take();
    CHECK(session->target()->has_idle_conn());
    peer.reset();
    wire::until([&] { return !session->target()->has_idle_conn(); });
    SUBCASE("from another thread") {
        CHECK(session->reply("pong\n") == -1);
        CHECK(errno == ENOENT);
    }
    SUBCASE("on the loop") {
        net.on_loop([&] {
            CHECK(session->reply("pong\n") == -1);
            CHECK(errno == ENOENT);
        });
    }
    CHECK(session->out.encoded == 0);
    CHECK(session->connection()->number == 0); // pinned by its session
    CHECK(service.connections->dead == 0);
    delete session;
    service.stop();
    CHECK(service.ends.size() == 0);
    CHECK(service.connections->dead == 1);
}

TEST_CASE("a reply from another thread is sent and handled on the loop") {
    size_t handlers = 0;
    SUBCASE("which runs the callbacks") {
        handlers = 0;
    }
    SUBCASE("or its handler threads do") {
        handlers = 2;
    }
    Net net(1, handlers);
    Service service(net.comm);
    service.use_small_buffers();
    service.at_request = service.hold();
    service.start();

    Peer peer(service.address(), 4096);
    for (int i = 0; i < 3; i++) {
        peer.send("ping\n");
        std::string answer = i == 1 ? large : "pong\n";
        CHECK(service.requests.take()->reply(answer) == 0);
        CHECK((peer.line() == answer));
        CHECK(service.ends.take() == success(i));
    }
}

TEST_CASE("reply and request leave errno alone when they succeed") {
    Net net;
    Service service(net.comm);
    int seen = 0;
    service.at_request = [&](Served *session) {
        errno = 4711;
        session->reply("pong\n");
        seen = errno;
    };
    service.start();
    Target target(service.address());
    Client client;
    errno = 4712;
    CHECK(net.comm.request(&client, &target) == 0);
    CHECK(errno == 4712);
    CHECK(client.end() == success(0));
    CHECK(seen == 4711);
    client.timeouts.keep_alive = 0;
    net.on_loop([&] {
        errno = 4713;
        CHECK(net.comm.request(&client, &target) == 0);
        CHECK(errno == 4713);
    });
    CHECK(client.end() == success(1));
}

TEST_CASE("shutdown closes without a reply and leaves the session with the caller") {
    Net net;
    Service service(net.comm);
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    Served *session = service.requests.take();
    auto act = [&] {
        CHECK(net.comm.shutdown(session) == 0);
        CHECK(net.comm.shutdown(session) == -1);
        CHECK(errno == ENOENT);
        CHECK(net.comm.reply(session) == -1);
        CHECK(errno == ENOENT);
        CHECK_FALSE(session->target()->has_idle_conn());
    };
    SUBCASE("from another thread") {
        act();
    }
    SUBCASE("on the loop") {
        net.on_loop(act);
    }
    CHECK(peer.rest().empty());
    delete session;
    service.stop();
    CHECK(service.ends.size() == 0);
    CHECK(service.connections->dead == 1);
}

TEST_CASE("shutdown is for sessions of a service that were not replied to") {
    Net net;
    Service service(net.comm);
    Client client;
    CHECK(net.comm.shutdown(&client) == -1);
    CHECK(errno == EINVAL);
    service.at_birth = [](Served *session) { session->stays = true; };
    int result = 0, error = 0;
    service.at_request = [&](Served *session) {
        session->reply("pong\n");
        result = net.comm.shutdown(session);
        error = errno;
        delete session;
    };
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    CHECK(peer.line() == "pong\n");
    net.settle();
    CHECK(result == -1);
    CHECK(error == ENOENT);
}

TEST_CASE("deleting a session that was not replied to closes its connection") {
    Net net;
    Service service(net.comm);
    Peer *client = nullptr;
    SUBCASE("in handle") {
        service.at_request = [](Served *session) { delete session; };
        service.start();
        Peer peer(service.address());
        client = &peer;
        peer.send("ping\n");
        CHECK(peer.rest().empty());
    }
    SUBCASE("on another thread") {
        service.at_request = service.hold();
        service.start();
        Peer peer(service.address());
        client = &peer;
        peer.send("ping\n");
        delete service.requests.take();
        CHECK(peer.rest().empty());
    }
    CHECK(client != nullptr);
    service.stop();
    CHECK(service.ends.size() == 0);
    CHECK(service.connections->dead == 1);
}

TEST_CASE("has_idle_conn of a service target says whether a reply is still awaited") {
    Net net;
    Service service(net.comm);
    service.at_birth = [](Served *session) { session->stays = true; };
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    Served *session = service.requests.take();
    CHECK(session->target()->has_idle_conn());
    CHECK(session->reply("pong\n") == 0);
    CHECK(service.ends.take() == success(0));
    CHECK_FALSE(session->target()->has_idle_conn());
    delete session;
}

TEST_CASE("keep_alive_timeout 0 closes after the reply is flushed") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    std::string answer;
    SUBCASE("a small one") {
        answer = "pong\n";
    }
    SUBCASE("a large one") {
        answer = large;
    }
    service.at_birth = [](Served *session) { session->timeouts.keep_alive = 0; };
    service.at_request = [&](Served *session) { session->reply(answer); };
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    CHECK((peer.rest() == answer));
    CHECK_FALSE(peer.was_reset());
    CHECK(service.ends.take() == success(0));
}

TEST_CASE("completions run on handler threads unless the session is handled in place") {
    Net net(1, 1);
    Service service(net.comm);
    bool in_place = false;
    SUBCASE("on a handler thread") {
        in_place = false;
    }
    SUBCASE("in place") {
        in_place = true;
    }
    service.at_birth = [&](Served *session) { session->in_place = in_place; };
    wire::Inbox<int> handler;
    auto look = [&] {
        handler.put(net.comm.is_handler_thread());
        CHECK((CommLoop::current() != nullptr) == in_place);
    };
    service.at_request = [&](Served *session) {
        look();
        session->reply("pong\n");
    };
    service.at_end = [&](Served *, const End &) { look(); };
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    CHECK(peer.line() == "pong\n");
    CHECK(service.ends.take() == success(0));
    CHECK(handler.take(2) == std::vector<int>(2, !in_place));
}

TEST_CASE("a reply from another thread that races a reset either fails or is handled once") {
    Net net;
    Service service(net.comm);
    service.at_request = service.hold();
    service.start();
    int refused = 0, handled = 0;
    for (int i = 0; i < 300; i++) {
        Peer peer(service.address());
        peer.send("ping\n");
        Served *session = service.requests.take();
        std::latch start(2);
        std::thread closer([&] {
            start.arrive_and_wait();
            peer.reset();
        });
        start.arrive_and_wait();
        if (session->reply("pong\n") < 0) {
            CHECK(errno == ENOENT);
            refused++;
            delete session;
        } else {
            service.ends.take();
            handled++;
        }
        closer.join();
    }
    service.stop();
    CHECK(refused + handled == 300);
    CHECK(service.ends.size() == 0);
    CHECK(service.sessions.dead == 300);
    CHECK(service.connections->dead == 300);
}

TEST_CASE("a session deleted on another thread while its peer resets is gone once") {
    Net net(2);
    Service service(net.comm);
    service.at_birth = [](Served *session) { session->in_place = false; };
    service.at_request = service.hold();
    service.start();
    for (int i = 0; i < 300; i++) {
        Peer peer(service.address());
        peer.send("ping\n");
        Served *session = service.requests.take();
        std::thread closer([&] { peer.reset(); });
        delete session;
        closer.join();
    }
    service.stop();
    CHECK(service.sessions.dead == 300);
    CHECK(service.connections->dead == 300);
}

TEST_CASE("a stop leaves a session that awaits its reply to its owner") {
    auto net = std::make_unique<Net>();
    Service service(net->comm);
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    Served *session = service.requests.take();
    net->comm.deinit();
    CHECK(service.stops.take() == 0);
    CHECK(session->reply("pong\n") == -1);
    CHECK(errno == ENOENT);
    CHECK(peer.rest().empty());
    delete session;
    service.stop();
    CHECK(service.ends.size() == 0);
}
