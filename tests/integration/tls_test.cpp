#include "certificates.hpp"
#include "net.hpp"

#include <memory>
#include <vector>

#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

using namespace net;
using parley::client;
using parley::client_options;
using parley::connection;
using parley::endpoint;
using parley::errc;
using parley::line_message;
using parley::runtime;
using parley::task;
namespace tls = parley::tls;

namespace {

// An authority, whose certificate is in a file, and servers with certificates of all kinds.
struct world {
    temp_dir dir;
    identity authority;
    std::string authority_file = dir / "authority.pem";

    explicit world(const std::string &name = "parley test authority")
        : authority(identity::self_signed(name, true)) {
        authority.write_certificate(authority_file);
    }

    tls::context server(const identity &who) {
        std::string certificate = dir / "certificate.pem", key = dir / "key.pem";
        who.write_certificate(certificate);
        who.write_key(key);
        return tls::context::server(certificate, key).value();
    }
    tls::context client() {
        return tls::context::client(tls::client_options().trust_file(authority_file)).value();
    }
};

parley::serve_options with_tls(tls::context context) {
    parley::serve_options options;
    options.tls(std::move(context));
    return options;
}

// What a client's request to `where` comes to.
parley::result<line_message> ask(runtime &rt, endpoint where, client_options options) {
    return rt.sync_wait([](endpoint to, client_options how) -> task<parley::result<line_message>> {
        client<lines> c(to, how);
        auto answer = co_await c.request(line_message("secret"));
        co_return answer;
    }(std::move(where), std::move(options)));
}

parley::error refused(const world &w, runtime &rt, const endpoint &where) {
    tls::client_options trust;
    trust.trust_file(w.authority_file);
    client_options options;
    options.tls(tls::context::client(trust).value());
    auto answer = ask(rt, where, options);
    REQUIRE(!answer);
    CHECK(answer.error().stage() == parley::stage::tls);
    CHECK(answer.error().code().category() == parley::tls_category());
    CHECK(answer.error().peer() == where.to_string());
    return answer.error();
}

} // namespace

TEST_CASE("TLS: a request to a server with a good certificate, by name and by address") {
    world w;
    auto good = w.authority.issue("localhost", "DNS:localhost,IP:127.0.0.1");
    echo_server<lines> server(2, endpoint("127.0.0.1", 0), with_tls(w.server(good)));
    for (const char *host : {"localhost", "127.0.0.1"}) {
        server.rt.sync_wait([](endpoint where, client_options options) -> task<> {
            client<lines> c(where, options);
            for (int i = 0; i < 3; i++) {
                auto answer = co_await c.request(line_message(std::to_string(i)));
                REQUIRE(answer);
                CHECK(answer->text() == std::to_string(i));
            }
        }(endpoint(host, server.local.port()), client_options().tls(w.client())));
    }
}

TEST_CASE("TLS: an expired certificate is refused with the reason") {
    world w;
    auto expired = w.authority.issue("localhost", "IP:127.0.0.1", -7200, -3600);
    echo_server<lines> server(1, endpoint("127.0.0.1", 0), with_tls(w.server(expired)));
    CHECK(refused(w, server.rt, server.local).message() == "certificate has expired");
}

TEST_CASE("TLS: a self-signed certificate is refused with the reason") {
    world w;
    echo_server<lines> server(1, endpoint("127.0.0.1", 0),
                              with_tls(w.server(identity::self_signed("localhost"))));
    parley::error why = refused(w, server.rt, server.local);
    CHECK(why.message().starts_with("self-signed certificate"));
}

TEST_CASE("TLS: a certificate for another name is refused with the reason") {
    world w;
    auto other = w.authority.issue("example.org", "DNS:example.org,IP:127.0.0.2");
    echo_server<lines> server(1, endpoint("127.0.0.1", 0), with_tls(w.server(other)));
    CHECK(refused(w, server.rt, server.local).message() == "IP address mismatch");
    parley::error why =
        ask(server.rt, endpoint("localhost", server.local.port()), client_options().tls(w.client())).error();
    CHECK(why.message() == "hostname mismatch");
    // The name to verify may be given.
    auto answer = ask(server.rt, server.local, client_options().tls(w.client()).server_name("example.org"));
    CHECK(answer);
}

