// tls::certificate and how a server chooses among several.

#include "tls_world.hpp"

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

using namespace net;
using parley::endpoint;

namespace {

void write(const std::string &path, const std::string &text) {
    std::ofstream(path) << text;
}

// The common name of what the server at `local` shows to who asks for `name` (SNI), whatever it is.
std::string shown_to(const endpoint &local, const char *name) {
    raw_peer socket(local);
    std::unique_ptr<SSL_CTX, openssl_free<SSL_CTX_free>> ctx(SSL_CTX_new(TLS_client_method()));
    std::unique_ptr<SSL, openssl_free<SSL_free>> ssl(SSL_new(ctx.get()));
    SSL_set_fd(ssl.get(), socket.fd());
    if (name)
        SSL_set_tlsext_host_name(ssl.get(), name);
    REQUIRE(SSL_connect(ssl.get()) == 1);
    char text[100] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(ssl.get())), NID_commonName,
                              text, sizeof text);
    return text;
}

} // namespace

TEST_CASE("tls::certificate: from files and from memory it is the same") {
    const temp_dir dir;
    const tls_world w;
    write(dir / "c.pem", w.localhost.certificate_pem() + w.authority.certificate_pem());
    write(dir / "k.pem", w.localhost.key_pem());
    auto files = tls::certificate::files(dir / "c.pem", dir / "k.pem");
    auto memory = tls::certificate::pem(w.localhost.certificate_pem(), w.localhost.key_pem());
    REQUIRE(files);
    REQUIRE(memory);
    CHECK(files->fingerprint() == memory->fingerprint());
    CHECK(files->fingerprint().size() == 64);
    CHECK(files->names() == std::vector<std::string>{"localhost", "127.0.0.1"});
    CHECK(files->chain_pem() == w.localhost.certificate_pem() + w.authority.certificate_pem());
    CHECK(memory->chain_pem() == w.localhost.certificate_pem());
    CHECK(files->not_after() > std::chrono::system_clock::now() + 23h);
    CHECK(files->not_after() < std::chrono::system_clock::now() + 25h);
}

TEST_CASE("tls::certificate: an encrypted key needs its passphrase, and nobody is asked") {
    const tls_world w;
    const std::string key = w.localhost.key_pem("open sesame"), chain = w.localhost.certificate_pem();
    auto right = tls::certificate::pem(chain, key, "open sesame");
    CHECK(right);
    auto wrong = tls::certificate::pem(chain, key, "open barley");
    REQUIRE(!wrong);
    CHECK(wrong.error().code().category() == parley::tls_category());
    CHECK(wrong.error().detail() == "private key in the PEM text");
    CHECK(!wrong.error().message().empty());
    auto none = tls::certificate::pem(chain, key);
    CHECK(!none);
}

TEST_CASE("tls::certificate: errors name the text or the file, the line and OpenSSL's reason") {
    const tls_world w;
    const std::string good = w.localhost.certificate_pem(), key = w.localhost.key_pem();

    auto nothing = tls::certificate::pem("", key);
    CHECK(nothing.error().message() == "no start line");
    CHECK(nothing.error().detail() == "certificate in the PEM text");

    std::string broken = w.authority.certificate_pem();
    broken.replace(broken.size() / 2, 8, "????????");
    const auto lines = std::count(good.begin(), good.end(), '\n');
    auto second = tls::certificate::pem(good + broken, key);
    CHECK(second.error().message() == "bad base64 decode");
    CHECK(second.error().detail() == "certificate in the PEM text, line " + std::to_string(lines + 1));

    auto foreign = tls::certificate::pem(good, w.authority.key_pem());
    CHECK(foreign.error().message() == "key values mismatch");
    CHECK(foreign.error().detail() == "private key in the PEM text");

    auto directory = tls::certificate::files("/tmp", "/tmp");
    CHECK(directory.error() == std::errc::is_a_directory);
    CHECK(directory.error().detail() == "certificate /tmp");
}

TEST_CASE("tls::context: a weak key of our own is refused, with its size") {
    const tls_world w;
    auto weak = certificate_of(w.authority.issue_rsa("weak", "DNS:localhost", 1024));
    auto server = tls::context::server(tls::server_options().add(weak));
    CHECK(server.error().message() == "ee key too small");
    CHECK(server.error().detail() == "certificate in the PEM text, whose key has 1024 bits");
    auto client = tls::context::client(w.trusting().certificate(weak));
    CHECK(client.error().message() == "ee key too small");
    CHECK(tls::context::server(
        tls::server_options().add(certificate_of(w.authority.issue_rsa("strong", "DNS:localhost", 2048)))));
}

