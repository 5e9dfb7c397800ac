// A server's context: everything that a reload may change stands in one server_state, which the ClientHello
// of each connection takes a share of. OpenSSL's context itself, with the keys of its tickets, is never
// replaced.

#include "tls_parts.hpp"

#include <algorithm>
#include <new>
#include <utility>

#include <parley/core/Sync.h>

namespace parley::inline PARLEY_ABI {
namespace tls::detail {

namespace {

class live_state {
public:
    explicit live_state(std::shared_ptr<const server_state> first) : state_(std::move(first)) {}
    [[nodiscard]] std::shared_ptr<const server_state> get() const {
        sync::lock_guard<sync::mutex> lock(mutex_);
        return state_;
    }
    // Only if `expected` is there, when that is not nullptr.
    bool set(std::shared_ptr<const server_state> next, const server_state *expected) {
        // The old one goes when this returns, not under the lock.
        sync::lock_guard<sync::mutex> lock(mutex_);
        if (expected && state_.get() != expected)
            return false;
        state_.swap(next);
        return true;
    }

private:
    mutable sync::mutex mutex_;
    std::shared_ptr<const server_state> state_;
};

void free_live(void *, void *live, CRYPTO_EX_DATA *, int, long, void *) {
    delete static_cast<live_state *>(live);
}

int live_index() {
    static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, free_live);
    return index;
}

live_state *live_of(SSL_CTX *ctx) {
    return static_cast<live_state *>(SSL_CTX_get_ex_data(ctx, live_index()));
}

// The first thing of a handshake, before a session is looked for.
int begin_handshake(SSL *ssl, int *alert, void *from) {
    notes *kept = make_notes(ssl);
    if (!kept) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    kept->state = static_cast<live_state *>(from)->get();
    const server_state &state = *kept->state;
    SSL_set_session_id_context(ssl, state.session_context.data(),
                               static_cast<unsigned>(state.session_context.size()));
    SSL_set_min_proto_version(ssl, state.oldest);
    SSL_set_verify(ssl, state.verify_mode, verify_and_note);
    return SSL_CLIENT_HELLO_SUCCESS;
}

bool use_certificate(SSL *ssl, const certificate &one) {
    const certificate_data &data = access::data(one);
    return SSL_use_cert_and_key(ssl, data.leaf.get(), data.key.get(), data.chain.get(), 1) == 1;
}

// One of each kind of key, of those that `fits`. Whether there is any.
template <class Fits>
bool use_those_that(SSL *ssl, const std::vector<certificate> &all, bool &failed, Fits fits) {
    int used[8];
    std::size_t count = 0;
    for (const certificate &one : all) {
        const int kind = EVP_PKEY_get_base_id(access::data(one).key.get());
        if (count == std::size(used) || std::find(used, used + count, kind) != used + count || !fits(one))
            continue;
        failed = failed || !use_certificate(ssl, one);
        used[count++] = kind;
    }
    return count != 0;
}

// DNS names without regard to case; an exact one, not by a "*.".
bool names_exactly(const certificate &one, std::string_view wanted) {
    return std::any_of(one.names().begin(), one.names().end(), [&](const std::string &name) {
        return name.size() == wanted.size() &&
               OPENSSL_strncasecmp(name.data(), wanted.data(), name.size()) == 0;
    });
}

// No session is continued: which certificate to show, and whose to believe.
bool prepare(SSL *ssl, const server_state &state) {
    const char *sent = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const std::string_view wanted = sent ? sent : "";
    const std::vector<certificate> &all = access::certificates(state.options);
    bool failed = false;
    SSL_certs_clear(ssl);
    const bool chosen =
        (!wanted.empty() &&
         (use_those_that(ssl, all, failed,
                         [&](const certificate &one) { return names_exactly(one, wanted); }) ||
          use_those_that(ssl, all, failed, [&](const certificate &one) { return one.is_for(wanted); })));
    if (!chosen) {
        // The first, and others of exactly its names with other keys.
        const std::vector<std::string> &names = all.front().names();
        use_those_that(ssl, all, failed, [&](const certificate &one) { return one.names() == names; });
    }
    if (failed)
        return false;
    if (state.verify_mode != SSL_VERIFY_NONE) {
        names_ptr names(SSL_dup_CA_list(state.clients.names.get()));
        if (!names || SSL_set1_verify_cert_store(ssl, state.clients.store.get()) != 1)
            return false;
        SSL_set0_CA_list(ssl, names.release());
    }
    return true;
}

int choose_certificate(SSL *ssl, void *) {
    const notes *kept = notes_of(ssl);
    try {
        return kept && kept->state && prepare(ssl, *kept->state) ? 1 : 0;
    } catch (const std::bad_alloc &) {
        return 0;
    }
}

int select_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_length,
                    const unsigned char *offered, unsigned int offered_length, void *) {
    const notes *kept = notes_of(ssl);
    if (!kept || !kept->state || kept->state->alpn.empty())
        return SSL_TLSEXT_ERR_NOACK;
    const std::string &spoken = kept->state->alpn;
    unsigned char *chosen = nullptr;
    const int found =
        SSL_select_next_proto(&chosen, out_length, reinterpret_cast<const unsigned char *>(spoken.data()),
                              static_cast<unsigned>(spoken.size()), offered, offered_length);
    *out = chosen;
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

} // namespace

bool serve_from(SSL_CTX *ctx, std::shared_ptr<const server_state> state) {
    auto live = std::make_unique<live_state>(std::move(state));
    if (SSL_CTX_set_ex_data(ctx, live_index(), live.get()) != 1)
        return false;
    SSL_CTX_set_client_hello_cb(ctx, begin_handshake, live.release());
    SSL_CTX_set_cert_cb(ctx, choose_certificate, nullptr);
    SSL_CTX_set_alpn_select_cb(ctx, select_protocol, nullptr);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_SERVER);
    return true;
}

bool replace_state(SSL_CTX *ctx, std::shared_ptr<const server_state> state, const server_state *expected) {
    live_state *live = live_of(ctx);
    return live && live->set(std::move(state), expected);
}

std::shared_ptr<const server_state> state_of(SSL_CTX *ctx) {
    const live_state *live = live_of(ctx);
    return live ? live->get() : nullptr;
}

} // namespace tls::detail
} // namespace parley::inline PARLEY_ABI
