// Datagrams that a service cannot take: each is dropped alone, and whatever came before and after it is
// answered.

#include <doctest/doctest.h>

#include "peers.h"

using namespace peers;

namespace {

// A unix datagram socket with a name of its own, so that it can be answered.
Socket named_client(const Address &to, const std::string &name) {
    Socket made(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    Address own = unix_path(name);
    if (::bind(made.fd(), own.get(), own.size) < 0 || ::connect(made.fd(), to.get(), to.size) < 0)
        made.close();
    return made;
}

} // namespace

TEST_CASE("a datagram that is larger than there is room for is dropped, and those around it are answered") {
    Running comm(1);
    Lines service;
    service.listen_fd = [] { return parley::sys::socket(AF_UNIX, SOCK_DGRAM, 0); };
    std::string name = "@parley-datagram-" + std::to_string(getpid());
    REQUIRE(service.start(comm, unix_path(name)) == 0);
    Socket client = named_client(unix_path(name), name + "-client");
    REQUIRE(client);
    // The kernel passes it on whole; its beginning alone would be a message.
    const std::string huge = "cut\n" + std::string(100000, 'x');
    for (int i = 0; i < 20; i++) {
        std::string number = std::to_string(i) + "\n";
        REQUIRE(client.send(number));
        REQUIRE(client.send(huge));
        REQUIRE(client.send(number));
        CHECK(client.receive(number.size()) == number);
        CHECK(client.receive(number.size()) == number);
    }
    CHECK(service.requests.count() == 40); // nobody saw a part of the huge ones
    CHECK(service.stopped.count() == 0);
    REQUIRE(service.finish());
    CHECK(service.alive == 0);
    CHECK(service.sessions == 0);
}

TEST_CASE("empty, bad and unanswerable datagrams between good ones are dropped, each alone") {
    Running comm(1);
    Lines service;
    service.listen_fd = [] { return parley::sys::socket(AF_INET, SOCK_DGRAM, 0); };
    REQUIRE(service.start(comm) == 0);
    Socket good = Socket::connected(service.address(), SOCK_DGRAM);
    for (int i = 0; i < 50; i++) {
        Socket gone = Socket::connected(service.address(), SOCK_DGRAM);
        CHECK(::send(good.fd(), "", 0, 0) == 0);     // no bytes
        CHECK(::send(good.fd(), "part", 4, 0) == 4); // no whole line
        REQUIRE(gone.send("nobody waits\n"));
        gone.close(); // an ICMP error comes back for the answer
        std::string number = std::to_string(i) + "\n";
        REQUIRE(good.send(number));
        CHECK(good.receive(number.size()) == number);
    }
    CHECK(service.stopped.count() == 0);
    REQUIRE(service.finish());
    CHECK(service.alive == 0);
    CHECK(service.sessions == 0);
}
