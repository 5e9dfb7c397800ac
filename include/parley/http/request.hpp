// request: what a client asks.
//
//     parley::http::request ask("PUT", "/notes/7");
//     ask.set("Content-Type", "text/plain").body("remember");

#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <parley/http/message.hpp>

namespace parley::http {

// As a CommMessageIn it is what a server parses: a request that it must refuse is complete as well, and error() says
// what to answer. As a CommMessageOut it is what a client sends; Host is the user's to set there (http::client does).
class request : public message {
public:
    // GET /
    request() : request("GET", "/") {}
    // Throws std::invalid_argument for a method that is no token, or a target with a blank or a control character.
    request(std::string_view method, std::string_view target);

    [[nodiscard]] const std::string &method() const noexcept { return head_.method; }
    [[nodiscard]] const std::string &target() const noexcept { return head_.target; }
    request &method(std::string_view method);
    request &target(std::string_view target);
    // The target's path, as it was sent; of one in absolute form, too. "*" and host:port have none.
    [[nodiscard]] std::string_view path() const noexcept;
    // What stands behind its question mark; empty for none.
    [[nodiscard]] std::string_view query() const noexcept;

    // Throws std::invalid_argument, as fields::set().
    request &set(std::string_view name, std::string_view value) & {
        head_.header.set(name, value);
        return *this;
    }
    request &&set(std::string_view name, std::string_view value) && {
        head_.header.set(name, value);
        return std::move(*this);
    }
    using message::body;
    request &body(std::string bytes) & {
        body_ = std::move(bytes);
        return *this;
    }
    request &&body(std::string bytes) && {
        body_ = std::move(bytes);
        return std::move(*this);
    }

    // Whether it may be sent twice for once: its method says so.
    [[nodiscard]] bool retriable() const noexcept;

private:
    void write_start(std::string &to) const override;
    [[nodiscard]] bool framed() const noexcept override;
    [[nodiscard]] bool keeps_errors() const noexcept override { return true; }
};

} // namespace parley::http
