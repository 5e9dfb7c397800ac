// Everything that TLS refuses, with the sentence that a person is told.

#include "one_server.hpp"
#include "tls_world.hpp"

#include <functional>
#include <string>
#include <vector>

using namespace net;
using parley::endpoint;
using parley::line_message;
using parley::result;

namespace {

struct refusal {
    const char *what;
    std::function<tls::context(const tls_world &)> server;
    std::function<tls::client_options(const tls_world &)> client;
    const char *host;
    const char *message;  // OpenSSL's, or how it begins
    const char *sentence; // a part of it
};

tls::client_options usual(const tls_world &w) {
    return w.trusting();
}

tls::context shows(const identity &who, const std::string &chain = {}) {
    return tls::context::server(tls::server_options().add(certificate_of(who, chain))).value();
}

const std::vector<refusal> &matrix() {
    static const std::vector<refusal> all{
        {"expired",
         [](const tls_world &w) { return shows(w.authority.issue("x", "DNS:localhost", -7200, -3600)); },
         usual, "localhost", "certificate has expired", "the certificate of localhost expired on 20"},
        {"not yet valid",
         [](const tls_world &w) { return shows(w.authority.issue("x", "DNS:localhost", 3600, 7200)); }, usual,
         "localhost", "certificate is not yet valid", "the certificate of localhost is not valid before 20"},
        {"wrong name",
         [](const tls_world &w) { return shows(w.authority.issue("x", "DNS:a.example,DNS:b.example")); },
         usual, "localhost", "hostname mismatch",
         "the certificate is for a.example and b.example, not for localhost"},
        {"wrong name, and many of them",
         [](const tls_world &w) {
             return shows(w.authority.issue("x", "DNS:a,DNS:b,DNS:c,DNS:d,DNS:e,DNS:f"));
         },
         usual, "localhost", "hostname mismatch", "for a, b, c, d and 2 more, not for localhost"},
        {"a wildcard for one label is not for none",
         [](const tls_world &w) { return shows(w.authority.issue("x", "DNS:*.localhost")); }, usual,
         "localhost", "hostname mismatch", "the certificate is for *.localhost, not for localhost"},
        {"wrong address",
         [](const tls_world &w) { return shows(w.authority.issue("x", "DNS:localhost,IP:127.0.0.2")); },
         usual, "127.0.0.1", "IP address mismatch",
         "the certificate is for localhost and 127.0.0.2, not for 127.0.0.1"},
        {"unknown authority",
         [](const tls_world &) {
             return shows(identity::self_signed("somebody", true).issue("x", "DNS:localhost"));
         },
         usual, "localhost", "unable to get local issuer certificate",
         "the certificate of localhost was issued by \"somebody\", whom we do not trust"},
        {"unknown authority, which is sent along",
         [](const tls_world &) {
             identity other = identity::self_signed("somebody", true);
             return shows(other.issue("x", "DNS:localhost"), other.certificate_pem());
         },
         usual, "localhost", "self-signed certificate in certificate chain",
         "the certificate of localhost was issued under the authority \"somebody\", whom we do not trust"},
        {"somebody with the name of our authority",
         [](const tls_world &) {
             return shows(identity::self_signed("test authority", true).issue("x", "DNS:localhost"));
         },
         usual, "localhost", "certificate signature failure",
         "the signature of \"test authority\" on the certificate of localhost is wrong"},
        {"self-signed", [](const tls_world &) { return shows(identity::self_signed("localhost")); }, usual,
         "localhost", "self-signed certificate",
         "the certificate of localhost is signed by itself, by nobody whom we trust"},
        {"an authority that is none",
         [](const tls_world &w) {
             identity no_authority = w.authority.issue("clerk", "DNS:clerk");
             return shows(no_authority.issue("x", "DNS:localhost"), no_authority.certificate_pem());
         },
         usual, "localhost", "invalid CA certificate", "\"clerk\" may not issue certificates, and did"},
        {"revoked", [](const tls_world &w) { return shows(w.localhost); },
         [](const tls_world &w) {
             return w.trusting().revocations_pem(w.authority.revocations({&w.localhost}));
         },
         "localhost", "certificate revoked",
         "the certificate of localhost was revoked by \"test authority\" on 20"},
        {"the list of revocations is old", [](const tls_world &w) { return shows(w.localhost); },
         [](const tls_world &w) { return w.trusting().revocations_pem(w.authority.revocations({}, -60)); },
         "localhost", "CRL has expired", "the revocation list of \"test authority\" is out of date"},
        {"an authority between has no list",
         [](const tls_world &w) {
             identity between = w.authority.issue_authority("between");
             return shows(between.issue("x", "DNS:localhost"), between.certificate_pem());
         },
         [](const tls_world &w) { return w.trusting().revocations_pem(w.authority.revocations({})); },
         "localhost", "unable to get certificate CRL", "there is no revocation list of \"between\""},
        {"a weak key",
         [](const tls_world &w) {
             return careless_server(w.authority.issue_rsa("x", "DNS:localhost", 1024));
         },
         usual, "localhost", "EE certificate key too weak",
         "the certificate of localhost has a key of 1024 bits (RSA), which is too weak"},
        {"only old versions", [](const tls_world &w) { return careless_server(w.localhost, TLS1_1_VERSION); },
         usual, "localhost", "tls", "the server allows no version of TLS that we speak"},
        {"only TLS 1.2 where 1.3 is wanted",
         [](const tls_world &w) { return careless_server(w.localhost, TLS1_2_VERSION); },
         [](const tls_world &w) { return w.trusting().minimum_version(tls::version::tls1_3); }, "localhost",
         "tls", "the server allows no version of TLS that we speak"},
        {"no application protocol in common",
         [](const tls_world &w) { return tls::context::server(w.serving().alpn("lines")).value(); },
         [](const tls_world &w) { return w.trusting().alpn("h2"); }, "localhost",
         "tlsv1 alert no application",
         "the server speaks none of the application protocols (ALPN) that we offer"},
        {"no client certificate",
         [](const tls_world &w) {
             return tls::context::server(w.serving().require_client_certificate(w.trust())).value();
         },
         usual, "localhost", "tlsv13 alert certificate required",
         "the server requires a certificate of ours, and we gave none"},
        {"a client certificate of an unknown authority",
         [](const tls_world &w) {
             return tls::context::server(w.serving().require_client_certificate(w.trust())).value();
         },
         [](const tls_world &w) {
             identity other = identity::self_signed("somebody", true).issue("mallory", "DNS:mallory");
             return w.trusting().certificate(certificate_of(other));
         },
         "localhost", "tlsv1 alert unknown ca", "the server refused our certificate: it does not trust who"},
    };
    return all;
}

} // namespace

