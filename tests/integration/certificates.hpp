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

private:
    static void check(bool ok) {
        if (ok)
            return;
        ERR_print_errors_fp(stderr);
        std::abort();
    }

    void make(const std::string &name, const std::string &alternative, bool authority, long from, long until,
              const identity *issuer) {
        static long serial = 1;
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
