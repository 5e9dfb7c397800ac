// Addresses, ports, options and name resolution: the simulated kernel does what Linux does.

#include <netdb.h>

#include "conformance.hpp"

using namespace conformance;

namespace {

void look_up(script &s, const char *node, const char *service, int family, int type = SOCK_STREAM,
             int flags = 0) {
    addrinfo hints{};
    hints.ai_family = family;
    hints.ai_socktype = type;
    hints.ai_flags = flags;
    addrinfo *found = nullptr;
    const int error = s.world.getaddrinfo(node, service, &hints, &found);
    const std::string what =
        std::string(node != nullptr ? node : "-") + " " + (service != nullptr ? service : "-");
    if (error != 0) {
        s.say(what + ": " + gai_strerror(error));
        return;
    }
    for (const addrinfo *one = found; one != nullptr; one = one->ai_next) {
        name at;
        at.size = one->ai_addrlen;
        std::memcpy(&at.storage, one->ai_addr, one->ai_addrlen);
        s.say(what + ": " + s.text(at) + " family " + std::to_string(one->ai_family) + " type " +
              std::to_string(one->ai_socktype) + " protocol " + std::to_string(one->ai_protocol));
    }
    s.world.freeaddrinfo(found);
}

} // namespace

TEST_CASE("port nought is a free one, and each gets its own") {
    same_in_both([](script &s) {
        const int one = s.stream(), other = s.stream();
        s.bind(one, inet("127.0.0.1"));
        s.bind(other, inet("127.0.0.1"));
        s.names(one);
        s.names(other);
        s.bind(one, inet("127.0.0.1"));
        const int unbound = s.stream();
        s.listen(unbound);
        s.names(unbound);
    });
}

TEST_CASE(
    "two streams are bound to one port only if both say SO_REUSEADDR and neither listens, or SO_REUSEPORT") {
    same_in_both([](script &s) {
        for (int option : {0, SO_REUSEADDR, SO_REUSEPORT}) {
            const int one = s.stream(), other = s.stream(), plain = s.stream(), late = s.stream();
            if (option != 0)
                for (int fd : {one, other, late})
                    s.set(fd, SOL_SOCKET, option, 1);
            s.bind(one, inet("127.0.0.1"));
            const name at = s.local(one);
            s.bind(other, at);
            s.bind(plain, at);
            s.bind(plain, inet("0.0.0.0", at.port()));
            s.listen(one);
            s.listen(other);
            s.bind(late, at);
        }
    });
}

TEST_CASE("a port is one for each address, but any address is all of them") {
    same_in_both([](script &s) {
        const int one = s.stream();
        s.bind(one, inet("127.0.0.1"));
        const std::uint16_t port = s.local(one).port();
        s.bind(s.stream(), inet("127.0.0.2", port));
        s.bind(s.stream(), inet("0.0.0.0", port));
    });
}

TEST_CASE("the port of a closed listener is taken while one that it accepted is open, unless both say "
          "SO_REUSEADDR") {
    same_in_both([](script &s) {
        for (bool reuse : {false, true}) {
            const int door = s.stream();
            if (reuse)
                s.set(door, SOL_SOCKET, SO_REUSEADDR, 1);
            s.bind(door, inet("127.0.0.1"));
            s.listen(door);
            const name at = s.local(door);
            const int client = s.stream();
            s.connect(client, at);
            s.accept(door);
            s.close(door);
            const int next = s.stream();
            if (reuse)
                s.set(next, SOL_SOCKET, SO_REUSEADDR, 1);
            s.bind(next, at);
        }
    });
}

TEST_CASE("an address that is not the host's cannot be bound") {
    same_in_both([](script &s) {
        s.bind(s.stream(), inet("192.0.2.1"));
        s.bind(s.packets(), inet("192.0.2.1"));
        s.bind(s.stream(AF_INET6), inet("2001:db8::1"));
    });
}

