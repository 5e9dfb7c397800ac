// What messages may do: encode, append, reserve; and what the core does with what they answer.

#include "scripted.h"

using namespace scripted;
using wire::Listener;
using wire::Peer;

namespace {

// One byte per vector.
std::function<int(struct iovec *, int)> scattered(std::string &bytes) {
    return [&bytes](struct iovec *vectors, int max) {
        for (size_t i = 0; i < bytes.size() && i < static_cast<size_t>(max); i++)
            vectors[i] = {&bytes[i], 1};
        return static_cast<int>(bytes.size());
    };
}

std::string letters(size_t n) {
    std::string text(n, ' ');
    for (size_t i = 0; i < n; i++)
        text[i] = static_cast<char>('a' + i % 26);
    text.back() = '\n';
    return text;
}

// Where a session may be asked for a message: every one of them must report the same failure.
enum Path { NEW_CONNECTION, REUSED_CONNECTION, SERVICE, SERVICE_ELSEWHERE };

// How a session ends whose messages are spoilt by `spoil`.
template <class Spoil>
End end_of_spoilt(Path path, Spoil spoil) {
    Net net;
    if (path == SERVICE || path == SERVICE_ELSEWHERE) {
        Service service(net.comm);
        service.at_birth = spoil;
        if (path == SERVICE_ELSEWHERE)
            service.at_request = service.hold();
        service.start();
        Peer peer(service.address());
        peer.send("ping\n");
        if (path == SERVICE_ELSEWHERE)
            CHECK(service.requests.take()->reply("pong\n") == 0);
        CHECK(peer.rest().empty());
        return service.ends.take();
    }
    Service service(net.comm);
    service.start();
    Target target(service.address());
    if (path == REUSED_CONNECTION) {
        Client first;
        REQUIRE(net.comm.request(&first, &target) == 0);
        CHECK(first.end() == success(0));
    }
    Client client;
    spoil(&client);
    int result = -1, released = -1;
    net.on_loop([&] {
        result = net.comm.request(&client, &target);
        released = target.released;
        CHECK(client.ends.size() == 0); // never inside request()
    });
    CHECK(result == 0);
    End end = client.end();
    CHECK(target.released == released + 1);
    wire::until([&] { return !target.has_idle_conn(); });
    return end;
}

} // namespace

TEST_CASE("a client that encodes nothing lets the server speak first") {
    Net net;
    Listener listener;
    Target target(listener.address());
    Client client;
    client.out.script = [](struct iovec *, int) { return 0; };
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    peer.send("hello\n");
    CHECK(client.end() == success(0));
    CHECK(client.answer() == "hello\n");
}

TEST_CASE("an empty reply keeps the connection and takes the next message") {
    Net net;
    Service service(net.comm);
    service.at_birth = [](Served *session) {
        session->out.script = [session](struct iovec *vectors, int) {
            vectors[0] = {session->out.text.data(), session->out.text.size()};
            return session->seq() == 0 ? 0 : 1;
        };
    };
    service.start();
    Peer peer(service.address());
    peer.send("one\n");
    CHECK(service.ends.take() == success(0));
    peer.send("two\n");
    CHECK(peer.line() == "two\n");
    CHECK(service.ends.take() == success(1));
}

TEST_CASE("2048 vectors arrive in order, either way") {
    Net net;
    Service service(net.comm);
    std::string there = letters(2048), back = there;
    service.at_request = [&](Served *session) {
        back = session->asked();
        session->out.script = scattered(back);
        session->reply("");
    };
    service.start();
    Target target(service.address());
    Client client;
    client.out.script = scattered(there);
    REQUIRE(net.comm.request(&client, &target) == 0);
    CHECK(client.end() == success(0));
    CHECK(client.answer() == there);
}

