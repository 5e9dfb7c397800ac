// Each kind of unkindness does what its comment says, seen from sockets that are used directly.

#include <doctest/doctest.h>

#include <fcntl.h>

#include <algorithm>

#include <parley/sim/search.hpp>

#include "sockets.hpp"

using namespace std::chrono_literals;
using namespace wire;
namespace sim = parley::sim;
namespace sys = parley::sys;

namespace {

// Both ends on the local host; neither waits.
connection connect_both() {
    const int door = listen_at("127.0.0.1", 7000);
    connection made;
    made.client = connect_to("127.0.0.1", 7000);
    made.server = accept_from(door);
    sys::current().set_nonblocking(made.client);
    sys::close(door);
    return made;
}

void close_both(const connection &c) {
    sys::close(c.client);
    sys::close(c.server);
}

void watch(int set, int fd, std::uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    CHECK(sys::current().epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0);
}

// The events of one wait, without waiting unless said otherwise.
std::vector<epoll_event> wait(int set, std::int64_t limit = 0) {
    std::vector<epoll_event> told(8);
    const int n = sys::current().epoll_wait(set, told.data(), 8, limit);
    told.resize(static_cast<std::size_t>(n));
    return told;
}

void write_counter(int counter) {
    const std::uint64_t one = 1;
    CHECK(sys::current().write(counter, &one, sizeof one) == sizeof one);
}

} // namespace

