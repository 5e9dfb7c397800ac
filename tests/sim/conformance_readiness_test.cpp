// epoll and eventfd: the simulated kernel does what Linux does.

#include <fcntl.h>

#include "conformance.hpp"

using namespace conformance;

namespace {

constexpr std::uint32_t all = EPOLLIN | EPOLLOUT | EPOLLRDHUP;

} // namespace

TEST_CASE("a level is told as long as it holds, an edge once") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        watch level(s), edge(s);
        level.add(c.b, EPOLLIN);
        edge.add(c.b, EPOLLIN | EPOLLET);
        s.send(c.a, "x");
        level.next();
        level.now();
        edge.next();
        edge.now();
        s.send(c.a, "y");
        s.await(c.b, EPOLLIN);
        edge.next();
        edge.now();
        s.recv(c.b);
        level.now();
        edge.now();
    });
}

TEST_CASE("what is ready when it is added or modified is told, also as an edge") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        s.send(c.a, "x");
        s.await(c.b, EPOLLIN);
        watch set(s);
        set.add(c.b, EPOLLIN | EPOLLET);
        set.now();
        set.now();
        set.modify(c.b, EPOLLIN | EPOLLET);
        set.now();
        set.now();
        set.modify(c.b, EPOLLOUT | EPOLLET, 7);
        set.now();
        set.modify(c.b, 0, 8);
        set.now();
    });
}

TEST_CASE("a one-shot registration tells once and is armed again by a modification") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        watch set(s);
        set.add(c.b, EPOLLIN | EPOLLONESHOT);
        s.send(c.a, "x");
        set.next();
        set.now();
        s.send(c.a, "y");
        set.now();
        s.close(c.a);
        s.await(c.b, EPOLLRDHUP);
        set.now();
        set.modify(c.b, EPOLLIN | EPOLLRDHUP | EPOLLONESHOT);
        set.now();
        set.now();
    });
}

TEST_CASE("who is registered twice, not at all or cannot be is an error") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        watch set(s);
        set.modify(c.a, EPOLLIN);
        set.remove(c.a);
        set.add(c.a, EPOLLIN);
        set.add(c.a, EPOLLIN);
        set.remove(c.a);
        set.remove(c.a);
        set.add(-1, EPOLLIN);
        set.add(set.fd(), EPOLLIN);
        const int file = s.keep(s.world.open(s.path("file").c_str(), O_RDWR | O_CREAT, 0600));
        set.add(file, EPOLLIN);
        set.remove(file);
        epoll_event event{};
        s.note("not an epoll", s.world.epoll_ctl(c.a, EPOLL_CTL_ADD, c.b, &event));
        s.note("no epoll", s.world.epoll_ctl(-1, EPOLL_CTL_ADD, c.b, &event));
        s.note("no such operation", s.world.epoll_ctl(set.fd(), 77, c.b, &event));
        s.note("wait on no epoll", s.world.epoll_wait(c.a, &event, 1, 0));
        s.note("wait on nothing", s.world.epoll_wait(-1, &event, 1, 0));
        s.note("for no events", s.world.epoll_wait(set.fd(), &event, 0, 0));
    });
}

TEST_CASE("a removed registration tells nothing, not even what it was about to") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        watch set(s);
        set.add(c.b, EPOLLIN | EPOLLET);
        s.send(c.a, "x");
        s.await(c.b, EPOLLIN);
        set.remove(c.b);
        set.now();
        set.add(c.b, EPOLLIN | EPOLLET, 2);
        set.now();
    });
}

TEST_CASE("a closed descriptor leaves its epolls, and its number begins anew") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        watch set(s), other(s);
        set.add(c.b, EPOLLIN);
        other.add(c.b, EPOLLIN | EPOLLET);
        s.send(c.a, "x");
        s.await(c.b, EPOLLIN);
        s.close(c.b);
        set.now();
        other.now();
        const int next = s.stream();
        s.say(next == c.b ? "the same number" : "another number");
        set.add(next, EPOLLIN, 3);
        set.now();
    });
}

TEST_CASE("events that come between two waits are one") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        watch set(s);
        set.add(c.b, all | EPOLLET);
        set.now();
        s.send(c.a, "x");
        s.send(c.a, "y");
        s.shutdown(c.a, SHUT_WR);
        s.await(c.b, EPOLLRDHUP);
        set.next();
        set.now();
    });
}

