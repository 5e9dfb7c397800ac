// Many requests on one connection, both directions at once, and streams that end too early, too late
// or in pieces.

#include "scripted.h"

#include <algorithm>
#include <thread>

using namespace scripted;
using wire::Listener;
using wire::Peer;

namespace {

std::string numbered(int from, int to) {
    std::string lines;
    for (int i = from; i < to; i++)
        lines += std::to_string(i) + "\n";
    return lines;
}

// Sends on a thread of its own while the test reads.
class Sender {
public:
    Sender(Peer &peer, std::string what) : thread_([&peer, bytes = std::move(what)] { peer.send(bytes); }) {}
    ~Sender() { thread_.join(); }

private:
    std::thread thread_;
};

} // namespace

TEST_CASE("pipelined requests are all answered, in order, with inline replies") {
    Net net;
    Service service(net.comm);
    SUBCASE("one at a time") {
        service.pipeline = 1;
    }
    SUBCASE("four at a time") {
        service.pipeline = 4;
    }
    service.start();
    for (int n : {1, 3, 200}) {
        Peer peer(service.address());
        peer.send(numbered(0, n));
        for (int i = 0; i < n; i++)
            CHECK(peer.line() == std::to_string(i) + "\n");
        for (int i = 0; i < n; i++)
            CHECK(service.ends.take() == success(i));
    }
}

TEST_CASE("a hundred thousand tiny requests in one go are all answered, in order") {
    Net net;
    Service service(net.comm);
    SUBCASE("one at a time") {
        service.pipeline = 1;
    }
    SUBCASE("sixteen at a time") {
        service.pipeline = 16;
    }
    service.start();
    Peer peer(service.address());
    std::string all = numbered(0, 100000), got;
    {
        Sender sender(peer, all);
        got = peer.read(all.size());
    }
    CHECK((got == all));
    service.stop();
    CHECK(service.ends.size() == 100000);
    CHECK(service.sessions.dead == 100000);
}

TEST_CASE("pipelined requests are answered when handlers reply, or another thread does") {
    size_t handlers = 0;
    bool inline_reply = false;
    SUBCASE("handlers, in handle") {
        handlers = 2;
        inline_reply = true;
    }
    SUBCASE("another thread, beside handlers") {
        handlers = 2;
    }
    SUBCASE("another thread") {}
    for (int width : {1, 3}) {
        CAPTURE(width);
        Net net(1, handlers);
        Service service(net.comm);
        service.pipeline = width;
        if (!inline_reply)
            service.at_request = service.hold();
        service.start();
        Peer peer(service.address());
        constexpr int n = 30;
        peer.send(numbered(0, n));
        for (int i = 0; i < n && !inline_reply; i++) {
            Served *session = service.requests.take();
            CHECK(session->reply(session->asked()) == 0);
        }
        CHECK(peer.read(numbered(0, n).size()) == numbered(0, n));
        for (int i = 0; i < n; i++)
            CHECK(service.ends.take().state == CS_STATE_SUCCESS);
    }
}

TEST_CASE("replies given in reverse order go out in the order of the requests") {
    Net net;
    Service service(net.comm);
    service.pipeline = 4;
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    bool large = false;
    SUBCASE("small ones") {}
    SUBCASE("large ones to a slow reader") {
        large = true;
    }
    auto answer = [&](const std::string &asked) {
        return large ? std::string(400000, asked[0]) + asked : asked;
    };
    peer.send(numbered(0, 12));
    std::string expected;
    for (int round = 0; round < 3; round++) {
        std::vector<Served *> sessions = service.requests.take(4);
        net.settle();
        CHECK(service.requests.size() == 0); // no more than four at once
        for (int i = 3; i >= 0; i--)
            CHECK(sessions[static_cast<size_t>(i)]->reply(answer(std::to_string(round * 4 + i) + "\n")) == 0);
        for (int i = 0; i < 4; i++) {
            std::string line = answer(std::to_string(round * 4 + i) + "\n");
            CHECK((peer.read(line.size()) == line));
        }
    }
    for (int i = 0; i < 12; i++)
        CHECK(service.ends.take() == success(i));
}