TEST_CASE("connections go by IPv6, and a listener for all takes those of IPv4 by mapped addresses") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("::"));
        const std::uint16_t port = s.local(door).port();
        const int six = s.stream(AF_INET6), four = s.stream(), mapped = s.stream(AF_INET6);
        s.connect(six, inet("::1", port));
        s.names(s.accept(door));
        s.names(six);
        s.connect(four, inet("127.0.0.1", port));
        const int served = s.accept(door);
        s.names(served);
        s.names(four);
        s.connect(mapped, inet("::ffff:127.0.0.1", port));
        s.names(s.accept(door));
        s.names(mapped);
        s.send(four, "by four");
        s.recv_when_there(served);
    });
}

TEST_CASE("a mapped address leads to a listener of IPv4") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"));
        const int client = s.stream(AF_INET6);
        s.connect(client, inet("::ffff:127.0.0.1", s.local(door).port()));
        s.names(client);
        s.names(s.accept(door));
        s.bind(s.stream(AF_INET6), inet("::ffff:127.0.0.1"));
    });
}

TEST_CASE("IPV6_V6ONLY leaves the port of IPv4 to another, its absence does not") {
    same_in_both([](script &s) {
        const int both = s.listener(inet("::"));
        s.bind(s.stream(), inet("0.0.0.0", s.local(both).port()));
        s.bind(s.stream(), inet("127.0.0.1", s.local(both).port()));
        // The port that Linux draws for IPv6 alone may be another program's in IPv4.
        int only = -1, four = -1;
        std::uint16_t port = 0;
        for (bool shared = false; !shared;) {
            only = s.stream(AF_INET6);
            four = s.stream();
            const int yes = 1;
            const name six = inet("::");
            s.world.setsockopt(only, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
            s.world.bind(only, six.get(), six.size);
            port = s.local(only).port();
            const name at = inet("0.0.0.0", port);
            shared = s.world.bind(four, at.get(), at.size) == 0;
        }
        s.listen(only);
        const int client = s.blocking_socket(AF_INET, SOCK_STREAM);
        s.connect(client, inet("127.0.0.1", port));
        s.listen(four);
        s.connect(client, inet("127.0.0.1", port));
        s.try_accept(only);
        s.accept(four);
    });
}

TEST_CASE("options are given back as Linux keeps them") {
    same_in_both([](script &s) {
        for (int fd : {s.stream(), s.packets(), s.stream(AF_UNIX)}) {
            s.say("type " + std::to_string(s.get(fd, SOL_SOCKET, SO_TYPE)) + ", family " +
                  std::to_string(s.get(fd, SOL_SOCKET, SO_DOMAIN)) + ", protocol " +
                  std::to_string(s.get(fd, SOL_SOCKET, SO_PROTOCOL)) + ", listens " +
                  std::to_string(s.get(fd, SOL_SOCKET, SO_ACCEPTCONN)));
            for (int option : {SO_REUSEADDR, SO_KEEPALIVE, SO_BROADCAST}) {
                s.say(std::to_string(s.get(fd, SOL_SOCKET, option)));
                s.set(fd, SOL_SOCKET, option, 7);
                s.say(std::to_string(s.get(fd, SOL_SOCKET, option)));
                s.set(fd, SOL_SOCKET, option, 0);
                s.say(std::to_string(s.get(fd, SOL_SOCKET, option)));
            }
            for (int option : {SO_SNDBUF, SO_RCVBUF}) {
                s.say(s.get(fd, SOL_SOCKET, option) > 0 ? "some" : "none");
                s.set(fd, SOL_SOCKET, option, 30000);
                s.say(std::to_string(s.get(fd, SOL_SOCKET, option)));
                s.set(fd, SOL_SOCKET, option, 1);
                s.say(std::to_string(s.get(fd, SOL_SOCKET, option)));
            }
            s.set(fd, SOL_SOCKET, SO_TYPE, 1);
            s.set(fd, SOL_SOCKET, 9999, 1);
            s.say(std::to_string(s.get(fd, SOL_SOCKET, 9999)));
            const char small = 1;
            s.note("short", s.world.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &small, 1));
            char byte = 99;
            socklen_t size = 1;
            s.note("short", s.world.getsockopt(fd, SOL_SOCKET, SO_TYPE, &byte, &size));
            s.say(std::to_string(byte) + ", " + std::to_string(size));
        }
    });
}

