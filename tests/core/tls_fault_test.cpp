#include <doctest/doctest.h>

#include <memory>

#include "tls_peers.h"

using namespace peers;

namespace {

constexpr int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

struct End {
    int state = -1, error = 0, cause = -1;
    unsigned long ssl_error = 0;
};

// A service whose sessions exist from the connection's birth, so that a failed handshake is told too.
class Early : public TlsLines {
public:
    End last; // of the latest session that ended without a whole message
    Early() {
        early = true;
        on_end = [this](Served &session, int state, int error) {
            std::lock_guard lock(mutex_);
            if (state != CS_STATE_SUCCESS)
                last = {state, error, session.get_cause(), session.get_ssl_error()};
        };
    }

private:
    std::mutex mutex_;
};

bool fine(Communicator &comm, CommTarget &target) {
    TlsAsk ask("x");
    return comm.request(&ask, &target) == 0 && ask.done.wait() && ask.is(CS_STATE_SUCCESS, 0);
}

// The bytes with which a client begins.
std::string client_hello() {
    Context context = client_context();
    SSL *ssl = SSL_new(context.get());
    BIO *out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
    SSL_set_connect_state(ssl);
    SSL_do_handshake(ssl);
    char *data;
    long size = BIO_get_mem_data(out, &data);
    std::string hello(data, static_cast<size_t>(size));
    SSL_free(ssl);
    return hello;
}

// A blocking peer whose output is collected first, so that a test decides how it reaches the wire.
std::string records(TlsPeer &peer, std::string_view data) {
    BIO *wire = SSL_get_wbio(peer.ssl()), *memory = BIO_new(BIO_s_mem());
    BIO_up_ref(wire);
    SSL_set0_wbio(peer.ssl(), memory);
    SSL_write(peer.ssl(), data.data(), static_cast<int>(data.size()));
    char *bytes;
    long size = BIO_get_mem_data(memory, &bytes);
    std::string made(bytes, static_cast<size_t>(size));
    SSL_set0_wbio(peer.ssl(), wire);
    return made;
}

// A record that nobody's key made.
const std::string forged = std::string("\x17\x03\x03\x00\x30", 5) + std::string(48, 'z');

} // namespace

TEST_CASE("a certificate that does not verify fails the request with minus SSL_ERROR_SSL and the reason") {
    Running comm(2);
    Identity stranger = identity("good.test", nullptr);
    Identity expired = identity("good.test", &authority(), false, -7200, -3600);
    Identity unborn = identity("good.test", &authority(), false, 3600, 7200);
    Identity other = identity("other.test", &authority());
    struct Row {
        const Identity *who;
        long reason;
    };
    for (const Row &row :
         {Row{&stranger, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT}, Row{&expired, X509_V_ERR_CERT_HAS_EXPIRED},
          Row{&unborn, X509_V_ERR_CERT_NOT_YET_VALID}, Row{&other, X509_V_ERR_HOSTNAME_MISMATCH}}) {
        for (int version : versions) {
            INFO("verification ", row.reason, " in version ", version);
            Context server = server_context(*row.who), client = client_context();
            only_version(server.get(), version);
            Early service;
            REQUIRE(service.start_tls(comm, server.get()) == 0);
            TlsTarget target(service.address(), client.get());
            for (int i = 0; i < 2; i++) { // no state of the first makes the second any better
                TlsAsk ask("secret");
                REQUIRE(comm.request(&ask, &target) == 0);
                REQUIRE(ask.done.wait());
                CHECK(ask.refused_by_tls());
                CHECK(ask.cause == CC_TLS);
                CHECK(ask.verify == row.reason);
                CHECK(ERR_GET_REASON(ask.ssl_error) == SSL_R_CERTIFICATE_VERIFY_FAILED);
                CHECK(ask.started.count() == 0); // nothing was said to the stranger
                CHECK(target.has_idle_conn() == 0);
            }
            CHECK(target.released == 2);
            REQUIRE(service.ended.wait(2)); // the alert reached the service
            CHECK(service.requests.count() == 0);
            CHECK(service.last.state == CS_STATE_ERROR);
            CHECK(service.last.error == -SSL_ERROR_SSL);
            REQUIRE(service.finish());
        }
    }
}

