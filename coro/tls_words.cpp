// Why a handshake failed, in words for people. What was wrong with a certificate is written down while
// OpenSSL verifies it, since afterwards the certificate is gone; the rest follows from OpenSSL's reason.

#include "tls_parts.hpp"

#include <openssl/x509_vfy.h>

#include <new>
#include <utility>

namespace parley::inline PARLEY_ABI {
namespace tls {
namespace detail {

namespace {

void free_notes(void *, void *kept, CRYPTO_EX_DATA *, int, long, void *) {
    delete static_cast<notes *>(kept);
}

int notes_index() {
    static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, free_notes);
    return index;
}

// Somebody's name as far as there is one, safe to be printed.
std::string quoted(const X509_NAME *name) {
    std::string text = common_name(name);
    bool plain = !text.empty() && text.size() <= 100;
    for (const char c : text)
        plain = plain && static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
    if (!plain)
        text = name_text(name).substr(0, 200);
    return "\"" + text + "\"";
}

std::string list_of(const X509 *x) {
    alternative_names names = alternative_names_of(x);
    std::vector<std::string> all = std::move(names.dns);
    all.insert(all.end(), names.ip.begin(), names.ip.end());
    if (all.empty() && !common_name(X509_get_subject_name(x)).empty())
        return quoted(X509_get_subject_name(x));
    if (all.empty())
        return "nobody";
    constexpr std::size_t most = 4;
    std::string text;
    for (std::size_t i = 0; i < all.size() && i < most; i++) {
        if (i > 0)
            text += i + 1 == all.size() ? " and " : ", ";
        for (const char c : all[i].substr(0, 255))
            text += static_cast<unsigned char>(c) > 0x20 && c != 0x7f ? c : '?';
    }
    if (all.size() > most)
        text += " and " + std::to_string(all.size() - most) + " more";
    return text;
}

// "the certificate of example.org", "the client's certificate (alice)", "the certificate of the authority
// ...".
std::string which(const X509 *x, int depth, const std::string &host, bool we_serve) {
    if (depth > 0)
        return "the certificate of the authority " + quoted(X509_get_subject_name(x));
    if (we_serve)
        return "the client's certificate (" + quoted(X509_get_subject_name(x)) + ")";
    return host.empty() ? "the server's certificate" : "the certificate of " + host;
}

std::string key_text(X509 *x) {
    const EVP_PKEY *key = X509_get0_pubkey(x);
    if (!key)
        return "a key that cannot be read";
    const char *kind = EVP_PKEY_get0_type_name(key);
    return "a key of " + std::to_string(EVP_PKEY_get_bits(key)) + " bits" +
           (kind ? std::string(" (") + kind + ")" : std::string());
}

std::string revocation_text(X509_STORE_CTX *context, X509 *x) {
    X509_CRL *list = X509_STORE_CTX_get0_current_crl(context);
    X509_REVOKED *entry = nullptr;
    if (!list || X509_CRL_get0_by_cert(list, &entry, x) <= 0)
        return {};
    return " on " + date_text(X509_REVOKED_get0_revocationDate(entry));
}

std::string sentence(X509_STORE_CTX *context, const std::string &host, bool we_serve) {
    X509 *x = X509_STORE_CTX_get_current_cert(context);
    if (!x)
        return {};
    const int depth = X509_STORE_CTX_get_error_depth(context);
    const std::string it = which(x, depth, host, we_serve);
    const std::string issuer = quoted(X509_get_issuer_name(x));
    switch (X509_STORE_CTX_get_error(context)) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return it + " expired on " + date_text(X509_get0_notAfter(x));
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return it + " is not valid before " + date_text(X509_get0_notBefore(x)) +
               "; is the clock right here?";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return "the certificate is for " + list_of(x) + ", not for " + host;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return it + " is signed by itself, by nobody whom we trust";
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        return which(x, 0, host, we_serve) == it || depth == 0
                   ? it + " was issued by nobody whom we trust"
                   : (we_serve ? "the client's certificate" : which(x, 0, host, false)) +
                         " was issued under the authority " + quoted(X509_get_subject_name(x)) +
                         ", whom we do not trust";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_UNTRUSTED:
        return it + " was issued by " + issuer + ", whom we do not trust (or the chain was not sent whole)";
    case X509_V_ERR_CERT_REVOKED:
        return it + " was revoked by " + issuer + revocation_text(context, x);
    case X509_V_ERR_UNABLE_TO_GET_CRL:
        return "there is no revocation list of " + issuer + ", so nobody knows whether " + it +
               " was revoked";
    case X509_V_ERR_CRL_HAS_EXPIRED:
        return "the revocation list of " + issuer + " is out of date: a new one was due on " +
               date_text(X509_CRL_get0_nextUpdate(X509_STORE_CTX_get0_current_crl(context)));
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
        return it + " has " + key_text(x) + ", which is too weak";
    case X509_V_ERR_CA_MD_TOO_WEAK:
        return it + " is signed with a digest that is too weak";
    case X509_V_ERR_INVALID_CA:
        return quoted(X509_get_subject_name(x)) + " may not issue certificates, and did";
    case X509_V_ERR_INVALID_PURPOSE:
        return it + " may not be used by a " + (we_serve ? "client" : "server");
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return "the signature of " + issuer + " on " + it + " is wrong";
    default:
        return it + " was refused";
    }
}

} // namespace

notes *notes_of(const SSL *ssl) noexcept {
    return static_cast<notes *>(SSL_get_ex_data(ssl, notes_index()));
}

notes *make_notes(SSL *ssl) noexcept {
    if (notes *kept = notes_of(ssl))
        return kept;
    std::unique_ptr<notes> made(new (std::nothrow) notes);
    if (!made || SSL_set_ex_data(ssl, notes_index(), made.get()) != 1)
        return nullptr;
    return made.release();
}

int verify_and_note(int accepted, X509_STORE_CTX *context) {
    if (accepted == 1)
        return 1;
    const auto *ssl =
        static_cast<const SSL *>(X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx()));
    notes *kept = ssl ? notes_of(ssl) : nullptr;
    if (!kept)
        return 0;
    try {
        kept->blame = sentence(context, kept->host, SSL_is_server(ssl) == 1);
    } catch (const std::bad_alloc &) {
        // OpenSSL's own words have to do.
    }
    return 0;
}

} // namespace detail

