// Who the peer is, as a handler sees it; and sessions that are continued.

#include "tls_world.hpp"

#include <string>
#include <vector>

using namespace net;
using parley::endpoint;

TEST_CASE("tls_peer: a handler learns who its client is") {
    const tls_world w;
    tls_server server(
        tls::context::server(w.serving().require_client_certificate(w.trust()).alpn("lines")).value());
    identity alice = w.authority.issue(
        "alice", "DNS:alice.example,IP:10.0.0.1,IP:::1,URI:spiffe://example/alice,email:alice@example.org");
    auto client =
        tls::context::client(w.trusting().certificate(certificate_of(alice)).alpn("h2").alpn("lines"))
            .value();
    CHECK(server.ask(server.at("localhost"), client));
    auto who = server.peers.take();
    REQUIRE(who);
    CHECK(who->verified);
    CHECK(who->has_certificate());
    CHECK(who->subject == "CN=alice");
    CHECK(who->common_name == "alice");
    CHECK(who->issuer == "CN=test authority");
    CHECK(who->dns_names == std::vector<std::string>{"alice.example"});
    CHECK(who->ip_addresses == std::vector<std::string>{"10.0.0.1", "::1"});
    CHECK(who->uris == std::vector<std::string>{"spiffe://example/alice"});
    CHECK(who->emails == std::vector<std::string>{"alice@example.org"});
    CHECK(who->fingerprint == certificate_of(alice).fingerprint());
    CHECK(who->not_after == certificate_of(alice).not_after());
    CHECK(who->version == "TLSv1.3");
    CHECK(who->cipher.starts_with("TLS_"));
    CHECK(who->alpn == "lines");
    CHECK(who->server_name == "localhost");
    CHECK(!who->resumed);
}

TEST_CASE("tls_peer: a client without a certificate is accepted where that is said") {
    const tls_world w;
    tls_server server(tls::context::server(w.serving().accept_client_certificate(w.trust())).value());
    CHECK(server.ask(server.local, w.client()));
    auto who = server.peers.take();
    REQUIRE(who);
    CHECK(!who->verified);
    CHECK(!who->has_certificate());
    CHECK(who->subject.empty());
    CHECK(who->server_name.empty()); // addresses are not sent
    CHECK(who->version == "TLSv1.3");
}

TEST_CASE("tls_peer: nothing without TLS, and nothing of an empty handle") {
    CHECK(!parley::connection<lines>().tls_peer());
    tls_server server((tls::context()));
    CHECK(server.ask(server.local, tls::context()));
    CHECK(!server.peers.take());
}

TEST_CASE("TLS sessions: the next connection of the same context continues, also of another client object") {
    const tls_world w;
    identity alice = w.authority.issue("alice", "DNS:alice");
    for (const int newest : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        CAPTURE(newest);
        tls_server server(tls::context::server(w.serving().require_client_certificate(w.trust())).value());
        auto client = tls::context::client(w.trusting().certificate(certificate_of(alice))).value();
        SSL_CTX_set_max_proto_version(client.native(), newest);
        for (int i = 0; i < 3; i++) {
            CHECK(server.ask(server.at("localhost"), client));
            auto who = server.peers.take();
            CHECK(who->resumed == (i > 0));
            CHECK(who->verified); // the session remembers
            CHECK(who->common_name == "alice");
        }
        // Another name of the same server is another target.
        CHECK(server.ask(server.at("127.0.0.1"), client));
        CHECK(!server.peers.take()->resumed);
        // And another context has other sessions.
        auto other = tls::context::client(w.trusting().certificate(certificate_of(alice))).value();
        CHECK(server.ask(server.at("localhost"), other));
        CHECK(!server.peers.take()->resumed);
    }
}

TEST_CASE("TLS sessions: the name that is verified belongs to the session") {
    const tls_world w;
    tls_server server(w.server());
    auto client = w.client();
    CHECK(server.ask(server.local, client, "localhost"));
    auto wrong = server.ask(server.local, client, "other.example");
    CHECK(wrong.error().detail() == "the certificate is for localhost and 127.0.0.1, not for other.example");
}

TEST_CASE("TLS sessions: a client remembers the last 256 targets and no more") {
    const tls_world w;
    auto client = w.client();
    // Names of one server: each is a target of its own.
    std::string names;
    for (int i = 0; i < 258; i++)
        names += (i == 0 ? "DNS:h" : ",DNS:h") + std::to_string(i);
    identity many = w.authority.issue("many", names);
    tls_server crowd(tls::context::server(tls::server_options().add(certificate_of(many))).value());
    auto resumed = [&](int i) {
        CHECK(crowd.ask(crowd.local, client, "h" + std::to_string(i)));
        return crowd.peers.take()->resumed;
    };
    for (int i = 0; i < 257; i++)
        CHECK(!resumed(i));
    CHECK(resumed(256));
    CHECK(resumed(1));
    CHECK(!resumed(0)); // it was the oldest
}
