#include <doctest/doctest.h>

#include <memory>

#include "tls_peers.h"

using namespace peers;

namespace {

constexpr size_t both[] = {0, 2};
constexpr int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

const unsigned char protocols[] = {5, 'l', 'i', 'n', 'e', 's'};

// Takes "lines" and refuses everything else.
int choose_lines(SSL *, const unsigned char **out, unsigned char *out_size, const unsigned char *in,
                 unsigned size, void *) {
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_size, protocols, sizeof protocols, in, size) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

// Echoes each piece of a line as soon as it arrives, and ends it with its newline.
class Mirror : public CommService {
public:
    Signal unbound;
    Communicator &comm;
    explicit Mirror(Communicator &communicator) : comm(communicator) {}
    int start(SSL_CTX *context) {
        Address at = loopback();
        init(at.get(), at.size, -1, -1);
        set_ssl(context, -1);
        return comm.bind(this);
    }

private:
    struct Piece : CommMessageIn, CommMessageOut {
        int append(const void *buf, size_t *size) override {
            if (feedback(buf, *size) != static_cast<int>(*size))
                return -1;
            return static_cast<const char *>(buf)[*size - 1] == '\n';
        }
        int encode(struct iovec[], int) override { return 0; }
    };
    struct Session : CommSession {
        Piece piece;
        Mirror &mirror;
        explicit Session(Mirror &owner) : mirror(owner) {}
        CommMessageIn *message_in() override { return &piece; }
        CommMessageOut *message_out() override { return &piece; }
        int keep_alive_timeout() override { return -1; }
        void handle(int state, int) override {
            if (state != CS_STATE_TOREPLY || mirror.comm.reply(this) < 0)
                delete this;
        }
    };
    CommSession *new_session(long long, CommConnection *) override { return new Session(*this); }
    void handle_unbound() override { unbound.set(); }
};

} // namespace

TEST_CASE("request and answer pass over TLS, on a kept-alive connection too, in both versions") {
    for (int version : versions) {
        for (size_t handlers : both) {
            Running comm(2, handlers);
            Context server = server_context(), client = client_context();
            only_version(server.get(), version);
            TlsLines service;
            REQUIRE(service.start_tls(comm, server.get()) == 0);
            TlsTarget target(service.address(), client.get());
            for (int i = 0; i < 5; i++) {
                TlsAsk ask("line " + std::to_string(i));
                REQUIRE(comm.request(&ask, &target) == 0);
                REQUIRE(ask.done.wait());
                CHECK(ask.is(CS_STATE_SUCCESS, 0));
                CHECK(ask.in.text == ask.out.text);
                CHECK(ask.seq == i);
                CHECK(ask.ssl_error == 0);
                CHECK(ask.verify == X509_V_OK);
            }
            CHECK(target.released == 5);
            REQUIRE(service.finish());
        }
    }
}

TEST_CASE("server name, protocol and verification set in init_ssl() reach the other side") {
    Running comm(1);
    Context server = server_context(), client = client_context();
    static std::string seen_name;
    SSL_CTX_set_tlsext_servername_callback(
        server.get(), +[](SSL *ssl, int *, void *) {
            const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
            seen_name = name != nullptr ? name : "";
            return SSL_TLSEXT_ERR_OK;
        });
    SSL_CTX_set_alpn_select_cb(server.get(), choose_lines, nullptr);
    TlsLines service;
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    TlsTarget target(service.address(), client.get());
    SSL *kept = nullptr;
    target.on_ssl = [&](SSL *ssl) {
        kept = ssl;
        return SSL_set_alpn_protos(ssl, protocols, sizeof protocols);
    };
    std::string chosen;
    TlsAsk ask("x");
    ask.then = [&](Ask &) { // on the loop, and the connection is in the pool
        const unsigned char *name = nullptr;
        unsigned size = 0;
        SSL_get0_alpn_selected(kept, &name, &size);
        chosen.assign(reinterpret_cast<const char *>(name), size);
    };
    REQUIRE(comm.request(&ask, &target) == 0);
    REQUIRE(ask.done.wait());
    CHECK(ask.is(CS_STATE_SUCCESS, 0));
    CHECK(seen_name == "good.test");
    CHECK(chosen == "lines");
    REQUIRE(service.finish());
}

