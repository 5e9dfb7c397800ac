// Stream mode, the service's side and the client's: announce(), pause() and resume(), output in pieces, and
// how it all ends.

#include "streaming.h"

#include <thread>

#include "clocks.h"
#include "tls_peers.h"

using namespace streaming;
using wire::Listener;
using wire::Peer;

namespace {

constexpr int64_t second = 1000000000;
const Event replied = {"end", CS_STATE_SUCCESS, 0, CC_NONE};

} // namespace

TEST_CASE("an announced request is replied to while it still comes") {
    Net net;
    Service service(net.comm);
    wire::Inbox<Served *> requests;
    service.at_request = [&](Served *session) { requests.put(session); };
    service.start();
    Peer peer(service.address);
    peer.send("6\nabc");
    Served *session = requests.take();
    net.on_loop([&] {
        CHECK(session->in.bytes == "abc");
        CHECK(session->get_wait() == CC_RECEIVE);
        CHECK(Push::of(net.comm, session, "early\n") == 0);
    });
    CHECK(peer.line() == "early\n");
    peer.send("def");
    while (true) {
        bool all = false;
        net.on_loop([&] { all = session->in.bytes == "abcdef"; });
        if (all)
            break;
    }
    net.on_loop([&] { CHECK(session->reply("late\n") == 0); });
    CHECK(peer.line() == "late\n");
    CHECK(service.events.take() == replied);
}

TEST_CASE("what follows an announced request is the next one") {
    Net net;
    Service service(net.comm);
    SUBCASE("one at a time") {}
    SUBCASE("pipelined") {
        service.pipeline = 3;
    }
    service.at_request = [](Served *session) {
        session->in.announces ? session->reply(session->in.bytes + "\n") : session->reply("?");
    };
    // The first announces, but its reply may not be written before it is complete, or the connection closes:
    // so the reply comes from where it is complete.
    service.at_birth = [&](Served *session) {
        session->in.at_bytes = [session](const char *data, size_t n) { session->in.bytes.append(data, n); };
    };
    service.start();
    Peer peer(service.address);
    peer.send("3\nabc2\nxy1\nz"); // each is whole in one append(): announce() does nothing
    CHECK(peer.read(9) == "abc\nxy\nz\n");
    CHECK(service.events.take(3) == std::vector<Event>(3, replied));
}

TEST_CASE("an announced request that has come to its end leaves the connection to the next") {
    Net net;
    Service service(net.comm);
    wire::Inbox<Served *> requests;
    service.at_request = [&](Served *session) { requests.put(session); };
    service.start();
    Peer peer(service.address);
    for (int round = 0; round < 3; round++) {
        peer.send("4\nab");
        Served *session = requests.take();
        peer.send("cd");
        bool whole = false;
        while (!whole)
            net.on_loop([&] { whole = session->in.left == 0; });
        net.on_loop([&] { CHECK(session->reply(session->in.bytes + "\n") == 0); });
        CHECK(peer.line() == "abcd\n");
        CHECK(service.events.take() == replied);
    }
}

TEST_CASE("a paused message holds its sender back, and resume() lets it go on") {
    const std::string all = pattern(size_t{8} << 20);
    peers::Context context = peers::server_context(), trust = peers::client_context();
    Net net;
    SSL_CTX *tls = nullptr;
    SUBCASE("TCP") {}
    SUBCASE("TLS") {
        tls = context.get();
    }
    Service service(net.comm, -1, tls);
    wire::Inbox<Served *> requests;
    service.at_birth = [](Served *session) { session->in.room = 100; };
    service.at_request = [&](Served *session) { requests.put(session); };
    service.start();

    std::thread sender;
    std::string answer;
    auto talk = [&](auto &peer) {
        peer.send(std::to_string(all.size()) + "\n");
        peer.send(all);
    };
    std::unique_ptr<Peer> plain;
    std::unique_ptr<peers::TlsPeer> secure;
    if (tls == nullptr) {
        plain = std::make_unique<Peer>(service.address);
        sender = std::thread([&] { talk(*plain); });
    } else {
        peers::Address to = peers::local_address(service);
        secure = std::make_unique<peers::TlsPeer>(peers::TlsPeer::connected(to, trust.get()));
        sender = std::thread([&] {
            CHECK(secure->handshake());
            talk(*secure);
        });
    }
    Served *session = requests.take();
    net.settle();
    net.on_loop([&] {
        CHECK(session->in.taken <= 100);
        CHECK(session->get_wait() == (session->in.room == 0 ? CC_NONE : CC_RECEIVE));
    });
    size_t most = 0;
    bool whole = false;
    while (!whole) {
        net.on_loop([&] {
            if (session->in.room == 0) {
                session->in.room = 300000;
                most = std::max(most, session->in.bytes.size());
                CHECK(all.compare(session->in.taken - session->in.bytes.size(), session->in.bytes.size(),
                                  session->in.bytes) == 0);
                session->in.bytes.clear();
                CHECK(net.comm.resume(session) == 0);
                CHECK(net.comm.resume(session) == -1);
                CHECK(errno == ENOENT);
            }
            whole = session->in.left == 0;
        });
    }
    CHECK(most == 300000);
    sender.join();
    net.on_loop([&] {
        CHECK(session->in.taken == all.size());
        CHECK(session->reply("done\n") == 0);
    });
    CHECK((tls == nullptr ? plain->line() : secure->receive(5)) == "done\n");
    CHECK(service.events.take() == replied);
}