TEST_CASE("an edge tells all that is ready, whatever caused it") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        watch set(s);
        set.add(c.b, all | EPOLLET);
        set.now();
        s.send(c.a, "x");
        s.await(c.b, EPOLLIN);
        set.next();
        s.shutdown(c.a, SHUT_WR);
        s.await(c.b, EPOLLRDHUP);
        set.next();
        s.recv(c.b);
        s.recv(c.b);
        set.now();
        s.shutdown(c.b, SHUT_WR);
        set.next();
        set.now();
    });
}

TEST_CASE("an edge for which nothing is registered is none") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        watch set(s);
        set.add(c.b, EPOLLOUT | EPOLLET);
        set.now();
        s.send(c.a, "x");
        s.await(c.b, EPOLLIN);
        set.now();
        s.shutdown(c.a, SHUT_WR);
        s.await(c.b, EPOLLRDHUP);
        set.now();
        set.now();
    });
}

TEST_CASE("hang-up and error are told unasked") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        watch set(s);
        set.add(c.a, 0);
        const linger now{1, 0};
        s.note("setsockopt", s.world.setsockopt(c.b, SOL_SOCKET, SO_LINGER, &now, sizeof now));
        set.now();
        s.close(c.b);
        set.next();
        s.error_of(c.a);
        set.now();
    });
}

TEST_CASE("a fresh socket hangs up when it is added, connects without hanging up, and its edges are told") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"));
        const int client = s.stream();
        watch set(s), doors(s);
        doors.add(door, EPOLLIN | EPOLLET);
        doors.now();
        set.add(client, all | EPOLLET);
        set.now();
        set.now();
        s.connect(client, s.local(door));
        s.await(client, EPOLLOUT);
        set.next();
        set.now();
        doors.next();
        doors.now();
        s.accept(door);
        doors.now();
    });
}

TEST_CASE("a connection that is refused is all events at once") {
    same_in_both([](script &s) {
        const name at = s.nobody();
        const int client = s.stream();
        watch set(s);
        s.connect(client, at);
        set.add(client, all | EPOLLET);
        set.next();
        set.now();
        s.error_of(client);
        set.now();
        set.modify(client, all | EPOLLET);
        set.now();
    });
}

TEST_CASE("a listener tells each that comes, and its level until all are taken") {
    same_in_both([](script &s) {
        const int door = s.listener(inet("127.0.0.1"));
        watch level(s), edge(s);
        level.add(door, all);
        edge.add(door, all | EPOLLET);
        for (int i = 0; i < 2; i++) {
            const int client = s.stream();
            s.connect(client, s.local(door));
            s.await(client, EPOLLOUT);
            edge.next();
            edge.now();
        }
        level.next();
        s.accept(door);
        level.now();
        s.accept(door);
        level.now();
        edge.now();
    });
}

TEST_CASE("a writer of a full connection is told when it was read") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        watch set(s);
        set.add(c.a, EPOLLOUT | EPOLLET);
        set.now();
        const std::size_t sent = s.fill(c.a);
        s.drain(c.b, sent);
        s.await(c.a, EPOLLOUT);
        set.next();
        set.now();
    });
}

TEST_CASE("who looks for room in a full connection is told of it although no write has failed since") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        const std::size_t sent = s.fill(c.a);
        watch set(s);
        set.add(c.a, EPOLLOUT);
        set.now();
        s.drain(c.b, sent);
        set.next();
        set.now();
    });
}

TEST_CASE("sending and receiving without hindrance makes no edge for writing") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        watch set(s);
        set.add(c.a, EPOLLOUT | EPOLLET);
        set.now();
        s.send(c.a, "x");
        s.recv_when_there(c.b);
        set.now();
    });
}

TEST_CASE("two epolls are told the same") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        watch one(s), other(s);
        one.add(c.b, EPOLLIN | EPOLLET, 1);
        other.add(c.b, EPOLLIN | EPOLLET, 2);
        s.send(c.a, "x");
        one.next();
        other.next();
        one.now();
    });
}

TEST_CASE("an epoll can be watched by another") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        watch inner(s), outer(s);
        outer.add(inner.fd(), EPOLLIN);
        inner.add(c.b, EPOLLIN, 5);
        outer.now();
        s.ready(inner.fd());
        s.send(c.a, "x");
        outer.next();
        inner.now();
        outer.now();
        s.recv(c.b);
        outer.now();
        inner.now();
    });
}

