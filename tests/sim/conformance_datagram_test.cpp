// UDP: the simulated kernel does what Linux does.

#include "conformance.hpp"

using namespace conformance;

namespace {

void send_to(script &s, int fd, std::string_view data, const name &to) {
    iovec from{const_cast<char *>(data.data()), data.size()};
    msghdr header{};
    header.msg_iov = &from;
    header.msg_iovlen = 1;
    header.msg_name = const_cast<sockaddr *>(to.get());
    header.msg_namelen = to.size;
    s.note("sendmsg", s.world.sendmsg(fd, &header, 0));
}

// What comes, from whom, and whether it was cut.
name receive(script &s, int fd, std::size_t size = 100, int flags = 0) {
    s.await(fd, EPOLLIN);
    std::string data(size, '\0');
    iovec into{data.data(), size};
    name sender;
    msghdr header{};
    header.msg_iov = &into;
    header.msg_iovlen = 1;
    header.msg_name = sender.get();
    header.msg_namelen = sender.size;
    const ssize_t n = s.note("recvmsg", s.world.recvmsg(fd, &header, flags));
    sender.size = header.msg_namelen;
    s.say("\"" + data.substr(0, n > 0 ? static_cast<std::size_t>(n) : 0) + "\" from " + s.text(sender) +
          ((header.msg_flags & MSG_TRUNC) != 0 ? ", cut" : ""));
    return sender;
}

} // namespace

TEST_CASE("a datagram comes whole, with its sender, and an answer goes back") {
    same_in_both([](script &s) {
        const int server = s.bound_packets(inet("127.0.0.1"));
        const int client = s.packets();
        s.names(client);
        s.ready(client);
        send_to(s, client, "one", s.local(server));
        send_to(s, client, "", s.local(server));
        send_to(s, client, "three", s.local(server));
        s.names(client);
        const name sender = receive(s, server);
        s.ready(server);
        receive(s, server);
        receive(s, server);
        s.ready(server);
        s.recv(server);
        send_to(s, server, "answer", inet("127.0.0.1", sender.port()));
        receive(s, client);
    });
}

TEST_CASE("a datagram of no bytes is one, also for recv") {
    same_in_both([](script &s) {
        const int server = s.bound_packets(inet("127.0.0.1"));
        const int client = s.packets();
        s.connect(client, s.local(server));
        s.send(client, "");
        s.recv_when_there(server);
        s.recv(server);
    });
}

TEST_CASE("a datagram that is too long is cut, and the rest is gone") {
    same_in_both([](script &s) {
        const int server = s.bound_packets(inet("127.0.0.1"));
        const int client = s.packets();
        s.connect(client, s.local(server));
        for (int i = 0; i < 4; i++)
            s.send(client, "too long");
        receive(s, server, 3);
        receive(s, server, 3, MSG_PEEK);
        s.recv(server, 3, MSG_TRUNC);
        s.recv(server, 3);
        s.recv(server, 0);
        s.recv(server);
    });
}

TEST_CASE("a connected socket sends to its peer, and hears nobody else") {
    same_in_both([](script &s) {
        const int one = s.bound_packets(inet("127.0.0.1"));
        const int other = s.bound_packets(inet("127.0.0.1"));
        s.send(one, "to whom?");
        s.connect(one, s.local(other));
        s.names(one);
        s.send(one, "to other");
        receive(s, other);
        const int stranger = s.bound_packets(inet("127.0.0.1"));
        send_to(s, stranger, "from a stranger", s.local(one));
        send_to(s, other, "from other", s.local(one));
        receive(s, one);
        s.recv(one);
        send_to(s, one, "elsewhere", s.local(stranger));
        receive(s, stranger);
    });
}

TEST_CASE("connect gives a name, and no family takes peer and name away") {
    same_in_both([](script &s) {
        const int server = s.bound_packets(inet("127.0.0.1"));
        const int client = s.packets();
        s.connect(client, s.local(server));
        s.names(client);
        s.connect(client, s.local(server));
        name none;
        none.storage.ss_family = AF_UNSPEC;
        none.size = sizeof(sockaddr_in);
        s.connect(client, none);
        s.names(client);
        s.send(client, "x");
        const int bound = s.bound_packets(inet("0.0.0.0"));
        s.connect(bound, s.local(server));
        s.names(bound);
        s.connect(bound, none);
        s.names(bound);
    });
}