TEST_CASE("2048 large vectors reach a slow reader byte for byte") {
    Net net;
    Service service(net.comm);
    service.use_small_buffers();
    std::string text = letters(2048 * 300);
    service.at_request = [&](Served *session) {
        session->out.script = [&](struct iovec *vectors, int max) {
            for (int i = 0; i < max; i++)
                vectors[i] = {text.data() + i * 300, 300};
            return max;
        };
        session->reply("");
    };
    service.start();
    Peer peer(service.address(), 4096);
    peer.send("ping\n");
    std::string got = peer.read(text.size());
    CHECK((got == text));
    CHECK(service.ends.take() == success(0));
}

TEST_CASE("empty vectors among others are skipped") {
    Net net;
    Service service(net.comm);
    service.start();
    Target target(service.address());
    Client client;
    client.out.script = [&](struct iovec *vectors, int) {
        vectors[0] = {nullptr, 0};
        vectors[1] = {client.out.text.data(), 2};
        vectors[2] = {nullptr, 0};
        vectors[3] = {client.out.text.data() + 2, 3};
        vectors[4] = {nullptr, 0};
        return 5;
    };
    REQUIRE(net.comm.request(&client, &target) == 0);
    CHECK(client.end() == success(0));
    CHECK(client.answer() == "ping\n");
}

TEST_CASE("more vectors than there is room for is EOVERFLOW") {
    Path path = NEW_CONNECTION;
    SUBCASE("on a new connection") {
        path = NEW_CONNECTION;
    }
    SUBCASE("on a reused connection") {
        path = REUSED_CONNECTION;
    }
    SUBCASE("in a reply") {
        path = SERVICE;
    }
    SUBCASE("in a reply from another thread") {
        path = SERVICE_ELSEWHERE;
    }
    End end = end_of_spoilt(
        path, [](auto *session) { session->out.script = [](struct iovec *, int max) { return max + 1; }; });
    CHECK(end.state == CS_STATE_ERROR);
    CHECK(end.error == EOVERFLOW);
}

TEST_CASE("an encode that fails gives its errno to handle") {
    Path path = NEW_CONNECTION;
    SUBCASE("on a new connection") {
        path = NEW_CONNECTION;
    }
    SUBCASE("on a reused connection") {
        path = REUSED_CONNECTION;
    }
    SUBCASE("in a reply") {
        path = SERVICE;
    }
    SUBCASE("in a reply from another thread") {
        path = SERVICE_ELSEWHERE;
    }
    End end = end_of_spoilt(path, [](auto *session) {
        session->out.script = [](struct iovec *, int) {
            errno = ENODATA;
            return -1;
        };
    });
    CHECK(end.state == CS_STATE_ERROR);
    CHECK(end.error == ENODATA);
}

TEST_CASE("a message_out that gives nothing gives its errno to handle") {
    Path path = NEW_CONNECTION;
    SUBCASE("on a new connection") {
        path = NEW_CONNECTION;
    }
    SUBCASE("on a reused connection") {
        path = REUSED_CONNECTION;
    }
    SUBCASE("in a reply") {
        path = SERVICE;
    }
    SUBCASE("in a reply from another thread") {
        path = SERVICE_ELSEWHERE;
    }
    End end = end_of_spoilt(path, [](auto *session) {
        session->give_out = nullptr;
        session->give_errno = ENOTSUP;
    });
    CHECK(end.state == CS_STATE_ERROR);
    CHECK(end.error == ENOTSUP);
}

TEST_CASE("a message_in that gives nothing gives its errno to handle") {
    Path path = NEW_CONNECTION;
    SUBCASE("on a new connection") {
        path = NEW_CONNECTION;
    }
    SUBCASE("on a reused connection") {
        path = REUSED_CONNECTION;
    }
    SUBCASE("of a service") {
        path = SERVICE;
    }
    End end = end_of_spoilt(path, [](auto *session) {
        session->give_in = nullptr;
        session->give_errno = ENOTSUP;
    });
    CHECK(end.state == CS_STATE_ERROR);
    CHECK(end.error == ENOTSUP);
}

