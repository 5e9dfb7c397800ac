#include <doctest/doctest.h>

#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>

#include <memory>
#include <set>

#include "peers.h"

using namespace peers;

namespace {

bool refused(int result, int expected) {
    return result == -1 && errno == expected;
}

// A folder of this test's own, for unix sockets.
class Folder {
public:
    Folder() {
        char name[] = "/tmp/parley-test-XXXXXX";
        path_ = mkdtemp(name);
    }
    ~Folder() {
        for (auto &file : files_)
            unlink(file.c_str());
        rmdir(path_.c_str());
    }
    std::string file(const char *name) {
        files_.push_back(path_ + "/" + name);
        return files_.back();
    }

private:
    std::string path_;
    std::vector<std::string> files_;
};

bool echoes(Communicator &comm, const Address &at) {
    Target target(at);
    Ask ask("hello");
    return comm.request(&ask, &target) == 0 && ask.done.wait() && ask.is(CS_STATE_SUCCESS, 0) &&
           ask.in.text == "hello";
}

} // namespace

TEST_CASE("port 0 becomes a port of the kernel's choice, the same on every loop, told by get_local_addr()") {
    for (size_t loops : {1U, 4U}) {
        Running comm(loops);
        Lines service;
        Address none;
        none.size = sizeof none.storage;
        CHECK(refused(service.get_local_addr(none.get(), &none.size), ENOTCONN));
        REQUIRE(service.start(comm) == 0);
        Address at = service.address();
        CHECK(at.port() != 0);
        CHECK(at.storage.ss_family == AF_INET);
        CHECK(at.size == sizeof(struct sockaddr_in));
        for (int i = 0; i < 8; i++)
            CHECK(echoes(comm, at));
        const struct sockaddr *asked;
        socklen_t size;
        service.get_addr(&asked, &size); // what init() was given
        CHECK(reinterpret_cast<const struct sockaddr_in *>(asked)->sin_port == 0);
        REQUIRE(service.finish());
        none.size = sizeof none.storage;
        CHECK(refused(service.get_local_addr(none.get(), &none.size), ENOTCONN));
    }
}

TEST_CASE("get_local_addr() fills no more than there is room for and tells the whole size") {
    Running comm;
    Lines service;
    REQUIRE(service.start(comm) == 0);
    unsigned char bytes[sizeof(struct sockaddr_in)];
    memset(bytes, 0xee, sizeof bytes);
    socklen_t size = 4;
    REQUIRE(service.get_local_addr(reinterpret_cast<struct sockaddr *>(bytes), &size) == 0);
    CHECK(size == sizeof(struct sockaddr_in));
    CHECK(bytes[4] == 0xee);
    REQUIRE(service.finish());
}

TEST_CASE("a port that another socket listens on is EADDRINUSE, for one loop and for many") {
    for (size_t loops : {1U, 4U}) {
        Running comm(loops);
        Socket other = Socket::listening();
        Lines service;
        CHECK(refused(service.start(comm, other.address()), EADDRINUSE));
        other.close();
        CHECK(service.unbound.count() == 0);
    }
}

TEST_CASE("a port that another service listens on is EADDRINUSE, although its own loops share it") {
    for (size_t loops : {1U, 4U}) {
        Running comm(loops), elsewhere(loops);
        Lines first, second, third;
        REQUIRE(first.start(comm) == 0);
        CHECK(refused(second.start(comm, first.address()), EADDRINUSE));
        CHECK(refused(third.start(elsewhere, first.address()), EADDRINUSE));
        CHECK(echoes(comm, first.address()));
        REQUIRE(first.finish());
    }
}

TEST_CASE("after a refusal the same service may be bound where there is room") {
    Running comm(2);
    size_t descriptors = open_descriptors();
    Socket other = Socket::listening();
    Lines service;
    CHECK(refused(service.start(comm, other.address()), EADDRINUSE));
    service.deinit();
    other.close();
    CHECK(open_descriptors() == descriptors);
    REQUIRE(service.start(comm) == 0);
    CHECK(echoes(comm, service.address()));
    REQUIRE(service.finish());
}