TEST_CASE("a connected socket is told that nobody is there, once") {
    same_in_both([](script &s) {
        const int client = s.packets();
        s.connect(client, s.nobody_for_packets());
        for (int who = 0; who < 3; who++) {
            s.send(client, "x");
            s.await(client, EPOLLERR);
            s.ready(client);
            if (who == 0)
                s.recv(client);
            else if (who == 1)
                s.send(client, "y");
            else
                s.error_of(client);
            s.ready(client);
            s.recv(client);
        }
    });
}

TEST_CASE("a socket that is not connected is not told that nobody is there") {
    same_in_both([](script &s) {
        const name at = s.nobody_for_packets();
        const int client = s.packets();
        send_to(s, client, "x", at);
        s.ready(client);
        send_to(s, client, "x", at);
        s.error_of(client);
    });
}

TEST_CASE("more than a datagram holds, a port of nought and a family that is not the socket's are errors") {
    same_in_both([](script &s) {
        const int server = s.bound_packets(inet("127.0.0.1"));
        const int client = s.packets();
        s.connect(client, s.local(server));
        s.send(client, std::string(65507, 'x'));
        s.send(client, std::string(65508, 'x'));
        s.send(client, std::string(70000, 'x'));
        s.await(server, EPOLLIN);
        s.note("received", s.world.recv(server, nullptr, 0, MSG_TRUNC));
        const int other = s.packets();
        send_to(s, other, "x", inet("127.0.0.1", 0));
        send_to(s, other, "x", inet("::1", 7));
        s.connect(other, inet("::1", 7));
        s.bind(other, inet("::1"));
        s.listen(other);
        s.try_accept(other);
        s.shutdown(other, SHUT_RD);
    });
}

TEST_CASE("a bound socket cannot be bound again, and two need SO_REUSEPORT or SO_REUSEADDR to share a port") {
    same_in_both([](script &s) {
        const int one = s.bound_packets(inet("127.0.0.1"));
        const name at = s.local(one);
        s.bind(one, inet("127.0.0.1"));
        s.bind(s.packets(), at);
        s.bind(s.packets(), inet("0.0.0.0", at.port()));
        for (int option : {SO_REUSEPORT, SO_REUSEADDR}) {
            const int first = s.packets(), second = s.packets(), third = s.packets();
            s.set(first, SOL_SOCKET, option, 1);
            s.set(second, SOL_SOCKET, option, 1);
            s.bind(first, inet("127.0.0.1"));
            s.bind(second, s.local(first));
            s.bind(third, s.local(first));
        }
    });
}

TEST_CASE("a socket that is shut down for reading reads an end") {
    same_in_both([](script &s) {
        const int server = s.bound_packets(inet("127.0.0.1"));
        const int client = s.packets();
        s.connect(client, s.local(server));
        s.shutdown(client, SHUT_RD);
        s.ready(client);
        s.recv(client);
        s.send(client, "x");
        s.shutdown(client, SHUT_WR);
        s.ready(client);
        s.send(client, "x");
    });
}

TEST_CASE("many datagrams are sent and received by one call") {
    same_in_both([](script &s) {
        const int server = s.bound_packets(inet("127.0.0.1"));
        const int client = s.bound_packets(inet("127.0.0.1"));
        const name to = s.local(server);
        std::string texts[] = {"one", "twenty-two", ""};
        iovec from[3];
        mmsghdr out[3]{};
        for (std::size_t i = 0; i < 3; i++) {
            from[i] = {texts[i].data(), texts[i].size()};
            out[i].msg_hdr.msg_iov = &from[i];
            out[i].msg_hdr.msg_iovlen = 1;
            out[i].msg_hdr.msg_name = const_cast<sockaddr *>(to.get());
            out[i].msg_hdr.msg_namelen = to.size;
        }
        s.note("sendmmsg", s.world.sendmmsg(client, out, 3, 0));
        for (const mmsghdr &one : out)
            s.say("sent " + std::to_string(one.msg_len));
        char data[4][5];
        name senders[4];
        iovec into[4];
        mmsghdr in[4]{};
        for (std::size_t i = 0; i < 4; i++) {
            into[i] = {data[i], sizeof data[i]};
            in[i].msg_hdr.msg_iov = &into[i];
            in[i].msg_hdr.msg_iovlen = 1;
            in[i].msg_hdr.msg_name = senders[i].get();
            in[i].msg_hdr.msg_namelen = senders[i].size;
        }
        s.await(server, EPOLLIN);
        s.note("recvmmsg", s.world.recvmmsg(server, in, 4, 0));
        for (std::size_t i = 0; i < 3; i++) {
            senders[i].size = in[i].msg_hdr.msg_namelen;
            s.say(std::to_string(in[i].msg_len) + " from " + s.text(senders[i]) +
                  ((in[i].msg_hdr.msg_flags & MSG_TRUNC) != 0 ? ", cut" : ""));
        }
        s.note("recvmmsg", s.world.recvmmsg(server, in, 4, 0));
        s.note("recvmmsg of none", s.world.recvmmsg(server, in, 0, 0));
    });
}