std::string explain_failure(const ssl_st *ssl, unsigned long openssl_error, long verify_result) {
    const bool we_serve = SSL_is_server(ssl) == 1;
    if (verify_result != X509_V_OK) {
        const detail::notes *kept = detail::notes_of(ssl);
        return kept ? kept->blame : std::string();
    }
    if (ERR_GET_LIB(openssl_error) != ERR_LIB_SSL)
        return {};
    const char *peer = we_serve ? "the client" : "the server";
    const std::string it = peer;
    switch (ERR_GET_REASON(openssl_error)) {
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
        return SSL_is_init_finished(ssl) == 1
                   ? it + " closed without TLS' goodbye (close_notify): what came may not be all"
                   : it + " closed in the middle of the handshake";
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_BAD_RECORD_TYPE:
        return "what " + it + " sent is not TLS; does it speak without?";
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_VERSION_TOO_HIGH:
        return it + " speaks no version of TLS that is allowed here";
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
        return it + " allows no version of TLS that we speak";
    case SSL_R_NO_SHARED_CIPHER:
        return it + " and we have no cipher in common that goes with our certificate";
    case SSL_R_NO_APPLICATION_PROTOCOL:
        return it + " offers no application protocol (ALPN) that is spoken here";
    case SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL:
        return it + " speaks none of the application protocols (ALPN) that we offer";
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return it + " gave no certificate, and one is required";
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        return it + " requires a certificate of ours, and we gave none";
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
        return it + " refused our certificate: it does not trust who issued it";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
        return it + " refused our certificate as expired";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
        return it + " refused our certificate as revoked";
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
        return it + " refused our certificate";
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
        return it + " found a wrong signature, on our certificate or in the handshake";
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
        return it + " refused: we have no version, cipher or certificate that it wants";
    case SSL_R_TLSV1_UNRECOGNIZED_NAME:
        return it + " does not know the name that we asked for";
    default:
        return {};
    }
}

} // namespace tls
} // namespace parley::inline PARLEY_ABI
