// Sockets for programs in a world: blocking ones, by a line each.

#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <parley/core/Sys.h>
#include <parley/sim/world.hpp>

namespace wire {

inline int make_socket(int type) {
    const int fd = parley::sys::socket(AF_INET, type, 0);
    return fd < 0 ? -errno : fd;
}

inline sockaddr_in address_of(const std::string &host, std::uint16_t port) {
    sockaddr_in made{};
    made.sin_family = AF_INET;
    made.sin_port = htons(port);
    REQUIRE(inet_pton(AF_INET, host.c_str(), &made.sin_addr) == 1);
    return made;
}

inline int bind_error(int fd, const std::string &host, std::uint16_t port) {
    const sockaddr_in at = address_of(host, port);
    return parley::sys::bind(fd, reinterpret_cast<const sockaddr *>(&at), sizeof at) == 0 ? 0 : errno;
}

inline int listen_at(const std::string &host, std::uint16_t port) {
    const int fd = make_socket(SOCK_STREAM);
    const int yes = 1;
    parley::sys::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    REQUIRE(bind_error(fd, host, port) == 0);
    REQUIRE(parley::sys::current().listen(fd, 16) == 0);
    return fd;
}

// Minus an errno if it fails.
inline int try_connect(const std::string &host, std::uint16_t port) {
    const int fd = make_socket(SOCK_STREAM);
    const sockaddr_in to = address_of(host, port);
    if (parley::sys::connect(fd, reinterpret_cast<const sockaddr *>(&to), sizeof to) == 0)
        return fd;
    const int error = errno;
    parley::sys::close(fd);
    return -error;
}

inline int connect_to(const std::string &host, std::uint16_t port) {
    const int fd = try_connect(host, port);
    REQUIRE(fd >= 0);
    return fd;
}

inline int connect_error(const std::string &host, std::uint16_t port) {
    const int fd = try_connect(host, port);
    return fd < 0 ? -fd : 0;
}

// What is accepted does not wait: blocking calls are made by awaiting readiness.
inline void await(int fd, std::uint32_t events) {
    parley::sys::world &w = parley::sys::current();
    const int set = w.epoll_create();
    epoll_event event{};
    event.events = events;
    w.epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    REQUIRE(w.epoll_wait(set, &event, 1, -1) == 1);
    w.close(set);
}

inline int accept_from(int door) {
    const int fd = parley::sys::current().accept(door, nullptr, nullptr);
    REQUIRE(fd >= 0);
    return fd;
}

inline void send_all(int fd, std::string_view data) {
    while (!data.empty()) {
        const ssize_t n = parley::sys::send(fd, data.data(), data.size(), 0);
        if (n < 0 && errno == EAGAIN) {
            await(fd, EPOLLOUT);
            continue;
        }
        REQUIRE(n > 0);
        data.remove_prefix(static_cast<std::size_t>(n));
    }
}

// A count, or minus an errno.
inline ssize_t try_recv(int fd, std::size_t size = 1) {
    std::string data(size, '\0');
    const ssize_t n = parley::sys::recv(fd, data.data(), size, MSG_DONTWAIT);
    return n < 0 ? -errno : n;
}

// What comes next; nothing at the end of the stream.
inline std::string recv_some(int fd) {
    std::string data(65536, '\0');
    for (;;) {
        const ssize_t n = parley::sys::recv(fd, data.data(), data.size(), 0);
        if (n < 0 && errno == EAGAIN) {
            await(fd, EPOLLIN);
            continue;
        }
        REQUIRE(n >= 0);
        data.resize(static_cast<std::size_t>(n));
        return data;
    }
}

// The error that comes next.
inline int recv_error(int fd) {
    await(fd, EPOLLIN);
    const ssize_t n = try_recv(fd);
    return n < 0 ? static_cast<int>(-n) : 0;
}

inline std::string peer_of(int fd) {
    sockaddr_in peer{};
    socklen_t size = sizeof peer;
    REQUIRE(parley::sys::getpeername(fd, reinterpret_cast<sockaddr *>(&peer), &size) == 0);
    char text[INET_ADDRSTRLEN];
    return std::string(inet_ntop(AF_INET, &peer.sin_addr, text, sizeof text)) + ":" +
           std::to_string(ntohs(peer.sin_port));
}

inline std::vector<std::string> look_up(const char *name, int family) {
    addrinfo hints{};
    hints.ai_family = family;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo *found = nullptr;
    std::vector<std::string> all;
    if (parley::sys::current().getaddrinfo(name, nullptr, &hints, &found) != 0)
        return all;
    for (const addrinfo *one = found; one != nullptr; one = one->ai_next) {
        char text[INET6_ADDRSTRLEN];
        const void *ip =
            one->ai_family == AF_INET
                ? static_cast<const void *>(&reinterpret_cast<sockaddr_in *>(one->ai_addr)->sin_addr)
                : &reinterpret_cast<sockaddr_in6 *>(one->ai_addr)->sin6_addr;
        all.emplace_back(inet_ntop(one->ai_family, ip, text, sizeof text));
    }
    parley::sys::current().freeaddrinfo(found);
    return all;
}

struct connection {
    int client = -1;
    int server = -1;
};

// A socket on `to` at port 9000 and one on `from` that is connected to it.
class datagrams {
public:
    datagrams(parley::sim::host &to, parley::sim::host &from) {
        to.run([&] {
            in_ = make_socket(SOCK_DGRAM);
            REQUIRE(bind_error(in_, "0.0.0.0", 9000) == 0);
        });
        from.run([&] {
            out_ = make_socket(SOCK_DGRAM);
            const sockaddr_in goal = address_of(to.address(), 9000);
            REQUIRE(parley::sys::connect(out_, reinterpret_cast<const sockaddr *>(&goal), sizeof goal) == 0);
        });
    }
    ~datagrams() {
        parley::sys::close(in_);
        parley::sys::close(out_);
    }
    datagrams(const datagrams &) = delete;

    void send(std::string_view data) {
        CHECK(parley::sys::send(out_, data.data(), data.size(), 0) == static_cast<ssize_t>(data.size()));
    }
    // What has come, one after the other.
    std::string all() {
        std::string sum, data(2000, '\0');
        ssize_t n = 0;
        while ((n = parley::sys::recv(in_, data.data(), data.size(), MSG_DONTWAIT)) >= 0)
            sum.append(data, 0, static_cast<std::size_t>(n));
        return sum;
    }

private:
    int in_ = -1;
    int out_ = -1;
};

} // namespace wire
