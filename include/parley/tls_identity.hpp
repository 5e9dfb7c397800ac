// tls::peer_identity: who is at the other end of a TLS connection, and what was agreed with it. A handler
// asks its connection (connection<P>::tls_peer()); callbacks ask tls::identify(get_ssl()).
//
//     auto who = peer.tls_peer();
//     if (!who || !who->verified)
//         co_return; // without TLS, or without a client certificate

#pragma once

#include <chrono>
#include <string>
#include <vector>

#include <parley/config.hpp>

struct ssl_st; // OpenSSL's SSL

namespace parley::inline PARLEY_ABI {
namespace tls {

// A copy, valid for ever. Without a certificate (a server that asks for none gets none) only the last part is
// filled.
struct peer_identity {
    // The peer gave a certificate, and it was verified. A name in it means something only then.
    bool verified = false;
    std::string subject;                   // "CN=alice,O=Example" (RFC 2253)
    std::string common_name;               // "alice"
    std::string issuer;                    // as the subject
    std::vector<std::string> dns_names;    // of its subjectAltName, these four
    std::vector<std::string> ip_addresses; // "127.0.0.1", "::1"
    std::vector<std::string> uris;         // "spiffe://example/alice"
    std::vector<std::string> emails;
    std::string fingerprint; // SHA-256, lower-case hexadecimal digits
    std::chrono::system_clock::time_point not_after;

    std::string version;     // "TLSv1.3"
    std::string cipher;      // "TLS_AES_256_GCM_SHA384"
    std::string alpn;        // the application protocol; empty if none was agreed
    std::string server_name; // that the client asked for (SNI); empty if it sent none
    bool resumed = false;    // an earlier session was continued, so no certificate was sent this time

    [[nodiscard]] bool has_certificate() const noexcept { return !fingerprint.empty(); }
};

// Of a connection whose handshake is through, on its loop. Throws std::bad_alloc.
[[nodiscard]] peer_identity identify(const ssl_st *ssl);

} // namespace tls
} // namespace parley::inline PARLEY_ABI