TEST_CASE("both directions of a connection at once, in bounded memory") {
    const std::string all = pattern(size_t{4} << 20);
    Net net;
    Service service(net.comm);
    size_t queued = 0, most = 0;
    service.at_request = [&](Served *session) {
        // An echo: what came is pushed, and no more is read than two pieces ahead.
        session->in.room = 65536;
        session->in.at_bytes = [&, session](const char *data, size_t n) {
            queued += n;
            most = std::max(most, queued);
            CHECK(Push::of(net.comm, session, std::string(data, n), [&, session, n](int state, int) {
                      CHECK(state == CS_STATE_SUCCESS);
                      queued -= n;
                      session->in.room += n;
                      if (session->in.left > 0)
                          net.comm.resume(session); // refused unless it has paused
                      else if (queued == 0)
                          session->reply("");
                  }) == 0);
        };
        if (!session->in.bytes.empty())
            session->in.at_bytes(session->in.bytes.data(), session->in.bytes.size());
    };
    service.at_birth = [](Served *session) { session->in.room = 1; };
    service.start();
    Peer peer(service.address);
    std::thread sender([&] {
        peer.send(std::to_string(all.size()) + "\n");
        peer.send(all);
    });
    CHECK((peer.read(all.size()) == all));
    sender.join();
    CHECK(service.events.take() == replied);
    CHECK(most <= 65537);
}

TEST_CASE("a message that is cut off is told, then its session") {
    Net net;
    int response_ms = -1;
    std::function<void(Peer &)> cut;
    std::vector<Event> expected;
    bool answers = false;
    SUBCASE("by a FIN: it can still be replied to") {
        cut = [](Peer &peer) { peer.finish(); };
        expected = {{"interrupted", CS_STATE_ERROR, ECONNRESET, CC_EOF}};
        answers = true;
    }
    SUBCASE("by a reset") {
        cut = [](Peer &peer) { peer.reset(); };
        expected = {{"interrupted", CS_STATE_ERROR, ECONNRESET, CC_RECEIVE}, {"peer closed"}};
    }
    SUBCASE("by silence") {
        response_ms = 30;
        cut = [](Peer &) {};
        expected = {{"interrupted", CS_STATE_ERROR, ETIMEDOUT, CC_GAP}, {"peer closed"}};
    }
    Service service(net.comm, response_ms);
    wire::Inbox<Served *> requests;
    service.at_request = [&](Served *session) { requests.put(session); };
    service.start();
    Peer peer(service.address);
    peer.send("10\nabc");
    Served *session = requests.take();
    cut(peer);
    for (const Event &one : expected)
        CHECK(service.events.take() == one);
    if (answers) {
        net.on_loop([&] { CHECK(session->reply("sorry\n") == 0); });
        CHECK(peer.rest() == "sorry\n");
        CHECK(service.events.take() == replied);
    }
    net.on_loop([&] { CHECK(service.alive == 0); });
}

