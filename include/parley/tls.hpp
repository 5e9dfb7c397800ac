// tls::context: what a TLS connection trusts and what it shows, as a value. Give one in the options
// of an acceptor, a server or a client; everything else about TLS follows from that.

#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <parley/result.hpp>

struct ssl_ctx_st; // OpenSSL's SSL_CTX
struct ssl_st;     // OpenSSL's SSL

namespace parley::inline PARLEY_ABI {
namespace tls {

// How a client behaves; each function changes one thing and returns the object.
class client_options {
public:
    client_options() = default;

    // Trust the certificate authorities in this PEM file, and nobody else: not the system's.
    client_options &trust_file(std::string pem_file) {
        trust_file_ = std::move(pem_file);
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
    std::string trust_file_;
    std::string alpn_; // as on the wire: a length and a name, again and again
    bool verify_ = true;
};

// How a server behaves.
class server_options {
public:
    server_options() = default;

    // Speaks an application protocol by ALPN; call it again for the next in preference. A client
    // that offers ALPN but none of these is refused.
    server_options &alpn(std::string_view protocol);

private:
    friend class context;
    std::string alpn_;
};

// Shares one OpenSSL context, which is made once and not changed afterwards: copies are cheap and
// any thread may use them. Only TLS 1.2 and later are spoken.
//
// What fails to load is an error of the category `tls` with OpenSSL's reason, and its detail names
// the file.
class context {
public:
    // No TLS.
    context() = default;

    // For clients: verifies that the certificate was issued by one of the system's authorities, is
    // in date, and belongs to the host that was asked for, whose name is sent as SNI.
    static result<context> client(const client_options &options = {});

    // For servers: the certificate with the chain that leads to its authority, own certificate
    // first, and its private key, both PEM files.
    static result<context> server(const std::string &certificate_file, const std::string &key_file,
                                  const server_options &options = {});

    // Shares a context that the program made itself. A client verifies what `ctx` says; the host
    // name is checked when it verifies at all.
    static context adopt(ssl_ctx_st *ctx);

    explicit operator bool() const noexcept { return ctx_ != nullptr; }
    // Not owned by the caller; lives as long as a context shares it.
    ssl_ctx_st *native() const noexcept { return ctx_.get(); }

    // Before a client's handshake: server name and the host to verify. 0, or -1 with errno. For
    // CommTarget::init_ssl().
    static int prepare_client(ssl_st *ssl, const std::string &host) noexcept;

private:
    explicit context(std::shared_ptr<ssl_ctx_st> ctx) : ctx_(std::move(ctx)) {}

    std::shared_ptr<ssl_ctx_st> ctx_;
};

} // namespace tls
} // namespace parley::inline PARLEY_ABI
