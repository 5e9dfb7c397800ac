// What the parts of parley::tls share: what hangs on an SSL_CTX and on an SSL, and how OpenSSL's refusals
// become errors.

#pragma once

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <parley/error.hpp>
#include <parley/result.hpp>
#include <parley/tls.hpp>

namespace parley::inline PARLEY_ABI {
namespace tls::detail {

template <auto Free>
struct freed_by {
    template <class T>
    void operator()(T *object) const noexcept {
        Free(object);
    }
};
inline void free_chain(STACK_OF(X509) * chain) noexcept {
    sk_X509_pop_free(chain, X509_free);
}
inline void free_names(STACK_OF(X509_NAME) * names) noexcept {
    sk_X509_NAME_pop_free(names, X509_NAME_free);
}
inline void free_bytes(unsigned char *bytes) noexcept {
    OPENSSL_free(bytes);
}

using bio_ptr = std::unique_ptr<BIO, freed_by<BIO_free_all>>;
using chain_ptr = std::unique_ptr<STACK_OF(X509), freed_by<free_chain>>;
using crl_ptr = std::unique_ptr<X509_CRL, freed_by<X509_CRL_free>>;
using ctx_ptr = std::unique_ptr<SSL_CTX, freed_by<SSL_CTX_free>>;
using general_names_ptr = std::unique_ptr<GENERAL_NAMES, freed_by<GENERAL_NAMES_free>>;
using key_ptr = std::unique_ptr<EVP_PKEY, freed_by<EVP_PKEY_free>>;
using names_ptr = std::unique_ptr<STACK_OF(X509_NAME), freed_by<free_names>>;
using session_ptr = std::unique_ptr<SSL_SESSION, freed_by<SSL_SESSION_free>>;
using store_ptr = std::unique_ptr<X509_STORE, freed_by<X509_STORE_free>>;
using x509_ptr = std::unique_ptr<X509, freed_by<X509_free>>;

// Keys and digests of at least 112 bits of strength.
constexpr int security_level = 2;

struct certificate_data {
    x509_ptr leaf;
    chain_ptr chain; // behind it; never nullptr
    key_ptr key;
    std::vector<std::string> names;
    std::chrono::system_clock::time_point not_after;
    std::string chain_file, key_file; // empty if it is from memory
    std::string passphrase;
};

// Authorities, ready for use.
struct authorities {
    store_ptr store;
    names_ptr names;                        // to tell clients who is believed
    std::array<unsigned char, 32> digest{}; // of all that went in
};

// What a server works with from one reload to the next. Never changed.
struct server_state {
    server_options options; // as they were given
    authorities clients;
    std::string alpn;
    std::array<unsigned char, 32> session_context{}; // differs where other clients are believed
    int verify_mode = SSL_VERIFY_NONE;
    int oldest = TLS1_2_VERSION;
};

struct access {
    static const certificate_data &data(const certificate &of) noexcept { return *of.data_; }
    static certificate make(std::shared_ptr<const certificate_data> data) {
        return certificate(std::move(data));
    }
    static result<authorities> load(const trust &of);
    static std::vector<certificate> &certificates(server_options &of) noexcept { return of.certificates_; }
    static const std::vector<certificate> &certificates(const server_options &of) noexcept {
        return of.certificates_;
    }
    // Loads and checks all that the options name.
    static result<std::shared_ptr<const server_state>> prepare(const server_options &options);
};

// What hangs on one connection's SSL.
struct notes {
    std::string host;                          // whom a client wants
    std::string session_key;                   // under which a client's sessions are kept; empty: not
    std::shared_ptr<const server_state> state; // of a server; as it was when the handshake began
    std::string blame;                         // what was wrong with the peer's certificate
};
// nullptr when there are none.
[[nodiscard]] notes *notes_of(const SSL *ssl) noexcept;
// Those there are or new ones; nullptr without memory.
[[nodiscard]] notes *make_notes(SSL *ssl) noexcept;

// As SSL_CTX_set_verify() wants it: writes into the notes what is wrong, for people.
int verify_and_note(int accepted, X509_STORE_CTX *context);

// tls_sessions.cpp: the client's memory of sessions, which hangs on its context.
[[nodiscard]] bool remember_sessions(SSL_CTX *ctx);
void continue_session(SSL *ssl, const std::string &key) noexcept;

// tls_server.cpp
[[nodiscard]] bool serve_from(SSL_CTX *ctx, std::shared_ptr<const server_state> state);
// False if it is not a server's that serve_from() prepared, or if another than `expected` is in force.
[[nodiscard]] bool replace_state(SSL_CTX *ctx, std::shared_ptr<const server_state> state,
                                 const server_state *expected = nullptr);
[[nodiscard]] std::shared_ptr<const server_state> state_of(SSL_CTX *ctx);

// tls_certificate.cpp: as this level of security sees it, an error about the certificate or the key.
result<void> check_strength(const certificate &one);
[[nodiscard]] int use_certificate(SSL_CTX *ctx, const certificate &one) noexcept;

// tls_names.cpp: texts.
[[nodiscard]] std::string name_text(const X509_NAME *name);
[[nodiscard]] std::string common_name(const X509_NAME *name);
[[nodiscard]] std::string fingerprint_of(const X509 *x);
[[nodiscard]] std::chrono::system_clock::time_point point_of(const ASN1_TIME *time) noexcept;
[[nodiscard]] std::string date_text(const ASN1_TIME *time);
struct alternative_names {
    std::vector<std::string> dns, ip, uri, email;
};
[[nodiscard]] alternative_names alternative_names_of(const X509 *x);

// The oldest reason in OpenSSL's queue, which later ones only repeat, as an error about `what`. Empties the
// queue.
[[nodiscard]] unexpected refusal(std::string_view what);

// A whole file, or the system's error with `what` and its name.
[[nodiscard]] result<std::string> read_file(std::string_view what, const std::string &file);

} // namespace tls::detail
} // namespace parley::inline PARLEY_ABI
