// Hosts and what lies between them: every time in here is virtual, and exact.

#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <parley/sim/search.hpp>

#include "sockets.hpp"

using namespace std::chrono_literals;
using namespace wire;
namespace sim = parley::sim;
namespace sys = parley::sys;
using std::chrono::nanoseconds;

namespace {

// Two hosts, "server" and "client", with a link between them.
struct two_hosts {
    explicit two_hosts(std::uint64_t seed, const sim::link &how = {})
        : world(seed), server(world.add_host("server")), client(world.add_host("client")) {
        world.link(server, client, how);
    }
    // A connection between them: made by the calling thread, which speaks for both.
    connection connect() {
        connection made;
        int door = -1;
        server.run([&] { door = listen_at("0.0.0.0", 7000); });
        client.run([&] { made.client = connect_to(server.address(), 7000); });
        server.run([&] { made.server = accept_from(door); });
        sys::close(door);
        return made;
    }

    sim::world world;
    sim::host &server;
    sim::host &client;
};

} // namespace

TEST_CASE("hosts have addresses and names of their own, and everybody knows them") {
    sim::world world{1};
    sim::host &one = world.add_host("one");
    sim::host &two = world.add_host("two");
    CHECK(world.local().name() == "localhost");
    CHECK(world.local().address() == "127.0.0.1");
    CHECK(one.name() == "one");
    CHECK(one.address() == "10.0.0.1");
    CHECK(two.address() == "10.0.0.2");
    CHECK_THROWS_AS(world.add_host("two"), std::invalid_argument);
    world.run([&] {
        CHECK(look_up("one", AF_INET) == std::vector<std::string>{"10.0.0.1"});
        CHECK(look_up("one", AF_INET6) == std::vector<std::string>{"fd00::1"});
        CHECK(look_up("nobody", AF_UNSPEC).empty());
        one.run([] { CHECK(look_up("localhost", AF_INET) == std::vector<std::string>{"127.0.0.1"}); });
        two.run([] { CHECK(look_up("one", AF_INET) == std::vector<std::string>{"10.0.0.1"}); });
    });
}

TEST_CASE(
    "what listens on a host is reached by its address, its own loopback, and by no other host's loopback") {
    sim::world world{1};
    sim::host &server = world.add_host("server");
    sim::host &client = world.add_host("client");
    world.run([&] {
        int door = -1, inner = -1;
        server.run([&] {
            door = listen_at("0.0.0.0", 7000);
            inner = listen_at("127.0.0.1", 7001);
            const int self = connect_to("127.0.0.1", 7000);
            CHECK(peer_of(self) == "127.0.0.1:7000");
            sys::close(accept_from(door));
            sys::close(self);
        });
        client.run([&] {
            const int out = connect_to(server.address(), 7000);
            CHECK(peer_of(out) == "10.0.0.1:7000");
            server.run([&] {
                const int in = accept_from(door);
                CHECK(peer_of(in).starts_with("10.0.0.2:"));
                sys::close(in);
            });
            sys::close(out);
            CHECK(connect_error("127.0.0.1", 7000) == ECONNREFUSED);
            CHECK(connect_error(server.address(), 7001) == ECONNREFUSED);
            CHECK(connect_error("192.0.2.7", 7000) == ENETUNREACH);
        });
        sys::close(door);
        sys::close(inner);
    });
}

TEST_CASE("a connection takes a round trip, and a byte half of one") {
    two_hosts net{1, {.latency = 20ms}};
    net.world.run([&] {
        const connection c = net.connect();
        CHECK(net.world.now() == 60ms); // the third leg is under way when connect() returns
        send_all(c.client, "ping");
        CHECK(net.world.now() == 60ms);
        CHECK(recv_some(c.server) == "ping");
        CHECK(net.world.now() == 80ms);
        send_all(c.server, "pong");
        CHECK(recv_some(c.client) == "pong");
        CHECK(net.world.now() == 100ms);
        sys::close(c.client);
        CHECK(recv_some(c.server).empty());
        CHECK(net.world.now() == 120ms);
        sys::close(c.server);
    });
}