TEST_CASE("app data, the SSL's ex_data slot 0, is the user's on both sides") {
    Running comm(1);
    Context server = server_context(), client = client_context();
    TlsLines service;
    int marks[2] = {};
    SSL *kept[2] = {};
    service.on_ssl = [&](SSL *ssl) {
        kept[0] = ssl;
        CHECK(SSL_get_app_data(ssl) == nullptr);
        return SSL_set_app_data(ssl, &marks[0]) == 1 ? 0 : -1;
    };
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    TlsTarget target(service.address(), client.get());
    target.on_ssl = [&](SSL *ssl) {
        kept[1] = ssl;
        return SSL_set_app_data(ssl, &marks[1]) == 1 ? 0 : -1;
    };
    for (int i = 0; i < 3; i++) {
        TlsAsk ask("x");
        ask.then = [&](Ask &) {
            CHECK(SSL_get_app_data(kept[0]) == &marks[0]);
            CHECK(SSL_get_app_data(kept[1]) == &marks[1]);
        };
        REQUIRE(comm.request(&ask, &target) == 0);
        REQUIRE(ask.done.wait());
        CHECK(ask.is(CS_STATE_SUCCESS, 0));
    }
    REQUIRE(service.finish());
}

TEST_CASE("eight mebibytes there and eight mebibytes back") {
    for (int version : versions) {
        Running comm(2);
        Context server = server_context(), client = client_context();
        only_version(server.get(), version);
        TlsLines service;
        REQUIRE(service.start_tls(comm, server.get()) == 0);
        TlsTarget target(service.address(), client.get());
        std::string large(8 << 20, 'x');
        for (size_t i = 0; i < large.size(); i += 4099)
            large[i] = static_cast<char>('a' + i % 26);
        TlsAsk ask(large);
        REQUIRE(comm.request(&ask, &target) == 0);
        REQUIRE(ask.done.wait());
        CHECK(ask.is(CS_STATE_SUCCESS, 0));
        CHECK((ask.in.text == large));
        REQUIRE(service.finish());
    }
}

TEST_CASE("eight mebibytes that are echoed while they are being sent") {
    Running comm(2);
    comm.set_push_high_water(16 << 20);
    Context server = server_context(), client = client_context();
    Mirror mirror(comm);
    REQUIRE(mirror.start(server.get()) == 0);
    TlsTarget target(local_address(mirror), client.get());
    const std::string large(8 << 20, 'x');
    for (int i = 0; i < 2; i++) { // the second on the same connection
        TlsAsk ask(large);
        REQUIRE(comm.request(&ask, &target) == 0);
        REQUIRE(ask.done.wait());
        CHECK(ask.is(CS_STATE_SUCCESS, 0));
        CHECK((ask.in.text == large));
    }
    comm.unbind(&mirror);
    REQUIRE(mirror.unbound.wait());
}

TEST_CASE("a message of many small pieces goes out in order, whatever the socket takes of it") {
    struct Pieces : CommMessageOut {
        std::vector<std::string> parts;
        int encode(struct iovec vectors[], int max) override {
            for (size_t i = 0; i < parts.size() && static_cast<int>(i) < max; i++)
                vectors[i] = {parts[i].data(), parts[i].size()};
            return static_cast<int>(parts.size());
        }
    };
    struct Many : Ask {
        Pieces pieces;
        using Ask::Ask;
        CommMessageOut *message_out() override { return &pieces; }
    };
    Running comm(2);
    Context server = server_context(), client = client_context();
    TlsLines service;
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    TlsTarget target(service.address(), client.get());
    Many ask("");
    std::string whole;
    for (size_t i = 0; i < 2000; i++) {
        ask.pieces.parts.emplace_back(1 + i * i % 5000, static_cast<char>('a' + i % 26));
        if (i % 100 == 50)
            ask.pieces.parts.back().clear();
        whole += ask.pieces.parts.back();
    }
    ask.pieces.parts.emplace_back("\n");
    REQUIRE(comm.request(&ask, &target) == 0);
    REQUIRE(ask.done.wait());
    CHECK(ask.is(CS_STATE_SUCCESS, 0));
    CHECK((ask.in.text == whole));
    REQUIRE(service.finish());
}