TEST_CASE("a client certificate that is asked for and missing ends the exchange on both sides") {
    for (int version : versions) {
        Running comm(1);
        Context server = server_context(), client = client_context();
        only_version(server.get(), version);
        SSL_CTX_set_verify(server.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
        X509_STORE_add_cert(SSL_CTX_get_cert_store(server.get()), authority().certificate.get());
        Early service;
        REQUIRE(service.start_tls(comm, server.get()) == 0);
        TlsTarget target(service.address(), client.get());
        TlsAsk ask("x");
        REQUIRE(comm.request(&ask, &target) == 0);
        REQUIRE(ask.done.wait());
        CHECK(ask.state == CS_STATE_ERROR);
        CHECK((ask.error == -SSL_ERROR_SSL || ask.error == ECONNRESET || ask.error == EPIPE));
        REQUIRE(service.ended.wait());
        CHECK(service.last.state == CS_STATE_ERROR);
        CHECK(service.last.error == -SSL_ERROR_SSL);
        CHECK(service.last.cause == CC_TLS);
        CHECK(ERR_GET_REASON(service.last.ssl_error) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE);

        SSL_CTX_use_certificate(client.get(), good().certificate.get());
        SSL_CTX_use_PrivateKey(client.get(), good().key.get());
        CHECK(fine(comm, target));
        REQUIRE(service.finish());
    }
}

TEST_CASE("protocols or versions that do not meet are refused by TLS, on both sides") {
    Running comm(1);
    for (bool protocol : {true, false}) {
        Context server = server_context(), client = client_context();
        if (protocol) {
            SSL_CTX_set_alpn_select_cb(
                server.get(),
                +[](SSL *, const unsigned char **, unsigned char *, const unsigned char *, unsigned, void *) {
                    return SSL_TLSEXT_ERR_ALERT_FATAL;
                },
                nullptr);
        } else {
            only_version(server.get(), TLS1_3_VERSION);
            only_version(client.get(), TLS1_2_VERSION);
        }
        Early service;
        REQUIRE(service.start_tls(comm, server.get()) == 0);
        TlsTarget target(service.address(), client.get());
        target.on_ssl = [](SSL *ssl) {
            return SSL_set_alpn_protos(ssl, reinterpret_cast<const unsigned char *>("\x04none"), 5);
        };
        TlsAsk ask("x");
        REQUIRE(comm.request(&ask, &target) == 0);
        REQUIRE(ask.done.wait());
        CHECK(ask.refused_by_tls());
        CHECK(ask.cause == CC_TLS);
        CHECK(ERR_GET_LIB(ask.ssl_error) == ERR_LIB_SSL);
        REQUIRE(service.ended.wait());
        CHECK(service.last.error == -SSL_ERROR_SSL);
        CHECK(service.last.cause == CC_TLS);
        REQUIRE(service.finish());
    }
}

TEST_CASE("init_ssl() that fails fails that connection alone, with its errno") {
    Running comm(1);
    Context server = server_context(), client = client_context();
    Early service;
    std::atomic<bool> refuse{true};
    auto failing = [&](SSL *) {
        errno = EDOM;
        return refuse.load() ? -1 : 0;
    };
    service.on_ssl = failing;
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    TlsTarget target(service.address(), client.get());
    TlsAsk cut("x");
    REQUIRE(comm.request(&cut, &target) == 0);
    REQUIRE(cut.done.wait());
    CHECK(cut.state == CS_STATE_ERROR);
    REQUIRE(service.ended.wait());
    CHECK(service.last.error == EDOM);
    CHECK(service.last.cause == CC_TLS);
    target.on_ssl = failing;
    TlsAsk own("x");
    REQUIRE(comm.request(&own, &target) == 0);
    REQUIRE(own.done.wait());
    CHECK(own.is(CS_STATE_ERROR, EDOM));
    CHECK(own.cause == CC_TLS);
    refuse = false;
    CHECK(fine(comm, target));
    REQUIRE(service.finish());
    CHECK(service.sessions == 0);
    CHECK(service.alive == 0);
}

TEST_CASE("whatever a stranger says to a TLS port, it is closed, and the next connection is not blamed") {
    Running comm(1); // one thread, one error queue
    Context server = server_context(), client = client_context();
    TlsLines service;
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    TlsTarget target(service.address(), client.get());
    const std::string sayings[] = {"GET / HTTP/1.1\r\n\r\n",
                                   std::string(1000, '\0'),
                                   "\x16\x03\x01\xff\xff" + std::string(70000, 'x'),
                                   forged,
                                   "SSH-2.0-x\r\n",
                                   client_hello().substr(0, 100) + std::string(1000, 'y')};
    for (const std::string &said : sayings) {
        Socket stranger = Socket::connected(service.address());
        (void)stranger.send(said);
        stranger.finish();
        (void)stranger.rest(); // an alert, perhaps; then the end
        CHECK(fine(comm, target));
    }
    CHECK(service.stopped.count() == 0);
    REQUIRE(service.finish());
    CHECK(service.alive == 0);
}

TEST_CASE("good and bad connections in turn, two hundred times, never share an error") {
    Running comm(1);
    Context server = server_context(), bad = server_context(identity("good.test", nullptr)),
            client = client_context();
    TlsLines service, liar;
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    REQUIRE(liar.start_tls(comm, bad.get()) == 0);
    TlsTarget target(service.address(), client.get()), wrong(liar.address(), client.get());
    int right = 0, refused = 0;
    for (int i = 0; i < 200; i++) {
        TlsAsk good_ask("x"), bad_ask("x");
        good_ask.keep_alive = i % 3 == 0 ? 0 : 60000;
        REQUIRE(comm.request(&bad_ask, &wrong) == 0);
        REQUIRE(comm.request(&good_ask, &target) == 0);
        REQUIRE(good_ask.done.wait());
        REQUIRE(bad_ask.done.wait());
        right += good_ask.is(CS_STATE_SUCCESS, 0) && good_ask.ssl_error == 0;
        refused += bad_ask.refused_by_tls() && bad_ask.verify == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT;
    }
    CHECK(right == 200);
    CHECK(refused == 200);
    REQUIRE(service.finish());
    REQUIRE(liar.finish());
}

TEST_CASE("TLS spoken to a port that does not is refused by TLS") {
    Running comm(1);
    Context client = client_context();
    Socket listener = Socket::listening();
    TlsTarget target(listener.address(), client.get());
    TlsAsk ask("x");
    REQUIRE(comm.request(&ask, &target) == 0);
    Socket peer = listener.accepted();
    REQUIRE(peer.send("220 welcome, who are you?\r\n"));
    REQUIRE(ask.done.wait());
    CHECK(ask.refused_by_tls());
    CHECK(ask.cause == CC_TLS);
    CHECK(ERR_GET_REASON(ask.ssl_error) == SSL_R_WRONG_VERSION_NUMBER);
    TlsAsk cut("x");
    REQUIRE(comm.request(&cut, &target) == 0);
    Socket closing = listener.accepted();
    CHECK(closing.receive(1) == "\x16");
    closing.finish();
    REQUIRE(cut.done.wait());
    CHECK(cut.state == CS_STATE_ERROR);
    CHECK((cut.error == -SSL_ERROR_SSL || cut.error == ECONNRESET));
    CHECK(cut.cause == CC_TLS);
}

TEST_CASE("a handshake that stalls ends with ETIMEDOUT and CC_TLS, on the client's side") {
    Running comm(1);
    Context client = client_context();
    Socket listener = Socket::listening();
    TlsTarget target(listener.address(), client.get(), 30);
    TlsAsk ask("x");
    auto begin = std::chrono::steady_clock::now();
    REQUIRE(comm.request(&ask, &target) == 0);
    Socket peer = listener.accepted();
    REQUIRE(ask.done.wait());
    CHECK(std::chrono::steady_clock::now() - begin >= 30ms);
    CHECK(ask.is(CS_STATE_ERROR, ETIMEDOUT));
    CHECK(ask.cause == CC_TLS);
    CHECK(ask.started.count() == 0);
    CHECK(target.released == 1);
}

TEST_CASE("a handshake that stalls, at its first byte or in between, is closed by the service") {
    const std::string hello = client_hello();
    for (size_t said : {size_t{0}, size_t{1}, hello.size() / 2, hello.size()}) {
        Running comm(1);
        Context server = server_context();
        Early service;
        REQUIRE(service.start_tls(comm, server.get(), 30) == 0);
        auto begin = std::chrono::steady_clock::now();
        Socket peer = Socket::connected(service.address());
        REQUIRE(peer.send(hello.substr(0, said)));
        (void)peer.rest();
        CHECK(std::chrono::steady_clock::now() - begin >= 30ms);
        REQUIRE(service.ended.wait());
        CHECK(service.last.state == CS_STATE_ERROR);
        CHECK(service.last.error == ETIMEDOUT);
        CHECK(service.last.cause == CC_TLS);
        REQUIRE(service.finish());
    }
}

TEST_CASE("the default deadline for handshakes holds where no timeout was set") {
    Communicator comm;
    CommDeadlines limits;
    limits.handshake = 30;
    comm.set_default_deadlines(limits);
    REQUIRE(comm.init(1, 0) == 0);
    Context server = server_context(), client = client_context();
    Early service;
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    Socket silent = Socket::connected(service.address());
    CHECK(silent.at_end());
    REQUIRE(service.ended.wait());
    CHECK(service.last.error == ETIMEDOUT);
    Socket listener = Socket::listening();
    TlsTarget target(listener.address(), client.get());
    TlsAsk ask("x");
    REQUIRE(comm.request(&ask, &target) == 0);
    REQUIRE(ask.done.wait());
    CHECK(ask.is(CS_STATE_ERROR, ETIMEDOUT));
    CHECK(ask.cause == CC_TLS);
    REQUIRE(service.finish());
}

TEST_CASE("a client that leaves anywhere within its first flight leaves nothing behind") {
    Running comm(2);
    Context server = server_context(), client = client_context();
    Early service;
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    const std::string hello = client_hello();
    for (size_t said = 0; said <= hello.size(); said += 7) {
        Socket leaving = Socket::connected(service.address());
        REQUIRE(leaving.send(hello.substr(0, said)));
        if (said % 2 == 0)
            leaving.reset();
    }
    TlsTarget target(service.address(), client.get());
    CHECK(fine(comm, target));
    target.close_idle();
    CHECK(eventually([&] { return service.alive == 0 && service.sessions == 0; }));
    REQUIRE(service.finish());
}

TEST_CASE("a stream cut off in the middle of a message is minus SSL_ERROR_SSL, one that was closed properly "
          "is not") {
    for (int version : versions) {
        for (bool notify : {false, true}) {
            INFO("version ", version, notify ? ", with close_notify" : ", without");
            Running comm(1);
            Context server = server_context(), client = client_context();
            only_version(server.get(), version);
            // As a client.
            Socket listener = Socket::listening();
            TlsTarget target(listener.address(), client.get());
            TlsAsk ask("x");
            REQUIRE(comm.request(&ask, &target) == 0);
            {
                TlsPeer peer(listener.accepted(), server.get(), false);
                CHECK(peer.receive(2) == "x\n");
                REQUIRE(peer.send("half a li"));
                if (notify)
                    peer.close_notify();
            }
            REQUIRE(ask.done.wait());
            CHECK(ask.is(CS_STATE_ERROR, notify ? ECONNRESET : -SSL_ERROR_SSL));
            CHECK(ask.cause == CC_EOF);
            if (!notify)
                CHECK(ERR_GET_REASON(ask.ssl_error) == SSL_R_UNEXPECTED_EOF_WHILE_READING);
            // As a service.
            Early service;
            REQUIRE(service.start_tls(comm, server.get()) == 0);
            {
                TlsPeer peer = TlsPeer::connected(service.address(), client.get());
                REQUIRE(peer.send("x\n"));
                CHECK(peer.receive(2) == "x\n"); // and the tickets: unread, they would make the FIN a RST
                REQUIRE(peer.send("half a li"));
                REQUIRE(service.receiving.wait(2));
                if (notify)
                    peer.close_notify();
            }
            REQUIRE(service.ended.wait(2));
            CHECK(service.last.state == CS_STATE_ERROR);
            CHECK(service.last.error == (notify ? ECONNRESET : -SSL_ERROR_SSL));
            CHECK(service.last.cause == CC_EOF);
            if (!notify)
                CHECK(ERR_GET_REASON(service.last.ssl_error) == SSL_R_UNEXPECTED_EOF_WHILE_READING);
            REQUIRE(service.finish());
        }
    }
}

TEST_CASE("a proper close between two messages is a clean end") {
    Running comm(1);
    Context server = server_context(), client = client_context();
    Early service;
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    {
        TlsPeer peer = TlsPeer::connected(service.address(), client.get());
        REQUIRE(peer.send("x\n"));
        CHECK(peer.receive(2) == "x\n");
        REQUIRE(service.ended.wait());
        peer.close_notify();
    }
    REQUIRE(service.ended.wait(2));
    CHECK(service.last.state == CS_STATE_ERROR);
    CHECK(service.last.error == 0);
    CHECK(service.last.cause == CC_EOF);
    REQUIRE(service.finish());
}

TEST_CASE("a forged record is minus SSL_ERROR_SSL, also when good ones came with it in one go") {
    for (bool together : {false, true}) {
        for (int version : versions) {
            INFO("version ", version, together ? ", together" : ", apart");
            Running comm(1);
            Context server = server_context(), client = client_context();
            only_version(server.get(), version);
            Early service;
            REQUIRE(service.start_tls(comm, server.get()) == 0);
            TlsPeer peer = TlsPeer::connected(service.address(), client.get());
            REQUIRE(peer.send("x\n"));
            CHECK(peer.receive(2) == "x\n");
            REQUIRE(service.ended.wait());
            std::string said = records(peer, "half a li");
            if (together) {
                REQUIRE(peer.socket().send(said + forged));
            } else {
                REQUIRE(peer.socket().send(said));
                REQUIRE(service.receiving.wait(2));
                REQUIRE(peer.socket().send(forged));
            }
            REQUIRE(service.ended.wait(2));
            CHECK(service.last.state == CS_STATE_ERROR);
            CHECK(service.last.error == -SSL_ERROR_SSL);
            CHECK(service.last.ssl_error != 0);
            REQUIRE(service.finish());
        }
    }
}

TEST_CASE("renegotiation asked for by a client of TLS 1.2 harms nobody") {
    Running comm(1);
    Context server = server_context(), client = client_context();
    only_version(server.get(), TLS1_2_VERSION);
    TlsLines service;
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    TlsPeer peer = TlsPeer::connected(service.address(), client.get());
    REQUIRE(peer.send("x\n"));
    CHECK(peer.receive(2) == "x\n");
    SSL_renegotiate(peer.ssl());
    (void)peer.handshake(); // refused, or ignored
    TlsTarget target(service.address(), client.get());
    CHECK(fine(comm, target));
    REQUIRE(service.finish());
}

TEST_CASE("deinit() ends handshakes on both sides with STOPPED") {
    for (size_t handlers : {0U, 2U}) {
        Running comm(2, handlers);
        Context server = server_context(), client = client_context();
        Early service;
        service.on_stop = [&](int) { comm.unbind(&service); };
        REQUIRE(service.start_tls(comm, server.get()) == 0);
        Socket silent = Socket::connected(service.address());
        REQUIRE(service.connected.wait());
        Socket listener = Socket::listening();
        TlsTarget target(listener.address(), client.get());
        TlsAsk ask("x");
        REQUIRE(comm.request(&ask, &target) == 0);
        Socket peer = listener.accepted();
        CHECK(peer.receive(1) == "\x16");
        comm.deinit();
        CHECK(ask.is(CS_STATE_STOPPED, 0));
        CHECK(ask.cause == CC_STOP);
        CHECK(service.ended.count() == 1);
        CHECK(service.last.state == CS_STATE_STOPPED);
        CHECK(service.unbound.count() == 1);
    }
}

TEST_CASE("unbind() closes connections that are still shaking hands") {
    Running comm(2);
    Context server = server_context();
    TlsLines service;
    REQUIRE(service.start_tls(comm, server.get()) == 0);
    Socket silent = Socket::connected(service.address()), partly = Socket::connected(service.address());
    REQUIRE(partly.send(client_hello().substr(0, 50)));
    REQUIRE(service.connected.wait(2));
    REQUIRE(service.finish());
    CHECK(silent.at_end());
    CHECK(partly.at_end());
}