TEST_CASE("TLS refusals: each says in a sentence what is wrong") {
    const tls_world w;
    for (const refusal &one : matrix()) {
        CAPTURE(one.what);
        tls_server server(one.server(w));
        auto client = tls::context::client(one.client(w)).value();
        auto answer = server.ask(server.at(one.host), client);
        REQUIRE(!answer);
        const parley::error &why = answer.error();
        CAPTURE(to_string(why));
        CHECK(why.code().category() == parley::tls_category());
        CHECK(why.message().starts_with(one.message));
        CHECK(std::string(why.detail()).find(one.sentence) != std::string::npos);
        // For a person it is all in one line.
        CHECK(to_string(why).find(one.sentence) != std::string::npos);
    }
}

TEST_CASE("TLS refusals: what is no TLS is said to be none") {
    const tls_world w;
    // Somebody who answers in plain text.
    auto plain = serve_one<lines>([](parley::connection<lines> peer) -> parley::task<> {
        auto sent = co_await peer.push(line_message("220 welcome to this old server"));
        CHECK(sent);
        auto request = co_await peer.recv(); // perhaps no line
        co_return;
    });
    tls_server other(w.server());
    auto answer = other.ask(endpoint("127.0.0.1", plain.local.port()), w.client());
    CHECK(answer.error().message() == "wrong version number");
    CHECK(answer.error().detail() == "what the server sent is not TLS; does it speak without?");
    CHECK(answer.error().stage() == parley::stage::tls);
}