TEST_CASE("a service that is bound already is EEXIST and goes on") {
    Running comm(2), other(1);
    Lines service;
    REQUIRE(service.start(comm) == 0);
    CHECK(refused(comm.bind(&service), EEXIST));
    CHECK(refused(other.bind(&service), EEXIST));
    CHECK(echoes(comm, service.address()));
    REQUIRE(service.finish());
    CHECK(service.unbound.count() == 1);
}

TEST_CASE("a service may be bound again after handle_unbound(), a hundred times") {
    Running comm(2);
    Lines service;
    Address at = loopback();
    service.init(at.get(), at.size, -1, -1);
    service.communicator = &comm;
    size_t descriptors = open_descriptors();
    for (int i = 1; i <= 100; i++) {
        REQUIRE(comm.bind(&service) == 0);
        if (i % 10 == 0)
            CHECK(echoes(comm, service.address()));
        comm.unbind(&service);
        REQUIRE(service.unbound.wait(i));
    }
    CHECK(eventually([&] { return open_descriptors() == descriptors; }));
}

TEST_CASE("an address that is not ours is EADDRNOTAVAIL") {
    Running comm(2);
    Address at = loopback();
    reinterpret_cast<struct sockaddr_in *>(&at.storage)->sin_addr.s_addr = inet_addr("203.0.113.1");
    Lines service;
    CHECK(refused(service.start(comm, at), EADDRNOTAVAIL));
}

TEST_CASE("an unknown address family is EAFNOSUPPORT") {
    Running comm;
    Address at = loopback();
    at.storage.ss_family = 250;
    Lines service;
    CHECK(refused(service.start(comm, at), EAFNOSUPPORT));
}

TEST_CASE("create_listen_fd() that fails fails bind() with its errno") {
    Running comm(2);
    Lines service;
    service.listen_fd = [] {
        errno = EDOM;
        return -1;
    };
    CHECK(refused(service.start(comm), EDOM));
    CHECK(service.unbound.count() == 0);
}

TEST_CASE("a descriptor that is no socket fails bind() and is closed") {
    Running comm;
    size_t descriptors = open_descriptors();
    Lines service;
    service.listen_fd = [] { return open("/dev/null", O_RDONLY | O_CLOEXEC); };
    CHECK(refused(service.start(comm), ENOTSOCK));
    CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a socket that create_listen_fd() has bound already is used as it is, shared by all loops") {
    for (size_t loops : {1U, 4U}) {
        Running comm(loops);
        Lines service;
        uint16_t port = 0;
        int calls = 0;
        service.listen_fd = [&] {
            calls++;
            int fd = socket(AF_INET, SOCK_STREAM, 0);
            Address at = loopback();
            CHECK(bind(fd, at.get(), at.size) == 0);
            port = local_address(fd).port();
            return fd;
        };
        REQUIRE(service.start(comm, loopback(1)) == 0); // that address is not asked for any more
        CHECK(calls == 1);
        CHECK(service.address().port() == port);
        for (int i = 0; i < 16; i++)
            CHECK(echoes(comm, service.address()));
        REQUIRE(service.finish());
    }
}

TEST_CASE("a socket that listens already is used as it is") {
    Running comm(2);
    Lines service;
    Socket early;
    service.listen_fd = [&] {
        Socket listener = Socket::listening();
        early = Socket::connected(listener.address()); // waits in its backlog
        return dup(listener.fd());
    };
    REQUIRE(service.start(comm) == 0);
    REQUIRE(early.send("x\n"));
    CHECK(early.receive(2) == "x\n");
    REQUIRE(service.finish());
}