TEST_CASE("the total time of an announced message begins with it") {
    Net net;
    Service service(net.comm);
    CommDeadlines limits;
    limits.first_message = 60000;
    service.set_deadlines(limits);
    service.at_birth = [](Served *session) { session->receive = 30; };
    service.at_request = [](Served *) {};
    service.start();
    Peer peer(service.address);
    peer.send("10\nabc");
    CHECK(service.events.take() == Event{"interrupted", CS_STATE_ERROR, ETIMEDOUT, CC_RECEIVE});
    CHECK(service.events.take() == Event{"peer closed"});
    CHECK(peer.rest().empty());
}

TEST_CASE("a reply that is written before the message is complete closes the connection") {
    Net net;
    Service service(net.comm);
    service.at_request = [](Served *session) { CHECK(session->reply("enough\n") == 0); };
    service.start();
    Peer peer(service.address);
    peer.send("1000\nabc");
    CHECK(peer.line() == "enough\n");
    CHECK(service.events.take() == Event{"interrupted", CS_STATE_ERROR, ECANCELED, CC_CANCEL});
    CHECK(service.events.take() == replied);
    CHECK(peer.rest().empty());
}

TEST_CASE("the session of an announced message may be deleted at any time") {
    Net net;
    Service service(net.comm);
    wire::Inbox<Served *> requests;
    SUBCASE("where it is announced") {
        service.at_request = [&](Served *session) {
            delete session;
            requests.put(nullptr);
        };
    }
    SUBCASE("among its bytes") {
        service.at_request = [&](Served *session) { requests.put(session); };
    }
    SUBCASE("paused") {
        service.at_birth = [](Served *session) { session->in.room = 2; };
        service.at_request = [&](Served *session) { requests.put(session); };
    }
    service.start();
    Peer peer(service.address);
    peer.send("1000\nabc");
    if (Served *session = requests.take())
        net.on_loop([&] { delete session; });
    CHECK(peer.rest().empty());
    net.on_loop([&] { CHECK(service.alive == 0); });
}

TEST_CASE("announce() needs a session that is handled in place") {
    Net net;
    Service service(net.comm);
    service.at_birth = [](Served *session) { session->in_place = false; };
    service.start();
    Peer peer(service.address);
    peer.send("1000\nabc");
    CHECK(service.events.take() == Event{"end", CS_STATE_ERROR, ENOTSUP, CC_RECEIVE});
    CHECK(peer.rest().empty());
}

TEST_CASE("cancelled or stopped, an announced message is interrupted") {
    auto net = std::make_unique<Net>();
    auto service = std::make_unique<Service>(net->comm);
    wire::Inbox<Served *> requests;
    service->at_request = [&](Served *session) { requests.put(session); };
    service->start();
    Peer peer(service->address);
    peer.send("1000\nabc");
    Served *session = requests.take();
    SUBCASE("cancelled") {
        net->on_loop([&] { CHECK(net->comm.cancel(session) == 0); });
        CHECK(service->events.take() == Event{"interrupted", CS_STATE_ERROR, ECANCELED, CC_CANCEL});
    }
    SUBCASE("stopped") {
        net->comm.deinit();
        CHECK(service->events.take() == Event{"interrupted", CS_STATE_STOPPED, 0, CC_STOP});
    }
    CHECK(peer.rest().empty());
    // As ever, whoever awaits its reply is not told: reply() says it.
    CHECK(session->reply("?") == -1);
    CHECK(errno == ENOENT);
    delete session;
}

TEST_CASE("half_close() sends a FIN behind all output, and input goes on") {
    peers::Context context = peers::server_context(), trust = peers::client_context();
    Net net;
    SUBCASE("TCP") {
        Service service(net.comm);
        wire::Inbox<Served *> requests;
        service.at_request = [&](Served *session) {
            CHECK(Push::of(net.comm, session, std::string(3000000, 'x')) == 0);
            CHECK(net.comm.half_close(session) == 0);
            requests.put(session);
        };
        service.start();
        Peer peer(service.address);
        peer.send("6\nabc");
        CHECK((peer.rest() == std::string(3000000, 'x')));
        Served *session = requests.take();
        peer.send("def");
        bool whole = false;
        while (!whole)
            net.on_loop([&] { whole = session->in.bytes == "abcdef"; });
        net.on_loop([&] { delete session; });
    }
    SUBCASE("TLS") {
        Service service(net.comm, -1, context.get());
        wire::Inbox<Served *> requests;
        service.at_request = [&](Served *session) {
            CHECK(Push::of(net.comm, session, "bye") == 0);
            CHECK(net.comm.half_close(session) == 0);
            requests.put(session);
        };
        service.start();
        auto peer = peers::TlsPeer::connected(peers::local_address(service), trust.get());
        REQUIRE(peer.handshake());
        peer.send("6\nabc");
        CHECK(peer.rest() == "bye");
        CHECK(peer.end() == SSL_ERROR_ZERO_RETURN);
        Served *session = requests.take();
        net.on_loop([&] { delete session; });
    }
}

