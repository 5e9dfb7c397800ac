#include <parley/tls.hpp>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <new>

#include <parley/endpoint.hpp>

namespace parley::inline PARLEY_ABI {
namespace tls {

namespace {

// The reason why OpenSSL refused, as an error about `file`.
unexpected refusal(std::string_view what, const std::string &file) {
    unsigned long code = ERR_get_error(); // the first one is the cause, later ones repeat it
    ERR_clear_error();
    std::error_code reason;
    if (code != 0 && ERR_SYSTEM_ERROR(code))
        reason = system_error_code(ERR_GET_REASON(code));
    else
        reason = tls_error(code);

    std::string detail(what);
    if (!file.empty())
        detail.append(" ").append(file);
    return unexpected(reason, stage::tls, std::string_view(), std::chrono::nanoseconds(), detail);
}

using shared_ctx = std::shared_ptr<SSL_CTX>;

shared_ctx new_ctx(const SSL_METHOD *method) {
    shared_ctx ctx(SSL_CTX_new(method), [](SSL_CTX *old) { SSL_CTX_free(old); });
    if (!ctx)
        return ctx;
    SSL_CTX_set_min_proto_version(ctx.get(), TLS1_2_VERSION);
    SSL_CTX_set_mode(ctx.get(), SSL_MODE_RELEASE_BUFFERS); // an idle connection keeps no buffers
    return ctx;
}

void add_protocol(std::string &list, std::string_view protocol) {
    if (protocol.empty() || protocol.size() > 255)
        return; // cannot be said on the wire
    list += static_cast<char>(protocol.size());
    list += protocol;
}

// The protocols that a server speaks hang on its SSL_CTX, which lives as long as any connection.
void free_protocols(void *, void *list, CRYPTO_EX_DATA *, int, long, void *) {
    delete static_cast<std::string *>(list);
}

int protocols_index() {
    static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, free_protocols);
    return index;
}

int select_protocol(SSL *, const unsigned char **out, unsigned char *out_length, const unsigned char *offered,
                    unsigned int offered_length, void *list) {
    const auto &spoken = *static_cast<const std::string *>(list);
    unsigned char *chosen = nullptr;
    int found =
        SSL_select_next_proto(&chosen, out_length, reinterpret_cast<const unsigned char *>(spoken.data()),
                              static_cast<unsigned>(spoken.size()), offered, offered_length);
    *out = chosen;
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

bool speak_protocols(SSL_CTX *ctx, const std::string &list) {
    auto kept = std::make_unique<std::string>(list);
    if (SSL_CTX_set_ex_data(ctx, protocols_index(), kept.get()) != 1)
        return false;
    SSL_CTX_set_alpn_select_cb(ctx, select_protocol, kept.release());
    return true;
}

bool offer_protocols(SSL_CTX *ctx, const std::string &list) {
    return SSL_CTX_set_alpn_protos(ctx, reinterpret_cast<const unsigned char *>(list.data()),
                                   static_cast<unsigned>(list.size())) == 0;
}

} // namespace

client_options &client_options::alpn(std::string_view protocol) {
    add_protocol(alpn_, protocol);
    return *this;
}

server_options &server_options::alpn(std::string_view protocol) {
    add_protocol(alpn_, protocol);
    return *this;
}

result<context> context::client(const client_options &options) {
    ERR_clear_error();
    shared_ctx ctx = new_ctx(TLS_client_method());
    if (!ctx)
        return refusal("a context for clients", {});

    if (!options.verify_) {
        std::fputs("parley: INSECURE: a TLS client context accepts any certificate of any peer\n", stderr);
        SSL_CTX_set_verify(ctx.get(), SSL_VERIFY_NONE, nullptr);
    } else {
        SSL_CTX_set_verify(ctx.get(), SSL_VERIFY_PEER, nullptr);
        if (options.trust_file_.empty()) {
            if (SSL_CTX_set_default_verify_paths(ctx.get()) != 1)
                return refusal("the system's certificate authorities", {});
        } else if (SSL_CTX_load_verify_file(ctx.get(), options.trust_file_.c_str()) != 1) {
            return refusal("certificate authorities in", options.trust_file_);
        }
    }
    if (!options.alpn_.empty() && !offer_protocols(ctx.get(), options.alpn_))
        return refusal("application protocols", {});
    return context(std::move(ctx));
}

result<context> context::server(const std::string &certificate_file, const std::string &key_file,
                                const server_options &options) {
    ERR_clear_error();
    shared_ctx ctx = new_ctx(TLS_server_method());
    if (!ctx)
        return refusal("a context for servers", {});
    if (SSL_CTX_use_certificate_chain_file(ctx.get(), certificate_file.c_str()) != 1)
        return refusal("certificate", certificate_file);
    if (SSL_CTX_use_PrivateKey_file(ctx.get(), key_file.c_str(), SSL_FILETYPE_PEM) != 1)
        return refusal("private key", key_file);
    if (SSL_CTX_check_private_key(ctx.get()) != 1)
        return refusal("private key", key_file);
    if (!options.alpn_.empty() && !speak_protocols(ctx.get(), options.alpn_))
        return refusal("application protocols", {});
    return context(std::move(ctx));
}

context context::adopt(ssl_ctx_st *ctx) {
    if (!ctx || SSL_CTX_up_ref(ctx) != 1)
        return context();
    return context(shared_ctx(ctx, [](SSL_CTX *old) { SSL_CTX_free(old); }));
}

int context::prepare_client(ssl_st *ssl, const std::string &host) noexcept {
    bool done = false;
    try {
        const endpoint literal(host, 0);
        if (host.empty()) {
            // Nobody to verify: only for a context that verifies nothing.
            done = SSL_get_verify_mode(ssl) == SSL_VERIFY_NONE;
        } else if (literal.is_name()) {
            SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
            done = SSL_set_tlsext_host_name(ssl, host.c_str()) == 1 && SSL_set1_host(ssl, host.c_str()) == 1;
        } else { // addresses are not sent as SNI (RFC 6066), but verified
            done = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), literal.host().c_str()) == 1;
        }
    } catch (const std::bad_alloc &) {
        errno = ENOMEM;
        return -1;
    }
    ERR_clear_error();
    if (done)
        return 0;
    errno = EINVAL; // no name that a certificate could carry
    return -1;
}

} // namespace tls
} // namespace parley::inline PARLEY_ABI
