// A peer that does not wait for its answer, for 10_cancellation.cpp.

#pragma once

#include <cerrno>
#include <string_view>
#include <system_error>

#include <sys/socket.h>
#include <unistd.h>

#include <parley/endpoint.hpp>

// Asks in plain system calls, reads until a line has come, and resets the connection. Blocks.
inline void ask_and_reset(const parley::endpoint &where) {
    struct sockaddr_storage address;
    const socklen_t length = where.to_sockaddr(address).value();
    const int fd = ::socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const std::string_view question = "work\n";
    char byte = 0;
    bool well = fd >= 0 && ::connect(fd, reinterpret_cast<struct sockaddr *>(&address), length) == 0 &&
                ::send(fd, question.data(), question.size(), MSG_NOSIGNAL) > 0;
    while (well && byte != '\n')
        well = ::recv(fd, &byte, 1, 0) == 1;
    const int failure = errno;
    const struct linger at_once{1, 0}; // what is closed with unsent or unread data resets as well
    if (fd >= 0) {
        ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        ::close(fd);
    }
    if (!well)
        throw std::system_error(failure, std::system_category(), "the rude client");
}
