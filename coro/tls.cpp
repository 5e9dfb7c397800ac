#include <parley/tls.hpp>

#include "tls_parts.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <new>
#include <utility>

#include <parley/endpoint.hpp>

namespace parley::inline PARLEY_ABI {
namespace tls {

namespace {

using shared_ctx = std::shared_ptr<SSL_CTX>;

shared_ctx new_ctx(const SSL_METHOD *method) {
    shared_ctx ctx(SSL_CTX_new(method), [](SSL_CTX *old) { SSL_CTX_free(old); });
    if (!ctx)
        return ctx;
    SSL_CTX_set_min_proto_version(ctx.get(), TLS1_2_VERSION);
    SSL_CTX_set_security_level(ctx.get(), detail::security_level);
    SSL_CTX_set_options(ctx.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx.get(), SSL_MODE_RELEASE_BUFFERS); // an idle connection keeps no buffers
    return ctx;
}

int number_of(version oldest) {
    return oldest == version::tls1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
}

void add_protocol(std::string &list, std::string_view protocol) {
    if (protocol.empty() || protocol.size() > 255)
        return; // cannot be said on the wire
    list += static_cast<char>(protocol.size());
    list += protocol;
}

bool offer_protocols(SSL_CTX *ctx, const std::string &list) {
    return SSL_CTX_set_alpn_protos(ctx, reinterpret_cast<const unsigned char *>(list.data()),
                                   static_cast<unsigned>(list.size())) == 0;
}

unexpected misuse(std::string_view what) {
    return unexpected(std::make_error_code(std::errc::invalid_argument), stage::tls, std::string_view(),
                      std::chrono::nanoseconds(), what);
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
    if (!ctx || !detail::remember_sessions(ctx.get()))
        return detail::refusal("a context for clients");
    SSL_CTX_set_min_proto_version(ctx.get(), number_of(options.oldest_));

    if (!options.verify_) {
        std::fputs("parley: INSECURE: a TLS client context accepts any certificate of any peer\n", stderr);
        SSL_CTX_set_verify(ctx.get(), SSL_VERIFY_NONE, nullptr);
    } else {
        SSL_CTX_set_verify(ctx.get(), SSL_VERIFY_PEER, detail::verify_and_note);
        tls::trust whom = options.trust_;
        if (whom.empty())
            whom.system();
        auto believed = detail::access::load(whom);
        if (!believed)
            return unexpected(believed.error());
        SSL_CTX_set_cert_store(ctx.get(), believed->store.release());
    }
    for (const tls::certificate &mine : options.certificate_) {
        if (auto strong = detail::check_strength(mine); !strong)
            return unexpected(strong.error());
        if (detail::use_certificate(ctx.get(), mine) != 1)
            return detail::refusal("the client's certificate");
    }
    if (!options.alpn_.empty() && !offer_protocols(ctx.get(), options.alpn_))
        return detail::refusal("application protocols");
    return context(std::move(ctx));
}

// --- Servers ---

result<std::shared_ptr<const detail::server_state>> detail::access::prepare(const server_options &options) {
    using clients = server_options::clients;
    if (options.certificates_.empty())
        return misuse("a server needs a certificate");
    auto state = std::make_shared<server_state>();
    for (const certificate &one : options.certificates_) {
        if (auto strong = check_strength(one); !strong)
            return unexpected(strong.error());
    }
    if (options.clients_ != clients::anonymous) {
        if (options.trust_.empty())
            return misuse("to verify clients somebody must be trusted");
        auto believed = load(options.trust_);
        if (!believed)
            return unexpected(believed.error());
        state->clients = std::move(*believed);
        state->session_context = state->clients.digest;
        state->verify_mode = SSL_VERIFY_PEER;
        if (options.clients_ == clients::required) {
            state->verify_mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
            state->session_context[0] ^= 1; // who had none does not slip in with an old session
        }
    }
    state->alpn = options.alpn_;
    state->oldest = number_of(options.oldest_);
    state->options = options;
    return std::shared_ptr<const server_state>(std::move(state));
}

result<context> context::server(const server_options &options) {
    auto state = detail::access::prepare(options);
    if (!state)
        return unexpected(state.error());
    ERR_clear_error();
    shared_ctx ctx = new_ctx(TLS_server_method());
    if (!ctx || !detail::serve_from(ctx.get(), std::move(*state)))
        return detail::refusal("a context for servers");
    return context(std::move(ctx));
}

result<context> context::server(const std::string &certificate_file, const std::string &key_file,
                                const server_options &options) {
    auto first = certificate::files(certificate_file, key_file);
    if (!first)
        return unexpected(first.error());
    server_options all = options;
    auto &list = detail::access::certificates(all);
    list.insert(list.begin(), std::move(*first));
    return server(all);
}

result<void> context::reload(const server_options &options) const {
    auto state = detail::access::prepare(options);
    if (!state)
        return unexpected(state.error());
    if (!ctx_ || !detail::replace_state(ctx_.get(), std::move(*state)))
        return misuse("only a server's context can be reloaded");
    return {};
}

result<void> context::reload() const {
    for (;;) {
        const auto present = ctx_ ? detail::state_of(ctx_.get()) : nullptr;
        if (!present)
            return misuse("only a server's context can be reloaded");
        server_options options = present->options;
        for (certificate &one : detail::access::certificates(options)) {
            auto fresh = one.load_again();
            if (!fresh)
                return unexpected(fresh.error());
            one = std::move(*fresh);
        }
        auto state = detail::access::prepare(options);
        if (!state)
            return unexpected(state.error());
        // Other options may have been set in the meantime: those are not undone.
        if (detail::replace_state(ctx_.get(), std::move(*state), present.get()))
            return {};
    }
}

// --- Any context ---

context context::adopt(ssl_ctx_st *ctx) {
    if (!ctx || SSL_CTX_up_ref(ctx) != 1)
        return context();
    return context(shared_ctx(ctx, [](SSL_CTX *old) { SSL_CTX_free(old); }));
}

int context::prepare_client(ssl_st *ssl, const std::string &host, std::uint16_t port) noexcept {
    bool done = false;
    try {
        detail::notes *kept = detail::make_notes(ssl);
        if (!kept) {
            errno = ENOMEM;
            return -1;
        }
        kept->host = host;
        // Of contexts that the program made itself as well.
        if (SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE && !SSL_get_verify_callback(ssl))
            SSL_set_verify(ssl, SSL_get_verify_mode(ssl), detail::verify_and_note);
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
        if (done && port != 0 && !host.empty()) {
            kept->session_key = host + " " + std::to_string(port);
            detail::continue_session(ssl, kept->session_key);
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