TEST_CASE("an append that fails gives its errno to handle") {
    Path path = NEW_CONNECTION;
    SUBCASE("on a new connection") {
        path = NEW_CONNECTION;
    }
    SUBCASE("on a reused connection") {
        path = REUSED_CONNECTION;
    }
    SUBCASE("of a service") {
        path = SERVICE;
    }
    End end = end_of_spoilt(path, [](auto *session) {
        session->in.script = [](const char *, size_t *) {
            errno = ENOMSG;
            return -1;
        };
    });
    CHECK(end.state == CS_STATE_ERROR);
    CHECK(end.error == ENOMSG);
}

TEST_CASE("an append that takes nothing and wants more ends its session instead of spinning") {
    Path path = NEW_CONNECTION;
    SUBCASE("on a new connection") {
        path = NEW_CONNECTION;
    }
    SUBCASE("of a service") {
        path = SERVICE;
    }
    End end = end_of_spoilt(path, [](auto *session) {
        session->in.script = [](const char *, size_t *size) {
            *size = 0;
            return 0;
        };
    });
    CHECK(end.state == CS_STATE_ERROR);
    CHECK(end.error == EBADMSG);
}

TEST_CASE("append is called until it has taken what was read, one byte at a time if it likes") {
    Net net;
    Service service(net.comm);
    int calls = 0;
    service.at_birth = [](Served *session) {
        session->in.script = [session](const char *bytes, size_t *size) {
            *size = 1;
            return session->in.take(bytes, size);
        };
    };
    service.at_request = [&](Served *session) {
        calls = session->in.calls;
        session->reply(session->asked());
    };
    service.start();
    Peer peer(service.address());
    peer.send("abcdefg\n");
    CHECK(peer.line() == "abcdefg\n");
    CHECK(service.ends.take() == success(0));
    CHECK(calls == 8);
}

TEST_CASE("what is left of a read begins the next message at once") {
    Net net;
    Service service(net.comm);
    service.start();
    Peer peer(service.address());
    peer.send("one\ntwo\nthr");
    CHECK(peer.line() == "one\n");
    CHECK(peer.line() == "two\n");
    peer.send("ee\n");
    CHECK(peer.line() == "three\n");
    CHECK(service.ends.take(3) == std::vector<End>{success(0), success(1), success(2)});
}

TEST_CASE("a message is the same however it is split") {
    Net net;
    Service service(net.comm);
    service.start();
    const std::string text = "the quick brown fox\n";
    Listener listener;
    Target target(listener.address());
    for (size_t cut = 1; cut < text.size(); cut++) {
        Peer peer(service.address());
        peer.send(std::string_view(text).substr(0, cut));
        net.settle();
        peer.send(std::string_view(text).substr(cut));
        CHECK(peer.line() == text);

        Client client;
        client.timeouts.keep_alive = 0;
        REQUIRE(net.comm.request(&client, &target) == 0);
        Peer server = listener.accept();
        CHECK(server.line() == "ping\n");
        server.send(std::string_view(text).substr(0, cut));
        net.settle();
        CHECK(client.ends.size() == 0);
        server.send(std::string_view(text).substr(cut));
        CHECK(client.end() == success(0));
        CHECK(client.answer() == text);
    }
}

TEST_CASE("a message is the same one byte at a time") {
    Net net;
    Service service(net.comm);
    service.start();
    Peer peer(service.address());
    for (char c : std::string("one byte\nat a time\n")) {
        peer.send({&c, 1});
        net.settle();
    }
    CHECK(peer.line() == "one byte\n");
    CHECK(peer.line() == "at a time\n");
}

