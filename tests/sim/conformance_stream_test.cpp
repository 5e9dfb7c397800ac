// What goes over a TCP connection, and how it ends: the simulated kernel does what Linux does.

#include "conformance.hpp"

using namespace conformance;

namespace {

void reset_at_close(script &s, int fd) {
    const linger now{1, 0};
    s.note("setsockopt", s.world.setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
}

} // namespace

TEST_CASE("bytes go both ways, in order, whatever the pieces") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.send(c.a, "ab");
        s.send(c.a, "cdef");
        s.await(c.b, EPOLLIN);
        s.recv(c.b, 3);
        s.recv_when_there(c.b);
        s.recv(c.b);
        s.send(c.b, "one");
        s.send(c.b, "two");
        s.recv_when_there(c.a, 3);
        s.recv_when_there(c.a, 3);
    });
}

TEST_CASE("what is peeked at stays") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.send(c.a, "again");
        s.recv_when_there(c.b, 3, MSG_PEEK);
        s.recv(c.b, 100, MSG_PEEK);
        s.recv(c.b);
        s.recv(c.b, 100, MSG_PEEK);
    });
}

TEST_CASE("bytes that are thrown away with MSG_TRUNC are counted") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.send(c.a, "forget me");
        s.await(c.b, EPOLLIN);
        s.note("thrown away", s.world.recv(c.b, nullptr, 7, MSG_TRUNC));
        s.recv(c.b);
    });
}

TEST_CASE("MSG_DONTWAIT does not wait on a socket that would") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"));
        const int client = s.blocking_socket(AF_INET, SOCK_STREAM);
        s.connect(client, s.local(door));
        s.recv(client, 10, MSG_DONTWAIT);
        s.send(client, "x", MSG_DONTWAIT);
        s.note("set_nonblocking", s.world.set_nonblocking(client));
        s.recv(client);
        s.note("set_nonblocking", s.world.set_nonblocking(client));
    });
}

TEST_CASE("a read with MSG_WAITALL waits for all, or for the end") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"));
        const int client = s.blocking_socket(AF_INET, SOCK_STREAM);
        s.connect(client, s.local(door));
        const int served = s.accept(door);
        s.send(served, "abc");
        s.send(served, "defg");
        s.recv(client, 5, MSG_WAITALL);
        s.shutdown(served, SHUT_WR);
        s.recv(client, 5, MSG_WAITALL);
    });
}

TEST_CASE("several buffers are written as one piece and filled one after the other") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        char one[] = "123", two[] = "", three[] = "4567";
        iovec from[] = {{one, 3}, {two, 0}, {three, 4}};
        msghdr header{};
        header.msg_iov = from;
        header.msg_iovlen = 3;
        s.note("sendmsg", s.world.sendmsg(c.a, &header, 0));
        s.await(c.b, EPOLLIN);
        char first[3] = {}, second[100] = {};
        iovec into[] = {{first, 2}, {second, sizeof second - 1}};
        header = {};
        header.msg_iov = into;
        header.msg_iovlen = 2;
        name from_whom;
        header.msg_name = from_whom.get();
        header.msg_namelen = sizeof(sockaddr_storage);
        s.note("recvmsg", s.world.recvmsg(c.b, &header, 0));
        s.say(std::string(first) + " and " + second);
        s.say("flags " + std::to_string(header.msg_flags));
        header.msg_iovlen = 0;
        s.note("nothing of nothing", s.world.recvmsg(c.b, &header, 0));
        s.note("nothing", s.world.sendmsg(c.a, &header, 0));
    });
}

TEST_CASE("read and write are recv and send") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        char buffer[8] = {};
        s.note("write", s.world.write(c.a, "hi", 2));
        s.await(c.b, EPOLLIN);
        s.note("read", s.world.read(c.b, buffer, sizeof buffer));
        s.note("read", s.world.read(c.b, buffer, sizeof buffer));
        s.shutdown(c.a, SHUT_WR);
        s.await(c.b, EPOLLIN);
        s.note("read", s.world.read(c.b, buffer, sizeof buffer));
    });
}

TEST_CASE("no bytes can be sent, and nothing is received for no room") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.send(c.a, "");
        s.recv(c.b, 0);
        s.ready(c.b);
        s.send(c.a, "x");
        s.await(c.b, EPOLLIN);
        s.recv(c.b, 0);
        s.recv(c.b);
        s.shutdown(c.a, SHUT_WR);
        s.await(c.b, EPOLLIN);
        s.recv(c.b, 0);
        s.send(c.a, "");
    });
}

TEST_CASE("an end of stream comes after the data, again and again, and the other way goes on") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.send(c.a, "last words");
        s.shutdown(c.a, SHUT_WR);
        s.await(c.b, EPOLLRDHUP);
        s.ready(c.b);
        s.recv(c.b);
        s.recv(c.b);
        s.recv(c.b);
        s.ready(c.b);
        s.send(c.b, "an answer");
        s.recv_when_there(c.a);
        s.ready(c.a);
        s.send(c.a, "more");
        s.shutdown(c.a, SHUT_WR);
        s.names(c.a);
    });
}

TEST_CASE("when both have ended, both hang up, and nobody has a peer any more") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.shutdown(c.a, SHUT_WR);
        s.await(c.b, EPOLLRDHUP);
        s.shutdown(c.b, SHUT_WR);
        s.await(c.a, EPOLLRDHUP);
        for (int fd : {c.a, c.b}) {
            s.ready(fd);
            s.names(fd);
            s.error_of(fd);
            s.shutdown(fd, SHUT_RDWR);
            s.recv(fd);
            s.send(fd, "x");
        }
    });
}