TEST_CASE("pipelined requests in one record are answered in order") {
    for (int pipeline : {1, 4}) {
        for (size_t handlers : both) {
            Running comm(1, handlers);
            Context server = server_context(), client = client_context();
            TlsLines service;
            service.pipeline = pipeline;
            REQUIRE(service.start_tls(comm, server.get()) == 0);
            TlsPeer peer = TlsPeer::connected(service.address(), client.get());
            std::string all;
            for (int i = 0; i < 200; i++)
                all += "line " + std::to_string(i) + "\n";
            REQUIRE(peer.send(all));
            CHECK(peer.receive(all.size()) == all);
            REQUIRE(service.finish());
        }
    }
}

TEST_CASE("a client that says close_notify after its last request is still answered") {
    Running comm(1);
    Context server = server_context(), client = client_context();
    TlsLines service;
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    TlsPeer peer = TlsPeer::connected(service.address(), client.get());
    REQUIRE(peer.send("a\nb\nc\n"));
    peer.close_notify(); // ends its write half only
    CHECK(peer.receive(6) == "a\nb\nc\n");
    CHECK(peer.rest().empty());
    CHECK(peer.end() == SSL_ERROR_ZERO_RETURN);
    REQUIRE(service.finish());
}

TEST_CASE("one byte at a time, by a proxy between the two") {
    Running comm(2);
    Context server = server_context(), client = client_context();
    TlsLines service;
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    Socket listener = Socket::listening();
    std::thread proxy([&] {
        Socket near = listener.accepted(), far = Socket::connected(service.address());
        auto pump = [](const Socket &from, const Socket &to) {
            char byte;
            while (recv(from.fd(), &byte, 1, 0) == 1 && to.send({&byte, 1})) {
            }
            to.finish();
        };
        std::thread back([&] { pump(far, near); });
        pump(near, far);
        back.join();
    });
    TlsTarget target(listener.address(), client.get());
    for (const char *text : {"first", "second"}) {
        TlsAsk ask(text);
        REQUIRE(comm.request(&ask, &target) == 0);
        REQUIRE(ask.done.wait());
        CHECK(ask.is(CS_STATE_SUCCESS, 0));
        CHECK(ask.in.text == text);
    }
    target.close_idle();
    proxy.join();
    REQUIRE(service.finish());
}

TEST_CASE("a service that closes says close_notify first") {
    Running comm(1);
    Context server = server_context(), client = client_context();
    TlsLines service;
    service.on_request = [&](Served &session) {
        session.keep_alive = session.in.text.starts_with("last") ? 0 : -1;
        session.out.text = session.in.text;
        comm.reply(&session);
    };
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    TlsPeer peer = TlsPeer::connected(service.address(), client.get());
    REQUIRE(peer.send("last\n"));
    CHECK(peer.rest() == "last\n");
    CHECK(peer.end() == SSL_ERROR_ZERO_RETURN);
    // The answer shows that the service, too, has come to the end of the handshake.
    TlsPeer idle = TlsPeer::connected(service.address(), client.get());
    REQUIRE(idle.send("x\n"));
    REQUIRE(idle.receive(2) == "x\n");
    comm.unbind(&service);
    CHECK(idle.rest().empty());
    CHECK(idle.end() == SSL_ERROR_ZERO_RETURN);
    REQUIRE(service.unbound.wait());
}

TEST_CASE("a client that gives up an idle connection says close_notify first") {
    Running comm(1);
    Context server = server_context(), client = client_context();
    Socket listener = Socket::listening();
    TlsTarget target(listener.address(), client.get());
    TlsAsk ask("x");
    REQUIRE(comm.request(&ask, &target) == 0);
    TlsPeer peer(listener.accepted(), server.get(), false);
    CHECK(peer.receive(2) == "x\n");
    REQUIRE(peer.send("y\n"));
    REQUIRE(ask.done.wait());
    CHECK(ask.is(CS_STATE_SUCCESS, 0));
    target.close_idle();
    CHECK(peer.rest().empty());
    CHECK(peer.end() == SSL_ERROR_ZERO_RETURN);
}

