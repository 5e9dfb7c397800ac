#include <parley/error.hpp>

#include <array>
#include <cstdio>
#include <cstring>
#include <new>
#include <ostream>

#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <parley/result.hpp>

namespace parley::inline PARLEY_ABI {
namespace {

class parley_errors final : public std::error_category {
public:
    const char *name() const noexcept override { return "parley"; }

    std::string message(int value) const override {
        switch (static_cast<errc>(value)) {
        case errc::end_of_stream:
            return "end of stream";
        case errc::timed_out:
            return "timed out";
        case errc::no_turn:
            return "no request awaits an answer";
        case errc::no_runtime:
            return "not on a loop of a runtime";
        case errc::closed:
            return "closed";
        case errc::stopping:
            return "stopped";
        case errc::bad_endpoint:
            return "not an endpoint";
        case errc::dropped:
            return "the callback was dropped without being called";
        case errc::bad_message:
            return "bad message";
        }
        return "unknown error " + std::to_string(value);
    }

    std::error_condition default_error_condition(int value) const noexcept override {
        switch (static_cast<errc>(value)) {
        case errc::timed_out:
            return std::errc::timed_out;
        case errc::no_turn:
        case errc::no_runtime:
            return std::errc::operation_not_permitted;
        case errc::closed:
            return std::errc::bad_file_descriptor;
        case errc::stopping:
        case errc::dropped:
            return std::errc::operation_canceled;
        case errc::bad_endpoint:
            return std::errc::invalid_argument;
        case errc::bad_message:
            return std::errc::bad_message;
        case errc::end_of_stream:
            break;
        }
        return {value, *this};
    }
};

// Positive values are OpenSSL's packed error codes, negative ones X509 verification results with a minus
// before them.
class tls_errors final : public std::error_category {
public:
    const char *name() const noexcept override { return "tls"; }

    std::string message(int value) const override {
        if (value < 0)
            return X509_verify_cert_error_string(-static_cast<long>(value));
        OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS, nullptr);
        const char *reason = ERR_reason_error_string(static_cast<unsigned long>(value));
        return reason ? reason : "TLS error " + std::to_string(value);
    }

    std::error_condition default_error_condition(int value) const noexcept override {
        return value < 0 ? std::errc::permission_denied : std::errc::protocol_error;
    }
};

class resolve_errors final : public std::error_category {
public:
    const char *name() const noexcept override { return "resolve"; }

    std::string message(int value) const override { return ::gai_strerror(value); }

    std::error_condition default_error_condition(int value) const noexcept override {
        switch (value) {
        case EAI_AGAIN:
            return std::errc::resource_unavailable_try_again;
        case EAI_MEMORY:
            return std::errc::not_enough_memory;
        case EAI_FAMILY:
            return std::errc::address_family_not_supported;
        case EAI_NONAME:
#ifdef EAI_NODATA
        case EAI_NODATA:
#endif
            return std::errc::address_not_available;
        default:
            return {value, *this};
        }
    }
};

constexpr std::array<const char *, 16> stage_names = {
    "",    "resolve", "pool wait", "connect", "tls",  "send",    "first byte", "receive",
    "gap", "idle",    "accept",    "listen",  "file", "compute", "sleep",      "shutdown"};

} // namespace

const std::error_category &parley_category() noexcept {
    static const parley_errors category;
    return category;
}

const std::error_category &tls_category() noexcept {
    static const tls_errors category;
    return category;
}

const std::error_category &resolve_category() noexcept {
    static const resolve_errors category;
    return category;
}

std::error_code make_error_code(errc code) noexcept {
    return {static_cast<int>(code), parley_category()};
}

std::error_code tls_error(unsigned long openssl_error) noexcept {
    return {static_cast<int>(openssl_error & 0x7fffffffUL), tls_category()};
}

std::error_code tls_verify_error(long verify_result) noexcept {
    return {-static_cast<int>(verify_result), tls_category()};
}

std::error_code resolve_error(int eai_code) noexcept {
    return {eai_code, resolve_category()};
}

const char *to_string(stage where) noexcept {
    const auto index = static_cast<std::size_t>(where);
    return index < stage_names.size() ? stage_names[index] : "";
}

error::error(const error &) noexcept = default;
error::error(error &&) noexcept = default;
error &error::operator=(const error &) noexcept = default;
error &error::operator=(error &&) noexcept = default;
error::~error() = default;

std::string to_string(const error &e) {
    std::string text = e.message();
    const char *separator = ": ";
    auto add = [&](std::string_view part) {
        if (part.empty())
            return;
        text.append(separator).append(part);
        separator = ", ";
    };
    add(to_string(e.stage()));
    add(e.peer());
    if (e.elapsed().count() != 0) {
        char seconds[48];
        const double elapsed = static_cast<double>(e.elapsed().count()) / 1e9;
        std::snprintf(seconds, sizeof seconds, "after %.3f s", elapsed);
        add(seconds);
    }
    if (!e.detail().empty())
        text.append(" (").append(e.detail()).append(")");
    return text;
}

std::ostream &operator<<(std::ostream &out, const error &e) {
    return out << to_string(e);
}

std::ostream &operator<<(std::ostream &out, stage where) {
    return out << to_string(where);
}

exception::exception(parley::error e)
    : std::system_error(e.code()), error_(std::move(e)), text_(to_string(error_)) {}

const char *exception::what() const noexcept {
    return text_.c_str();
}

namespace detail {

void throw_error(const error &e) {
    throw exception(e);
}

shared_text::shared_text(std::string_view text) {
    if (text.empty())
        return;
    void *memory = ::operator new(sizeof(block) + text.size() + 1);
    block_ = ::new (memory) block{{1}, text.size()};
    char *characters = static_cast<char *>(memory) + sizeof(block);
    std::memcpy(characters, text.data(), text.size());
    characters[text.size()] = '\0';
}

void shared_text::release() noexcept {
    if (block_->references.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    block_->~block();
    ::operator delete(block_);
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
