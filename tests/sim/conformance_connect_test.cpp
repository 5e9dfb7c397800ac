// Making connections: the simulated kernel does what Linux does.

#include "conformance.hpp"

using namespace conformance;

TEST_CASE("a connection that does not wait is in progress, made once, and cannot be made again") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"));
        const int client = s.stream();
        const name at = s.local(door);
        s.connect(client, at);
        s.await(client, EPOLLOUT);
        s.error_of(client);
        s.connect(client, at);
        s.connect(client, at);
        s.ready(client);
    });
}

TEST_CASE("a connection whose making is not asked for again can be used at once") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.send(c.a, "hello");
        s.recv_when_there(c.b);
        s.send(c.b, "and back");
        s.recv_when_there(c.a);
    });
}

TEST_CASE("a connect that waits returns with the connection made") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"));
        const int client = s.blocking_socket(AF_INET, SOCK_STREAM);
        s.connect(client, s.local(door));
        s.connect(client, s.local(door));
        s.ready(client);
    });
}

TEST_CASE("a connect that waits is refused where nobody listens, and the socket can be used again") {
    same_in_both([](script &s) {
        const name at = s.nobody();
        const int client = s.blocking_socket(AF_INET, SOCK_STREAM);
        s.connect(client, at);
        s.error_of(client);
        s.ready(client);
        s.connect(client, at);
        const int other = s.listener(inet("127.0.0.1"));
        s.connect(client, s.local(other));
        s.ready(client);
    });
}

TEST_CASE("a refused connection is an error and an end, and its error is told once") {
    same_in_both([](script &s) {
        const name at = s.nobody();
        const int client = s.stream();
        s.connect(client, at);
        s.await(client, EPOLLOUT);
        s.ready(client);
        s.error_of(client);
        s.error_of(client);
        s.ready(client);
        s.recv(client);
        s.send(client, "x");
        s.names(client);
    });
}

TEST_CASE("after a refusal the next connect tells it, and the one after that begins anew") {
    same_in_both([](script &s) {
        const name at = s.nobody();
        const int client = s.stream();
        s.connect(client, at);
        s.await(client, EPOLLOUT);
        s.connect(client, at);
        s.ready(client);
        s.connect(client, at);
        s.await(client, EPOLLOUT);
        s.error_of(client);
        s.connect(client, at);
        s.ready(client);
    });
}

TEST_CASE("a refusal is told by recv and by send in the same way as by SO_ERROR") {
    same_in_both([](script &s) {
        const name at = s.nobody();
        const int one = s.stream();
        s.connect(one, at);
        s.await(one, EPOLLOUT);
        s.recv(one);
        s.recv(one);
        s.send(one, "x");
        const int other = s.stream();
        s.connect(other, at);
        s.await(other, EPOLLOUT);
        s.send(other, "x");
        s.send(other, "x");
        s.recv(other);
    });
}

TEST_CASE("a socket on which nothing was done hangs up and can be written to, and no call works on it") {
    same_in_both([](script &s) {
        const int fresh = s.stream();
        s.ready(fresh);
        s.recv(fresh);
        s.send(fresh, "x");
        s.names(fresh);
        s.shutdown(fresh, SHUT_RDWR);
        s.try_accept(fresh);
        s.error_of(fresh);
    });
}

TEST_CASE("a listener is readable while somebody waits at it, and is no connection") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"));
        s.ready(door);
        s.try_accept(door);
        s.recv(door);
        s.send(door, "x");
        s.names(door);
        s.say("SO_ACCEPTCONN: " + std::to_string(s.get(door, SOL_SOCKET, SO_ACCEPTCONN)));
        s.connect(door, inet("127.0.0.1", 1));
        const int client = s.stream();
        s.connect(client, s.local(door));
        s.await(door, EPOLLIN);
        s.ready(door);
        s.accept(door);
        s.ready(door);
    });
}

TEST_CASE("a listener that is shut down for reading listens no more and can do so again") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"));
        const name at = s.local(door);
        s.shutdown(door, SHUT_WR);
        s.shutdown(door, SHUT_RD);
        s.try_accept(door);
        s.ready(door);
        const int refused = s.blocking_socket(AF_INET, SOCK_STREAM);
        s.connect(refused, at);
        s.listen(door);
        const int client = s.blocking_socket(AF_INET, SOCK_STREAM);
        s.connect(client, s.local(door));
        s.accept(door);
    });
}

TEST_CASE("both ends know both names, and what was accepted has the listener's") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"));
        s.names(door);
        const int client = s.stream();
        s.connect(client, s.local(door));
        s.await(door, EPOLLIN);
        name peer;
        const int served = s.keep(s.world.accept(door, peer.get(), &peer.size));
        s.say("accepted " + s.text(peer));
        s.names(client);
        s.names(served);
    });
}

TEST_CASE("a name is cut to the room there is, and its whole length told") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"));
        name of;
        of.size = 2;
        s.note("getsockname", s.world.getsockname(door, of.get(), &of.size));
        s.say("family " + std::to_string(of.storage.ss_family) + ", length " + std::to_string(of.size) +
              ", port " + std::to_string(of.port()));
    });
}

TEST_CASE("a socket that is bound to all addresses has the one by which it connected") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("0.0.0.0"));
        s.names(door);
        const int client = s.stream();
        s.bind(client, inet("0.0.0.0"));
        s.names(client);
        s.connect(client, inet("127.0.0.1", s.local(door).port()));
        const int served = s.accept(door);
        s.names(client);
        s.names(served);
    });
}