TEST_CASE("an end that is shut for reading says so, and still hears what comes") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.shutdown(c.b, SHUT_RD);
        s.ready(c.b);
        s.recv(c.b);
        s.send(c.a, "knock");
        s.ready(c.b);
        s.recv(c.b);
        s.recv(c.b);
        s.ready(c.a);
    });
}

TEST_CASE("an end that is shut for both hangs up at once, and resets who writes to it") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.shutdown(c.b, SHUT_RDWR);
        s.ready(c.b);
        s.recv(c.b);
        s.send(c.b, "x");
        s.await(c.a, EPOLLRDHUP);
        s.ready(c.a);
        s.recv(c.a);
        s.send(c.a, "to nobody");
        s.await(c.a, EPOLLHUP);
        s.ready(c.a);
        s.error_of(c.a);
        s.recv(c.a);
        s.send(c.a, "x");
    });
}

TEST_CASE("who writes to one that is closed is told by the second write: first it goes, then EPIPE") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.close(c.b);
        s.await(c.a, EPOLLRDHUP);
        s.ready(c.a);
        s.recv(c.a);
        s.send(c.a, "one");
        s.await(c.a, EPOLLHUP);
        s.ready(c.a);
        s.send(c.a, "two");
        s.send(c.a, "three");
        s.recv(c.a);
        s.error_of(c.a);
    });
}

TEST_CASE("who reads from one that is closed and was written to finds the end, and the error where it looks "
          "for it") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.close(c.b);
        s.await(c.a, EPOLLRDHUP);
        s.send(c.a, "one");
        s.await(c.a, EPOLLHUP);
        s.recv(c.a);
        s.recv(c.a);
        s.error_of(c.a);
        s.error_of(c.a);
        s.send(c.a, "two");
    });
}

TEST_CASE("who closes with something unread resets, and what had come is still read") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.send(c.b, "read me");
        s.await(c.a, EPOLLIN);
        s.send(c.a, "not read");
        s.await(c.b, EPOLLIN);
        s.close(c.b);
        s.await(c.a, EPOLLHUP);
        s.ready(c.a);
        s.recv(c.a);
        s.recv(c.a);
        s.recv(c.a);
        s.send(c.a, "x");
    });
}

TEST_CASE("a reset is told once, by whoever asks first") {
    same_in_both([](script &s) {
        for (int who = 0; who < 3; who++) {
            const ends c = tcp(s);
            reset_at_close(s, c.b);
            s.close(c.b);
            s.await(c.a, EPOLLHUP);
            s.ready(c.a);
            if (who == 0)
                s.error_of(c.a);
            else if (who == 1)
                s.send(c.a, "x");
            else
                s.recv(c.a);
            s.ready(c.a);
            s.error_of(c.a);
            s.recv(c.a);
            s.send(c.a, "x");
            s.names(c.a);
            s.shutdown(c.a, SHUT_RDWR);
            s.connect(c.a, inet("127.0.0.1", 1));
        }
    });
}

TEST_CASE("a reset after an end of stream is a broken pipe") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.shutdown(c.b, SHUT_WR);
        s.await(c.a, EPOLLRDHUP);
        reset_at_close(s, c.b);
        s.close(c.b);
        s.await(c.a, EPOLLHUP);
        s.ready(c.a);
        s.recv(c.a);
        s.error_of(c.a);
    });
}

TEST_CASE("what SO_LINGER was set to can be asked") {
    same_in_both([](script &s) {
        const int fd = s.stream();
        linger how{};
        socklen_t size = sizeof how;
        s.note("getsockopt", s.world.getsockopt(fd, SOL_SOCKET, SO_LINGER, &how, &size));
        s.say(std::to_string(how.l_onoff) + ", " + std::to_string(how.l_linger) + ", " +
              std::to_string(size));
        how = {1, 5};
        s.note("setsockopt", s.world.setsockopt(fd, SOL_SOCKET, SO_LINGER, &how, sizeof how));
        how = {};
        s.note("getsockopt", s.world.getsockopt(fd, SOL_SOCKET, SO_LINGER, &how, &size));
        s.say(std::to_string(how.l_onoff) + ", " + std::to_string(how.l_linger) + ", " +
              std::to_string(size));
        s.note("setsockopt", s.world.setsockopt(fd, SOL_SOCKET, SO_LINGER, &how, 3));
    });
}

TEST_CASE("a connection fills up, says so, and there is room again when it was read") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.set(c.a, SOL_SOCKET, SO_SNDBUF, 20000);
        s.set(c.b, SOL_SOCKET, SO_RCVBUF, 20000);
        const std::size_t sent = s.fill(c.a);
        s.say(sent > 1000 ? "something fits" : "nothing fits");
        s.ready(c.a);
        s.drain(c.b, sent);
        s.await(c.a, EPOLLOUT);
        s.ready(c.a);
        s.send(c.a, "end");
        s.recv_when_there(c.b);
    });
}

TEST_CASE("who shuts down while the other's window is full still delivers all of it") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.set(c.b, SOL_SOCKET, SO_RCVBUF, 20000);
        const std::size_t sent = s.fill(c.a);
        s.shutdown(c.a, SHUT_WR);
        s.ready(c.a);
        s.drain(c.b, sent);
        s.recv_when_there(c.b);
    });
}

TEST_CASE("who closes with a full window still delivers all of it") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.set(c.b, SOL_SOCKET, SO_RCVBUF, 20000);
        const std::size_t sent = s.fill(c.a);
        s.close(c.a);
        s.drain(c.b, sent);
        s.recv_when_there(c.b);
    });
}

TEST_CASE("shutdown in a way that does not exist is an error") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.shutdown(c.a, 3);
        s.shutdown(c.a, -1);
        s.shutdown(c.a, SHUT_RD);
        s.shutdown(c.a, SHUT_RD);
    });
}
