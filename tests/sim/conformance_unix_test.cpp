// Unix sockets: the simulated kernel does what Linux does.

#include "conformance.hpp"

using namespace conformance;

TEST_CASE("a unix connection is made at once, by path and by abstract name, and both ends know the names") {
    same_in_both([](script &s) {
        for (const name &at : {s.unix_path("door"), s.unix_abstract("door")}) {
            const int door = s.listener(at);
            s.names(door);
            const int client = s.stream(AF_UNIX);
            s.ready(client);
            s.names(client);
            s.connect(client, at);
            s.connect(client, at);
            s.ready(client);
            s.ready(door);
            name peer;
            const int served = s.keep(s.world.accept(door, peer.get(), &peer.size));
            s.say("accepted " + s.text(peer) + ", " + std::to_string(peer.size));
            s.names(client);
            s.names(served);
            s.send(client, "hello");
            s.recv(served);
            s.send(served, "and back");
            s.recv(client);
            s.close(door);
        }
    });
}

TEST_CASE("a bound client of a unix listener is known by its name") {
    same_in_both([](script &s) {
        const int door = s.listener(s.unix_path("door"));
        const int client = s.stream(AF_UNIX);
        s.bind(client, s.unix_path("client"));
        s.bind(client, s.unix_path("another"));
        s.connect(client, s.unix_path("door"));
        name peer;
        s.keep(s.world.accept(door, peer.get(), &peer.size));
        s.say("accepted " + s.text(peer));
    });
}

TEST_CASE("nobody answers at a path that is not there, at one that was left, or at an abstract name without "
          "owner") {
    same_in_both([](script &s) {
        const int client = s.stream(AF_UNIX);
        s.connect(client, s.unix_path("missing"));
        s.connect(client, s.unix_abstract("missing"));
        const int door = s.listener(s.unix_path("left"));
        s.close(door);
        s.connect(client, s.unix_path("left"));
        const int bound = s.stream(AF_UNIX);
        s.bind(bound, s.unix_path("bound"));
        s.connect(client, s.unix_path("bound"));
        s.ready(client);
        s.error_of(client);
    });
}

TEST_CASE("a path stays when its socket is closed, an abstract name does not") {
    same_in_both([](script &s) {
        for (const name &at : {s.unix_path("door"), s.unix_abstract("door")}) {
            const int door = s.listener(at);
            const int second = s.stream(AF_UNIX);
            s.bind(second, at);
            s.close(door);
            s.bind(second, at);
        }
        s.listen(s.stream(AF_UNIX));
    });
}

TEST_CASE("a unix stream and unix datagrams do not meet at a path") {
    same_in_both([](script &s) {
        s.listener(s.unix_path("door"));
        const int packets = s.packets(AF_UNIX);
        s.connect(packets, s.unix_path("door"));
        s.bind(packets, s.unix_path("door"));
        s.bind(packets, s.unix_path("letters"));
        const int client = s.stream(AF_UNIX);
        s.connect(client, s.unix_path("letters"));
        s.bind(client, s.unix_path("letters"));
    });
}

TEST_CASE("a unix listener with a full backlog says so at once") {
    same_in_both([](script &s) {
        const int door = s.listener(s.unix_path("door"), 1);
        for (int i = 0; i < 3; i++)
            s.connect(s.stream(AF_UNIX), s.unix_path("door"));
        s.accept(door);
        s.connect(s.stream(AF_UNIX), s.unix_path("door"));
    });
}

TEST_CASE("a fresh unix socket is no connection") {
    same_in_both([](script &s) {
        const int fresh = s.stream(AF_UNIX);
        s.recv(fresh);
        s.send(fresh, "x");
        s.names(fresh);
        s.try_accept(fresh);
        s.shutdown(fresh, SHUT_WR);
        s.send(fresh, "x");
        const int door = s.listener(s.unix_path("door"));
        s.ready(door);
        s.recv(door);
        s.send(door, "x");
        s.try_accept(door);
        s.connect(door, s.unix_path("door"));
    });
}

TEST_CASE("a unix end of stream comes after the data, and the other way goes on") {
    same_in_both([](script &s) {
        const ends c = unix_stream(s);
        s.send(c.a, "last words");
        s.shutdown(c.a, SHUT_WR);
        s.ready(c.b);
        s.recv(c.b);
        s.recv(c.b);
        s.ready(c.b);
        s.send(c.b, "an answer");
        s.ready(c.a);
        s.recv(c.a);
        s.send(c.a, "more");
        s.shutdown(c.b, SHUT_WR);
        s.ready(c.a);
        s.names(c.a);
        s.recv(c.a);
    });
}

TEST_CASE("who writes to a unix end that is shut for reading breaks the pipe") {
    same_in_both([](script &s) {
        const ends c = unix_stream(s);
        s.shutdown(c.b, SHUT_RD);
        s.ready(c.a);
        s.ready(c.b);
        s.send(c.a, "x");
        s.recv(c.b);
        s.send(c.b, "y");
        s.recv(c.a);
        s.error_of(c.a);
    });
}

TEST_CASE("a unix peer that was closed is an end, and a broken pipe for the first write") {
    same_in_both([](script &s) {
        const ends c = unix_stream(s);
        s.send(c.b, "goodbye");
        s.close(c.b);
        s.ready(c.a);
        s.send(c.a, "x");
        s.send(c.a, "");
        s.recv(c.a);
        s.recv(c.a);
        s.error_of(c.a);
        s.names(c.a);
        s.shutdown(c.a, SHUT_RDWR);
        s.connect(c.a, s.unix_path("pair"));
    });
}

