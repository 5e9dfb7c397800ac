// http::client: requests that one can await.
//
//     parley::http::client client;
//     auto page = co_await client.get("https://example.com/");   // result<response>
//     if (page && page->ok())
//         std::cout << page->body();
//
// Connections are pooled for each origin; certificates are verified; redirections are followed.

#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <parley/client.hpp>
#include <parley/config.hpp>
#include <parley/http/limits.hpp>
#include <parley/http/request.hpp>
#include <parley/http/response.hpp>
#include <parley/http/url.hpp>
#include <parley/result.hpp>
#include <parley/task.hpp>
#include <parley/tls.hpp>

namespace parley::http::inline PARLEY_ABI {

struct client_pool;

// "Basic ...", for the field Authorization (RFC 7617). Throws std::invalid_argument for a user with a colon.
[[nodiscard]] std::string basic_credentials(std::string_view user, std::string_view password);
// "Bearer ..." (RFC 6750).
[[nodiscard]] std::string bearer_credentials(std::string_view token);

// Each function changes one thing and returns the object.
class client_options {
public:
    client_options();

    // Limits of time, how many connections to one origin ...: all that parley::client_options has but TLS and the
    // server's name, which follow from the URL.
    client_options &connections(const parley::client_options &options) {
        connections_ = options;
        return *this;
    }
    // For https. At first it trusts the system's authorities and offers http/1.1.
    client_options &tls(parley::tls::context context) {
        tls_ = std::move(context);
        return *this;
    }
    // How large an answer may be; of a body 64 MiB at first. What is larger fails with std::errc::message_size.
    client_options &limits(const http::limits &most) {
        most_ = most;
        return *this;
    }
    // How many redirections are followed; 10 at first, 0 for none. The answer that would be one too many is the result.
    client_options &max_redirects(std::size_t count) {
        redirects_ = count;
        return *this;
    }
    // Sent with each request that does not have that field itself: "User-Agent", "Accept", "Authorization" ...
    client_options &header(std::string_view name, std::string_view value) {
        header_.set(name, value);
        return *this;
    }

private:
    friend class client;
    friend struct client_pool;
    parley::client_options connections_;
    parley::tls::context tls_;
    http::limits most_;
    std::size_t redirects_ = 10;
    fields header_;
};

// A handle, cheap to copy; copies share their connections. Tasks of all loops and threads may use one at the same
// time.
//
// Errors are those of parley::client (client.hpp): the stage, the peer, the time. An answer of 404 or 500 is none.
// std::errc::bad_message and std::errc::message_size say what was wrong with an answer; std::errc::invalid_argument is
// for a URL that is none, or has another scheme than http and https.
//
// A request is repeated only where that can do no harm: on a connection that was kept alive and turned out to be
// closed, before any byte of an answer, with a method that is idempotent.
//
// Redirections (301, 302, 303, 307, 308): after 303 the next request is a GET, after 301 and 302 if it was a POST;
// else method and body stay. To another origin nothing goes that was meant for the first: Authorization, Cookie and
// Proxy-Authorization are left out. From https none leads to http: that answer is the result.
class client {
public:
    explicit client(const client_options &options = {});

    [[nodiscard]] task<result<response>> get(std::string url) const;
    [[nodiscard]] task<result<response>> head(std::string url) const;
    [[nodiscard]] task<result<response>> post(std::string url, std::string body,
                                              std::string content_type) const;
    // Any method, header and body; the request's own target is replaced by the URL's.
    [[nodiscard]] task<result<response>> request(std::string url, http::request message) const;

    // Closes the connections that no request uses. Any thread.
    void close_idle() const noexcept;

private:
    std::shared_ptr<client_pool> pool_;
};

} // namespace parley::http::inline PARLEY_ABI