TEST_CASE("TLS: a certificate of an unknown authority is refused with the reason") {
    world w, elsewhere("another authority");
    auto foreign = elsewhere.authority.issue("localhost", "IP:127.0.0.1");
    echo_server<lines> server(1, endpoint("127.0.0.1", 0), with_tls(w.server(foreign)));
    CHECK(refused(w, server.rt, server.local).message() == "unable to get local issuer certificate");
}

TEST_CASE("TLS: by default the system's authorities are trusted, so the test's is not") {
    world w;
    auto good = w.authority.issue("localhost", "IP:127.0.0.1");
    echo_server<lines> server(1, endpoint("127.0.0.1", 0), with_tls(w.server(good)));
    auto answer = ask(server.rt, server.local, client_options().tls(tls::context::client().value()));
    CHECK(answer.error().stage() == parley::stage::tls);
}

TEST_CASE("TLS: the insecure switch accepts anybody") {
    world w;
    echo_server<lines> server(1, endpoint("127.0.0.1", 0),
                              with_tls(w.server(identity::self_signed("nobody"))));
    auto context = tls::context::client(tls::client_options().insecure_accept_any_certificate()).value();
    auto answer = ask(server.rt, server.local, client_options().tls(context));
    CHECK(answer->text() == "secret");
}

TEST_CASE("TLS: over a unix socket the name to verify must be given") {
    world w;
    auto good = w.authority.issue("localhost", "DNS:localhost");
    echo_server<lines> server(1, endpoint::unix_path(w.dir / "door"), with_tls(w.server(good)));
    auto answer = ask(server.rt, server.local, client_options().tls(w.client()));
    CHECK(!answer);
    answer = ask(server.rt, server.local, client_options().tls(w.client()).server_name("localhost"));
    CHECK(answer->text() == "secret");
}

TEST_CASE("TLS: a client that speaks none is an error of the server's first recv, with the reason") {
    world w;
    auto good = w.authority.issue("localhost", "IP:127.0.0.1");
    inbox<parley::error> failure;
    inbox<endpoint> listening;
    runtime rt(with_loops(1));
    background running(rt,
                       [](tls::context context, inbox<endpoint> &at, inbox<parley::error> &out) -> task<> {
                           parley::acceptor_options options;
                           options.tls(context);
                           parley::acceptor<lines> door(endpoint("127.0.0.1", 0), options);
                           at.put(door.local_endpoint().value());
                           auto peer = co_await door.accept(); // before the handshake
                           auto line = co_await peer->recv();
                           out.put(line.error());
                       }(w.server(good), listening, failure));
    raw_peer client(listening.take());
    client.send("GET / HTTP/1.0\r\n\r\n");
    parley::error why = failure.take();
    CHECK(why.stage() == parley::stage::tls);
    CHECK(why.code().category() == parley::tls_category());
    CHECK(why.message() == "http request");
    CHECK(why.peer() == client.local().to_string());
}

TEST_CASE("TLS: a handshake that takes too long is a timeout of stage tls") {
    world w;
    auto good = w.authority.issue("localhost", "IP:127.0.0.1");
    inbox<parley::error> failure;
    inbox<endpoint> listening;
    runtime rt(with_loops(1));
    background running(rt,
                       [](tls::context context, inbox<endpoint> &at, inbox<parley::error> &out) -> task<> {
                           parley::acceptor_options options;
                           options.tls(context).handshake_limit(20ms);
                           parley::acceptor<lines> door(endpoint("127.0.0.1", 0), options);
                           at.put(door.local_endpoint().value());
                           auto peer = co_await door.accept();
                           auto line = co_await peer->recv();
                           out.put(line.error());
                       }(w.server(good), listening, failure));
    raw_peer client(listening.take());
    parley::error why = failure.take();
    CHECK(why == errc::timed_out);
    CHECK(why.stage() == parley::stage::tls);
}