TEST_CASE("a unix peer that was closed with something unread is a reset, told once") {
    same_in_both([](script &s) {
        for (bool by_reading : {true, false}) {
            const ends c = connected(s, s.unix_abstract(by_reading ? "one" : "two"));
            s.send(c.b, "read me");
            s.send(c.a, "not read");
            s.close(c.b);
            s.ready(c.a);
            s.send(c.a, "x");
            s.recv(c.a);
            if (by_reading)
                s.recv(c.a);
            else
                s.error_of(c.a);
            s.recv(c.a);
            s.error_of(c.a);
            s.send(c.a, "x");
        }
    });
}

TEST_CASE("who was not accepted by a unix listener is reset when it is closed") {
    same_in_both([](script &s) {
        const int door = s.listener(s.unix_path("door"));
        const int client = s.stream(AF_UNIX);
        s.connect(client, s.unix_path("door"));
        s.send(client, "is anybody there?");
        s.close(door);
        s.ready(client);
        s.send(client, "x");
        s.recv(client);
        s.recv(client);
    });
}

TEST_CASE("a unix connection's edges are told, and merge") {
    same_in_both([](script &s) {
        const ends c = unix_stream(s);
        watch set(s);
        set.add(c.b, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
        set.now();
        s.send(c.a, "x");
        s.send(c.a, "y");
        set.now();
        set.now();
        s.recv(c.b);
        s.shutdown(c.a, SHUT_WR);
        set.now();
        s.close(c.a);
        set.now();
        set.now();
    });
}

TEST_CASE("a unix connection fills up, and there is room again when it was read") {
    same_in_both([](script &s) {
        const ends c = unix_stream(s);
        const std::size_t sent = s.fill(c.a);
        s.say(sent > 1000 ? "something fits" : "nothing fits");
        watch set(s);
        set.add(c.a, EPOLLOUT | EPOLLET);
        set.now();
        s.drain(c.b, sent);
        set.now();
        set.now();
    });
}

TEST_CASE("a unix stream that is peeked at keeps its bytes, and no bytes are nothing") {
    same_in_both([](script &s) {
        const ends c = unix_stream(s);
        s.send(c.a, "");
        s.ready(c.b);
        s.recv(c.b, 0);
        s.send(c.a, "abc");
        s.recv(c.b, 2, MSG_PEEK);
        s.recv(c.b, 0);
        s.recv(c.b);
        const int client = s.blocking_socket(AF_UNIX, SOCK_STREAM);
        s.recv(client, 1, MSG_DONTWAIT);
    });
}

TEST_CASE("a unix datagram comes whole, from whom it says, and an answer finds its way") {
    same_in_both([](script &s) {
        const int server = s.bound_packets(s.unix_path("server"));
        const int client = s.packets(AF_UNIX);
        s.names(client);
        s.ready(client);
        s.bind(client, s.unix_path("client"));
        s.connect(client, s.unix_path("server"));
        s.names(client);
        s.send(client, "one");
        s.send(client, "");
        s.send(client, "three");
        s.ready(server);
        char buffer[100];
        for (int i = 0; i < 3; i++) {
            iovec into{buffer, sizeof buffer};
            name sender;
            msghdr header{};
            header.msg_iov = &into;
            header.msg_iovlen = 1;
            header.msg_name = sender.get();
            header.msg_namelen = sender.size;
            s.note("recvmsg", s.world.recvmsg(server, &header, 0));
            sender.size = header.msg_namelen;
            s.say("from " + s.text(sender));
        }
        s.recv(server);
        s.connect(server, s.unix_path("client"));
        s.send(server, "answer");
        s.recv(client);
    });
}

TEST_CASE("a unix datagram of nobody has no sender, and one that is too long is cut") {
    same_in_both([](script &s) {
        const int server = s.bound_packets(s.unix_path("server"));
        const int client = s.packets(AF_UNIX);
        s.connect(client, s.unix_path("server"));
        s.send(client, "too long");
        char buffer[3];
        iovec into{buffer, sizeof buffer};
        name sender;
        msghdr header{};
        header.msg_iov = &into;
        header.msg_iovlen = 1;
        header.msg_name = sender.get();
        header.msg_namelen = sender.size;
        s.note("recvmsg", s.world.recvmsg(server, &header, 0));
        sender.size = header.msg_namelen;
        s.say("from " + s.text(sender) + ((header.msg_flags & MSG_TRUNC) != 0 ? ", cut" : ""));
        s.recv(server);
    });
}

TEST_CASE("unix datagrams to nobody, to one that was closed and too many or too long are errors") {
    same_in_both([](script &s) {
        const int client = s.packets(AF_UNIX);
        s.send(client, "x");
        s.connect(client, s.unix_path("missing"));
        s.connect(client, s.unix_abstract("missing"));
        const int server = s.bound_packets(s.unix_path("server"));
        s.connect(client, s.unix_path("server"));
        s.send(client, std::string(1 << 20, 'x'));
        int taken = 0;
        while (s.world.send(client, "x", 1, 0) == 1)
            taken++;
        s.note("full", -1);
        s.say("taken " + std::to_string(taken));
        s.ready(client);
        watch set(s);
        set.add(client, EPOLLOUT | EPOLLET);
        set.now();
        s.recv(server);
        set.now();
        s.send(client, "y");
        s.close(server);
        s.ready(client);
        s.send(client, "z");
        s.send(client, "z");
        s.error_of(client);
        s.shutdown(client, SHUT_WR);
    });
}
