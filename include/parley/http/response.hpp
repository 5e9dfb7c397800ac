// response: what a server answers.
//
//     return parley::http::response(200).set("Content-Type", "text/plain").body("hello\n");
//     return parley::http::response::text(404, "no such note\n");

#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <parley/http/message.hpp>
#include <parley/http/request.hpp>

namespace parley::http {

// As a CommMessageIn it is what a client parses; one that must be refused fails its request with EBADMSG, or EMSGSIZE
// where a limit is passed, and error() says why. As a CommMessageOut it is what a server sends.
class response : public message {
public:
    // 200 OK
    response() : response(200) {}
    // With the usual reason.
    explicit response(int status);

    // With "Content-Type: text/plain; charset=utf-8".
    [[nodiscard]] static response text(int status, std::string body);
    // With "Content-Type: application/json".
    [[nodiscard]] static response json(int status, std::string body);
    // "Location: where", for 301, 302, 303, 307 and 308.
    [[nodiscard]] static response redirect(int status, std::string_view where);

    [[nodiscard]] int status() const noexcept { return head_.status; }
    [[nodiscard]] const std::string &reason() const noexcept { return head_.reason; }
    response &status(int status);
    // 200 to 299.
    [[nodiscard]] bool ok() const noexcept { return head_.status / 100 == 2; }

    response &set(std::string_view name, std::string_view value) & {
        head_.header.set(name, value);
        return *this;
    }
    response &&set(std::string_view name, std::string_view value) && {
        head_.header.set(name, value);
        return std::move(*this);
    }
    // Beside others of that name.
    response &add(std::string_view name, std::string_view value) & {
        head_.header.add(name, value);
        return *this;
    }
    response &&add(std::string_view name, std::string_view value) && {
        head_.header.add(name, value);
        return std::move(*this);
    }
    using message::body;
    response &body(std::string bytes) & {
        body_ = std::move(bytes);
        return *this;
    }
    response &&body(std::string bytes) && {
        body_ = std::move(bytes);
        return std::move(*this);
    }

    // What it answers: to HEAD no body is sent or awaited. Kept by clear().
    response &answers_to(std::string_view method);
    response &answers_to(const request &asked) { return answers_to(asked.method()); }

    // For who parses it: the stream has ended. True if that is the end of the message as well.
    [[nodiscard]] bool end_of_stream() { return ended_by_stream(); }

private:
    void write_start(std::string &to) const override;
    [[nodiscard]] bool framed() const noexcept override;
    [[nodiscard]] std::string_view answers() const noexcept override { return method_; }
    [[nodiscard]] bool keeps_errors() const noexcept override { return false; }

    std::string method_;
};

} // namespace parley::http