TEST_CASE("behind a FIN of ours nothing else is exchanged") {
    Net net;
    SUBCASE("a client's connection is not kept") {
        Listener listener;
        scripted::Target target(listener.address());
        Client first("head\n"), next("next\n");
        first.more = true;
        wire::Inbox<bool> ready;
        first.at_more = [&] { ready.put(true); };
        CHECK(net.comm.request(&first, &target) == 0);
        Peer peer = listener.accept();
        ready.take();
        net.on_loop([&] {
            CHECK(net.comm.end_output(&first) == 0);
            CHECK(net.comm.half_close(&first) == 0);
        });
        CHECK(peer.rest() == "head\n");
        peer.send("2\nok");
        CHECK(first.ends.take() == scripted::success(0));
        CHECK(net.comm.request(&next, &target) == 0);
        Peer other = listener.accept();
        CHECK(other.line() == "next\n");
        other.send("1\n!");
        CHECK(next.ends.take() == scripted::success(0));
    }
    SUBCASE("a service's connection is closed") {
        Service service(net.comm);
        service.at_request = [&](Served *session) {
            CHECK(Push::of(net.comm, session, "bye\n") == 0);
            CHECK(net.comm.half_close(session) == 0);
            CHECK(session->reply("") == 0);
        };
        service.start();
        Peer peer(service.address);
        peer.send("1\nx");
        CHECK(peer.rest() == "bye\n");
        CHECK(service.events.take() == replied);
        wire::until([&] { return net.comm.loop(0)->connections() == 0; }); // by us: the peer is still there
    }
}

TEST_CASE("a client's request in pieces, and the connection serves again") {
    Net net;
    Listener listener;
    scripted::Target target(listener.address());
    Client first("head\n"), again("again\n");
    first.more = true;
    wire::Inbox<bool> ready;
    first.at_more = [&] { ready.put(true); };
    CHECK(net.comm.request(&first, &target) == 0);
    Peer peer = listener.accept();
    CHECK(peer.line() == "head\n");
    ready.take();
    net.on_loop([&] {
        CHECK(Push::of(net.comm, &first, "piece\n") == 0);
        CHECK(Push::of(net.comm, &first, "and piece\n") == 0);
    });
    CHECK(peer.line() == "piece\n");
    CHECK(peer.line() == "and piece\n");
    net.on_loop([&] {
        CHECK(net.comm.end_output(&first) == 0);
        CHECK(net.comm.end_output(&first) == -1);
        CHECK(errno == ENOENT);
        CHECK(Push::of(net.comm, &first, "late\n") == -1);
        CHECK(errno == ENOENT);
    });
    peer.send("2\nok");
    CHECK(first.ends.take() == scripted::success(0));
    CHECK(first.in.bytes == "ok");
    CHECK(net.comm.request(&again, &target) == 0);
    CHECK(peer.line() == "again\n");
    peer.send("1\n!");
    CHECK(again.ends.take() == scripted::success(1));
}

