#include <parley/http/client.hpp>

#include <openssl/evp.h>

#include <map>
#include <stdexcept>
#include <system_error>
#include <vector>

#include <parley/core/Sync.h>
#include <parley/http/http1.hpp>

namespace parley::http::inline PARLEY_ABI {

// The clients of all origins that were asked so far.
struct client_pool {
    explicit client_pool(const client_options &o) : options(o) {}

    [[nodiscard]] result<parley::client<http1> *> reach(const url &where);

    [[nodiscard]] const fields &header() const noexcept { return options.header_; }
    [[nodiscard]] const limits &most() const noexcept { return options.most_; }
    [[nodiscard]] std::size_t redirects() const noexcept { return options.redirects_; }

    const client_options options;
    sync::mutex mutex; // for the map and the context; its clients are never taken out
    std::map<std::string, std::unique_ptr<parley::client<http1>>, std::less<>> origins;
    tls::context verifying;
};

namespace {

error wrong_url(std::string_view text, std::string_view why) {
    error made(make_error_code(std::errc::invalid_argument), stage::none);
    made.set_detail(std::string(why) + ": \"" + std::string(text) + "\"");
    return made;
}

bool leads_elsewhere(int status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// As the next request goes: RFC 9110 section 15.4.
void redirect(request &message, int status) {
    const bool to_get = (status == 303 && message.method() != "HEAD") ||
                        ((status == 301 || status == 302) && message.method() == "POST");
    if (!to_get)
        return;
    message.method("GET").body(std::string());
    for (const char *name : {"Content-Type", "Content-Encoding", "Content-Language", "Content-Location"})
        message.header().erase(name);
}

void aim(request &message, const url &where) {
    message.target(where.target());
    message.set("Host", where.authority());
}

// Why an answer was refused, in the words of its parser.
error explained(error why, const response &answer) {
    if (answer.error())
        why.set_detail(answer.error()->what);
    return why;
}

} // namespace

std::string basic_credentials(std::string_view user, std::string_view password) {
    if (user.find(':') != std::string_view::npos)
        throw std::invalid_argument("http::basic_credentials: a colon in the user's name");
    const std::string plain = std::string(user) + ":" + std::string(password);
    std::string coded(4 * ((plain.size() + 2) / 3), '\0');
    std::vector<unsigned char> out(coded.size() + 1);
    EVP_EncodeBlock(out.data(), reinterpret_cast<const unsigned char *>(plain.data()),
                    static_cast<int>(plain.size()));
    coded.assign(out.begin(), out.end() - 1);
    return "Basic " + coded;
}

std::string bearer_credentials(std::string_view token) {
    return "Bearer " + std::string(token);
}

client_options::client_options() {
    most_.body(std::uint64_t{64} << 20);
    header_.set("User-Agent", "parley/" PARLEY_VERSION);
    header_.set("Accept", "*/*");
}

result<parley::client<http1> *> client_pool::reach(const url &where) {
    const bool secure = where.scheme() == "https";
    if (!secure && where.scheme() != "http")
        return unexpected(wrong_url(where.to_string(), "http::client speaks http and https"));
    const std::string origin = where.origin();
    sync::lock_guard<sync::mutex> lock(mutex);
    auto &found = origins[origin];
    if (!found) {
        parley::client_options settings = options.connections_;
        if (secure && options.tls_) {
            settings.tls(options.tls_);
        } else if (secure) {
            if (!verifying) {
                auto made = tls::context::client(tls::client_options().alpn("http/1.1"));
                if (!made)
                    return unexpected(std::move(made).error());
                verifying = std::move(*made);
            }
            settings.tls(verifying);
        }
        found = std::make_unique<parley::client<http1>>(endpoint(std::string(where.host()), where.port()),
                                                        settings);
    }
    return found.get();
}

client::client(const client_options &options) : pool_(std::make_shared<client_pool>(options)) {}

task<result<response>> client::get(std::string url) const {
    return request(std::move(url), http::request("GET", "/"));
}

task<result<response>> client::head(std::string url) const {
    return request(std::move(url), http::request("HEAD", "/"));
}

task<result<response>> client::post(std::string url, std::string body, std::string content_type) const {
    http::request message("POST", "/");
    message.set("Content-Type", content_type).body(std::move(body));
    return request(std::move(url), std::move(message));
}

namespace {

task<result<response>> run(std::shared_ptr<client_pool> pool, std::string text, request message) {
    std::optional<url> where = url::parse(text);
    if (!where)
        co_return unexpected(wrong_url(text, "no URL"));
    // Once: what was left out for another origin stays out. Host goes first (RFC 9112 section 3.2).
    fields header;
    header.add("Host", where->authority());
    for (const auto [name, value] : message.header()) {
        if (!same_token(name, "Host"))
            header.add(name, value);
    }
    for (const auto [name, value] : pool->header()) {
        if (!header.contains(name))
            header.add(name, value);
    }
    message.header() = std::move(header);
    for (std::size_t redirects = 0;; ++redirects) {
        const result<parley::client<http1> *> peer = pool->reach(*where);
        if (!peer)
            co_return unexpected(peer.error());
        aim(message, *where);
        response answer;
        answer.limits(pool->most());
        result<void> done = co_await (*peer)->request(message, answer);
        if (!done)
            co_return unexpected(explained(std::move(done).error(), answer));
        const std::string_view location = answer.header("Location");
        if (!leads_elsewhere(answer.status()) || location.empty() || redirects == pool->redirects())
            co_return result<response>(std::move(answer));
        std::optional<url> next = where->resolve(location);
        if (!next || (where->scheme() == "https" && next->scheme() != "https"))
            co_return result<response>(std::move(answer));
        if (next->origin() != where->origin()) {
            for (const char *name : {"Authorization", "Cookie", "Proxy-Authorization"})
                message.header().erase(name);
        }
        redirect(message, answer.status());
        where = std::move(next);
    }
}

} // namespace

task<result<response>> client::request(std::string url, http::request message) const {
    return run(pool_, std::move(url), std::move(message));
}

void client::close_idle() const noexcept {
    sync::lock_guard<sync::mutex> lock(pool_->mutex);
    for (const auto &[origin, peer] : pool_->origins)
        peer->close_idle();
}

} // namespace parley::http::inline PARLEY_ABI