TEST_CASE("TLS refusals: the server is told as well") {
    const tls_world w;
    SUBCASE("a client in plain text") {
        tls_server server(w.server());
        raw_peer plain(server.local);
        plain.send("GET / HTTP/1.1\r\n\r\n");
        const parley::error why = server.failures.take();
        CHECK(why.message() == "http request");
        CHECK(why.detail() == "what the client sent is not TLS; does it speak without?");
        CHECK(why.stage() == parley::stage::tls);
        CHECK(why.peer() == plain.local().to_string());
    }
    SUBCASE("a client that leaves in the middle") {
        tls_server server(w.server());
        raw_peer silent(server.local);
        silent.send("\x16\x03\x01");
        silent.close();
        CHECK(server.failures.take().detail() == "the client closed in the middle of the handshake");
    }
    SUBCASE("a client that trusts somebody else") {
        tls_server server(w.server());
        const identity other = identity::self_signed("somebody", true);
        auto client = tls::context::client(tls::client_options().trust_pem(other.certificate_pem())).value();
        CHECK(!server.ask(server.local, client));
        const parley::error why = server.failures.take();
        CHECK(why.detail() == "the client refused our certificate: it does not trust who issued it");
    }
    SUBCASE("a client without a certificate") {
        tls_server server(tls::context::server(w.serving().require_client_certificate(w.trust())).value());
        CHECK(!server.ask(server.local, w.client()));
        const parley::error why = server.failures.take();
        CHECK(why.message() == "peer did not return a certificate");
        CHECK(why.detail() == "the client gave no certificate, and one is required");
    }
    SUBCASE("a client whose certificate has expired") {
        tls_server server(tls::context::server(w.serving().require_client_certificate(w.trust())).value());
        identity late = w.authority.issue("late", "DNS:late", -7200, -3600);
        auto client = tls::context::client(w.trusting().certificate(certificate_of(late))).value();
        CHECK(!server.ask(server.local, client));
        const parley::error why = server.failures.take();
        CHECK(why.message() == "certificate has expired");
        CHECK(why.detail().starts_with("the client's certificate (\"late\") expired on 20"));
    }
    SUBCASE("a client whose certificate is revoked") {
        identity alice = w.authority.issue("alice", "DNS:alice");
        tls::trust whom = w.trust().revocations_pem(w.authority.revocations({&alice}));
        tls_server server(tls::context::server(w.serving().accept_client_certificate(whom)).value());
        auto client = tls::context::client(w.trusting().certificate(certificate_of(alice))).value();
        CHECK(!server.ask(server.local, client));
        CHECK(server.failures.take().detail().starts_with(
            "the client's certificate (\"alice\") was revoked by \"test authority\" on 20"));
        CHECK(server.ask(server.local, w.client())); // none at all is accepted
    }
    SUBCASE("a client that is too old") {
        tls_server server(w.server());
        std::unique_ptr<SSL_CTX, openssl_free<SSL_CTX_free>> old(SSL_CTX_new(TLS_client_method()));
        SSL_CTX_set_security_level(old.get(), 0);
        SSL_CTX_set_min_proto_version(old.get(), TLS1_VERSION);
        SSL_CTX_set_max_proto_version(old.get(), TLS1_1_VERSION);
        CHECK(!server.ask(server.local, tls::context::adopt(old.get())));
        const parley::error why = server.failures.take();
        CHECK(why.message() == "unsupported protocol");
        CHECK(why.detail() == "the client speaks no version of TLS that is allowed here");
    }
}

TEST_CASE("TLS refusals: a revocation list that does not name it lets it through") {
    const tls_world w;
    tls_server server(w.server());
    auto client = tls::context::client(w.trusting().revocations_pem(w.authority.revocations({}))).value();
    CHECK(server.ask(server.at("localhost"), client));
}