TEST_CASE("of many datagrams those before an error are sent, and the error is told when it is the first") {
    same_in_both([](script &s) {
        const int server = s.bound_packets(inet("127.0.0.1"));
        const int client = s.packets();
        s.connect(client, s.local(server));
        std::string texts[] = {"fits", std::string(70000, 'x')};
        iovec from[2];
        mmsghdr out[2]{};
        for (std::size_t i = 0; i < 2; i++) {
            from[i] = {texts[i].data(), texts[i].size()};
            out[i].msg_hdr.msg_iov = &from[i];
            out[i].msg_hdr.msg_iovlen = 1;
        }
        s.note("sendmmsg", s.world.sendmmsg(client, out, 2, 0));
        s.note("sendmmsg", s.world.sendmmsg(client, out + 1, 1, 0));
        s.recv_when_there(server);
        s.recv(server);
    });
}

TEST_CASE("many messages of a stream are its bytes") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        std::string texts[] = {"one", "two"};
        iovec from[2];
        mmsghdr out[2]{};
        for (std::size_t i = 0; i < 2; i++) {
            from[i] = {texts[i].data(), texts[i].size()};
            out[i].msg_hdr.msg_iov = &from[i];
            out[i].msg_hdr.msg_iovlen = 1;
        }
        s.note("sendmmsg", s.world.sendmmsg(c.a, out, 2, 0));
        s.await(c.b, EPOLLIN);
        char data[2][4];
        iovec into[] = {{data[0], 4}, {data[1], 4}};
        mmsghdr in[2]{};
        for (std::size_t i = 0; i < 2; i++) {
            in[i].msg_hdr.msg_iov = &into[i];
            in[i].msg_hdr.msg_iovlen = 1;
        }
        s.note("recvmmsg", s.world.recvmmsg(c.b, in, 2, 0));
        s.say(std::to_string(in[0].msg_len) + ", " + std::to_string(in[1].msg_len));
    });
}

TEST_CASE("each datagram is an edge, and what waits is told when it is added") {
    same_in_both([](script &s) {
        const int server = s.bound_packets(inet("127.0.0.1"));
        const int client = s.packets();
        s.connect(client, s.local(server));
        watch set(s);
        set.add(server, EPOLLIN | EPOLLOUT | EPOLLET);
        set.now();
        s.send(client, "one");
        set.next();
        set.now();
        s.send(client, "two");
        set.next();
        s.recv(server);
        set.now();
        watch late(s);
        late.add(server, EPOLLIN);
        late.now();
        s.recv(server);
        late.now();
    });
}

TEST_CASE("a datagram that has left makes an edge for writing") {
    same_in_both([](script &s) {
        const int server = s.bound_packets(inet("127.0.0.1"));
        const int client = s.packets();
        s.connect(client, s.local(server));
        watch set(s);
        set.add(client, EPOLLOUT | EPOLLET);
        set.now();
        s.send(client, "one");
        set.next();
        set.now();
    });
}

TEST_CASE("an error of a datagram socket is an edge") {
    same_in_both([](script &s) {
        const int client = s.packets();
        s.connect(client, s.nobody_for_packets());
        watch set(s);
        set.add(client, EPOLLIN | EPOLLET);
        set.now();
        s.send(client, "x");
        set.next();
        set.now();
    });
}

TEST_CASE("datagrams go by IPv6, and by IPv4 to a socket for both") {
    same_in_both([](script &s) {
        const int server = s.bound_packets(inet("::"));
        const std::uint16_t port = s.local(server).port();
        const int six = s.packets(AF_INET6);
        send_to(s, six, "six", inet("::1", port));
        receive(s, server);
        const int four = s.packets();
        send_to(s, four, "four", inet("127.0.0.1", port));
        const name sender = receive(s, server);
        send_to(s, server, "answer", sender);
        receive(s, four);
        s.connect(six, inet("::ffff:127.0.0.1", port));
        s.names(six);
        s.send(six, "mapped");
        receive(s, server);
    });
}