TEST_CASE("the second connection to a name resumes the first one's session, to another name it does not") {
    for (int version : versions) {
        Running comm(1);
        Context server = server_context(), client = client_context();
        only_version(server.get(), version);
        static std::vector<int> reused; // one a handshake, on the loop
        reused.clear();
        SSL_CTX_set_info_callback(
            server.get(), +[](const SSL *ssl, int where, int) {
                if (where & SSL_CB_HANDSHAKE_DONE)
                    reused.push_back(SSL_session_reused(ssl));
            });
        TlsLines service;
        REQUIRE(service.start_tls(comm, server.get()) == 0);
        TlsTarget target(service.address(), client.get());
        auto once = [&] {
            TlsAsk ask("x");
            ask.keep_alive = 0;
            REQUIRE(comm.request(&ask, &target) == 0);
            REQUIRE(ask.done.wait());
            CHECK(ask.is(CS_STATE_SUCCESS, 0));
            CHECK(ask.verify == X509_V_OK);
        };
        once();
        once();
        once();
        target.on_ssl = [](SSL *ssl) {
            SSL_set_tlsext_host_name(ssl,
                                     "other.test"); // the certificate is still checked against the good name
            return 0;
        };
        once();
        REQUIRE(service.finish());
        CHECK(reused == std::vector<int>{0, 1, 1, 0});
    }
}

TEST_CASE("keys may be updated while messages pass, by either side") {
    Running comm(1);
    Context server = server_context(), client = client_context();
    TlsLines service;
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    TlsPeer peer = TlsPeer::connected(service.address(), client.get());
    REQUIRE(peer.handshake());
    REQUIRE(SSL_version(peer.ssl()) == TLS1_3_VERSION);
    const std::string large(300000, 'x');
    for (int i = 0; i < 30; i++) {
        REQUIRE(peer.send("begin "));
        REQUIRE(SSL_key_update(peer.ssl(), i % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED) ==
                1);
        REQUIRE(peer.send(large + "\n"));
        CHECK(peer.receive(large.size() + 7).size() == large.size() + 7);
    }
    // And when parley is the client.
    Socket listener = Socket::listening();
    TlsTarget target(listener.address(), client.get());
    TlsAsk ask(large);
    REQUIRE(comm.request(&ask, &target) == 0);
    TlsPeer answering(listener.accepted(), server.get(), false);
    CHECK(answering.receive(1000).size() == 1000);
    REQUIRE(SSL_key_update(answering.ssl(), SSL_KEY_UPDATE_REQUESTED) == 1);
    REQUIRE(answering.send("half "));
    CHECK(answering.receive(large.size() - 999).back() == '\n');
    REQUIRE(answering.send("and half\n"));
    REQUIRE(ask.done.wait());
    CHECK(ask.is(CS_STATE_SUCCESS, 0));
    CHECK(ask.in.text == "half and half");
    REQUIRE(service.finish());
}

TEST_CASE("a service that speaks first may push during its session's life, over TLS as well") {
    Running comm(1);
    Context server = server_context(), client = client_context();
    TlsLines service;
    service.hold = true;
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    TlsPeer peer = TlsPeer::connected(service.address(), client.get());
    REQUIRE(peer.send("x\n"));
    Served *session = service.take();
    REQUIRE(session != nullptr);
    CHECK(comm.push("news\n", 5, session) == 5);
    CHECK(peer.receive(5) == "news\n");
    session->out.text = "answer";
    REQUIRE(comm.reply(session) == 0);
    CHECK(peer.receive(7) == "answer\n");
    REQUIRE(service.finish());
}