TEST_CASE("a service reads a large body into the place its message reserves") {
    Net net;
    Service service(net.comm);
    std::string body = letters(1000000);
    std::vector<char> place(body.size());
    size_t filled = 0, direct = 0;
    service.at_birth = [&](Served *session) {
        session->in.room = [&](size_t *size) -> void * {
            *size = body.size() - filled;
            return place.data() + filled;
        };
        session->in.script = [&](const char *bytes, size_t *size) {
            *size = std::min(*size, body.size() - filled);
            if (bytes == place.data() + filled)
                direct += *size;
            else
                memcpy(place.data() + filled, bytes, *size);
            filled += *size;
            return filled == body.size() ? 1 : 0;
        };
    };
    service.at_request = [&](Served *session) {
        filled = 0;
        session->reply("taken\n");
    };
    service.start();
    Peer peer(service.address());
    for (int i = 0; i < 3; i++) {
        peer.send(body);
        CHECK(peer.line() == "taken\n");
        CHECK((std::string(place.begin(), place.end()) == body));
    }
    CHECK(direct > 0);
    // Two at once: the end of the one and the beginning of the other may come in one read.
    peer.send(body + body);
    CHECK(peer.line() == "taken\n");
    CHECK(peer.line() == "taken\n");
}

TEST_CASE("bytes behind an answer that was read into its own place do not answer the next request") {
    Net net;
    Listener listener;
    Target target(listener.address());
    std::string body = letters(500000);
    std::string place(body.size(), ' ');
    size_t filled = 0;
    Client client, next;
    client.in.room = [&](size_t *size) -> void * {
        *size = body.size() - filled;
        return place.data() + filled;
    };
    client.in.script = [&](const char *bytes, size_t *size) {
        *size = std::min(*size, body.size() - filled);
        if (bytes != place.data() + filled)
            memcpy(place.data() + filled, bytes, *size);
        filled += *size;
        return filled == body.size() ? 1 : 0;
    };
    client.at_end = [&](Client *, const End &) { net.comm.request(&next, &target); };
    REQUIRE(net.comm.request(&client, &target) == 0);
    Peer peer = listener.accept();
    CHECK(peer.line() == "ping\n");
    const size_t first = body.size() - 10000;
    peer.send(std::string_view(body).substr(0, first));
    for (bool taken = false; !taken;)
        net.on_loop([&] { taken = filled == first; });
    // The end of the body and what follows, in one segment and so in one read.
    peer.send(body.substr(first) + "stray\n");
    CHECK(client.end() == success(0));
    CHECK((place == body));
    Peer other = listener.accept();
    CHECK(other.line() == "ping\n");
    other.send("right\n");
    CHECK(next.end() == success(0));
    CHECK(next.answer() == "right\n");
}

TEST_CASE("an encode that takes its time delays nobody on another loop, not even at the same target") {
    Net servers, net(2);
    Service service(servers.comm);
    service.start();
    Target target(service.address());
    SUBCASE("on a new connection") {}
    SUBCASE("on a reused connection") {
        Client before;
        net.on(0, [&] { REQUIRE(net.comm.request(&before, &target) == 0); });
        CHECK(before.end() == success(0));
    }
    Client slow, quick;
    wire::Inbox<bool> entered, open;
    slow.out.script = [&](struct iovec *vectors, int) {
        entered.put(true);
        open.take();
        vectors[0] = {slow.out.text.data(), slow.out.text.size()};
        return 1;
    };
    struct Ask : CommNode {
        std::function<void()> work;
    } ask;
    ask.work = [&] { CHECK(net.comm.request(&slow, &target) == 0); };
    ask.run = [](CommNode *node) { static_cast<Ask *>(node)->work(); };
    REQUIRE(net.comm.loop(0)->post(&ask) == 0);
    entered.take();
    net.on(1, [&] { CHECK(net.comm.request(&quick, &target) == 0); });
    CHECK(quick.end() == success(0));
    target.close_idle();
    CHECK(slow.ends.size() == 0);
    open.put(true);
    CHECK(slow.end().state == CS_STATE_SUCCESS);
}
