#include "address.h"

#include <arpa/inet.h>
#include <errno.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace parley::sim::detail {

namespace {

constexpr std::array<unsigned char, 12> mapped_prefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

} // namespace

int address::from(int domain, const sockaddr *from, socklen_t size, address &out) {
    // The scope may be missing in an IPv6 address, as in RFC 2133.
    const std::size_t least = domain == AF_INET    ? sizeof(sockaddr_in)
                              : domain == AF_INET6 ? sizeof(sockaddr_in6) - sizeof(std::uint32_t)
                                                   : sizeof(sa_family_t);
    out = {};
    if (from == nullptr || size < least)
        return EINVAL;
    if (from->sa_family != domain)
        return domain == AF_UNIX ? EINVAL : EAFNOSUPPORT;
    out.family = domain;
    if (domain == AF_INET) {
        sockaddr_in in;
        std::memcpy(&in, from, sizeof in);
        std::memcpy(out.ip.data(), &in.sin_addr, 4);
        out.port = ntohs(in.sin_port);
    } else if (domain == AF_INET6) {
        sockaddr_in6 in{};
        std::memcpy(&in, from, std::min<std::size_t>(size, sizeof in));
        std::memcpy(out.ip.data(), &in.sin6_addr, 16);
        out.port = ntohs(in.sin6_port);
        if (std::equal(mapped_prefix.begin(), mapped_prefix.end(), out.ip.begin())) {
            out.family = AF_INET;
            std::copy_n(out.ip.begin() + 12, 4, out.ip.begin());
            std::fill(out.ip.begin() + 4, out.ip.end(), static_cast<unsigned char>(0));
        }
    } else {
        if (size > sizeof(sockaddr_un))
            return EINVAL;
        const char *name = reinterpret_cast<const char *>(from) + offsetof(sockaddr_un, sun_path);
        const std::size_t length = size - std::min<std::size_t>(size, offsetof(sockaddr_un, sun_path));
        if (length > 0)
            out.path = *name == '\0' ? std::string(name, length) : std::string(name, strnlen(name, length));
    }
    return 0;
}

void address::to(int domain, sockaddr *out, socklen_t *size) const {
    sockaddr_storage whole{};
    socklen_t length = sizeof(sa_family_t);
    whole.ss_family = static_cast<sa_family_t>(domain);
    if (domain == AF_INET) {
        auto &in = reinterpret_cast<sockaddr_in &>(whole);
        std::memcpy(&in.sin_addr, ip.data(), 4);
        in.sin_port = htons(port);
        length = sizeof in;
    } else if (domain == AF_INET6) {
        auto &in = reinterpret_cast<sockaddr_in6 &>(whole);
        if (family == AF_INET) {
            std::memcpy(&in.sin6_addr, mapped_prefix.data(), mapped_prefix.size());
            std::memcpy(in.sin6_addr.s6_addr + mapped_prefix.size(), ip.data(), 4);
        } else {
            std::memcpy(&in.sin6_addr, ip.data(), 16);
        }
        in.sin6_port = htons(port);
        length = sizeof in;
    } else if (domain == AF_UNIX && !path.empty()) {
        auto &un = reinterpret_cast<sockaddr_un &>(whole);
        std::memcpy(un.sun_path, path.data(), std::min(path.size(), sizeof un.sun_path));
        length =
            static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (path[0] != '\0' ? 1 : 0));
    }
    if (out != nullptr && size != nullptr) {
        std::memcpy(out, &whole, std::min(*size, length));
        *size = length;
    }
}

bool address::is_any() const noexcept {
    return std::all_of(ip.begin(), ip.end(), [](unsigned char byte) { return byte == 0; });
}

bool address::is_loopback() const noexcept {
    if (family == AF_INET)
        return ip[0] == 127;
    return family == AF_INET6 && ip[15] == 1 &&
           std::all_of(ip.begin(), ip.end() - 1, [](unsigned char b) { return b == 0; });
}

bool address::covers(const address &other, bool only_v6) const noexcept {
    if (family == other.family)
        return is_any() || other.is_any() || ip == other.ip;
    return family == AF_INET6 && is_any() && !only_v6;
}

std::string address::text() const {
    char buffer[INET6_ADDRSTRLEN];
    if (family == AF_INET)
        return std::string(inet_ntop(AF_INET, ip.data(), buffer, sizeof buffer)) + ":" + std::to_string(port);
    if (family == AF_INET6)
        return "[" + std::string(inet_ntop(AF_INET6, ip.data(), buffer, sizeof buffer)) +
               "]:" + std::to_string(port);
    if (family == AF_UNIX)
        return path.empty() ? "unix" : path[0] == '\0' ? "@" + path.substr(1) : path;
    return "nowhere";
}

} // namespace parley::sim::detail