TEST_CASE("tls::context: what cannot be trusted is named") {
    const tls_world w;
    auto nonsense = tls::context::client(tls::client_options().trust_pem("nonsense"));
    CHECK(nonsense.error().message() == "no start line");
    CHECK(nonsense.error().detail() == "certificate authorities in the PEM text");
    auto no_list = tls::context::client(w.trusting().revocations_file("/nowhere/list.pem"));
    CHECK(no_list.error() == std::errc::no_such_file_or_directory);
    CHECK(no_list.error().detail() == "revocation list /nowhere/list.pem");
    auto no_crl = tls::context::client(w.trusting().revocations_pem(w.authority.certificate_pem()));
    CHECK(no_crl.error().detail() == "revocation list in the PEM text, line 1");
    auto nobody = tls::context::server(w.serving().require_client_certificate({}));
    CHECK(nobody.error() == std::errc::invalid_argument);
    CHECK(nobody.error().detail() == "to verify clients somebody must be trusted");
    auto none = tls::context::server(tls::server_options());
    CHECK(none.error().detail() == "a server needs a certificate");
}

TEST_CASE("tls::certificate: self-signed for development") {
    auto mine = tls::certificate::self_signed({"localhost", "dev.example", "127.0.0.1", "::1"}, 1h).value();
    CHECK(mine.is_for("localhost"));
    CHECK(mine.is_for("DEV.example"));
    CHECK(mine.is_for("127.0.0.1"));
    CHECK(mine.is_for("::1"));
    CHECK(!mine.is_for("127.0.0.2"));
    CHECK(!mine.is_for("example"));
    CHECK(mine.not_after() <= std::chrono::system_clock::now() + 1h);
    CHECK(mine.fingerprint() != tls::certificate::self_signed({"localhost"}).value().fingerprint());
    auto nameless = tls::certificate::self_signed({});
    CHECK(nameless.error() == std::errc::invalid_argument);

    tls_server server(tls::context::server(tls::server_options().add(mine)).value());
    auto told = tls::context::client(tls::client_options().trust_pem(mine.chain_pem())).value();
    CHECK(server.ask(server.at("localhost"), told));
    CHECK(server.ask(server.at("127.0.0.1"), told));
    auto ignorant = tls::context::client().value();
    CHECK(server.ask(server.at("localhost"), ignorant).error().message() == "self-signed certificate");
}

TEST_CASE("tls::context: of several certificates the one for the name that is asked for") {
    const tls_world w;
    auto named = [&](const char *name, const char *alternative) {
        return certificate_of(w.authority.issue(name, alternative));
    };
    tls_server server(
        tls::context::server(tls::server_options()
                                 .add(named("first", "DNS:first.example"))
                                 .add(named("wild", "DNS:*.wild.example"))
                                 .add(named("exact", "DNS:exact.wild.example,DNS:other.example"))
                                 .add(certificate_of(identity::self_signed("old.style"))))
            .value());
    CHECK(shown_to(server.local, "exact.wild.example") ==
          "exact"); // although the other fits and stands before
    CHECK(shown_to(server.local, "EXACT.wild.example") == "exact");
    CHECK(shown_to(server.local, "other.example") == "exact");
    CHECK(shown_to(server.local, "any.wild.example") == "wild");
    CHECK(shown_to(server.local, "first.example") == "first");
    CHECK(shown_to(server.local, "old.style") == "old.style");
    CHECK(shown_to(server.local, "two.labels.wild.example") == "first"); // a wildcard is for one label
    CHECK(shown_to(server.local, "unknown.org") == "first");
    CHECK(shown_to(server.local, nullptr) == "first");
}

TEST_CASE("tls::context: of one name a certificate for each kind of key") {
    const tls_world w;
    tls_server server(
        tls::context::server(tls::server_options()
                                 .add(certificate_of(w.authority.issue("ec", "DNS:localhost")))
                                 .add(certificate_of(w.authority.issue_rsa("rsa", "DNS:localhost", 2048))))
            .value());
    auto shown = [&](const char *algorithms, const char *name) {
        raw_peer socket(server.local);
        std::unique_ptr<SSL_CTX, openssl_free<SSL_CTX_free>> ctx(SSL_CTX_new(TLS_client_method()));
        SSL_CTX_set1_sigalgs_list(ctx.get(), algorithms);
        std::unique_ptr<SSL, openssl_free<SSL_free>> ssl(SSL_new(ctx.get()));
        SSL_set_fd(ssl.get(), socket.fd());
        if (name)
            SSL_set_tlsext_host_name(ssl.get(), name);
        REQUIRE(SSL_connect(ssl.get()) == 1);
        return EVP_PKEY_get_base_id(X509_get0_pubkey(SSL_get0_peer_certificate(ssl.get())));
    };
    CHECK(shown("ECDSA+SHA256", "localhost") == EVP_PKEY_EC);
    CHECK(shown("RSA-PSS+SHA256", "localhost") == EVP_PKEY_RSA);
    CHECK(shown("RSA-PSS+SHA256", nullptr) == EVP_PKEY_RSA);
}