TEST_CASE("a socket with SO_REUSEPORT of its own is bound once and shared by all loops") {
    Running comm(4);
    Lines service;
    service.listen_fd = [] {
        int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
        return fd;
    };
    REQUIRE(service.start(comm) == 0);
    for (int i = 0; i < 16; i++)
        CHECK(echoes(comm, service.address()));
    REQUIRE(service.finish());
}

TEST_CASE("connections to one port reach every loop, however the sockets are spread") {
    for (bool shared : {false, true}) {
        Running comm(4);
        Lines service;
        std::mutex mutex;
        std::multiset<CommLoop *> used;
        service.on_connection = [&](int) {
            std::lock_guard lock(mutex);
            used.insert(CommLoop::current());
            return new Lines::Connection(service);
        };
        if (shared) {
            service.listen_fd = [] {
                int fd = socket(AF_INET, SOCK_STREAM, 0);
                Address at = loopback();
                CHECK(bind(fd, at.get(), at.size) == 0);
                return fd;
            };
        }
        REQUIRE(service.start(comm) == 0);
        std::vector<Socket> clients;
        for (int i = 0; i < 32; i++) {
            clients.push_back(Socket::connected(service.address()));
            REQUIRE(clients.back().send("x\n"));
            CHECK(clients.back().receive(2) == "x\n");
        }
        std::lock_guard lock(mutex);
        for (size_t i = 0; i < 4; i++)
            CHECK(used.count(comm.loop(i)) >= 4);
        CHECK(used.count(nullptr) == 0);
        REQUIRE(service.finish());
    }
}

TEST_CASE("bound to one loop, a service stays on it with all its connections") {
    Running comm(4);
    for (size_t i = 0; i < 4; i++) {
        Lines service;
        std::atomic<int> elsewhere{0};
        service.on_connection = [&](int) {
            elsewhere += CommLoop::current() != comm.loop(i);
            return new Lines::Connection(service);
        };
        service.on_request = [&](Served &session) {
            elsewhere += CommLoop::current() != comm.loop(i);
            session.out.text = session.in.text;
            comm.reply(&session);
        };
        REQUIRE(service.start(comm, loopback(), -1, comm.loop(i)) == 0);
        std::vector<Socket> clients;
        for (int n = 0; n < 8; n++) {
            clients.push_back(Socket::connected(service.address()));
            REQUIRE(clients.back().send("x\n"));
            CHECK(clients.back().receive(2) == "x\n");
        }
        CHECK(elsewhere == 0);
        REQUIRE(service.finish());
    }
}

TEST_CASE("an accepted socket does not wait for more to send: TCP_NODELAY") {
    Running comm(2);
    Lines service;
    std::atomic<int> off{0};
    service.on_connection = [&](int fd) {
        int value = 0;
        socklen_t size = sizeof value;
        getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size);
        off += value == 0;
        return new Lines::Connection(service);
    };
    REQUIRE(service.start(comm) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(echoes(comm, service.address()));
    CHECK(off == 0);
    REQUIRE(service.finish());
}

TEST_CASE("a session tells the address that its peer connected to, from its first byte on") {
    Running comm(1);
    Lines service;
    Address everywhere = loopback();
    reinterpret_cast<struct sockaddr_in *>(&everywhere.storage)->sin_addr.s_addr = htonl(INADDR_ANY);
    Address seen, never;
    int before = 0;
    service.on_session = [&](long long) {
        auto *session = new Served(service);
        before = session->local(never) == -1 ? errno : 0;
        return session;
    };
    service.on_request = [&](Served &session) {
        CHECK(session.local(seen) == 0);
        comm.reply(&session);
    };
    REQUIRE(service.start(comm, everywhere) == 0);
    Address second = loopback(service.address().port());
    reinterpret_cast<struct sockaddr_in *>(&second.storage)->sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
    Socket client = Socket::connected(second);
    REQUIRE(client.send("x\n"));
    REQUIRE(!client.receive(1).empty());
    CHECK(before == ENOTCONN);
    CHECK(seen.size == second.size);
    CHECK(seen.port() == second.port());
    CHECK(memcmp(&seen.storage, &second.storage, 8) == 0); // family, port, address
    REQUIRE(service.finish());
}