TEST_CASE("connect to any address leads to the host itself") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("0.0.0.0"));
        const int client = s.stream();
        s.connect(client, inet("0.0.0.0", s.local(door).port()));
        s.accept(door);
        s.names(client);
    });
}

TEST_CASE("a family that is not the socket's, a length that is too small and no socket are errors") {
    same_in_both([](script &s) {
        const int fd = s.stream();
        const name four = inet("127.0.0.1", 1), six = inet("::1", 1);
        s.connect(fd, six);
        s.bind(fd, six);
        s.note("connect", s.world.connect(fd, four.get(), 4));
        s.note("bind", s.world.bind(fd, four.get(), 4));
        const int six_fd = s.stream(AF_INET6);
        s.note("connect", s.world.connect(six_fd, four.get(), four.size));
        s.note("bind", s.world.bind(six_fd, four.get(), four.size));
        const int counter = s.keep(s.world.eventfd());
        s.connect(counter, four);
        s.bind(counter, four);
        s.listen(counter);
        s.try_accept(counter);
        s.shutdown(counter, SHUT_WR);
        s.names(counter);
        s.recv(counter);
        s.send(counter, "x");
        s.set(counter, SOL_SOCKET, SO_REUSEADDR, 1);
        s.connect(-1, four);
        s.bind(-1, four);
        s.listen(-1);
        s.try_accept(-1);
        s.shutdown(-1, SHUT_WR);
        s.names(-1);
        s.recv(-1);
        s.send(-1, "x");
        s.set(-1, SOL_SOCKET, SO_REUSEADDR, 1);
        s.note("read", s.world.read(-1, nullptr, 0));
        s.note("write", s.world.write(-1, nullptr, 0));
        s.close(-1);
        s.note("set_nonblocking", s.world.set_nonblocking(-1));
    });
}

TEST_CASE("sockets of families and kinds that do not exist cannot be made") {
    same_in_both([](script &s) {
        s.note("family", s.world.socket(AF_MAX + 1, SOCK_STREAM, 0));
        s.note("kind", s.world.socket(AF_INET, 99, 0));
        s.note("unix", s.world.socket(AF_UNIX, 99, 0));
        s.note("protocol", s.world.socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
        s.note("protocol", s.world.socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP));
        s.say(s.keep(s.world.socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP)) >= 0 ? "udp" : "no udp");
        s.say(s.keep(s.world.socket(AF_INET, SOCK_STREAM, IPPROTO_TCP)) >= 0 ? "tcp" : "no tcp");
    });
}

TEST_CASE(
    "as many connections wait at a listener as its backlog says and one more, and the rest until they may") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"), 1);
        const name at = s.local(door);
        std::vector<int> clients;
        for (int i = 0; i < 2; i++) {
            clients.push_back(s.stream());
            s.connect(clients.back(), at);
            s.await(clients.back(), EPOLLOUT);
        }
        const int late = s.stream();
        s.connect(late, at);
        s.ready(late);
        s.connect(late, at);
        s.recv(late);
        s.send(late, "x");
        s.names(late);
        s.accept(door);
        s.accept(door);
        s.await(late, EPOLLOUT); // at its second attempt, after a second
        s.ready(late);
        s.accept(door);
    });
}

TEST_CASE("what was not accepted is reset when the listener is closed") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"));
        const int client = s.stream();
        s.connect(client, s.local(door));
        s.await(door, EPOLLIN);
        s.send(client, "is anybody there?");
        s.close(door);
        s.await(client, EPOLLIN);
        s.ready(client);
        s.recv(client);
        s.recv(client);
    });
}

TEST_CASE("a client that has gone before it was accepted is accepted, and its data with it") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"));
        const int client = s.stream();
        s.connect(client, s.local(door));
        s.await(client, EPOLLOUT);
        s.send(client, "goodbye");
        s.close(client);
        const int served = s.accept(door);
        s.await(served, EPOLLRDHUP);
        s.recv(served);
        s.recv(served);
    });
}

TEST_CASE("a client that was reset before it was accepted is accepted and broken") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"));
        const int client = s.stream();
        s.connect(client, s.local(door));
        s.await(client, EPOLLOUT);
        const linger now{1, 0};
        s.note("setsockopt", s.world.setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now));
        s.close(client);
        const int served = s.accept(door);
        s.await(served, EPOLLRDHUP);
        s.recv(served);
        s.recv(served);
    });
}

TEST_CASE("a connected socket that is connected to no family is fresh again") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        name none;
        none.storage.ss_family = AF_UNSPEC;
        none.size = sizeof(sockaddr_in);
        s.connect(c.a, none);
        s.ready(c.a);
        s.await(c.b, EPOLLIN);
        s.recv(c.b);
        const int door = s.listener(inet("127.0.0.1"));
        s.connect(c.a, s.local(door));
        s.accept(door);
    });
}

TEST_CASE("an accepted socket does not wait") {
    same_in_both([](script &s) {
        const int door = s.keep(s.world.socket(AF_INET, SOCK_STREAM, 0));
        s.bind(door, inet("127.0.0.1"));
        s.listen(door);
        const int client = s.stream();
        s.connect(client, s.local(door));
        const int served = s.keep(s.world.accept(door, nullptr, nullptr));
        s.recv(served);
    });
}
