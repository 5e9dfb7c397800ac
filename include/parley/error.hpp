// What went wrong outside: the code, at which stage of the work, with which peer, after how long. Operations
// of the coroutine layer return it inside a result<T> (result.hpp); nothing here throws by itself.

#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {

template <class T>
class result;

// The step of the work in which an error arose, or whose time limit ran out.
enum class stage : std::uint8_t {
    none,
    resolve,    // a host name
    pool_wait,  // for a free place among a client's connections
    connect,    // TCP or unix connect
    tls,        // the handshake
    send,       // a message
    first_byte, // of the answer
    receive,    // a whole message
    gap,        // between two steps of progress
    idle,       // for the next request
    accept,
    listen,
    file,
    compute,
    sleep,
    shutdown
};

// "pool wait", "first byte" and so on; "" for none. Points to a literal.
[[nodiscard]] const char *to_string(stage where) noexcept;

// parley's own errors, in the category "parley". Compare with these or with std::errc: where the standard has
// a word for the same thing the two are equal.
enum class errc : int {
    end_of_stream = 1, // the peer closed cleanly, between two messages
    timed_out,         // std::errc::timed_out
    no_turn,           // send() while no request awaits its answer; std::errc::operation_not_permitted
    no_runtime,        // not called on a loop of a runtime; std::errc::operation_not_permitted
    closed,            // this handle, here; std::errc::bad_file_descriptor
    stopping,          // the runtime, or the task, was told to stop; std::errc::operation_canceled
    bad_endpoint,      // text that names no endpoint; std::errc::invalid_argument
    dropped,           // a callback was destroyed and never called; std::errc::operation_canceled
    bad_message        // the peer sent what its protocol does not allow; std::errc::bad_message
};

} // namespace parley::inline PARLEY_ABI

template <>
struct std::is_error_code_enum<parley::errc> : std::true_type {};

namespace parley::inline PARLEY_ABI {

// The categories "parley", "tls" and "resolve". Each lives for ever.
[[nodiscard]] const std::error_category &parley_category() noexcept;
[[nodiscard]] const std::error_category &tls_category() noexcept;
[[nodiscard]] const std::error_category &resolve_category() noexcept;

[[nodiscard]] std::error_code make_error_code(errc code) noexcept;

// From OpenSSL's ERR_get_error(), and from X509_verify_cert()'s result; the messages are OpenSSL's.
[[nodiscard]] std::error_code tls_error(unsigned long openssl_error) noexcept;
[[nodiscard]] std::error_code tls_verify_error(long verify_result) noexcept;

// From getaddrinfo(): an EAI_ code.
[[nodiscard]] std::error_code resolve_error(int eai_code) noexcept;

// From errno, or from the `error` of a callback when it is positive.
[[nodiscard]] inline std::error_code system_error_code(int error_number) noexcept {
    return {error_number, std::system_category()};
}

// A value of one pointer, cheap to copy; moving is copying. What it points to is shared and never changed.
// Making one allocates; without memory it becomes one that says so (ENOMEM), and nothing is thrown.
class error {
public:
    // No error at all: code() is zero. Of use as a place to assign to.
    error() noexcept = default;

    // `peer` is an endpoint as text ("127.0.0.1:7000"), `elapsed` the time the operation took until it
    // failed.
    error(std::error_code code, parley::stage where = parley::stage::none, std::string_view peer = {},
          std::chrono::nanoseconds elapsed = {}, std::string_view detail = {}) noexcept;
    error(errc code, parley::stage where = parley::stage::none, std::string_view peer = {},
          std::chrono::nanoseconds elapsed = {}, std::string_view detail = {}) noexcept
        : error(make_error_code(code), where, peer, elapsed, detail) {}

    error(const error &other) noexcept : facts_(other.facts_) {
        if (facts_)
            retain();
    }
    error &operator=(const error &other) noexcept {
        error copy(other);
        std::swap(facts_, copy.facts_);
        return *this;
    }
    ~error() {
        if (facts_)
            release();
    }

    [[nodiscard]] std::error_code code() const noexcept;
    [[nodiscard]] parley::stage stage() const noexcept;
    [[nodiscard]] std::chrono::nanoseconds elapsed() const noexcept;
    // Empty when unknown. Valid as long as this error or a copy of it lives and is not changed.
    [[nodiscard]] std::string_view peer() const noexcept;
    // A reason beyond the code's message, such as what a parser objected to; mostly empty.
    [[nodiscard]] std::string_view detail() const noexcept;

    // Each gives back *this, for use in one expression.
    error &set_stage(parley::stage where) noexcept;
    error &set_peer(std::string_view peer) noexcept;
    error &set_elapsed(std::chrono::nanoseconds elapsed) noexcept;
    error &set_detail(std::string_view text) noexcept;

    // The code's message alone: "timed out".
    [[nodiscard]] std::string message() const { return code().message(); }

    // By code; stage, peer, time and detail are not compared.
    friend bool operator==(const error &a, const error &b) noexcept { return a.code() == b.code(); }
    friend bool operator==(const error &a, const std::error_code &b) noexcept { return a.code() == b; }
    friend bool operator==(const error &a, const std::error_condition &b) noexcept { return a.code() == b; }
    friend bool operator==(const error &a, errc b) noexcept { return a.code() == make_error_code(b); }
    friend bool operator==(const error &a, std::errc b) noexcept {
        return a.code() == std::make_error_condition(b);
    }

private:
    template <class T>
    friend class result;

    struct facts;

    // For result<void>, which takes a default-constructed error for none: one that says "no error" and is
    // there.
    static error present(error e) noexcept;
    [[nodiscard]] bool is_present() const noexcept { return facts_ != nullptr; }

    explicit error(facts *counted) noexcept : facts_(counted) {}
    void retain() const noexcept;
    void release() noexcept;

    facts *facts_ = nullptr;
};

// "timed out: receive, 127.0.0.1:7000, after 1.000 s". Parts that are unknown are left out; a detail follows
// in parentheses.
[[nodiscard]] std::string to_string(const error &e);
std::ostream &operator<<(std::ostream &out, const error &e);
std::ostream &operator<<(std::ostream &out, stage where);

// What result<T>::value() throws when there is none. what() is to_string(error()).
class exception : public std::system_error {
public:
    explicit exception(parley::error e);
    explicit exception(errc code) : exception(parley::error(code)) {}

    [[nodiscard]] const class error &error() const noexcept { return error_; }
    [[nodiscard]] const char *what() const noexcept override;

private:
    parley::error error_;
    std::shared_ptr<const std::string> text_; // shared: exceptions are copied without throwing
};

} // namespace parley::inline PARLEY_ABI
