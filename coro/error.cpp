#include <parley/error.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <new>
#include <ostream>
#include <utility>

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

// The two texts follow, the peer first.
struct error::facts {
    std::atomic<std::size_t> references;
    std::error_code code;
    std::chrono::nanoseconds elapsed;
    std::uint32_t peer_size;
    std::uint32_t detail_size;
    parley::stage stage;

    [[nodiscard]] const char *text() const noexcept { return reinterpret_cast<const char *>(this + 1); }

    [[nodiscard]] static facts *make(std::error_code code, parley::stage where, std::string_view peer,
                                     std::chrono::nanoseconds elapsed, std::string_view detail) noexcept {
        constexpr std::size_t longest = std::numeric_limits<std::uint32_t>::max();
        peer = peer.substr(0, longest);
        detail = detail.substr(0, longest);
        void *memory = ::operator new(sizeof(facts) + peer.size() + detail.size(), std::nothrow);
        if (!memory)
            return nullptr;
        auto *made = ::new (memory) facts{{1},
                                          code,
                                          elapsed,
                                          static_cast<std::uint32_t>(peer.size()),
                                          static_cast<std::uint32_t>(detail.size()),
                                          where};
        char *text = static_cast<char *>(memory) + sizeof(facts);
        std::copy(detail.begin(), detail.end(), std::copy(peer.begin(), peer.end(), text));
        return made;
    }

    // For when there is no memory. Never freed: the count starts with one that nobody gives back.
    [[nodiscard]] static facts *no_memory(parley::stage where) noexcept {
        static std::array<facts, stage_names.size()> known = [] {
            return []<std::size_t... I>(std::index_sequence<I...>) {
                return std::array<facts, stage_names.size()>{
                    facts{{1}, system_error_code(ENOMEM), {}, 0, 0, static_cast<parley::stage>(I)}...};
            }(std::make_index_sequence<stage_names.size()>());
        }();
        facts &one = known[static_cast<std::size_t>(where) % known.size()];
        one.references.fetch_add(1, std::memory_order_relaxed);
        return &one;
    }
};

error::error(std::error_code code, parley::stage where, std::string_view peer,
             std::chrono::nanoseconds elapsed, std::string_view detail) noexcept
    : facts_(facts::make(code, where, peer, elapsed, detail)) {
    if (!facts_)
        facts_ = facts::no_memory(where);
}

void error::retain() const noexcept {
    facts_->references.fetch_add(1, std::memory_order_relaxed);
}

void error::release() noexcept {
    if (facts_->references.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    facts_->~facts();
    ::operator delete(facts_);
}

error error::present(error e) noexcept {
    return e.facts_ ? e : error(std::error_code());
}

std::error_code error::code() const noexcept {
    return facts_ ? facts_->code : std::error_code();
}
stage error::stage() const noexcept {
    return facts_ ? facts_->stage : parley::stage::none;
}
std::chrono::nanoseconds error::elapsed() const noexcept {
    return facts_ ? facts_->elapsed : std::chrono::nanoseconds();
}
std::string_view error::peer() const noexcept {
    return facts_ ? std::string_view(facts_->text(), facts_->peer_size) : std::string_view();
}
std::string_view error::detail() const noexcept {
    return facts_ ? std::string_view(facts_->text() + facts_->peer_size, facts_->detail_size)
                  : std::string_view();
}

error &error::set_stage(parley::stage where) noexcept {
    return *this = error(code(), where, peer(), elapsed(), detail());
}
error &error::set_peer(std::string_view peer) noexcept {
    return *this = error(code(), stage(), peer, elapsed(), detail());
}
error &error::set_elapsed(std::chrono::nanoseconds elapsed) noexcept {
    return *this = error(code(), stage(), peer(), elapsed, detail());
}
error &error::set_detail(std::string_view text) noexcept {
    return *this = error(code(), stage(), peer(), elapsed(), text);
}

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
    : std::system_error(e.code()), error_(std::move(e)),
      text_(std::make_shared<const std::string>(to_string(error_))) {}

const char *exception::what() const noexcept {
    return text_->c_str();
}

namespace detail {

void throw_error(const error &e) {
    throw exception(e);
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