TEST_CASE("IPv6 works, and its port too is shared by all loops") {
    Running comm(3);
    Lines service;
    REQUIRE(service.start(comm, loopback6()) == 0);
    Address at = service.address();
    CHECK(at.size == sizeof(struct sockaddr_in6));
    CHECK(at.port() != 0);
    for (int i = 0; i < 8; i++)
        CHECK(echoes(comm, at));
    REQUIRE(service.finish());
}

TEST_CASE("an IPv6 service without IPV6_V6ONLY takes IPv4 clients, on every loop, and sees them as mapped") {
    Running comm(4);
    Lines service;
    std::atomic<int> mapped{0};
    service.on_request = [&](Served &session) {
        Address peer = session.peer();
        mapped += IN6_IS_ADDR_V4MAPPED(&reinterpret_cast<struct sockaddr_in6 *>(&peer.storage)->sin6_addr);
        session.out.text = session.in.text;
        comm.reply(&session);
    };
    service.listen_fd = [] {
        int fd = socket(AF_INET6, SOCK_STREAM, 0), off = 0;
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        return fd;
    };
    Address any = loopback6();
    reinterpret_cast<struct sockaddr_in6 *>(&any.storage)->sin6_addr = in6addr_any;
    REQUIRE(service.start(comm, any) == 0);
    uint16_t port = service.address().port();
    for (int i = 0; i < 16; i++)
        CHECK(echoes(comm, loopback(port)));
    CHECK(mapped == 16);
    REQUIRE(service.finish());
}

TEST_CASE("a unix socket works, by path and abstract, with one loop and with many") {
    Folder folder;
    for (size_t loops : {1U, 4U}) {
        Running comm(loops);
        std::string path = folder.file(loops == 1 ? "one" : "many");
        std::string abstract = "@parley-" + std::to_string(getpid()) + (loops == 1 ? "-one" : "-many");
        for (const std::string &name : {path, abstract}) {
            Lines service;
            REQUIRE(service.start(comm, unix_path(name)) == 0);
            CHECK(service.address().size == unix_path(name).size);
            for (int i = 0; i < 8; i++)
                CHECK(echoes(comm, unix_path(name)));
            REQUIRE(service.finish());
        }
    }
}

TEST_CASE("a unix path that exists is EADDRINUSE, one whose folder is missing ENOENT") {
    Folder folder;
    Running comm;
    std::string path = folder.file("socket");
    Lines first, second, third;
    REQUIRE(first.start(comm, unix_path(path)) == 0);
    CHECK(refused(second.start(comm, unix_path(path)), EADDRINUSE));
    CHECK(refused(third.start(comm, unix_path("/nowhere/at/all")), ENOENT));
    REQUIRE(first.finish());
}

TEST_CASE("a unix path that is longer than sun_path is EINVAL, for a service and for a client") {
    Running comm;
    Address at;
    at.storage.ss_family = AF_UNIX;
    memset(reinterpret_cast<char *>(&at.storage) + offsetof(struct sockaddr_un, sun_path), 'x', 109);
    at.size = sizeof(struct sockaddr_un) + 1;
    Lines service;
    CHECK(refused(service.start(comm, at), EINVAL));
    Target target(at);
    Ask ask("x");
    REQUIRE(comm.request(&ask, &target) == 0);
    REQUIRE(ask.done.wait());
    CHECK(ask.is(CS_STATE_ERROR, EINVAL));
    Ask inside("x");
    REQUIRE(run_on(comm.loop(0), [&] { CHECK(refused(comm.request(&inside, &target), EINVAL)); }));
    CHECK(inside.handled == 0);
}

