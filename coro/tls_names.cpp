#include "tls_parts.hpp"

#include <openssl/sha.h>

#include <arpa/inet.h>

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <string>

namespace parley::inline PARLEY_ABI {
namespace tls::detail {

namespace {

std::string text_of(const BIO *bio) {
    BUF_MEM *memory = nullptr;
    BIO_get_mem_ptr(const_cast<BIO *>(bio), &memory);
    return memory ? std::string(memory->data, memory->length) : std::string();
}

std::string text_of(const ASN1_STRING *value) {
    return {reinterpret_cast<const char *>(ASN1_STRING_get0_data(value)),
            static_cast<std::size_t>(ASN1_STRING_length(value))};
}

std::string address_text(const ASN1_OCTET_STRING *value) {
    char text[INET6_ADDRSTRLEN] = "";
    const int size = ASN1_STRING_length(value);
    if (size == 4 || size == 16)
        inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(value), text, sizeof text);
    return text;
}

} // namespace

std::string name_text(const X509_NAME *name) {
    bio_ptr out(BIO_new(BIO_s_mem()));
    // As UTF-8 that stays readable; control characters stay escaped.
    if (!out || !name ||
        X509_NAME_print_ex(out.get(), name, 0,
                           XN_FLAG_RFC2253 & ~static_cast<unsigned long>(ASN1_STRFLGS_ESC_MSB)) < 0)
        return {};
    return text_of(out.get());
}

std::string common_name(const X509_NAME *name) {
    const int at = name ? X509_NAME_get_index_by_NID(name, NID_commonName, -1) : -1;
    if (at < 0)
        return {};
    unsigned char *bytes = nullptr;
    const int size = ASN1_STRING_to_UTF8(&bytes, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    if (size < 0)
        return {};
    const std::unique_ptr<unsigned char, freed_by<free_bytes>> owner(bytes);
    return {reinterpret_cast<const char *>(bytes), static_cast<std::size_t>(size)};
}

std::string fingerprint_of(const X509 *x) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    std::string text;
    if (X509_digest(x, EVP_sha256(), digest, &size) != 1)
        return text;
    for (unsigned int i = 0; i < size; i++) {
        text += "0123456789abcdef"[digest[i] >> 4];
        text += "0123456789abcdef"[digest[i] & 15];
    }
    return text;
}

std::chrono::system_clock::time_point point_of(const ASN1_TIME *time) noexcept {
    std::tm parts{};
    if (!time || ASN1_TIME_to_tm(time, &parts) != 1)
        return {};
    return std::chrono::system_clock::from_time_t(timegm(&parts));
}

std::string date_text(const ASN1_TIME *time) {
    std::tm parts{};
    char text[48];
    if (!time || ASN1_TIME_to_tm(time, &parts) != 1 ||
        std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0)
        return "a date that cannot be read";
    return text;
}

alternative_names alternative_names_of(const X509 *x) {
    alternative_names all;
    const general_names_ptr names(
        static_cast<GENERAL_NAMES *>(X509_get_ext_d2i(x, NID_subject_alt_name, nullptr, nullptr)));
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); i++) {
        int type = 0;
        const void *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names.get(), i), &type);
        if (type == GEN_DNS)
            all.dns.push_back(text_of(static_cast<const ASN1_STRING *>(value)));
        else if (type == GEN_IPADD)
            all.ip.push_back(address_text(static_cast<const ASN1_OCTET_STRING *>(value)));
        else if (type == GEN_URI)
            all.uri.push_back(text_of(static_cast<const ASN1_STRING *>(value)));
        else if (type == GEN_EMAIL)
            all.email.push_back(text_of(static_cast<const ASN1_STRING *>(value)));
    }
    return all;
}

unexpected refusal(std::string_view what) {
    const unsigned long code = ERR_get_error();
    ERR_clear_error();
    std::error_code reason;
    if (code != 0 && ERR_SYSTEM_ERROR(code))
        reason = system_error_code(ERR_GET_REASON(code));
    else
        reason = tls_error(code);
    return unexpected(reason, stage::tls, std::string_view(), std::chrono::nanoseconds(), what);
}

result<std::string> read_file(std::string_view what, const std::string &file) {
    auto failed = [&](int error_number) {
        return unexpected(system_error_code(error_number), stage::tls, std::string_view(),
                          std::chrono::nanoseconds(), std::string(what) + " " + file);
    };
    const std::unique_ptr<std::FILE, freed_by<std::fclose>> in(std::fopen(file.c_str(), "re"));
    if (!in)
        return failed(errno);
    std::string text;
    char piece[4096];
    errno = 0;
    for (std::size_t n; (n = std::fread(piece, 1, sizeof piece, in.get())) > 0;)
        text.append(piece, n);
    if (std::ferror(in.get()))
        return failed(errno != 0 ? errno : EIO); // a directory, for instance
    return text;
}

} // namespace tls::detail

namespace tls {

peer_identity identify(const ssl_st *ssl) {
    peer_identity who;
    if (const X509 *x = SSL_get0_peer_certificate(ssl)) {
        who.verified = SSL_get_verify_result(ssl) == X509_V_OK && SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE;
        who.subject = detail::name_text(X509_get_subject_name(x));
        who.common_name = detail::common_name(X509_get_subject_name(x));
        who.issuer = detail::name_text(X509_get_issuer_name(x));
        detail::alternative_names names = detail::alternative_names_of(x);
        who.dns_names = std::move(names.dns);
        who.ip_addresses = std::move(names.ip);
        who.uris = std::move(names.uri);
        who.emails = std::move(names.email);
        who.fingerprint = detail::fingerprint_of(x);
        who.not_after = detail::point_of(X509_get0_notAfter(x));
    }
    who.version = SSL_get_version(ssl);
    if (const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl))
        who.cipher = SSL_CIPHER_get_name(cipher);
    const unsigned char *alpn = nullptr;
    unsigned int size = 0;
    SSL_get0_alpn_selected(ssl, &alpn, &size);
    who.alpn.assign(reinterpret_cast<const char *>(alpn), size);
    if (const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name))
        who.server_name = name;
    who.resumed = SSL_session_reused(ssl) == 1;
    return who;
}

} // namespace tls
} // namespace parley::inline PARLEY_ABI