TEST_CASE("the answer's time runs from the end of the request") {
    fixture::Clocks world;
    fixture::InstalledWorld installed(world);
    Net net;
    Listener listener;
    scripted::Target target(listener.address(), -1, 5000); // the longest gap, ms
    Client client("head\n");
    client.more = true;
    wire::Inbox<bool> ready;
    client.at_more = [&] { ready.put(true); };
    CHECK(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    ready.take();
    world.pass(net, 3600 * second);
    CHECK(client.ends.size() == 0);
    net.on_loop([&] { CHECK(net.comm.end_output(&client) == 0); });
    world.pass(net, 4 * second);
    CHECK(client.ends.size() == 0);
    world.pass(net, 2 * second);
    CHECK(client.ends.take() == End{CS_STATE_ERROR, ETIMEDOUT, CC_FIRST_BYTE, 0});
}

TEST_CASE("no gap is counted while a message is paused") {
    fixture::Clocks world;
    fixture::InstalledWorld installed(world);
    Net net;
    Service service(net.comm, 5000);
    wire::Inbox<Served *> requests;
    service.at_birth = [](Served *session) { session->in.room = 2; };
    service.at_request = [&](Served *session) { requests.put(session); };
    service.start();
    Peer peer(service.address);
    peer.send("10\nabc");
    Served *session = requests.take();
    world.pass(net, 3600 * second);
    CHECK(service.events.size() == 0);
    net.on_loop([&] {
        session->in.room = 100;
        CHECK(net.comm.resume(session) == 0);
    });
    net.settle();
    net.on_loop([&] { CHECK(session->in.bytes == "abc"); });
    world.pass(net, 4 * second);
    CHECK(service.events.size() == 0);
    world.pass(net, 2 * second);
    CHECK(service.events.take() == Event{"interrupted", CS_STATE_ERROR, ETIMEDOUT, CC_GAP});
    CHECK(service.events.take() == Event{"peer closed"});
}

TEST_CASE("an answer that is complete before the request ends the session and the connection") {
    Net net;
    Listener listener;
    scripted::Target target(listener.address());
    Client client("head\n");
    client.more = true;
    wire::Inbox<bool> ready;
    client.at_more = [&] { ready.put(true); };
    CHECK(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    ready.take();
    wire::Inbox<int> pushes;
    SUBCASE("nothing is queued") {}
    SUBCASE("a piece is on its way") {
        net.on_loop([&] {
            CHECK(Push::of(net.comm, &client, std::string(size_t{16} << 20, 'x'),
                           [&](int state, int) { pushes.put(state); }) == 0);
        });
    }
    peer.send("2\nno");
    CHECK(client.ends.take() == scripted::success(0));
    net.on_loop([&] {
        CHECK(Push::of(net.comm, &client, "late\n") == -1);
        CHECK(errno == ENOENT);
        CHECK(net.comm.end_output(&client) == -1);
        CHECK(errno == ENOENT);
    });
    peer.rest();
    if (pushes.size() != 0)
        CHECK(pushes.take() == CS_STATE_ERROR);
}

TEST_CASE("a client's answer is read as fast as its reader wants it") {
    const std::string all = pattern(size_t{4} << 20);
    Net net;
    Listener listener;
    scripted::Target target(listener.address(), -1, -1);
    Client client;
    client.in.room = 1000;
    CHECK(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    CHECK(peer.line() == "go\n");
    bool closes = false;
    SUBCASE("the connection stays") {}
    SUBCASE("the peer closes behind it") {
        closes = true;
    }
    std::thread sender([&] {
        peer.send(std::to_string(all.size()) + "\n");
        peer.send(all);
        if (closes)
            peer.close();
    });
    while (client.ends.size() == 0) {
        net.on_loop([&] {
            if (client.in.room == 0) {
                client.in.room = 100000;
                CHECK(net.comm.resume(&client) == 0);
            }
        });
    }
    CHECK(client.ends.take() == scripted::success(0));
    CHECK((client.in.bytes == all));
    sender.join();
}

TEST_CASE("the calls of stream mode refuse what they cannot do") {
    Net net;
    Service service(net.comm);
    wire::Inbox<Served *> requests;
    service.at_request = [&](Served *session) { requests.put(session); };
    service.start();
    Peer peer(service.address);
    peer.send("10\nabc");
    Served *session = requests.take();
    CHECK(net.comm.resume(session) == -1); // on another thread
    CHECK(errno == EPERM);
    CHECK(net.comm.half_close(session) == -1);
    CHECK(errno == EPERM);
    net.on_loop([&] {
        CHECK(net.comm.resume(session) == -1); // not paused
        CHECK(errno == ENOENT);
        CHECK(net.comm.end_output(session) == -1); // a service's
        CHECK(errno == EINVAL);
        Client never;
        CHECK(net.comm.resume(&never) == -1);
        CHECK(errno == ENOENT);
        CHECK(net.comm.end_output(&never) == -1);
        CHECK(errno == ENOENT);
        delete session;
    });
}
