// Certificates for tests, made with OpenSSL when they are needed: an authority, and what it signs.

#pragma once

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <string>

namespace net {

template <auto Free>
struct openssl_free {
    template <class T>
    void operator()(T *object) const {
        Free(object);
    }
};
using key_ptr = std::unique_ptr<EVP_PKEY, openssl_free<EVP_PKEY_free>>;
using revocations_ptr = std::unique_ptr<X509_CRL, openssl_free<X509_CRL_free>>;
using certificate_ptr = std::unique_ptr<X509, openssl_free<X509_free>>;

// Somebody with a key and a certificate.
class identity {
public:
    // Signs its own certificate, as authorities and careless people do.
    static identity self_signed(const std::string &name, bool authority = false) {
        identity one;
        one.make(name, "", authority, -3600, 86400, nullptr);
        return one;
    }
    // An authority under this one.
    identity issue_authority(const std::string &name) const {
        identity one;
        one.make(name, "", true, -3600, 86400, this);
        return one;
    }
    // With an RSA key of so many bits.
    identity issue_rsa(const std::string &name, const std::string &alternative, unsigned bits) const {
        identity one;
        one.key_.reset(EVP_RSA_gen(bits));
        one.make(name, alternative, false, -3600, 86400, this);
        return one;
    }
    // `alternative`: "DNS:localhost,IP:127.0.0.1". Times in seconds from now.
    identity issue(const std::string &name, const std::string &alternative, long from = -3600,
                   long until = 86400) const {
        identity one;
        one.make(name, alternative, false, from, until, this);
        return one;
    }

    void write_certificate(const std::string &path) const {
        FILE *file = std::fopen(path.c_str(), "w");
        check(file && PEM_write_X509(file, certificate_.get()) == 1);
        std::fclose(file);
    }
    void write_key(const std::string &path) const {
        FILE *file = std::fopen(path.c_str(), "w");
        check(file && PEM_write_PrivateKey(file, key_.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
        std::fclose(file);
    }

    std::string certificate_pem() const {
        return text([this](BIO *out) { return PEM_write_bio_X509(out, certificate_.get()); });
    }
    std::string key_pem() const {
        return text([this](BIO *out) {
            return PEM_write_bio_PrivateKey(out, key_.get(), nullptr, nullptr, 0, nullptr, nullptr);
        });
    }
    // Encrypted.
    std::string key_pem(const std::string &passphrase) const {
        return text([&](BIO *out) {
            return PEM_write_bio_PKCS8PrivateKey(out, key_.get(), EVP_aes_256_cbc(), passphrase.c_str(),
                                                 static_cast<int>(passphrase.size()), nullptr, nullptr);
        });
    }
    // What this authority has revoked, an hour ago; the next list is due `until` seconds from now.
    std::string revocations(std::initializer_list<const identity *> revoked, long until = 86400) const {
        revocations_ptr list(X509_CRL_new());
        X509_CRL_set_version(list.get(), X509_CRL_VERSION_2);
        X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(certificate_.get()));
        std::unique_ptr<ASN1_TIME, openssl_free<ASN1_TIME_free>> when(X509_gmtime_adj(nullptr, -3600));
        X509_CRL_set1_lastUpdate(list.get(), when.get());
        for (const identity *one : revoked) {
            X509_REVOKED *entry = X509_REVOKED_new();
            X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(one->certificate_.get()));
            X509_REVOKED_set_revocationDate(entry, when.get());
            check(X509_CRL_add0_revoked(list.get(), entry) == 1);
        }
        when.reset(X509_gmtime_adj(nullptr, until));
        X509_CRL_set1_nextUpdate(list.get(), when.get());
        check(X509_CRL_sign(list.get(), key_.get(), EVP_sha256()) > 0);
        return text([&](BIO *out) { return PEM_write_bio_X509_CRL(out, list.get()); });
    }
    X509 *x509() const { return certificate_.get(); }
    EVP_PKEY *key() const { return key_.get(); }

private:
    template <class Write>
    static std::string text(Write write) {
        std::unique_ptr<BIO, openssl_free<BIO_free_all>> out(BIO_new(BIO_s_mem()));
        check(out && write(out.get()) == 1);
        char *data = nullptr;
        const long size = BIO_get_mem_data(out.get(), &data);
        return {data, static_cast<std::size_t>(size)};
    }
    static void check(bool ok) {
        if (ok)
            return;
        ERR_print_errors_fp(stderr);
        std::abort();
    }

    void make(const std::string &name, const std::string &alternative, bool authority, long from, long until,
              const identity *issuer) {
        static long serial = 1;
        if (!key_)
            key_.reset(EVP_EC_gen("P-256"));
        certificate_.reset(X509_new());
        X509 *x = certificate_.get();
        check(key_ && x);
        X509_set_version(x, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
        X509_gmtime_adj(X509_getm_notBefore(x), from);
        X509_gmtime_adj(X509_getm_notAfter(x), until);
        X509_set_pubkey(x, key_.get());
        X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char *>(name.c_str()), -1, -1, 0);
        X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer->certificate_.get() : x));
        if (authority)
            extend(x, NID_basic_constraints, "critical,CA:TRUE");
        if (!alternative.empty())
            extend(x, NID_subject_alt_name, alternative);
        check(X509_sign(x, (issuer ? issuer->key_ : key_).get(), EVP_sha256()) > 0);
    }

    static void extend(X509 *x, int what, const std::string &value) {
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(nullptr, nullptr, what, value.c_str());
        check(extension && X509_add_ext(x, extension, -1) == 1);
        X509_EXTENSION_free(extension);
    }

    key_ptr key_;
    certificate_ptr certificate_;
};

} // namespace net
