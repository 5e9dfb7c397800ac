// What the tests of TLS share: an authority, contexts under it, and a server that keeps what it learned of
// its clients.

#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "certificates.hpp"
#include "net.hpp"

namespace net {

namespace tls = parley::tls;

inline tls::certificate certificate_of(const identity &who, const std::string &chain = {}) {
    return tls::certificate::pem(who.certificate_pem() + chain, who.key_pem()).value();
}

struct tls_world {
    identity authority = identity::self_signed("test authority", true);
    identity localhost = authority.issue("localhost", "DNS:localhost,IP:127.0.0.1");

    tls::client_options trusting() const {
        tls::client_options options;
        options.trust_pem(authority.certificate_pem());
        return options;
    }
    tls::trust trust() const { return tls::trust().pem(authority.certificate_pem()); }
    tls::server_options serving() const { return tls::server_options().add(certificate_of(localhost)); }
    tls::context server() const { return tls::context::server(serving()).value(); }
    tls::context client() const { return tls::context::client(trusting()).value(); }
};

// A context that the program made itself, and that refuses nothing.
inline tls::context careless_server(const identity &who, int newest = 0) {
    std::unique_ptr<SSL_CTX, openssl_free<SSL_CTX_free>> ctx(SSL_CTX_new(TLS_server_method()));
    SSL_CTX_set_security_level(ctx.get(), 0);
    SSL_CTX_set_min_proto_version(ctx.get(), TLS1_VERSION);
    SSL_CTX_set_max_proto_version(ctx.get(), newest);
    SSL_CTX_use_certificate(ctx.get(), who.x509());
    SSL_CTX_use_PrivateKey(ctx.get(), who.key());
    return tls::context::adopt(ctx.get());
}

// Echoes lines over TLS. Of each connection it keeps who was there, and of those that came to nothing why.
class tls_server {
public:
    explicit tls_server(tls::context context, std::size_t loops = 1)
        : rt(with_loops(loops)), running_(rt, serve(std::move(context))) {
        local = listening_.take();
    }
    ~tls_server() { rt.stop(); }

    parley::runtime rt;
    parley::endpoint local;
    inbox<std::optional<tls::peer_identity>> peers;
    inbox<parley::error> failures;

    // The same port under a name.
    parley::endpoint at(std::string_view host) const { return parley::endpoint(host, local.port()); }

    // One request of a new client, whose connection is closed behind it.
    parley::result<parley::line_message> ask(const parley::endpoint &where, tls::context with,
                                             const std::string &server_name = {}) {
        parley::client_options options;
        options.tls(std::move(with));
        if (!server_name.empty())
            options.server_name(server_name);
        return rt.sync_wait(
            [](parley::endpoint to,
               parley::client_options how) -> parley::task<parley::result<parley::line_message>> {
                parley::client<lines> c(to, how);
                auto answer = co_await c.request(parley::line_message("hello"));
                co_return answer;
            }(where, std::move(options)));
    }

private:
    parley::task<> handle(parley::connection<lines> peer) {
        bool first = true;
        for (;;) {
            auto line = co_await peer.recv();
            if (!line) {
                if (first)
                    failures.put(line.error());
                co_return;
            }
            if (std::exchange(first, false))
                peers.put(peer.tls_peer());
            auto sent = co_await peer.send(*line);
            if (!sent)
                co_return;
        }
    }

    parley::task<> serve(tls::context context) {
        parley::serve_options options;
        options.tls(std::move(context));
        options.on_listening([this](const parley::endpoint &at) { listening_.put(at); });
        auto served = co_await parley::serve<lines>(
            parley::endpoint("127.0.0.1", 0),
            [this](parley::connection<lines> peer) { return handle(std::move(peer)); }, options);
        if (!served) {
            std::fprintf(stderr, "%s\n", to_string(served.error()).c_str());
            std::abort();
        }
    }

    inbox<parley::endpoint> listening_;
    background running_;
};

} // namespace net