TEST_CASE("a session knows its peer's address") {
    Running comm(2);
    Lines service;
    std::atomic<uint16_t> port{0};
    service.on_request = [&](Served &session) {
        port = session.peer().port();
        session.out.text = session.in.text;
        comm.reply(&session);
    };
    REQUIRE(service.start(comm) == 0);
    Socket client = Socket::connected(service.address());
    REQUIRE(client.send("x\n"));
    CHECK(client.receive(2) == "x\n");
    CHECK(port == client.address().port());
    REQUIRE(service.finish());
}

TEST_CASE("a port is free again as soon as its service is unbound, connections in TIME_WAIT or not") {
    Running comm(2);
    Address at = loopback();
    for (int i = 0; i < 20; i++) {
        Lines service;
        REQUIRE(service.start(comm, at) == 0);
        at = service.address();
        Socket client = Socket::connected(at);
        REQUIRE(client.send("x\n"));
        CHECK(client.receive(2) == "x\n");
        REQUIRE(service.finish()); // closes first: its side waits
        CHECK(client.at_end());
    }
}

TEST_CASE("paused, a service leaves connections in the backlog; resumed, it takes them all") {
    for (size_t loops : {1U, 4U}) {
        Running comm(loops);
        Lines service;
        REQUIRE(service.start(comm) == 0);
        Socket before = Socket::connected(service.address());
        REQUIRE(service.connected.wait());
        service.pause_accept();
        service.pause_accept();
        for (size_t i = 0; i < loops; i++)
            REQUIRE(run_on(comm.loop(i), [] {}));
        std::vector<Socket> clients;
        for (int i = 0; i < 8; i++) {
            clients.push_back(Socket::connected(service.address()));
            REQUIRE(clients.back().send("x\n"));
        }
        REQUIRE(before.send("x\n")); // what is there is served on
        CHECK(before.receive(2) == "x\n");
        for (size_t i = 0; i < loops; i++)
            REQUIRE(run_on(comm.loop(i), [] {}));
        CHECK(service.connected.count() == 1);
        for (auto &client : clients)
            CHECK(client.quiet());
        service.resume_accept();
        for (auto &client : clients)
            CHECK(client.receive(2) == "x\n");
        REQUIRE(service.finish());
    }
}

TEST_CASE("a service may be unbound while it is paused") {
    Running comm(2);
    Lines service;
    REQUIRE(service.start(comm) == 0);
    service.pause_accept();
    for (size_t i = 0; i < 2; i++) // the loops have heard of it
        REQUIRE(run_on(comm.loop(i), [] {}));
    Socket client = Socket::connected(service.address());
    REQUIRE(service.finish());
    CHECK(service.connected.count() == 0);
}

TEST_CASE("a service's listening ends with its lifetime: handle_stop(ETIMEDOUT), once") {
    for (size_t loops : {1U, 2U, 8U}) {
        for (int lifetime : {0, 5}) {
            Running comm(loops);
            Lines service;
            REQUIRE(service.start(comm, loopback(), -1, nullptr, lifetime) == 0);
            Address at = service.address();
            REQUIRE(service.stopped.wait());
            CHECK(service.stop_error == ETIMEDOUT);
            CHECK(eventually([&] { return !Socket::connected(at); }));
            CHECK(service.unbound.count() == 0); // unbind() is still due
            REQUIRE(service.finish());
            CHECK(service.stopped.count() == 1);
        }
    }
}

TEST_CASE("connections outlive the lifetime of the listener they came by") {
    Running comm(2);
    Lines service;
    Socket client;
    service.listen_fd = [&] {
        Socket listener = Socket::listening();
        client = Socket::connected(listener.address()); // accepted as soon as there is an epoll to tell of it
        return dup(listener.fd());
    };
    REQUIRE(service.start(comm, loopback(), -1, nullptr, 1) == 0);
    REQUIRE(service.stopped.wait());
    CHECK(service.stop_error == ETIMEDOUT);
    REQUIRE(client.send("x\n"));
    CHECK(client.receive(2) == "x\n");
    REQUIRE(service.finish());
    CHECK(client.at_end());
}