TEST_CASE("options of a protocol are kept by sockets of it, and refused by others") {
    same_in_both([](script &s) {
        const int tcp_socket = s.stream();
        for (int option : {TCP_NODELAY, TCP_USER_TIMEOUT}) {
            s.say(std::to_string(s.get(tcp_socket, IPPROTO_TCP, option)));
            s.set(tcp_socket, IPPROTO_TCP, option, 5);
            s.say(std::to_string(s.get(tcp_socket, IPPROTO_TCP, option)));
        }
        s.set(tcp_socket, IPPROTO_TCP, 9999, 1);
        s.set(tcp_socket, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        s.set(tcp_socket, 9999, 1, 1);
        const int udp_socket = s.packets(), unix_socket = s.stream(AF_UNIX), six = s.stream(AF_INET6);
        s.set(udp_socket, IPPROTO_TCP, TCP_NODELAY, 1);
        s.set(unix_socket, IPPROTO_TCP, TCP_NODELAY, 1);
        s.get(udp_socket, IPPROTO_TCP, TCP_NODELAY);
        s.get(unix_socket, IPPROTO_TCP, TCP_NODELAY);
        s.say(std::to_string(s.get(six, IPPROTO_IPV6, IPV6_V6ONLY)));
        s.set(six, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        s.say(std::to_string(s.get(six, IPPROTO_IPV6, IPV6_V6ONLY)));
        s.bind(six, inet("::"));
        s.set(six, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    });
}

TEST_CASE("what is accepted has the listener's options") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"));
        s.set(door, IPPROTO_TCP, TCP_NODELAY, 1);
        s.set(door, SOL_SOCKET, SO_KEEPALIVE, 1);
        const int client = s.stream();
        s.connect(client, s.local(door));
        const int served = s.accept(door);
        s.say(std::to_string(s.get(served, IPPROTO_TCP, TCP_NODELAY)) +
              std::to_string(s.get(client, IPPROTO_TCP, TCP_NODELAY)) +
              std::to_string(s.get(served, SOL_SOCKET, SO_KEEPALIVE)));
    });
}

TEST_CASE("numbers are their own addresses") {
    same_in_both([](script &s) {
        look_up(s, "127.0.0.1", "80", AF_UNSPEC);
        look_up(s, "127.0.0.1", nullptr, AF_UNSPEC);
        look_up(s, "127.0.0.1", "80", AF_INET6);
        look_up(s, "::1", "65535", AF_UNSPEC);
        look_up(s, "::1", "80", AF_INET);
        look_up(s, "10.1.2.3", "0", AF_INET, SOCK_DGRAM);
        look_up(s, "127.0.0.1", "80", AF_INET, 0);
        look_up(s, "127.0.0.1", "80", AF_INET, SOCK_STREAM, AI_NUMERICHOST | AI_NUMERICSERV);
        look_up(s, "127.1", "80", AF_INET);
        look_up(s, "::ffff:1.2.3.4", "80", AF_INET6);
    });
}

TEST_CASE("no name is the host itself, or all its addresses for who waits there") {
    same_in_both([](script &s) {
        look_up(s, nullptr, "80", AF_INET);
        look_up(s, nullptr, "80", AF_INET6);
        look_up(s, nullptr, "80", AF_INET, SOCK_STREAM, AI_PASSIVE);
        look_up(s, nullptr, "80", AF_INET6, SOCK_STREAM, AI_PASSIVE);
        look_up(s, "localhost", "80", AF_INET);
    });
}

TEST_CASE("what is no name, no service and no family is refused") {
    same_in_both([](script &s) {
        look_up(s, nullptr, nullptr, AF_UNSPEC);
        look_up(s, "no.such.name.invalid", "80", AF_UNSPEC, SOCK_STREAM, AI_NUMERICHOST);
        look_up(s, "127.0.0.1", "no-such-service", AF_UNSPEC);
        look_up(s, "127.0.0.1", "http", AF_UNSPEC, SOCK_STREAM, AI_NUMERICSERV);
        look_up(s, "127.0.0.1", "80", 9999);
        look_up(s, "127.0.0.1", "80", AF_INET, 77);
    });
}