TEST_CASE("a short read gives less than there is, and the rest is announced again, also as an edge") {
    sim::world world{1};
    world.run([&] {
        const connection c = connect_both();
        const int set = sys::current().epoll_create();
        watch(set, c.server, EPOLLIN | EPOLLET);
        send_all(c.client, std::string(1000, 'x'));
        CHECK(wait(set, -1).size() == 1);
        world.set_faults({.short_read = 1});
        ssize_t sum = 0;
        int reads = 0;
        while (sum < 1000) {
            const ssize_t n = try_recv(c.server, 1000);
            REQUIRE(n > 0);
            sum += n;
            reads++;
            if (sum < 1000)
                CHECK(wait(set, 1'000'000'000).size() == 1);
        }
        CHECK(reads > 1);
        sys::close(set);
        close_both(c);
    });
}

TEST_CASE("a short write takes less than there is room for, and room is announced again, also as an edge") {
    sim::world world{1};
    world.run([&] {
        const connection c = connect_both();
        const int set = sys::current().epoll_create();
        watch(set, c.client, EPOLLOUT | EPOLLET);
        CHECK(wait(set).size() == 1);
        world.set_faults({.short_write = 1});
        const std::string data(1000, 'x');
        CHECK(sys::send(c.client, data.data(), data.size(), 0) < 1000);
        CHECK(wait(set).empty());
        CHECK(wait(set, 1'000'000'000).size() == 1);
        sys::close(set);
        close_both(c);
    });
}

TEST_CASE("a call that would block says so although it could go on, and is announced again") {
    sim::world world{1};
    world.run([&] {
        const connection c = connect_both();
        const int set = sys::current().epoll_create();
        watch(set, c.server, EPOLLIN | EPOLLOUT | EPOLLET);
        send_all(c.client, "hello");
        CHECK(wait(set).size() == 1);
        world.set_faults({.would_block = 1});
        CHECK(try_recv(c.server) == -EAGAIN);
        CHECK(wait(set, 1'000'000'000).size() == 1);
        CHECK(sys::send(c.server, "x", 1, 0) == -1);
        CHECK(errno == EAGAIN);
        CHECK(wait(set, 1'000'000'000).size() == 1);
        world.set_faults({});
        CHECK(try_recv(c.server, 5) == 5);
        sys::close(set);
        close_both(c);
    });
}

TEST_CASE("a connection that is reset by the network is reset for both, when a segment arrives") {
    sim::world world{1};
    world.run([&] {
        const connection c = connect_both();
        world.set_faults({.reset = 1});
        CHECK(try_recv(c.client) == -EAGAIN);
        send_all(c.client, "x");
        CHECK(try_recv(c.server) == -ECONNRESET);
        CHECK(try_recv(c.client) == -ECONNRESET);
        close_both(c);
    });
}

TEST_CASE("a spurious event tells readiness where there is none, beside one that is real") {
    sim::world world{1};
    world.set_faults({.spurious_event = 1});
    world.run([&] {
        sys::world &w = sys::current();
        const int set = w.epoll_create(), real = w.eventfd(), idle = w.eventfd();
        watch(set, real, EPOLLIN);
        watch(set, idle, EPOLLIN);
        CHECK(wait(set).empty());
        write_counter(real);
        bool lied = false;
        for (int i = 0; i < 20; i++) {
            const std::vector<epoll_event> told = wait(set);
            CHECK(std::any_of(told.begin(), told.end(),
                              [&](const epoll_event &one) { return one.data.fd == real; }));
            lied = lied || std::any_of(told.begin(), told.end(),
                                       [&](const epoll_event &one) { return one.data.fd == idle; });
        }
        CHECK(lied);
        for (int fd : {set, real, idle})
            w.close(fd);
    });
}

TEST_CASE("no lie is told of a one-shot registration that has told, nor two in one batch") {
    sim::world world{1};
    world.set_faults({.spurious_event = 1});
    world.run([&] {
        sys::world &w = sys::current();
        const int set = w.epoll_create(), real = w.eventfd(), spent = w.eventfd();
        watch(set, spent, EPOLLIN | EPOLLONESHOT);
        write_counter(spent);
        CHECK(wait(set).size() == 1);
        watch(set, real, EPOLLIN);
        write_counter(real);
        for (int i = 0; i < 20; i++) {
            const std::vector<epoll_event> told = wait(set);
            REQUIRE(told.size() == 1);
            CHECK(told[0].data.fd == real);
        }
        for (int fd : {set, real, spent})
            w.close(fd);
    });
}

TEST_CASE("a stale event is of a registration that was removed, beside one that is real") {
    sim::world world{1};
    world.set_faults({.stale_event = 1});
    world.run([&] {
        sys::world &w = sys::current();
        const int set = w.epoll_create(), real = w.eventfd(), gone = w.eventfd();
        watch(set, real, EPOLLIN);
        watch(set, gone, EPOLLIN);
        w.epoll_ctl(set, EPOLL_CTL_DEL, gone, nullptr);
        CHECK(wait(set).empty());
        write_counter(real);
        const std::vector<epoll_event> told = wait(set);
        REQUIRE(told.size() == 2);
        CHECK(told[0].data.fd == real);
        CHECK(told[1].data.fd == gone);
        for (int fd : {set, real, gone})
            w.close(fd);
    });
}

TEST_CASE("a late event is told by a later wait, together with what came meanwhile, and never lost") {
    int late = 0;
    for (std::uint64_t seed = 1; seed <= 20; seed++) {
        sim::world world{seed};
        world.set_faults({.late_event = 0.5});
        world.run([&] {
            const connection c = connect_both();
            const int set = sys::current().epoll_create();
            watch(set, c.server, EPOLLIN | EPOLLRDHUP | EPOLLET);
            send_all(c.client, "x");
            if (wait(set).empty()) {
                late++;
                sys::close(c.client);
                const std::vector<epoll_event> told = wait(set, 1'000'000'000);
                REQUIRE(told.size() == 1);
                CHECK(told[0].events == (EPOLLIN | EPOLLRDHUP));
            } else {
                sys::close(c.client);
            }
            sys::close(c.server);
            sys::close(set);
        });
    }
    CHECK(late > 2);
    CHECK(late < 18);
}

TEST_CASE("a stalled thread is not run for a while, and no longer than said") {
    sim::world world{1};
    world.set_faults({.stall = 1, .longest_stall = 10ms});
    world.run([&] {
        for (int i = 0; i < 20; i++) {
            const auto before = world.now();
            world.point();
            CHECK(world.now() > before);
            CHECK(world.now() - before <= 10ms + 1us);
        }
        CHECK(world.now() > 20ms);
        world.set_faults({});
    });
}

TEST_CASE("a slow disk takes up to a second for an operation") {
    sim::world world{1};
    world.set_faults({.slow_disk = 1});
    world.run([&] {
        sys::world &w = sys::current();
        const int fd = w.open("file", O_RDWR | O_CREAT, 0600);
        CHECK(world.now() > 0s);
        auto before = world.now();
        const auto step = [&](ssize_t result) {
            CHECK(result >= 0);
            CHECK(world.now() > before);
            CHECK(world.now() - before <= 1001ms);
            before = world.now();
        };
        step(w.write(fd, "x", 1));
        char byte;
        iovec piece{&byte, 1};
        step(w.preadv(fd, &piece, 1, 0, 0));
        step(w.pwritev(fd, &piece, 1, 0, 0));
        step(w.fsync(fd));
        step(w.fdatasync(fd));
        w.close(fd);
    });
}

TEST_CASE(
    "a planned failure lets as many calls go as was said, then fails so many, on the host that was meant") {
    sim::world world{1};
    sim::host &other = world.add_host("other");
    world.fail_calls(sim::call::socket, ENFILE, {.after = 2, .times = 3}, &world.local());
    world.run([&] {
        std::vector<int> results;
        for (int i = 0; i < 7; i++) {
            other.run([&] {
                const int fd = make_socket(SOCK_STREAM);
                CHECK(fd >= 0);
                sys::close(fd);
            });
            const int fd = make_socket(SOCK_STREAM);
            results.push_back(fd < 0 ? fd : 0);
            if (fd >= 0)
                sys::close(fd);
        }
        CHECK(results == std::vector<int>{0, 0, -ENFILE, -ENFILE, -ENFILE, 0, 0});
    });
}

TEST_CASE("a failure of all calls from now on goes on, and getaddrinfo fails by its own codes") {
    sim::world world{1};
    world.fail_calls(sim::call::getaddrinfo, EAI_AGAIN, {.times = UINT64_MAX});
    world.run([&] {
        for (int i = 0; i < 100; i++) {
            addrinfo *found = nullptr;
            CHECK(sys::current().getaddrinfo("localhost", nullptr, nullptr, &found) == EAI_AGAIN);
        }
    });
}

TEST_CASE("calls fail as often as their chance says") {
    sim::world world{1};
    world.fail_calls_by_chance(sim::call::eventfd, EMFILE, 0.25);
    world.run([&] {
        int failed = 0;
        for (int i = 0; i < 1000; i++) {
            const int fd = sys::current().eventfd();
            if (fd < 0)
                failed += errno == EMFILE ? 1 : 1000;
            else
                sys::close(fd);
        }
        CHECK(failed > 180);
        CHECK(failed < 320);
    });
}

TEST_CASE("memory and randomness can run out") {
    sim::world world{1};
    world.fail_calls(sim::call::allocate, ENOMEM);
    world.fail_calls(sim::call::random, EIO);
    world.run([&] {
        CHECK(sys::current().allocate(10) == nullptr);
        CHECK(errno == ENOMEM);
        void *memory = sys::current().allocate(10);
        CHECK(memory != nullptr);
        sys::current().deallocate(memory);
        char bytes[4];
        CHECK(sys::current().random(bytes, sizeof bytes) == -1);
        CHECK(errno == EIO);
        CHECK(sys::current().random(bytes, sizeof bytes) == 4);
    });
}

TEST_CASE("what a program throws ends the run and is passed on, whatever it is") {
    sim::world world{1};
    CHECK_THROWS_AS(world.run([] { throw 7; }), int);
    sim::world next{1};
    CHECK_THROWS_AS(next.run([] { throw std::runtime_error("a reason"); }), std::runtime_error);
}

TEST_CASE("without faults nothing of the kind happens") {
    sim::world world{1};
    world.run([&] {
        const connection c = connect_both();
        for (int i = 0; i < 200; i++) {
            CHECK(sys::send(c.client, "0123456789", 10, 0) == 10);
            CHECK(try_recv(c.server, 10) == 10);
            CHECK(try_recv(c.server, 10) == -EAGAIN);
        }
        CHECK(world.now() == 0s);
        close_both(c);
    });
}