TEST_CASE("a refusal takes a round trip as well") {
    two_hosts net{1, {.latency = 5ms}};
    net.world.run([&] {
        net.client.run([&] { CHECK(connect_error(net.server.address(), 7000) == ECONNREFUSED); });
        CHECK(net.world.now() == 10ms);
    });
}

TEST_CASE("bandwidth is time for each byte, and pieces queue behind one another") {
    two_hosts net{1, {.latency = 1ms, .bytes_per_second = 1'000'000}};
    net.world.run([&] {
        const connection c = net.connect();
        const nanoseconds begun = net.world.now();
        send_all(c.client, std::string(10'000, 'x'));
        send_all(c.client, std::string(20'000, 'y'));
        CHECK(recv_some(c.server).size() == 10'000);
        CHECK(net.world.now() - begun == 11ms);
        CHECK(recv_some(c.server).size() == 20'000);
        CHECK(net.world.now() - begun == 31ms);
        sys::close(c.client);
        sys::close(c.server);
    });
}

TEST_CASE("a stream keeps its order under jitter, within the bounds of the link") {
    for (std::uint64_t seed = 1; seed <= 20; seed++) {
        two_hosts net{seed, {.latency = 10ms, .jitter = 50ms}};
        net.world.run([&] {
            const connection c = net.connect();
            std::string sent, received;
            const nanoseconds begun = net.world.now();
            for (char letter = 'a'; letter <= 'z'; letter++) {
                send_all(c.client, std::string(3, letter));
                sent += std::string(3, letter);
            }
            while (received.size() < sent.size())
                received += recv_some(c.server);
            CHECK(received == sent);
            CHECK(net.world.now() - begun >= 10ms);
            CHECK(net.world.now() - begun <= 60ms);
            sys::close(c.client);
            sys::close(c.server);
        });
    }
}

TEST_CASE("datagrams overtake one another under jitter") {
    two_hosts net{1, {.latency = 1ms, .jitter = 10ms}};
    net.world.run([&] {
        datagrams d(net.server, net.client);
        std::string sent, received;
        for (char letter = 'a'; letter <= 'z'; letter++) {
            d.send(std::string(1, letter));
            sent += letter;
        }
        net.world.sleep(1s);
        received = d.all();
        CHECK(received != sent);
        std::sort(received.begin(), received.end());
        CHECK(received == sent);
    });
}

TEST_CASE("datagrams are lost as often as the link says, and the sender is not told") {
    two_hosts net{1, {.loss = 0.25}};
    net.world.run([&] {
        datagrams d(net.server, net.client);
        for (int i = 0; i < 1000; i++)
            d.send("x");
        const std::size_t came = d.all().size();
        CHECK(came > 650);
        CHECK(came < 850);
    });
}

TEST_CASE("datagrams come twice as often as the link says") {
    two_hosts net{1, {.duplicate = 0.25}};
    net.world.run([&] {
        datagrams d(net.server, net.client);
        for (int i = 0; i < 1000; i++)
            d.send("x");
        const std::size_t came = d.all().size();
        CHECK(came > 1150);
        CHECK(came < 1350);
    });
}

TEST_CASE("neither loss nor duplication touches a stream") {
    two_hosts net{1, {.loss = 0.5, .duplicate = 0.5}};
    net.world.run([&] {
        const connection c = net.connect();
        std::string sent, received;
        for (int i = 0; i < 100; i++) {
            send_all(c.client, std::to_string(i) + " ");
            sent += std::to_string(i) + " ";
        }
        while (received.size() < sent.size())
            received += recv_some(c.server);
        CHECK(received == sent);
        sys::close(c.client);
        sys::close(c.server);
    });
}

TEST_CASE("what is sent over a partition arrives when it is healed, in order and after the latency") {
    two_hosts net{1, {.latency = 10ms}};
    net.world.run([&] {
        const connection c = net.connect();
        net.world.partition(net.server, net.client);
        send_all(c.client, "one ");
        net.world.sleep(10s);
        send_all(c.client, "two ");
        CHECK(try_recv(c.server) == -EAGAIN);
        net.world.heal(net.server, net.client);
        send_all(c.client, "three");
        const nanoseconds healed = net.world.now();
        std::string all;
        while (all.size() < 13)
            all += recv_some(c.server);
        CHECK(all == "one two three");
        CHECK(net.world.now() - healed == 10ms);
        sys::close(c.client);
        sys::close(c.server);
    });
}

TEST_CASE("datagrams over a partition are lost") {
    two_hosts net{1};
    net.world.run([&] {
        datagrams d(net.server, net.client);
        net.world.partition(net.server, net.client);
        d.send("lost");
        net.world.heal(net.server, net.client);
        d.send("found");
        CHECK(d.all() == "found");
    });
}

TEST_CASE("a connect over a partition gives up after 127 seconds") {
    two_hosts net{1, {.latency = 10ms}};
    net.world.run([&] {
        net.world.partition(net.server, net.client);
        net.client.run([&] { CHECK(connect_error(net.server.address(), 7000) == ETIMEDOUT); });
        CHECK(net.world.now() == 127s);
    });
}

TEST_CASE("a connect over a partition that is healed goes on with its next attempt") {
    two_hosts net{1, {.latency = 10ms}};
    net.world.run([&] {
        net.world.partition(net.server, net.client);
        auto healer = net.server.start([&] {
            net.world.sleep(2s);
            net.world.heal(net.server, net.client);
        });
        const connection c = net.connect();
        CHECK(net.world.now() == 3s + 30ms); // attempts at 0, 1 and 3 seconds, and three legs
        healer.join();
        sys::close(c.client);
        sys::close(c.server);
    });
}

TEST_CASE("an established connection over a partition gives up after 924 seconds of silence") {
    two_hosts net{1};
    net.world.run([&] {
        const connection c = net.connect();
        net.world.partition(net.server, net.client);
        send_all(c.client, "is anybody there?");
        CHECK(recv_error(c.client) == ETIMEDOUT);
        CHECK(net.world.now() == 924s);
        // The other end has sent nothing and knows nothing.
        CHECK(try_recv(c.server) == -EAGAIN);
        sys::close(c.client);
        sys::close(c.server);
    });
}

TEST_CASE("TCP_USER_TIMEOUT says when an established connection gives up") {
    two_hosts net{1};
    net.world.run([&] {
        const connection c = net.connect();
        const unsigned limit = 5000;
        CHECK(sys::setsockopt(c.client, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, sizeof limit) == 0);
        net.world.partition(net.server, net.client);
        send_all(c.client, "is anybody there?");
        CHECK(recv_error(c.client) == ETIMEDOUT);
        CHECK(net.world.now() == 5s);
        sys::close(c.client);
        sys::close(c.server);
    });
}

TEST_CASE("a partition that was healed in time is none, also when another one follows") {
    two_hosts net{1};
    net.world.run([&] {
        const connection c = net.connect();
        net.world.partition(net.server, net.client);
        send_all(c.client, "one");
        net.world.sleep(900s);
        net.world.heal(net.server, net.client);
        CHECK(recv_some(c.server) == "one");
        net.world.partition(net.server, net.client);
        net.world.sleep(100s);
        CHECK(try_recv(c.client) == -EAGAIN);
        net.world.heal(net.server, net.client);
        sys::close(c.client);
        sys::close(c.server);
    });
}

TEST_CASE("a host has as many ports to connect from as it was given") {
    two_hosts net{1};
    net.client.limit_ports(5000, 5001);
    net.world.run([&] {
        int door = -1;
        net.server.run([&] { door = listen_at("0.0.0.0", 7000); });
        net.client.run([&] {
            const int one = connect_to(net.server.address(), 7000);
            const int two = connect_to(net.server.address(), 7000);
            CHECK(connect_error(net.server.address(), 7000) == EADDRNOTAVAIL);
            const int bound = make_socket(SOCK_STREAM);
            CHECK(bind_error(bound, "0.0.0.0", 0) == EADDRINUSE);
            sys::close(bound);
            sys::close(one);
            net.server.run([&] { sys::close(accept_from(door)); });
            const int three = connect_to(net.server.address(), 7000);
            CHECK(three >= 0);
            sys::close(two);
            sys::close(three);
        });
        sys::close(door);
    });
}

TEST_CASE("a host has as many descriptors as it was given, and waiting connections are accepted when there "
          "are some") {
    two_hosts net{1};
    net.server.limit_descriptors(2);
    net.world.run([&] {
        int door = -1, other = -1, peer = -1;
        net.server.run([&] {
            door = listen_at("0.0.0.0", 7000);
            other = make_socket(SOCK_STREAM);
            CHECK(make_socket(SOCK_STREAM) == -EMFILE);
            CHECK(sys::current().eventfd() == -1);
            CHECK(errno == EMFILE);
            CHECK(net.server.descriptors() == 2);
        });
        net.client.run([&] { peer = connect_to(net.server.address(), 7000); });
        net.server.run([&] {
            CHECK(sys::current().accept(door, nullptr, nullptr) == -1);
            CHECK(errno == EMFILE);
            sys::close(other);
            const int served = accept_from(door);
            send_all(served, "welcome");
            sys::close(served);
        });
        CHECK(recv_some(peer) == "welcome");
        sys::close(peer);
        sys::close(door);
    });
}

TEST_CASE("a disk takes what it has room for, then nothing, and again when there is room") {
    sim::world world{1};
    world.local().limit_disk(10);
    world.run([&] {
        sys::world &w = sys::current();
        const int fd = w.open("file", O_RDWR | O_CREAT, 0600);
        CHECK(w.write(fd, "1234567", 7) == 7);
        CHECK(w.write(fd, "890abc", 6) == 3);
        CHECK(w.write(fd, "d", 1) == -1);
        CHECK(errno == ENOSPC);
        iovec over{const_cast<char *>("xy"), 2};
        CHECK(w.pwritev(fd, &over, 1, 0, 0) == 2); // what is there can be written over
        const int other = w.open("other", O_RDWR | O_CREAT, 0600);
        CHECK(w.write(other, "x", 1) == -1);
        CHECK(errno == ENOSPC);
        w.close(w.open("file", O_WRONLY | O_TRUNC, 0600));
        CHECK(w.write(other, "x", 1) == 1);
        w.close(fd);
        w.close(other);
        CHECK(world.local().read_file("other") == "x");
    });
}

TEST_CASE("a connection is cut after so many bytes of the side that connects, as a reset for both") {
    two_hosts net{1};
    net.world.cut_connection(7000, true, 5);
    net.world.run([&] {
        const connection c = net.connect();
        send_all(c.server, "not counted");
        CHECK(recv_some(c.client) == "not counted");
        send_all(c.client, "abc");
        CHECK(recv_some(c.server) == "abc");
        send_all(c.client, "defgh");
        CHECK(recv_some(c.server) == "de");
        CHECK(recv_error(c.server) == ECONNRESET);
        CHECK(recv_error(c.client) == ECONNRESET);
        sys::close(c.client);
        sys::close(c.server);
        // The next one is whole.
        const connection next = net.connect();
        send_all(next.client, "0123456789");
        CHECK(recv_some(next.server) == "0123456789");
        sys::close(next.client);
        sys::close(next.server);
    });
}

TEST_CASE("a connection is cut after so many bytes of the side that accepts, as an end of stream for both") {
    two_hosts net{1};
    net.world.cut_connection(7000, false, 3, false);
    net.world.run([&] {
        const connection c = net.connect();
        send_all(c.client, "whatever it sends");
        CHECK(recv_some(c.server) == "whatever it sends");
        send_all(c.server, "abcdef");
        CHECK(recv_some(c.client) == "abc");
        CHECK(recv_some(c.client).empty());
        CHECK(recv_some(c.server).empty());
        sys::close(c.client);
        sys::close(c.server);
    });
}

TEST_CASE("a connection that is cut after no bytes is cut by the first") {
    two_hosts net{1};
    net.world.cut_connection(7000, true, 0);
    net.world.run([&] {
        const connection c = net.connect();
        send_all(c.client, "a");
        CHECK(recv_error(c.server) == ECONNRESET);
        sys::close(c.client);
        sys::close(c.server);
    });
}
