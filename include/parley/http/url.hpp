// url: where something is, as RFC 3986 writes it, taken apart and checked. What a server or a user sends is not
// repaired: a text that the RFC does not allow is no url.
//
//     parley::http::url where("https://example.com/search?q=parley");
//     where.host();                        // "example.com"
//     where.port();                        // 443
//     where.target();                      // "/search?q=parley"
//     where.resolve("../about")->to_string(); // "https://example.com/about"

#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>

namespace parley::http {

// An absolute URL with an authority: scheme://[user[:password]@]host[:port]path[?query][#fragment]. A value;
// all parts are views into it. Not synchronised.
class url {
public:
    // Empty; every part is.
    url() = default;
    // Throws std::invalid_argument, which says what is wrong and where: "url: a space at 19 in \"http://...\"".
    explicit url(std::string_view text);
    // The same without an exception: nothing for a text that is no url.
    [[nodiscard]] static std::optional<url> parse(std::string_view text);

    [[nodiscard]] bool empty() const noexcept { return text_.empty(); }

    // In small letters: "https".
    [[nodiscard]] std::string_view scheme() const noexcept { return part(scheme_); }
    // What stands before the @, as it was written: percent-encoded. Empty for none.
    [[nodiscard]] std::string_view user_info() const noexcept { return part(user_info_); }
    // In small letters, an IPv6 literal without its brackets; percent-encoded as it was written.
    [[nodiscard]] std::string_view host() const noexcept { return part(host_); }
    [[nodiscard]] bool host_is_ipv6() const noexcept { return ipv6_; }
    // As written, else that of the scheme: 80 for http and ws, 443 for https and wss, 0 for others.
    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
    // As it was written: percent-encoded. "/" where there was none.
    [[nodiscard]] std::string_view path() const noexcept { return part(path_); }
    // Without the question mark. Nothing when there is none, which an empty one is not.
    [[nodiscard]] std::optional<std::string_view> query() const noexcept;
    // Without the number sign. Never sent to a server.
    [[nodiscard]] std::optional<std::string_view> fragment() const noexcept;

    // What a request line has: path and query (RFC 9112 section 3.2.1).
    [[nodiscard]] std::string_view target() const noexcept { return part(target_); }
    // What a Host field has: the host, in brackets if it is an IPv6 literal, and the port unless it is the
    // scheme's (RFC 9110 section 7.2).
    [[nodiscard]] std::string authority() const;
    // scheme://authority: what two urls share that may share credentials (RFC 6454).
    [[nodiscard]] std::string origin() const;
    [[nodiscard]] const std::string &to_string() const noexcept { return text_; }

    // What `reference` means when it stands in what this url names: absolute, or relative to it (RFC 3986
    // section 5.2), "." and ".." taken out. Nothing for what is no reference.
    [[nodiscard]] std::optional<url> resolve(std::string_view reference) const;

    friend bool operator==(const url &a, const url &b) noexcept { return a.text_ == b.text_; }

private:
    struct range {
        std::size_t begin = 0;
        std::size_t size = 0;
    };
    class reader;

    [[nodiscard]] std::string_view part(range r) const noexcept {
        return std::string_view(text_).substr(r.begin, r.size);
    }
    [[nodiscard]] bool has_default_port() const noexcept;
    // Without "." and ".." in its path.
    [[nodiscard]] static std::optional<url> plain(std::optional<url> made);

    std::string text_; // normal: scheme and host in small letters, a path
    range scheme_, user_info_, host_, path_, query_, fragment_, target_;
    std::uint16_t port_ = 0;
    bool ipv6_ = false;
    bool has_query_ = false;
    bool has_fragment_ = false;
};

std::ostream &operator<<(std::ostream &out, const url &u);

// The bytes that percent-encoded text stands for; nothing if a % is not followed by two hexadecimal digits.
[[nodiscard]] std::optional<std::string> percent_decode(std::string_view text);
// Text that stands for these bytes in a path segment or in the name or value of a query: all but RFC 3986's
// unreserved characters are encoded.
[[nodiscard]] std::string percent_encode(std::string_view bytes);

} // namespace parley::http
