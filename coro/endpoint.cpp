#include <parley/endpoint.hpp>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <ostream>
#include <system_error>

namespace parley::inline PARLEY_ABI {

namespace {

constexpr std::string_view unix_prefix = "unix:";

// The last byte of sun_path is kept for the zero that some readers expect.
constexpr std::size_t longest_path = sizeof(sockaddr_un::sun_path) - 1;

// A zone is an interface's name or number.
std::uint32_t zone_number(const std::string &zone) {
    std::uint32_t number = 0;
    auto [end, failure] = std::from_chars(zone.data(), zone.data() + zone.size(), number);
    if (failure == std::errc{} && end == zone.data() + zone.size())
        return number;
    return if_nametoindex(zone.c_str());
}

std::string_view without_brackets(std::string_view host) {
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']')
        return host.substr(1, host.size() - 2);
    return host;
}

} // namespace

endpoint::endpoint(std::string_view host, std::uint16_t port) : port_(port) {
    if (set_literal(without_brackets(host)))
        return;
    kind_ = kind::name;
    text_ = host;
}

bool endpoint::set_literal(std::string_view host) {
    std::string text(host.substr(0, host.find('%')));
    if (text.size() == host.size() && inet_pton(AF_INET, text.c_str(), address_.data()) == 1) {
        kind_ = kind::ipv4;
        return true;
    }
    if (inet_pton(AF_INET6, text.c_str(), address_.data()) != 1) {
        address_ = {};
        return false;
    }
    if (text.size() < host.size()) {
        zone_ = zone_number(std::string(host.substr(text.size() + 1)));
        if (zone_ == 0) {
            address_ = {};
            return false;
        }
    }
    kind_ = kind::ipv6;
    return true;
}

endpoint::endpoint(const struct sockaddr *address, socklen_t length) {
    // Copied out: the caller's bytes need not be aligned for the larger types.
    if (length >= sizeof(sockaddr_in) && address->sa_family == AF_INET) {
        sockaddr_in in;
        std::memcpy(&in, address, sizeof in);
        kind_ = kind::ipv4;
        port_ = ntohs(in.sin_port);
        std::memcpy(address_.data(), &in.sin_addr, sizeof in.sin_addr);
    } else if (length >= sizeof(sockaddr_in6) && address->sa_family == AF_INET6) {
        sockaddr_in6 in6;
        std::memcpy(&in6, address, sizeof in6);
        kind_ = kind::ipv6;
        port_ = ntohs(in6.sin6_port);
        zone_ = in6.sin6_scope_id;
        std::memcpy(address_.data(), &in6.sin6_addr, sizeof in6.sin6_addr);
    } else if (length >= sizeof(sa_family_t) && address->sa_family == AF_UNIX) {
        kind_ = kind::unix_socket;
        std::size_t start = offsetof(sockaddr_un, sun_path);
        if (length <= start)
            return; // a client's socket has no name
        text_.assign(reinterpret_cast<const char *>(address) + start, length - start);
        if (text_.front() == '\0')
            text_.front() = '@';
        else
            text_.resize(std::min(text_.size(), text_.find('\0')));
    }
}

endpoint endpoint::unix_path(std::string_view path) {
    endpoint where;
    where.kind_ = kind::unix_socket;
    where.text_ = path;
    return where;
}

std::string endpoint::host() const {
    if (kind_ != kind::ipv4 && kind_ != kind::ipv6)
        return text_;
    char text[INET6_ADDRSTRLEN] = {};
    inet_ntop(kind_ == kind::ipv4 ? AF_INET : AF_INET6, address_.data(), text, sizeof text);
    std::string host = text;
    if (zone_ != 0) {
        char name[IF_NAMESIZE] = {};
        host += '%';
        host += if_indextoname(zone_, name) ? std::string(name) : std::to_string(zone_);
    }
    return host;
}

endpoint endpoint::with_port(std::uint16_t port) const {
    endpoint where = *this;
    where.port_ = port;
    return where;
}

