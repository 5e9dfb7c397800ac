// A server's context that is reloaded while it serves.

#include "tls_world.hpp"

#include <fstream>
#include <string>
#include <thread>

using namespace net;
using parley::endpoint;
using parley::line_message;

namespace {

void write(const std::string &path, const std::string &text) {
    std::ofstream(path) << text;
}

tls::server_options only(const identity &who) {
    return tls::server_options().add(certificate_of(who));
}

} // namespace

TEST_CASE("reload: new handshakes see the new certificate, connections that stand go on") {
    const tls_world w;
    identity before = w.authority.issue("before", "DNS:before.example");
    identity after = w.authority.issue("after", "DNS:after.example");
    auto context = tls::context::server(only(before)).value();
    tls_server server(context);
    server.rt.sync_wait([](endpoint where, tls::context client, tls::context serving,
                           const identity &next) -> parley::task<> {
        parley::client<lines> stands(where,
                                     parley::client_options().tls(client).server_name("before.example"));
        auto first = co_await stands.request(line_message("1"));
        CHECK(first);
        CHECK(serving.reload(only(next)));
        auto second = co_await stands.request(line_message("2"));
        CHECK(second);
    }(server.local, w.client(), context, after));
    CHECK(server.peers.take());
    CHECK(server.peers.empty()); // it was one connection

    CHECK(server.ask(server.local, w.client(), "after.example"));
    auto gone = server.ask(server.local, w.client(), "before.example");
    CHECK(gone.error().detail() == "the certificate is for after.example, not for before.example");
}

TEST_CASE("reload: the files are read again, and what is wrong with them changes nothing") {
    const temp_dir dir;
    const tls_world w;
    identity before = w.authority.issue("before", "DNS:before.example");
    identity after = w.authority.issue("after", "DNS:after.example");
    write(dir / "c.pem", before.certificate_pem());
    write(dir / "k.pem", before.key_pem());
    auto context = tls::context::server(dir / "c.pem", dir / "k.pem").value();
    tls_server server(context);
    CHECK(server.ask(server.local, w.client(), "before.example"));

    write(dir / "c.pem", after.certificate_pem()); // its key is not there yet
    auto half = context.reload();
    REQUIRE(!half);
    CHECK(half.error().message() == "key values mismatch");
    CHECK(half.error().detail() == "private key " + (dir / "k.pem"));
    CHECK(server.ask(server.local, w.client(), "before.example"));

    write(dir / "k.pem", after.key_pem());
    CHECK(context.reload());
    CHECK(server.ask(server.local, w.client(), "after.example"));
}

TEST_CASE("reload: sessions are continued, but not where other clients are believed") {
    const tls_world w;
    identity alice = w.authority.issue("alice", "DNS:alice");
    auto context = tls::context::server(w.serving().require_client_certificate(w.trust())).value();
    tls_server server(context);
    auto client = tls::context::client(w.trusting().certificate(certificate_of(alice))).value();
    CHECK(server.ask(server.local, client));
    CHECK(!server.peers.take()->resumed);

    CHECK(context.reload());
    CHECK(server.ask(server.local, client));
    CHECK(server.peers.take()->resumed);

    // Alice is revoked: her old session does not help her.
    tls::trust stricter = w.trust().revocations_pem(w.authority.revocations({&alice}));
    CHECK(context.reload(w.serving().require_client_certificate(stricter)));
    CHECK(!server.ask(server.local, client));
    CHECK(server.failures.take().message() == "certificate revoked");
}

TEST_CASE("reload: who was accepted without a certificate is not continued where one is required") {
    const tls_world w;
    auto context = tls::context::server(w.serving().accept_client_certificate(w.trust())).value();
    tls_server server(context);
    auto client = w.client();
    CHECK(server.ask(server.local, client));
    CHECK(server.ask(server.local, client));
    server.peers.take();
    CHECK(server.peers.take()->resumed);
    CHECK(context.reload(w.serving().require_client_certificate(w.trust())));
    CHECK(!server.ask(server.local, client));
    CHECK(server.failures.take().message() == "peer did not return a certificate");
}

TEST_CASE("reload: protocols and versions change as well") {
    const tls_world w;
    auto context = tls::context::server(w.serving().alpn("old")).value();
    tls_server server(context);
    auto client = tls::context::client(w.trusting().alpn("new")).value();
    CHECK(!server.ask(server.local, client));
    CHECK(context.reload(w.serving().alpn("new").minimum_version(tls::version::tls1_3)));
    CHECK(server.ask(server.local, client));
    CHECK(server.peers.take()->alpn == "new");
    auto old = w.client();
    SSL_CTX_set_max_proto_version(old.native(), TLS1_2_VERSION);
    CHECK(server.ask(server.local, old).error().detail() ==
          "the server allows no version of TLS that we speak");
}

TEST_CASE("reload: only of a server's context") {
    const tls_world w;
    CHECK(w.client().reload().error() == std::errc::invalid_argument);
    CHECK(tls::context().reload().error() == std::errc::invalid_argument);
    CHECK(w.client().reload(w.serving()).error() == std::errc::invalid_argument);
    CHECK(tls::context::adopt(w.server().native()).reload()); // shares the same
    CHECK(w.server().reload(tls::server_options()).error().detail() == "a server needs a certificate");
}

TEST_CASE("reload: again and again under load, from another thread, and nothing fails") {
    const tls_world w;
    const identity one = w.authority.issue("one", "DNS:localhost");
    const identity two = w.authority.issue("two", "DNS:localhost");
    auto context = tls::context::server(only(one)).value();
    tls_server server(context, 2);
    parley::sync::atomic<bool> over{false};
    int reloads = 0;
    std::thread other([&] {
        while (!over.load()) {
            CHECK(context.reload(only(reloads % 2 == 0 ? two : one)));
            reloads++;
        }
    });
    int answered = 0;
    for (int round = 0; round < 10; round++) {
        server.rt.sync_wait([](endpoint where, tls::context with, int &count) -> parley::task<> {
            co_await parley::with_scope([&](parley::scope &all) -> parley::task<> {
                for (int i = 0; i < 10; i++) {
                    all.spawn([](endpoint to, tls::context how, int &done) -> parley::task<> {
                        parley::client<lines> c(to, parley::client_options().tls(how));
                        auto answer = co_await c.request(line_message("hello"));
                        CHECK(answer);
                        done += answer.has_value();
                    }(where, with, count));
                }
                co_return;
            });
        }(server.at("localhost"), w.client(), answered));
    }
    over.store(true);
    other.join();
    CHECK(answered == 100);
    CHECK(reloads > 0);
}