TEST_CASE("a client that half-closes gets the replies to all it has asked") {
    Net net;
    Service service(net.comm);
    bool elsewhere = false;
    SUBCASE("inline, one at a time") {}
    SUBCASE("inline, four at a time") {
        service.pipeline = 4;
    }
    SUBCASE("from another thread, one at a time") {
        elsewhere = true;
    }
    SUBCASE("from another thread, four at a time") {
        elsewhere = true;
        service.pipeline = 4;
    }
    if (elsewhere)
        service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send(numbered(0, 10));
    peer.finish();
    net.settle();
    for (int i = 0; i < 10 && elsewhere; i++) {
        Served *session = service.requests.take();
        CHECK(session->reply(session->asked()) == 0);
    }
    CHECK(peer.rest() == numbered(0, 10));
    CHECK_FALSE(peer.was_reset());
    CHECK(service.ends.take(10).back() == success(9));
    service.stop();
    CHECK(service.ends.size() == 0);
    CHECK(service.connections->dead == 1);
}

TEST_CASE("a half-closed client gets a large reply whole") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    std::string large(size_t{2} << 20, 'x');
    service.at_request = [&](Served *session) { session->reply(large); };
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    peer.finish();
    CHECK((peer.rest() == large));
    CHECK(service.ends.take() == success(0));
}

TEST_CASE("a FIN in the middle of a request is ECONNRESET for it, after the replies to those before") {
    Net net;
    Service service(net.comm);
    SUBCASE("one at a time") {
        service.pipeline = 1;
    }
    SUBCASE("four at a time") {
        service.pipeline = 4;
    }
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send("one\ntwo\nthr");
    peer.finish();
    net.settle();
    for (int i = 0; i < 2; i++) {
        Served *session = service.requests.take();
        net.settle();
        CHECK(session->reply(session->asked()) == 0);
    }
    CHECK(peer.rest() == "one\ntwo\n");
    std::vector<End> ends = service.ends.take(3);
    std::sort(ends.begin(), ends.end(), [](const End &a, const End &b) { return a.seq < b.seq; });
    CHECK(ends == std::vector<End>{success(0), success(1), {CS_STATE_ERROR, ECONNRESET, CC_EOF, 2}});
}

TEST_CASE("a FIN in the middle of the first request is ECONNRESET and closes") {
    Net net;
    Service service(net.comm);
    service.start();
    Peer peer(service.address());
    peer.send("pi");
    peer.finish();
    CHECK(service.ends.take() == End{CS_STATE_ERROR, ECONNRESET, CC_EOF, 0});
    CHECK(peer.rest().empty());
}

TEST_CASE("a request and a FIN that come together are answered, a thousand times") {
    Net net;
    Service service(net.comm);
    service.start();
    for (int i = 0; i < 1000; i++) {
        Peer peer(service.address());
        peer.send("ping\n");
        peer.finish();
        CHECK(peer.rest() == "ping\n");
    }
    service.stop();
    CHECK(service.ends.size() == 1000);
    CHECK(service.connections->dead == 1000);
}

TEST_CASE("an RST at any byte of a request is an error for it, once, and harms nobody else") {
    Net net;
    Service service(net.comm);
    service.start();
    const std::string sample = "one\ntwo\nthree\n";
    Peer other(service.address());
    for (size_t n = 0; n <= sample.size(); n++) {
        int births = service.sessions.born;
        Peer peer(service.address());
        peer.send(std::string_view(sample).substr(0, n));
        net.settle();
        int begun = service.sessions.born - births;
        CHECK(begun == (n == 0 ? 0 : n <= 4 ? 1 : n <= 8 ? 2 : 3));
        peer.reset();
        for (int i = 0; i < begun; i++) {
            End end = service.ends.take();
            bool whole = sample.substr(0, n).back() == '\n' || i + 1 < begun;
            if (whole)
                CHECK(end == success(i));
            else
                CHECK(end == End{CS_STATE_ERROR, ECONNRESET, CC_RECEIVE, i});
        }
        wire::until([&] { return service.connections->dead == static_cast<int>(n) + 1; });
        other.send("alive\n");
        CHECK(other.line() == "alive\n");
        CHECK(service.ends.take().state == CS_STATE_SUCCESS);
    }
    service.stop();
    CHECK(service.ends.size() == 0);
}

TEST_CASE("an RST at any byte of an answer is an error for the client, once") {
    Net net;
    Listener listener;
    Target target(listener.address());
    const std::string sample = "answer";
    for (size_t n = 0; n <= sample.size(); n++) {
        Client client;
        REQUIRE(net.comm.request(&client, &target) == 0);
        Peer peer = listener.accept();
        CHECK(peer.line() == "ping\n");
        peer.send(std::string_view(sample).substr(0, n));
        net.settle();
        peer.reset();
        End end = client.end();
        CHECK(end.state == CS_STATE_ERROR);
        CHECK(end.error == ECONNRESET);
        CHECK(client.answer() == sample.substr(0, n));
        net.settle();
        CHECK(client.ends.size() == 0);
    }
    CHECK(target.released == static_cast<int>(sample.size()) + 1);
}

