// What requests and responses have in common: a header, a body in memory, and how both get on and off the wire.

#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <parley/core/Communicator.h>
#include <parley/http/fields.hpp>
#include <parley/http/limits.hpp>
#include <parley/http/parser.hpp>

namespace parley::http {

// The base of request and response: a message of the core with its whole body, for callbacks and coroutines. Value
// types, movable while no connection uses them; not synchronised. The library frames them: Content-Length and
// Transfer-Encoding are not the user's to set, and a message that has them when it is sent fails with EINVAL.
class message : public CommMessageIn, public CommMessageOut {
public:
    [[nodiscard]] fields &header() noexcept { return head_.header; }
    [[nodiscard]] const fields &header() const noexcept { return head_.header; }
    // The first value of that name; empty also if there is none.
    [[nodiscard]] std::string_view header(std::string_view name) const noexcept {
        return head_.header.get(name).value_or(std::string_view());
    }
    // What stood behind a body in chunks.
    [[nodiscard]] const fields &trailer() const noexcept { return trailer_; }

    [[nodiscard]] const std::string &body() const & noexcept { return body_; }
    [[nodiscard]] std::string body() && noexcept { return std::move(body_); }

    // 1 for HTTP/1.1, 0 for HTTP/1.0. What is sent is HTTP/1.1.
    [[nodiscard]] int minor_version() const noexcept { return head_.minor_version; }
    // Whether another message can follow on its connection (RFC 9112 section 9.3): of one that was parsed, what it
    // says; of one that is to be sent, unless its header says "Connection: close".
    [[nodiscard]] bool keep_alive() const noexcept;

    // How much is taken of a message that is parsed. Kept by clear().
    [[nodiscard]] const http::limits &limits() const noexcept { return limits_; }
    void limits(const http::limits &most) noexcept { limits_ = most; }

    // Why the message that was parsed is refused; its parse has ended where the error is.
    [[nodiscard]] const std::optional<parse_error> &error() const noexcept { return error_; }

    // Takes the head that a parser has found, for who parses by himself.
    void adopt(parser &from) noexcept;

    // Ready to be parsed into again, or to be filled; keeps the limits and the memory.
    void clear() noexcept;

protected:
    explicit message(parser::role role) noexcept : role_(role) {}
    message(message &&) noexcept = default;
    message &operator=(message &&) noexcept = default;
    message(const message &other);
    message &operator=(const message &other);
    ~message() override = default;

    int append(const void *buf, std::size_t *size) override;
    void *reserve(std::size_t *size) override;
    int encode(struct iovec vectors[], int max) override;

    // The start line, with its end.
    virtual void write_start(std::string &to) const = 0;
    // Whether the message has a body at all, empty or not.
    [[nodiscard]] virtual bool framed() const noexcept = 0;
    // The method that a response answers; empty for a request.
    [[nodiscard]] virtual std::string_view answers() const noexcept { return {}; }
    // Where its errors are told by error() and not by a failed parse.
    [[nodiscard]] virtual bool keeps_errors() const noexcept = 0;

    // At the end of the stream: true if that completes it.
    [[nodiscard]] bool ended_by_stream();

    message_head head_;
    std::string body_;
    fields trailer_;

private:
    int parse(const void *buf, std::size_t *size); // append(); throws std::bad_alloc
    void write_head();
    int refuse(int error_number);

    std::unique_ptr<parser> parser_; // from the first parse on
    std::optional<parse_error> error_;
    http::limits limits_;
    std::string wire_;     // the head as it is sent
    std::size_t room_ = 0; // at the end of body_, for bytes that are still to come
    parser::role role_;
    bool parsing_ = false;
    bool persistent_ = true;
    bool parsed_ = false;
};

} // namespace parley::http
