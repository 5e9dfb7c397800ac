#include "tls_parts.hpp"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>
#include <new>

#include <parley/endpoint.hpp>

namespace parley::inline PARLEY_ABI {
namespace tls {
namespace detail {
namespace {

bio_ptr over(std::string_view text) {
    return bio_ptr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Never asks a terminal: without a passphrase there is none.
int passphrase_given(char *out, int size, int, void *from) {
    const auto &given = *static_cast<const std::string *>(from);
    if (given.empty() || given.size() > static_cast<std::size_t>(size))
        return -1;
    std::memcpy(out, given.data(), given.size());
    return static_cast<int>(given.size());
}

// Where in `text` the block begins that a reader stumbled over, which had read up to `from` before.
std::string line_of_block(std::string_view text, std::size_t from) {
    const std::size_t begin = text.find("-----BEGIN", from);
    if (begin == std::string_view::npos)
        return {};
    const auto lines = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(begin), '\n');
    return ", line " + std::to_string(lines + 1);
}

bool ended_well() {
    const unsigned long last = ERR_peek_last_error();
    if (ERR_GET_LIB(last) != ERR_LIB_PEM || ERR_GET_REASON(last) != PEM_R_NO_START_LINE)
        return false;
    ERR_clear_error();
    return true;
}

// Calls read(bio) until the text has no further block of that kind, and take(object) with each. At least one.
template <class Read, class Take>
result<void> read_blocks(std::string_view text, const std::string &what, Read read, Take take) {
    ERR_clear_error();
    const bio_ptr in = over(text);
    if (!in)
        return refusal(what);
    for (bool first = true;; first = false) {
        const std::size_t from = text.size() - BIO_ctrl_pending(in.get());
        auto object = read(in.get());
        if (!object) {
            if (!first && ended_well())
                return {};
            return refusal(what + line_of_block(text, from));
        }
        if (!take(std::move(object)))
            return refusal(what + line_of_block(text, from));
    }
}

x509_ptr read_certificate(BIO *in) {
    return x509_ptr(PEM_read_bio_X509(in, nullptr, nullptr, nullptr));
}

crl_ptr read_crl(BIO *in) {
    return crl_ptr(PEM_read_bio_X509_CRL(in, nullptr, nullptr, nullptr));
}

result<certificate> load(std::string_view chain, const std::string &chain_what, std::string_view key,
                         const std::string &key_what, std::shared_ptr<certificate_data> into) {
    into->chain.reset(sk_X509_new_null());
    if (!into->chain)
        return refusal(chain_what);
    auto kept = [&](x509_ptr one) {
        if (!into->leaf) {
            into->leaf = std::move(one);
            return true;
        }
        if (sk_X509_push(into->chain.get(), one.get()) == 0)
            return false;
        static_cast<void>(one.release());
        return true;
    };
    if (auto done = read_blocks(chain, chain_what, read_certificate, kept); !done)
        return unexpected(done.error());

    ERR_clear_error();
    const bio_ptr in = over(key);
    if (in)
        into->key.reset(PEM_read_bio_PrivateKey(in.get(), nullptr, passphrase_given, &into->passphrase));
    if (!into->key)
        return refusal(key_what);
    if (X509_check_private_key(into->leaf.get(), into->key.get()) != 1)
        return refusal(key_what);

    alternative_names names = alternative_names_of(into->leaf.get());
    into->names = std::move(names.dns);
    into->names.insert(into->names.end(), names.ip.begin(), names.ip.end());
    if (into->names.empty()) {
        if (std::string name = common_name(X509_get_subject_name(into->leaf.get())); !name.empty())
            into->names.push_back(std::move(name));
    }
    into->not_after = point_of(X509_get0_notAfter(into->leaf.get()));
    return access::make(std::move(into));
}

// --- For development ---

bool extend(X509 *x, int what, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, x, x, nullptr, nullptr, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(nullptr, &context, what, value);
    const bool done = extension && X509_add_ext(x, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return done;
}

bool add_names(X509 *x, const std::vector<std::string> &names) {
    const general_names_ptr all(GENERAL_NAMES_new());
    for (const std::string &name : names) {
        GENERAL_NAME *one = GENERAL_NAME_new();
        if (!all || !one || sk_GENERAL_NAME_push(all.get(), one) == 0) {
            GENERAL_NAME_free(one);
            return false;
        }
        ASN1_OCTET_STRING *address = a2i_IPADDRESS(name.c_str());
        if (address) {
            GENERAL_NAME_set0_value(one, GEN_IPADD, address);
            continue;
        }
        ASN1_IA5STRING *text = ASN1_IA5STRING_new();
        if (!text || ASN1_STRING_set(text, name.data(), static_cast<int>(name.size())) != 1) {
            ASN1_IA5STRING_free(text);
            return false;
        }
        GENERAL_NAME_set0_value(one, GEN_DNS, text);
    }
    ERR_clear_error(); // of names that are no addresses
    return X509_add1_ext_i2d(x, NID_subject_alt_name, all.get(), 0, X509V3_ADD_DEFAULT) == 1;
}

bool number(X509 *x) {
    unsigned char serial[16];
    if (RAND_bytes(serial, sizeof serial) != 1)
        return false;
    serial[0] &= 0x7f; // positive
    const std::unique_ptr<BIGNUM, freed_by<BN_free>> value(BN_bin2bn(serial, sizeof serial, nullptr));
    return value && BN_to_ASN1_INTEGER(value.get(), X509_get_serialNumber(x)) != nullptr;
}

x509_ptr sign_itself(EVP_PKEY *key, const std::vector<std::string> &names, std::chrono::hours validity) {
    x509_ptr made(X509_new());
    X509 *x = made.get();
    if (!x)
        return made;
    X509_NAME *name = X509_get_subject_name(x);
    const std::string common = names.front().substr(0, ub_common_name);
    const bool done = X509_set_version(x, X509_VERSION_3) == 1 && number(x) &&
                      X509_gmtime_adj(X509_getm_notBefore(x), -3600) &&
                      X509_gmtime_adj(X509_getm_notAfter(x), std::chrono::seconds(validity).count()) &&
                      X509_set_pubkey(x, key) == 1 &&
                      X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                                 reinterpret_cast<const unsigned char *>(common.data()),
                                                 static_cast<int>(common.size()), -1, 0) == 1 &&
                      X509_set_issuer_name(x, name) == 1 && add_names(x, names) &&
                      extend(x, NID_basic_constraints, "critical,CA:FALSE") &&
                      extend(x, NID_key_usage, "critical,digitalSignature") &&
                      extend(x, NID_ext_key_usage, "serverAuth,clientAuth") &&
                      extend(x, NID_subject_key_identifier, "hash") && X509_sign(x, key, EVP_sha256()) > 0;
    if (!done)
        made.reset();
    return made;
}

// --- Authorities ---

bool add_authority(authorities &all, X509 *x) {
    if (X509_STORE_add_cert(all.store.get(), x) != 1)
        return false;
    X509_NAME *name = X509_NAME_dup(X509_get_subject_name(x));
    if (!name || sk_X509_NAME_push(all.names.get(), name) == 0) {
        X509_NAME_free(name);
        return false;
    }
    return true;
}

} // namespace

int use_certificate(SSL_CTX *ctx, const certificate &one) noexcept {
    const certificate_data &data = access::data(one);
    return SSL_CTX_use_cert_and_key(ctx, data.leaf.get(), data.key.get(), data.chain.get(), 1);
}

result<void> check_strength(const certificate &one) {
    ERR_clear_error();
    const ctx_ptr scratch(SSL_CTX_new(TLS_method()));
    if (scratch)
        SSL_CTX_set_security_level(scratch.get(), security_level);
    if (scratch && use_certificate(scratch.get(), one) == 1)
        return {};
    const certificate_data &data = access::data(one);
    const std::string &file = data.chain_file;
    return refusal("certificate " + (file.empty() ? "in the PEM text" : file) + ", whose key has " +
                   std::to_string(EVP_PKEY_get_bits(data.key.get())) + " bits");
}

result<authorities> access::load(const trust &of) {
    using kind = trust::kind;
    ERR_clear_error();
    authorities all;
    all.store.reset(X509_STORE_new());
    all.names.reset(sk_X509_NAME_new_null());
    const std::unique_ptr<EVP_MD_CTX, freed_by<EVP_MD_CTX_free>> digest(EVP_MD_CTX_new());
    if (!all.store || !all.names || !digest || EVP_DigestInit_ex(digest.get(), EVP_sha256(), nullptr) != 1)
        return refusal("certificate authorities");
    bool revocations = false;
    for (const trust::source &one : of.sources_) {
        const bool lists = one.kind == kind::revocations_file || one.kind == kind::revocations_text;
        const bool is_file = one.kind == kind::authorities_file || one.kind == kind::revocations_file;
        const std::string what = lists ? "revocation list" : "certificate authorities in";
        std::string text = one.what;
        if (is_file) {
            result<std::string> read = read_file(what, one.what);
            if (!read)
                return unexpected(read.error());
            text = std::move(*read);
        }
        const std::string where = what + " " +
                                  (is_file ? one.what
                                   : lists ? "in the PEM text"
                                           : "the PEM text");
        result<void> done = lists
                                ? read_blocks(text, where, read_crl,
                                              [&](crl_ptr crl) {
                                                  return X509_STORE_add_crl(all.store.get(), crl.get()) == 1;
                                              })
                                : read_blocks(text, where, read_certificate,
                                              [&](x509_ptr x) { return add_authority(all, x.get()); });
        if (!done)
            return unexpected(done.error());
        revocations = revocations || lists;
        const char mark = lists ? 'R' : 'A';
        EVP_DigestUpdate(digest.get(), &mark, 1);
        EVP_DigestUpdate(digest.get(), text.data(), text.size());
    }
    if (of.system_) {
        EVP_DigestUpdate(digest.get(), "S", 1);
        if (X509_STORE_set_default_paths(all.store.get()) != 1)
            return refusal("the system's certificate authorities");
    }
    if (revocations)
        X509_STORE_set_flags(all.store.get(), X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    EVP_DigestFinal_ex(digest.get(), all.digest.data(), nullptr);
    ERR_clear_error();
    return all;
}

} // namespace detail

using detail::access;

result<certificate> certificate::files(std::string chain_file, std::string key_file,
                                       std::string_view passphrase) {
    auto chain = detail::read_file("certificate", chain_file);
    if (!chain)
        return unexpected(chain.error());
    auto key = detail::read_file("private key", key_file);
    if (!key)
        return unexpected(key.error());
    auto data = std::make_shared<detail::certificate_data>();
    data->chain_file = std::move(chain_file);
    data->key_file = std::move(key_file);
    data->passphrase = passphrase;
    const std::string chain_what = "certificate " + data->chain_file,
                      key_what = "private key " + data->key_file;
    auto made = detail::load(*chain, chain_what, *key, key_what, std::move(data));
    OPENSSL_cleanse(key->data(), key->size());
    return made;
}

result<certificate> certificate::pem(std::string_view chain, std::string_view key,
                                     std::string_view passphrase) {
    auto data = std::make_shared<detail::certificate_data>();
    data->passphrase = passphrase;
    return detail::load(chain, "certificate in the PEM text", key, "private key in the PEM text",
                        std::move(data));
}

result<certificate> certificate::self_signed(const std::vector<std::string> &names,
                                             std::chrono::hours validity) {
    const bool named =
        !names.empty() && std::none_of(names.begin(), names.end(), [](const std::string &name) {
            return name.empty() || name.find('\0') != std::string::npos;
        });
    if (!named)
        return unexpected(std::make_error_code(std::errc::invalid_argument), stage::tls, std::string_view(),
                          std::chrono::nanoseconds(), "a self-signed certificate needs a name");
    ERR_clear_error();
    auto data = std::make_shared<detail::certificate_data>();
    data->key.reset(EVP_EC_gen("P-256"));
    data->chain.reset(sk_X509_new_null());
    if (data->key && data->chain)
        data->leaf = detail::sign_itself(data->key.get(), names, validity);
    if (!data->leaf)
        return detail::refusal("a self-signed certificate");
    data->names = names;
    data->not_after = detail::point_of(X509_get0_notAfter(data->leaf.get()));
    return certificate(std::move(data));
}

result<certificate> certificate::load_again() const {
    if (data_->chain_file.empty())
        return *this;
    return files(data_->chain_file, data_->key_file, data_->passphrase);
}

const std::vector<std::string> &certificate::names() const noexcept {
    return data_->names;
}

bool certificate::is_for(std::string_view name) const {
    if (name.empty())
        return false;
    const std::string text(name);
    const int found = endpoint(text, 0).is_name()
                          ? X509_check_host(data_->leaf.get(), text.data(), text.size(),
                                            X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, nullptr)
                          : X509_check_ip_asc(data_->leaf.get(), text.c_str(), 0);
    return found == 1;
}

std::chrono::system_clock::time_point certificate::not_after() const noexcept {
    return data_->not_after;
}

std::string certificate::fingerprint() const {
    return detail::fingerprint_of(data_->leaf.get());
}

std::string certificate::chain_pem() const {
    const detail::bio_ptr out(BIO_new(BIO_s_mem()));
    if (!out || PEM_write_bio_X509(out.get(), data_->leaf.get()) != 1)
        return {};
    for (int i = 0; i < sk_X509_num(data_->chain.get()); i++)
        PEM_write_bio_X509(out.get(), sk_X509_value(data_->chain.get(), i));
    BUF_MEM *memory = nullptr;
    BIO_get_mem_ptr(out.get(), &memory);
    return {memory->data, memory->length};
}

bool trust::empty() const noexcept {
    for (const source &one : sources_) {
        if (one.kind == kind::authorities_file || one.kind == kind::authorities_text)
            return false;
    }
    return !system_;
}

} // namespace tls
} // namespace parley::inline PARLEY_ABI