TEST_CASE("an answer that came before the reset is delivered") {
    Net net;
    Listener listener(wire::Address::loopback(), 16, 4096);
    Target target(listener.address());
    target.send_buffer = 4096;
    Client client(std::string(size_t{4} << 20, 'x'));
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    CHECK(peer.read(1000).size() == 1000);
    net.on_loop([&] { // which sees both at once
        peer.send("too large\n");
        peer.close(); // with bytes unread: a reset
    });
    CHECK(client.end().state == CS_STATE_SUCCESS);
    CHECK(client.answer() == "too large\n");
    CHECK_FALSE(target.has_idle_conn());
}

TEST_CASE("64 MiB go up while they come back") {
    constexpr size_t size = size_t{64} << 20;
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    std::string block(size_t{1} << 20, 'x');
    for (size_t i = 0; i < block.size(); i++)
        block[i] = static_cast<char>('a' + i % 23);
    client.out.script = [&](struct iovec *vectors, int) {
        for (size_t i = 0; i < size / block.size(); i++)
            vectors[i] = {block.data(), block.size()};
        return static_cast<int>(size / block.size());
    };
    size_t received = 0;
    bool same = true;
    client.in.script = [&](const char *bytes, size_t *n) {
        for (size_t i = 0; i < *n; i += 997)
            same = same && bytes[i] == block[(received + i) % block.size()];
        received += *n;
        return received == size ? 1 : 0;
    };
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    std::string buffer;
    for (size_t echoed = 0; echoed < size; echoed += buffer.size()) {
        buffer = peer.read(std::min<size_t>(100000, size - echoed));
        REQUIRE(peer.send(buffer));
    }
    CHECK(client.end() == success(0));
    CHECK(received == size);
    CHECK(same);
}

TEST_CASE("a service reads on while its reply waits for the reader") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    service.pipeline = 2;
    std::string large(size_t{1} << 20, 'x');
    service.at_request = [&](Served *session) {
        service.requests.put(session);
        if (session->seq() == 0)
            session->reply(large);
    };
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("one\n");
    service.requests.take();
    peer.send("two\n");
    Served *second = service.requests.take(); // though nothing was read yet
    CHECK(second->reply("end\n") == 0);
    CHECK((peer.read(large.size()) == large));
    CHECK(peer.line() == "end\n");
    CHECK(service.ends.take(2) == std::vector<End>{success(0), success(1)});
}

TEST_CASE("an RST fails every session of the connection in its own way") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    service.pipeline = 4;
    std::string large(size_t{1} << 20, 'x');
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("one\ntwo\nthree\nfo");
    std::vector<Served *> sessions = service.requests.take(3);
    CHECK(sessions[0]->reply(large) == 0);   // being written
    CHECK(sessions[1]->reply("two\n") == 0); // waits behind it
    net.settle();
    peer.reset();
    std::vector<End> ends = service.ends.take(3); // and the one that is being received
    for (const End &end : ends) {
        CHECK(end.state == CS_STATE_ERROR);
        CHECK((end.error == ECONNRESET || end.error == EPIPE));
    }
    CHECK(net.comm.reply(sessions[2]) == -1); // awaits its reply
    CHECK(errno == ENOENT);
    delete sessions[2];
    service.stop();
    CHECK(service.ends.size() == 0);
    CHECK(service.sessions.dead == 4);
}

TEST_CASE("a reset that follows a half-close is told to whoever awaits a reply") {
    Net net;
    Service service(net.comm);
    SUBCASE("one at a time") {
        service.pipeline = 1;
    }
    SUBCASE("four at a time") {
        service.pipeline = 4;
    }
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    Served *session = service.requests.take();
    peer.finish();
    net.settle();
    CHECK(session->target()->has_idle_conn());
    peer.reset();
    wire::until([&] { return !session->target()->has_idle_conn(); });
    CHECK(session->reply("pong\n") == -1);
    CHECK(errno == ENOENT);
    delete session;
}

TEST_CASE("a session at connect learns of the clean end of its stream") {
    wire::Address at = wire::Address::loopback();
    SUBCASE("over TCP") {}
    SUBCASE("over AF_UNIX") {
        at = wire::Address::local();
    }
    Net net;
    Service service(net.comm, at);
    service.at_connect = true;
    service.start();
    {
        Peer peer(service.address());
        wire::until([&] { return service.sessions.born == 1; });
        peer.close(); // before the first request
        CHECK(service.ends.take() == End{CS_STATE_ERROR, 0, CC_EOF, 0});
    }
    {
        Peer peer(service.address());
        peer.send("ping\n");
        CHECK(peer.line() == "ping\n");
        peer.close(); // between two
        CHECK(service.ends.take() == success(0));
        CHECK(service.ends.take() == End{CS_STATE_ERROR, 0, CC_EOF, 1});
    }
    service.stop();
    CHECK(service.ends.size() == 0);
}