TEST_CASE("TLS: large messages both ways") {
    world w;
    auto good = w.authority.issue("localhost", "IP:127.0.0.1");
    echo_server<packets> server(1, endpoint("127.0.0.1", 0), with_tls(w.server(good)));
    server.rt.sync_wait([](endpoint where, client_options options) -> task<> {
        client<packets> c(where, options);
        parley::length_prefixed question, answer;
        char *bytes = question.resize_for_overwrite(8u << 20);
        for (std::size_t i = 0; i < (8u << 20); i++)
            bytes[i] = static_cast<char>(i * 31);
        for (int i = 0; i < 3; i++) {
            auto asked = co_await c.request(question, answer);
            REQUIRE(asked);
            CHECK(answer.body() == question.body());
        }
    }(server.local, client_options().tls(w.client())));
}

TEST_CASE("TLS: ALPN offered and spoken, and refused when nothing is common") {
    world w;
    auto good = w.authority.issue("localhost", "IP:127.0.0.1");
    std::string certificate = w.dir / "c.pem", key = w.dir / "k.pem";
    good.write_certificate(certificate);
    good.write_key(key);
    auto speaks =
        tls::context::server(certificate, key, tls::server_options().alpn("lines/2").alpn("lines/1"));
    echo_server<lines> server(1, endpoint("127.0.0.1", 0), with_tls(speaks.value()));
    tls::client_options offers;
    offers.trust_file(w.authority_file).alpn("lines/1");
    CHECK(ask(server.rt, server.local, client_options().tls(tls::context::client(offers).value())));
    tls::client_options strange;
    strange.trust_file(w.authority_file).alpn("h2");
    auto answer = ask(server.rt, server.local, client_options().tls(tls::context::client(strange).value()));
    CHECK(answer.error().stage() == parley::stage::tls);
    CHECK(ask(server.rt, server.local, client_options().tls(w.client()))); // offers none
}

TEST_CASE("TLS: many clients at once, over every loop, and nothing is left") {
    world w;
    auto good = w.authority.issue("localhost", "IP:127.0.0.1");
    auto context = w.server(good);
    std::size_t before = open_descriptors();
    {
        echo_server<lines> server(2, endpoint("127.0.0.1", 0), with_tls(context));
        server.rt.sync_wait([](endpoint where, client_options options) -> task<> {
            client<lines> c(where, options.max_connections(20));
            int answered = 0;
            co_await parley::with_scope([&](parley::scope &s) -> task<> {
                for (int i = 0; i < 200; i++) {
                    s.spawn([](client<lines> &asks, int n, int &count) -> task<> {
                        auto answer = co_await asks.request(line_message(std::to_string(n)));
                        REQUIRE(answer);
                        CHECK(answer->text() == std::to_string(n));
                        count++;
                    }(c, i, answered));
                }
                co_return;
            });
            CHECK(answered == 200);
        }(server.local, client_options().tls(w.client())));
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("TLS: what cannot be loaded is named, with OpenSSL's reason") {
    world w;
    std::string missing = w.dir / "missing.pem", nonsense = w.dir / "nonsense.pem", key = w.dir / "key.pem";
    std::FILE *file = std::fopen(nonsense.c_str(), "w");
    std::fputs("nonsense\n", file);
    std::fclose(file);
    w.authority.write_key(key);

    auto no_file = tls::context::server(missing, key);
    CHECK(no_file.error() == std::errc::no_such_file_or_directory);
    CHECK(no_file.error().detail() == "certificate " + missing);
    auto no_pem = tls::context::server(nonsense, key);
    CHECK(no_pem.error().message() == "no start line");
    CHECK(no_pem.error().detail() == "certificate " + nonsense);
    auto other_key = tls::context::server(w.authority_file, w.dir / "missing.key");
    CHECK(other_key.error().detail() == "private key " + (w.dir / "missing.key"));
    std::string foreign = w.dir / "foreign.pem";
    identity::self_signed("somebody else").write_key(foreign);
    auto mismatch = tls::context::server(w.authority_file, foreign);
    CHECK(mismatch.error().message() == "key values mismatch");
    auto no_trust = tls::context::client(tls::client_options().trust_file(missing));
    CHECK(no_trust.error().detail() == "certificate authorities in " + missing);
    CHECK(to_string(no_trust.error()).find(missing) != std::string::npos);
}
