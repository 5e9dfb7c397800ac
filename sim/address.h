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

    // 0 or an errno.
    static int from(const sockaddr *from, socklen_t size, address &out);
    void to(sockaddr *out, socklen_t *size) const;

    bool is_any() const noexcept;
    bool is_loopback() const noexcept;
    bool same_ip(const address &other) const noexcept { return family == other.family && ip == other.ip; }
    std::string text() const;
};

} // namespace parley::sim::detail
