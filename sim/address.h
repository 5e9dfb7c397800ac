// A socket's address, comparable.

#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstdint>
#include <string>

namespace parley::sim::detail {

struct address {
    int family = AF_UNSPEC;
    std::array<unsigned char, 16> ip{}; // IPv4 in the first four
    std::uint16_t port = 0;
    std::string path; // of a unix socket; the first byte 0: abstract

    // For a socket of that domain: 0 or an errno. An IPv4-mapped address of IPv6 becomes the IPv4 one, so
    // that there is one for each place.
    static int from(int domain, const sockaddr *from, socklen_t size, address &out);
    // As a socket of that domain is told it.
    void to(int domain, sockaddr *out, socklen_t *size) const;

    bool is_any() const noexcept;
    bool is_loopback() const noexcept;
    bool same_ip(const address &other) const noexcept { return family == other.family && ip == other.ip; }
    // Whether a socket that is bound to this one hears what is for `other`, or has the port that it wants.
    // only_v6: of this one, if it is IPv6's for all.
    bool covers(const address &other, bool only_v6) const noexcept;
    std::string text() const;
};

} // namespace parley::sim::detail