std::string endpoint::to_string() const {
    switch (kind_) {
    case kind::none:
        return "nowhere";
    case kind::unix_socket:
        return std::string(unix_prefix) + text_;
    case kind::ipv6:
        return '[' + host() + "]:" + std::to_string(port_);
    case kind::ipv4:
    case kind::name:
        break;
    }
    return host() + ':' + std::to_string(port_);
}

namespace {

unexpected bad(std::string_view text, std::string_view reason) {
    std::string detail;
    detail.append("\"").append(text).append("\": ").append(reason);
    return unexpected(errc::bad_endpoint, stage::none, std::string_view(), std::chrono::nanoseconds(),
                      detail);
}

unexpected path_too_long(const endpoint &where) {
    std::string detail = "the path has " + std::to_string(where.host().size()) + " bytes, " +
                         std::to_string(longest_path) + " fit into a unix socket's address";
    return unexpected(make_error_code(std::errc::filename_too_long), stage::none, where.to_string(),
                      std::chrono::nanoseconds(), detail);
}

bool is_name_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

} // namespace

result<endpoint> endpoint::parse(std::string_view text) {
    if (text.starts_with(unix_prefix)) {
        endpoint where = unix_path(text.substr(unix_prefix.size()));
        if (where.text_.empty())
            return bad(text, "a path is missing after unix:");
        if (where.text_.size() > longest_path)
            return path_too_long(where);
        return where;
    }

    std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos || text.ends_with(']'))
        return bad(text, "a port is missing, as in host:80");
    std::string_view host = text.substr(0, colon);
    std::string_view digits = text.substr(colon + 1);
    std::uint16_t port = 0;
    auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (digits.empty() || failure != std::errc{} || end != digits.data() + digits.size())
        return bad(text, "the port is a number from 0 to 65535");

    endpoint where(host, port);
    if (host.empty())
        return bad(text, "a host is missing before the port");
    if (!where.is_name())
        return where.kind_ == kind::ipv6 && host.front() != '['
                   ? result<endpoint>(bad(text, "an IPv6 address stands in brackets, as in [::1]:80"))
                   : result<endpoint>(where);
    if (!std::all_of(host.begin(), host.end(), is_name_character))
        return bad(text, "this is neither a host's name nor an address");
    return where;
}

result<socklen_t> endpoint::to_sockaddr(struct sockaddr_storage &address) const {
    std::memset(&address, 0, sizeof address);
    switch (kind_) {
    case kind::ipv4: {
        sockaddr_in in{};
        in.sin_family = AF_INET;
        in.sin_port = htons(port_);
        std::memcpy(&in.sin_addr, address_.data(), sizeof in.sin_addr);
        std::memcpy(&address, &in, sizeof in);
        return socklen_t{sizeof in};
    }
    case kind::ipv6: {
        sockaddr_in6 in6{};
        in6.sin6_family = AF_INET6;
        in6.sin6_port = htons(port_);
        in6.sin6_scope_id = zone_;
        std::memcpy(&in6.sin6_addr, address_.data(), sizeof in6.sin6_addr);
        std::memcpy(&address, &in6, sizeof in6);
        return socklen_t{sizeof in6};
    }
    case kind::unix_socket: {
        if (text_.size() > longest_path)
            return path_too_long(*this);
        sockaddr_un un{};
        un.sun_family = AF_UNIX;
        std::memcpy(un.sun_path, text_.data(), text_.size());
        std::memcpy(&address, &un, sizeof un);
        std::size_t length = offsetof(sockaddr_un, sun_path) + text_.size();
        if (text_.starts_with('@'))
            reinterpret_cast<char *>(&address)[offsetof(sockaddr_un, sun_path)] = '\0';
        else
            length++; // with its zero
        return static_cast<socklen_t>(length);
    }
    case kind::name:
        return unexpected(make_error_code(std::errc::destination_address_required), stage::none, to_string());
    case kind::none:
        break;
    }
    return unexpected(errc::bad_endpoint, stage::none, to_string());
}

std::ostream &operator<<(std::ostream &out, const endpoint &where) {
    return out << where.to_string();
}

} // namespace parley::inline PARLEY_ABI
