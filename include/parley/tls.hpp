// tls::context: what a TLS connection trusts and what it shows, as a value. Give one in the options
// of an acceptor, a server or a client; everything else about TLS follows from that.
//
//     auto mine = parley::tls::certificate::files("site.pem", "site.key").value();
//     auto context = parley::tls::context::server(parley::tls::server_options().add(mine)).value();
//     parley::serve_options options;
//     options.tls(context);
//     context.reload(); // after the files have changed

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <parley/result.hpp>
#include <parley/tls_certificate.hpp>
#include <parley/tls_identity.hpp>

struct ssl_ctx_st; // OpenSSL's SSL_CTX
struct ssl_st;     // OpenSSL's SSL

namespace parley::inline PARLEY_ABI {
namespace tls {

enum class version : std::uint8_t { tls1_2, tls1_3 };

// How a client behaves; each function changes one thing and returns the object.
class client_options {
public:
    client_options() = default;

    // Trust the certificate authorities in this PEM file, and nobody else: not the system's.
    client_options &trust_file(std::string pem_file) {
        trust_.file(std::move(pem_file));
        return *this;
    }
    // The same from memory.
    client_options &trust_pem(std::string text) {
        trust_.pem(std::move(text));
        return *this;
    }
    // The system's authorities in addition to those named.
    client_options &trust_system() {
        trust_.system();
        return *this;
    }
    // Refuse what is in these revocation lists (PEM). See trust::revocations_file().
    client_options &revocations_file(std::string pem_file) {
        trust_.revocations_file(std::move(pem_file));
        return *this;
    }
    client_options &revocations_pem(std::string text) {
        trust_.revocations_pem(std::move(text));
        return *this;
    }
    // What we show to a server that asks who we are (mTLS).
    client_options &certificate(tls::certificate mine) {
        certificate_.assign(1, std::move(mine));
        return *this;
    }
    // The oldest version to speak; 1.2 at first.
    client_options &minimum_version(version oldest) noexcept {
        oldest_ = oldest;
        return *this;
    }
    // Offers an application protocol by ALPN ("h2"); call it again for the next in preference.
    client_options &alpn(std::string_view protocol);
    // INSECURE. Accepts any certificate of anybody: the connection is encrypted, but nobody knows
    // to whom. Says so once on standard error when a context is made with it.
    client_options &insecure_accept_any_certificate() {
        verify_ = false;
        return *this;
    }

private:
    friend class context;
    tls::trust trust_;
    std::vector<tls::certificate> certificate_; // none or one
    std::string alpn_;                          // as on the wire: a length and a name, again and again
    version oldest_ = version::tls1_2;
    bool verify_ = true;
};

// How a server behaves.
class server_options {
public:
    server_options() = default;

    // Shows this certificate to clients that ask for one of its names (SNI), the exact name before a "*.".
    // The first one is for all others. Of the same name there may be one for each kind of key (RSA, EC).
    server_options &add(tls::certificate one) {
        certificates_.push_back(std::move(one));
        return *this;
    }
    // mTLS: asks for the client's certificate, and refuses who has none that `authorities` issued.
    server_options &require_client_certificate(tls::trust authorities) {
        trust_ = std::move(authorities);
        clients_ = clients::required;
        return *this;
    }
    // The same, but who has none is served: peer_identity::verified tells. A wrong one is refused.
    server_options &accept_client_certificate(tls::trust authorities) {
        trust_ = std::move(authorities);
        clients_ = clients::accepted;
        return *this;
    }
    // The oldest version to speak; 1.2 at first.
    server_options &minimum_version(version oldest) noexcept {
        oldest_ = oldest;
        return *this;
    }
    // Speaks an application protocol by ALPN; call it again for the next in preference. A client
    // that offers ALPN but none of these is refused.
    server_options &alpn(std::string_view protocol);

private:
    friend class context;
    friend struct detail::access;
    enum class clients : std::uint8_t { anonymous, accepted, required };
    std::vector<tls::certificate> certificates_;
    tls::trust trust_;
    std::string alpn_;
    version oldest_ = version::tls1_2;
    clients clients_ = clients::anonymous;
};

// Shares one OpenSSL context: copies are cheap and any thread may use them. TLS 1.2 and later are spoken, and
// keys weaker than 112 bits (RSA of 2048 bits) are refused on both sides.
//
// A client's context remembers the sessions of its last 256 targets, so that the next connection to one of
// them continues where the last one was and needs no certificates. A server's gives out tickets for that,
// under keys that live as long as the context, also through reload(). Who is believed is part of a session:
// none is continued under other authorities than it began with.
//
// What fails to load is an error of the category `tls` with OpenSSL's reason, and its detail names the file.
// What fails in a handshake has in its detail a sentence for people: "the certificate of shop.example expired
// on ...".
class context {
public:
    // No TLS.
    context() = default;

    // For clients: verifies that the certificate was issued by one of the system's authorities, is
    // in date, and belongs to the host that was asked for, whose name is sent as SNI.
    static result<context> client(const client_options &options = {});

    // For servers. std::errc::invalid_argument without a certificate.
    static result<context> server(const server_options &options);
    // The same with one more certificate, which comes first: the chain that leads to its authority, own
    // certificate first, and its private key, both PEM files.
    static result<context> server(const std::string &certificate_file, const std::string &key_file,
                                  const server_options &options = {});

    // Shares a context that the program made itself. A client verifies what `ctx` says; the host
    // name is checked when it verifies at all.
    static context adopt(ssl_ctx_st *ctx);

    // Of a server's context, and of all its copies: handshakes that begin from now on use `options`;
    // connections that stand go on. If something is wrong with them nothing changes, and the error says what.
    // Reads files, briefly blocking; any thread, while serving. std::errc::invalid_argument for other
    // contexts.
    result<void> reload(const server_options &options) const;
    // The same with what the files of the present options say now.
    result<void> reload() const;

    explicit operator bool() const noexcept { return ctx_ != nullptr; }
    // Not owned by the caller; lives as long as a context shares it.
    ssl_ctx_st *native() const noexcept { return ctx_.get(); }

    // Before a client's handshake: server name and the host to verify. 0, or -1 with errno. For
    // CommTarget::init_ssl(). With a `port` a session is continued that the context remembers of host and
    // port.
    static int prepare_client(ssl_st *ssl, const std::string &host, std::uint16_t port = 0) noexcept;

private:
    explicit context(std::shared_ptr<ssl_ctx_st> ctx) : ctx_(std::move(ctx)) {}

    std::shared_ptr<ssl_ctx_st> ctx_;
};

// Behind a failure of TLS, what a person wants to know: "the certificate is for a.example, not for
// localhost". Empty where OpenSSL's own words (error::message()) say it all. For
// CommSession::handle_tls_failure(), with the session's get_ssl_error() and get_verify_result().
[[nodiscard]] std::string explain_failure(const ssl_st *ssl, unsigned long openssl_error, long verify_result);

} // namespace tls
} // namespace parley::inline PARLEY_ABI
