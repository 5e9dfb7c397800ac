// endpoint: where to listen or whom to talk to, as a value. It names a host and a port, a literal
// address and a port, or a unix socket; a name is looked up when the endpoint is used (resolve.hpp),
// never when it is made.

#pragma once

#include <array>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>

#include <sys/socket.h>

#include <parley/result.hpp>

namespace parley::inline PARLEY_ABI {

// A value: copied and compared, and read by several threads at once.
//
//     parley::endpoint{"example.org", 443}      a name, resolved at use
//     parley::endpoint{"127.0.0.1", 7000}       literals never leave the loop
//     parley::endpoint{"::1", 7000}             the same as "[::1]"
//     parley::endpoint::unix_path("/run/x")     "@name": the abstract name space
class endpoint {
public:
    enum class kind : std::uint8_t { none, ipv4, ipv6, unix_socket, name };

    // Nowhere.
    endpoint() = default;

    // A host's name or an IPv4 or IPv6 literal, in brackets or not, with a %zone or not. Anything
    // that is no literal is a name. Never fails: what is wrong with a name is told at use.
    endpoint(std::string_view host, std::uint16_t port);

    // From the kernel's form: AF_INET, AF_INET6, AF_UNIX. Nowhere, when it is none of these.
    endpoint(const struct sockaddr *address, socklen_t length);

    // A unix socket. A path too long for the kernel (107 bytes) is kept and told at use, and by
    // parse().
    static endpoint unix_path(std::string_view path);

    // "host:port", "1.2.3.4:port", "[v6]:port", "unix:/path", "unix:@abstract". Fails with
    // std::errc::invalid_argument and a detail that says what is wrong with the text.
    static result<endpoint> parse(std::string_view text);

    enum kind kind() const noexcept { return kind_; }
    bool is_name() const noexcept { return kind_ == kind::name; }
    bool is_unix() const noexcept { return kind_ == kind::unix_socket; }
    explicit operator bool() const noexcept { return kind_ != kind::none; }

    // The name, the literal without brackets, or the path.
    std::string host() const;
    // 0 for unix sockets.
    std::uint16_t port() const noexcept { return port_; }
    // The same host, another port.
    endpoint with_port(std::uint16_t port) const;

    // The kernel's form. Fails for a name (resolve it first) with destination_address_required, for
    // a path that is too long with filename_too_long and for nowhere with invalid_argument.
    result<socklen_t> to_sockaddr(struct sockaddr_storage &address) const;

    // As parse() reads it: "127.0.0.1:80", "[::1]:80", "example.org:80", "unix:/path".
    std::string to_string() const;

    friend bool operator==(const endpoint &, const endpoint &) = default;
    friend std::ostream &operator<<(std::ostream &out, const endpoint &where);

private:
    bool set_literal(std::string_view host);

    std::string text_; // a name or a path; else empty
    std::array<unsigned char, 16> address_{};
    std::uint32_t zone_ = 0;
    std::uint16_t port_ = 0;
    enum kind kind_ = kind::none;
};

} // namespace parley::inline PARLEY_ABI