TEST_CASE("a session at connect ends with the error of its stream") {
    Net net;
    Service service(net.comm);
    service.at_connect = true;
    service.start();
    Peer peer(service.address());
    SUBCASE("a reset") {
        wire::until([&] { return service.sessions.born == 1; });
        peer.reset();
        End end = service.ends.take();
        CHECK(end.state == CS_STATE_ERROR);
        CHECK(end.error == ECONNRESET);
    }
    SUBCASE("a FIN in the middle") {
        peer.send("pi");
        peer.close();
        CHECK(service.ends.take() == End{CS_STATE_ERROR, ECONNRESET, CC_EOF, 0});
    }
}

TEST_CASE("sessions at connect: the one after an awaiting request learns of the end, the reply goes out") {
    Net net;
    Service service(net.comm);
    service.at_connect = true;
    service.pipeline = 4;
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    peer.send("ping\n");
    Served *session = service.requests.take();
    peer.finish();
    CHECK(service.ends.take() == End{CS_STATE_ERROR, 0, CC_EOF, 1});
    CHECK(session->reply("pong\n") == 0);
    CHECK(peer.rest() == "pong\n");
    CHECK(service.ends.take() == success(0));
}

TEST_CASE("a session at connect is closed silently by unbind, which it is told") {
    Net net;
    Service service(net.comm);
    service.at_connect = true;
    service.start();
    Peer peer(service.address());
    wire::until([&] { return service.sessions.born == 1; });
    service.stop();
    CHECK(service.ends.take() == End{CS_STATE_STOPPED, 0, CC_STOP, 0});
    CHECK(peer.rest().empty());
}

TEST_CASE("AF_UNIX: everything that was sent before close is answered or fails, and the loop lives on") {
    Net net;
    Service service(net.comm, wire::Address::local());
    SUBCASE("one at a time") {
        service.pipeline = 1;
    }
    SUBCASE("four at a time") {
        service.pipeline = 4;
    }
    service.at_request = service.hold();
    service.start();
    {
        Peer peer(service.address());
        peer.send(numbered(0, 3));
        net.settle();
    }
    net.settle();
    while (service.requests.size() > 0) {
        Served *session = service.requests.take();
        CHECK(session->reply("late\n") == -1);
        delete session;
    }
    Peer other(service.address());
    other.send("ping\n");
    Served *session = service.requests.take();
    CHECK(session->reply("pong\n") == 0);
    CHECK(other.line() == "pong\n");
}

TEST_CASE("a flood on one connection leaves others their turn") {
    Net net;
    Service service(net.comm);
    service.start();
    Peer flood(service.address()), calm(service.address());
    std::string lines(size_t{1} << 20, '\n');
    std::string got;
    std::thread reader([&] { got = flood.read(lines.size()); });
    {
        Sender sender(flood, lines);
        for (int i = 0; i < 20; i++) {
            calm.send("ping\n");
            CHECK(calm.line() == "ping\n");
        }
        flood.finish();
    }
    reader.join();
}

TEST_CASE("a client that sends on while its request awaits a reply is held back, and loses nothing") {
    Net net;
    Service service(net.comm);
    service.at_request = service.hold();
    service.start();
    Peer peer(service.address());
    const std::string line = std::string(9999, 'x') + "\n";
    const size_t most = size_t{256} << 20; // far more than any socket holds
    peer.send("first\n");
    Served *first = service.requests.take();
    size_t sent = 0;
    for (int full = 0; full < 20 && sent < most;) {
        ssize_t n = ::send(peer.fd(), line.data() + sent % line.size(), line.size() - sent % line.size(),
                           MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            sent += static_cast<size_t>(n);
        } else {
            REQUIRE(errno == EAGAIN);
            full++;
            net.settle(); // whatever the loop would take it has taken
        }
    }
    CHECK(sent < most);
    CHECK(service.requests.size() == 0);
    net.on_loop([&] { service.at_request = [](Served *session) { session->reply("next\n"); }; });
    CHECK(first->reply("first\n") == 0);
    CHECK(peer.line() == "first\n");
    {
        Sender rest(peer, line.substr(sent % line.size()));
        for (size_t i = 0; i <= sent / line.size(); i++)
            CHECK(peer.line() == "next\n");
    }
}
