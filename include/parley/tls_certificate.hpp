// tls::certificate: who we are, for a peer: a certificate, the chain behind it and the private key; and
// tls::trust: whom we believe. Both are given to the options of a tls::context (tls.hpp).
//
//     auto shop = parley::tls::certificate::files("shop.pem", "shop.key").value();
//     auto here = parley::tls::certificate::self_signed({"localhost", "127.0.0.1"}).value();

#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <parley/config.hpp>
#include <parley/result.hpp>

namespace parley::inline PARLEY_ABI {
namespace tls {

namespace detail {
struct certificate_data;
struct access;
} // namespace detail

// A value, cheap to copy, never changed; any thread. Whoever makes one knows that all of it parses and that
// the key belongs to the certificate. An error is of the category `tls` with OpenSSL's reason, or a system
// error, and its detail names the file (or "the PEM text") and the line of the block that is wrong.
class certificate {
public:
    // Two PEM files, which are read at once: the certificate followed by the chain that leads to its
    // authority, and its private key. `passphrase` is for an encrypted key, and kept for load_again(); nobody
    // is asked for one.
    static result<certificate> files(std::string chain_file, std::string key_file,
                                     std::string_view passphrase = {});
    // The same from memory.
    static result<certificate> pem(std::string_view chain, std::string_view key,
                                   std::string_view passphrase = {});
    // For development: signed by itself, with a fresh P-256 key, for these DNS names and IP addresses, from
    // an hour ago until `validity` from now. A client believes it only if it is told to:
    // trust().pem(chain_pem()). std::errc::invalid_argument without a name.
    static result<certificate> self_signed(const std::vector<std::string> &names,
                                           std::chrono::hours validity = std::chrono::hours(14 * 24));

    // What the files say now; of others the same again.
    [[nodiscard]] result<certificate> load_again() const;

    // DNS names and IP addresses of its subjectAltName, or the common name if there is none of them.
    [[nodiscard]] const std::vector<std::string> &names() const noexcept;
    // Whether it is for this name or address (RFC 6125: "*." stands for one label, the leftmost).
    [[nodiscard]] bool is_for(std::string_view name) const;
    [[nodiscard]] std::chrono::system_clock::time_point not_after() const noexcept;
    // SHA-256 of the certificate in lower-case hexadecimal digits.
    [[nodiscard]] std::string fingerprint() const;
    // The certificate and its chain as PEM text; nothing of it is secret.
    [[nodiscard]] std::string chain_pem() const;

private:
    friend struct detail::access;
    explicit certificate(std::shared_ptr<const detail::certificate_data> data) : data_(std::move(data)) {}
    std::shared_ptr<const detail::certificate_data> data_;
};

// Authorities to believe, and lists of what they have revoked. Each function adds one thing and returns the
// object. Files are read when a context is made or reloaded; errors are told there.
class trust {
public:
    trust() = default;

    // The certificate authorities in a PEM file, or in a text.
    trust &file(std::string pem_file) { return add(kind::authorities_file, std::move(pem_file)); }
    trust &pem(std::string text) { return add(kind::authorities_text, std::move(text)); }
    // Those of this machine.
    trust &system() {
        system_ = true;
        return *this;
    }
    // Certificate revocation lists (CRL), PEM. With one, every certificate of a peer's chain is looked up, so
    // there must be a list in date of each authority in it.
    trust &revocations_file(std::string pem_file) { return add(kind::revocations_file, std::move(pem_file)); }
    trust &revocations_pem(std::string text) { return add(kind::revocations_text, std::move(text)); }

    // Nobody is named.
    [[nodiscard]] bool empty() const noexcept;

private:
    friend struct detail::access;
    enum class kind : unsigned char {
        authorities_file,
        authorities_text,
        revocations_file,
        revocations_text
    };
    struct source {
        enum kind kind;
        std::string what;
    };
    trust &add(kind what, std::string text) {
        sources_.push_back({what, std::move(text)});
        return *this;
    }

    std::vector<source> sources_;
    bool system_ = false;
};

} // namespace tls
} // namespace parley::inline PARLEY_ABI