TEST_CASE("no more events than asked for, and the others the next time") {
    same_in_both([](script &s) {
        watch set(s);
        std::vector<int> counters;
        for (std::uint64_t label = 1; label <= 3; label++) {
            counters.push_back(s.keep(s.world.eventfd()));
            const std::uint64_t one = 1;
            s.note("write", s.world.write(counters.back(), &one, sizeof one));
            set.add(counters.back(), EPOLLIN | EPOLLET, label);
        }
        int told[4] = {};
        for (int round = 0; round < 3; round++) {
            epoll_event event{};
            s.note("one", s.world.epoll_wait(set.fd(), &event, 1, 0));
            told[event.data.u64]++;
        }
        s.say(told[1] == 1 && told[2] == 1 && told[3] == 1 ? "each once" : "not each once");
        set.now();
    });
}

TEST_CASE("a level is told in turn: one that is always ready does not hide the others") {
    same_in_both([](script &s) {
        watch set(s);
        for (std::uint64_t label = 1; label <= 3; label++) {
            const int counter = s.keep(s.world.eventfd());
            const std::uint64_t one = 1;
            s.note("write", s.world.write(counter, &one, sizeof one));
            set.add(counter, EPOLLIN, label);
        }
        int told[4] = {};
        for (int round = 0; round < 6; round++) {
            epoll_event event{};
            s.note("one", s.world.epoll_wait(set.fd(), &event, 1, 0));
            told[event.data.u64]++;
        }
        s.say(told[1] == 2 && told[2] == 2 && told[3] == 2 ? "each twice" : "not each twice");
    });
}

TEST_CASE("a wait of nothing returns at once, one with a limit when it has passed") {
    same_in_both([](script &s) {
        watch set(s);
        set.now();
        for (std::int64_t limit : {1'000, 3'000'000}) {
            epoll_event event{};
            const std::int64_t before = s.world.monotonic_ns();
            s.note("events", s.world.epoll_wait(set.fd(), &event, 1, limit));
            s.say(s.world.monotonic_ns() - before >= limit ? "not too early" : "too early");
        }
    });
}

TEST_CASE("an eventfd adds, gives all at once, and says when there is nothing") {
    same_in_both([](script &s) {
        const int counter = s.keep(s.world.eventfd());
        const auto add = [&](std::uint64_t n) { s.note("write", s.world.write(counter, &n, sizeof n)); };
        const auto take = [&] {
            std::uint64_t n = 0;
            if (s.note("read", s.world.read(counter, &n, sizeof n)) > 0)
                s.say("value " + std::to_string(n));
        };
        s.ready(counter);
        take();
        add(3);
        add(4);
        s.ready(counter);
        take();
        take();
        add(0);
        s.ready(counter);
        take();
        add(UINT64_MAX);
        add(UINT64_MAX - 1);
        s.ready(counter);
        add(1);
        add(0);
        take();
        char small[16] = {};
        s.note("too small", s.world.read(counter, small, 7));
        s.note("too small", s.world.write(counter, small, 7));
        small[0] = 1;
        s.note("larger", s.world.write(counter, small, 16));
        s.note("larger", s.world.read(counter, small, 16));
    });
}

TEST_CASE("each write to an eventfd is an edge, also of what was ready; two between waits are one") {
    same_in_both([](script &s) {
        const int counter = s.keep(s.world.eventfd());
        const std::uint64_t one = 1;
        watch set(s);
        set.add(counter, EPOLLIN | EPOLLET);
        set.now();
        s.world.write(counter, &one, sizeof one);
        set.now();
        set.now();
        s.world.write(counter, &one, sizeof one);
        set.now();
        s.world.write(counter, &one, sizeof one);
        s.world.write(counter, &one, sizeof one);
        set.now();
        set.now();
        std::uint64_t value = 0;
        s.world.write(counter, &one, sizeof one);
        s.world.read(counter, &value, sizeof value);
        s.say("value " + std::to_string(value));
        set.now();
        set.modify(counter, EPOLLIN | EPOLLOUT | EPOLLET);
        set.now();
        s.world.write(counter, &one, sizeof one);
        set.now();
        s.world.read(counter, &value, sizeof value);
        set.now();
    });
}