TEST_CASE(
    "close_notify and then the end of the stream is the end of the peer: whoever awaits a reply is told") {
    enum When { WITH_THE_REQUEST, LATER, LATER_ONE_BY_ONE };
    for (int round = 0; round < 6; round++) {
        int pipeline = 1 + round % 2;
        auto when = static_cast<When>(round / 2);
        CAPTURE(pipeline);
        CAPTURE(when);
        Running comm(1);
        Context server = server_context(), client = client_context();
        TlsLines service;
        struct Told : Served {
            Signal *told = nullptr;
            using Served::Served;
            void handle_peer_closed() override { told->set(); }
        };
        Signal told;
        service.on_session = [&](long long) {
            auto *made = new Told(service);
            made->told = &told;
            return made;
        };
        service.hold = service.stay = true;
        service.pipeline = pipeline;
        REQUIRE(service.start_tls(comm, server.get()) == 0);
        TlsPeer peer = TlsPeer::connected(service.address(), client.get());
        REQUIRE(peer.handshake());
        auto on_loop = [&](std::function<void()> what) { REQUIRE(run_on(comm.loop(0), std::move(what))); };
        auto say = [&] { CHECK(peer.send("a\n")); };
        auto leave = [&] {
            peer.close_notify();
            peer.socket().finish();
        };
        if (when == WITH_THE_REQUEST) {
            on_loop([&] { // which sees all of it at once
                say();
                leave();
            });
        } else {
            say();
        }
        Served *session = service.take();
        REQUIRE(session != nullptr);
        if (when == LATER) {
            on_loop(leave);
        } else if (when == LATER_ONE_BY_ONE) {
            peer.close_notify();
            for (int i = 0; i < 3; i++)
                on_loop([] {});
            CHECK(told.count() == 0); // it may still want its answer
            peer.socket().finish();
        }
        REQUIRE(told.wait());
        CHECK(comm.reply(session) == -1);
        CHECK(errno == ENOENT);
        delete session;
        REQUIRE(service.finish());
    }
}

TEST_CASE("the end of the stream without close_notify ends nothing else: the reply still goes out over TLS") {
    for (int pipeline : {1, 2}) {
        CAPTURE(pipeline);
        Running comm(1);
        Context server = server_context(), client = client_context();
        TlsLines service;
        service.hold = service.stay = true;
        service.pipeline = pipeline;
        REQUIRE(service.start_tls(comm, server.get()) == 0);
        TlsPeer peer = TlsPeer::connected(service.address(), client.get());
        REQUIRE(peer.send("a\n"));
        Served *session = service.take();
        REQUIRE(session != nullptr);
        peer.socket().finish();
        for (int i = 0; i < 3; i++)
            REQUIRE(run_on(comm.loop(0), [] {}));
        CHECK(session->peer_there());
        session->out.text = "answer";
        CHECK(comm.reply(session) == 0);
        CHECK(peer.receive(7) == "answer\n");
        REQUIRE(service.finish());
    }
}

TEST_CASE("a session may look at its TLS: on its loop while the connection is there, and when it fails") {
    Running comm(1, 0);
    Context server = server_context(), client = client_context();
    TlsLines service;
    std::string version, server_name;
    service.stay = true;
    service.on_request = [&](Served &turn) {
        version = SSL_get_version(turn.ssl());
        server_name = SSL_get_servername(turn.ssl(), TLSEXT_NAMETYPE_host_name);
        turn.out.text = "seen";
        comm.reply(&turn);
    };
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    TlsTarget target(service.address(), client.get());
    TlsAsk good("hello");
    REQUIRE(comm.request(&good, &target) == 0);
    REQUIRE(good.done.wait());
    CHECK(good.is(CS_STATE_SUCCESS, 0));
    CHECK(good.failed_at.empty());
    CHECK(version == "TLSv1.3");
    CHECK(server_name == "good.test");

    TlsTarget other(service.address(), client.get());
    other.name = "other.test"; // the certificate is not for that
    TlsAsk bad("hello");
    REQUIRE(comm.request(&bad, &other) == 0);
    REQUIRE(bad.done.wait());
    CHECK(bad.refused_by_tls());
    CHECK(bad.failed_at == "other.test");
    CHECK(service.finish());
}
