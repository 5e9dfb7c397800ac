#include <doctest/doctest.h>

#include <memory>

#include "peers.h"
#include "unreliable.h"

using namespace peers;

namespace {

struct Failure {
    Unreliable::Call call;
    int error;
    const char *name;
};

// Whatever fails, this much holds after a life of a Communicator: all was completed once, nothing is left.
// Returns whether everything went well.
bool a_small_life(size_t loops, size_t handlers) {
    Communicator comm;
    if (comm.init(loops, handlers) < 0)
        return false;
    Lines service;
    Address at = loopback();
    service.communicator = &comm;
    if (service.init(at.get(), at.size, -1, -1) < 0)
        return false;
    if (comm.bind(&service) < 0)
        return false;
    bool well = true;
    {
        Address to = service.address();
        Target target(to, -1, 2000);
        const struct sockaddr *addr;
        socklen_t size;
        target.get_addr(&addr, &size);
        if (addr != nullptr && size == to.size) {
            std::string large(1 << 20, 'x'); // does not fit the buffers: queued, read in parts
            for (const std::string &text : {std::string("small"), large, std::string("small again")}) {
                Ask ask(text);
                if (comm.request(&ask, &target) < 0) {
                    CHECK(ask.handled == 0);
                    well = false;
                    continue;
                }
                REQUIRE(ask.done.wait());
                CHECK(ask.handled == 1);
                CHECK((ask.state == CS_STATE_SUCCESS || ask.state == CS_STATE_ERROR));
                CHECK(ask.error != ETIMEDOUT); // nothing was forgotten
                if (ask.state == CS_STATE_SUCCESS)
                    CHECK(ask.in.text == text);
                else
                    well = false;
            }
        } else {
            well = false;
        }
        Nap nap(0ms);
        REQUIRE(comm.sleep(&nap) == 0);
        REQUIRE(nap.done.wait());
        // The listener has survived whatever it was.
        bool served = eventually([&] {
            Socket client = Socket::connected(to);
            return client.send("x\n") && client.receive(2) == "x\n";
        });
        CHECK(served);
    }
    REQUIRE(service.finish());
    comm.deinit();
    CHECK(service.stopped.count() == 0);
    CHECK(service.alive == 0);
    CHECK(service.sessions == 0);
    return well;
}

void walk(const Failure &failure, size_t loops, size_t handlers) {
    INFO("failing ", failure.name, ", ", loops, " loops, ", handlers, " handler threads");
    size_t descriptors = open_descriptors(), threads = running_threads();
    for (int64_t n = 1;; n++) {
        INFO("call ", n);
        bool over;
        {
            Unreliable world;
            world.fail(failure.call, n, failure.error);
            bool well = a_small_life(loops, handlers);
            over = world.failures() == 0;
            if (over)
                CHECK(well);
            CHECK(world.blocks() == 0);
        }
        CHECK(open_descriptors() == descriptors);
        CHECK(eventually([&] { return running_threads() == threads; }));
        if (over)
            break;
        // The data path repeats itself: the first calls and a sample of the others.
        if (n > 30)
            n += n / 3;
    }
}

const Failure failures[] = {
    {Unreliable::SOCKET, EMFILE, "socket"},          {Unreliable::BIND, EACCES, "bind"},
    {Unreliable::LISTEN, EADDRINUSE, "listen"},      {Unreliable::ACCEPT, EMFILE, "accept"},
    {Unreliable::CONNECT, ENETUNREACH, "connect"},   {Unreliable::GETSOCKNAME, ENOBUFS, "getsockname"},
    {Unreliable::GETSOCKOPT, ENOBUFS, "getsockopt"}, {Unreliable::SETSOCKOPT, ENOMEM, "setsockopt"},
    {Unreliable::RECV, ECONNRESET, "recv"},          {Unreliable::SEND, EPIPE, "send"},
    {Unreliable::NONBLOCKING, EINVAL, "fcntl"},      {Unreliable::EPOLL_ADD, ENOSPC, "epoll_ctl"},
    {Unreliable::EPOLL_WAIT, EINTR, "epoll_wait"},   {Unreliable::ALLOCATE, ENOMEM, "allocate"},
};

} // namespace

TEST_CASE("whichever call fails once, all that was begun is completed once and nothing leaks: callbacks on "
          "the loops") {
    for (const Failure &failure : failures)
        walk(failure, 2, 0);
}

TEST_CASE(
    "whichever call fails once, all that was begun is completed once and nothing leaks: handler threads") {
    for (const Failure &failure : failures)
        walk(failure, 1, 2);
}

TEST_CASE(
    "when epoll, eventfd, memory or a thread cannot be had init() says so, and nothing is left running") {
    size_t descriptors = open_descriptors(), threads = running_threads();
    for (const Failure &failure : {
             Failure{Unreliable::EPOLL_CREATE, EMFILE, "epoll_create"},
             Failure{Unreliable::EVENTFD, ENFILE, "eventfd"},
             Failure{Unreliable::EPOLL_ADD, ENOSPC, "epoll_ctl"},
             Failure{Unreliable::THREAD_START, EAGAIN, "thread_start"},
             Failure{Unreliable::ALLOCATE, ENOMEM, "allocate"},
         }) {
        for (int n = 1;; n++) {
            INFO("failing ", failure.name, ", call ", n);
            Unreliable world;
            world.fail(failure.call, n, failure.error);
            Communicator comm;
            errno = 0;
            int result = comm.init(3, 2);
            if (world.failures() == 0) {
                CHECK(result == 0);
                CHECK(n > 2);
                break;
            }
            CHECK(result == -1);
            CHECK(errno == failure.error);
            CHECK(comm.loops() == 0);
            CHECK(eventually([&] { return running_threads() == threads; }));
            CHECK(open_descriptors() == descriptors);
            CHECK(comm.init(1, 0) == 0); // the next attempt is free to succeed
        }
    }
    CHECK(eventually([&] { return running_threads() == threads; }));
    CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a handler thread that cannot be added is an error, and the others work on") {
    Unreliable world;
    Running comm(1, 1);
    world.fail(Unreliable::THREAD_START, 1, EAGAIN);
    CHECK(comm.increase_handler_thread() == -1);
    CHECK(errno == EAGAIN);
    Nap nap(0ms);
    REQUIRE(comm.sleep(&nap) == 0);
    REQUIRE(nap.done.wait());
}

TEST_CASE("after any error of accept() about one connection or about resources the listener goes on") {
    for (int error : {ECONNABORTED, EPROTO, EINTR, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH,
                      ENETUNREACH, ETIMEDOUT, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM}) {
        INFO("accept says ", error);
        Unreliable world;
        Running comm(2);
        Lines service;
        REQUIRE(service.start(comm) == 0);
        world.fail(Unreliable::ACCEPT, 1, error, 3);
        Socket client = Socket::connected(service.address());
        REQUIRE(client.send("x\n"));
        CHECK(client.receive(2) == "x\n");
        CHECK(world.failures() == 3);
        uint64_t counted = 0;
        for (size_t i = 0; i < 2; i++)
            counted += comm.loop(i)->counters().accept_errors;
        CHECK(counted == 3);
        CHECK(service.stopped.count() == 0);
        REQUIRE(service.finish());
    }
}

TEST_CASE("a listening socket that is none any more ends in handle_stop() with the reason") {
    for (size_t loops : {1U, 3U}) {
        Unreliable world;
        Running comm(loops);
        Lines service;
        REQUIRE(service.start(comm) == 0);
        Socket before = Socket::connected(service.address());
        REQUIRE(before.send("x\n"));
        CHECK(before.receive(2) == "x\n");
        world.fail(Unreliable::ACCEPT, 1, EINVAL);
        Socket client = Socket::connected(service.address());
        REQUIRE(service.stopped.wait());
        CHECK(service.stop_error == EINVAL);
        REQUIRE(before.send("y\n"));
        CHECK(before.receive(2) == "y\n");
        REQUIRE(service.finish());
        CHECK(service.stopped.count() == 1);
    }
}

TEST_CASE("a send that takes one byte at a time loses and repeats none") {
    Unreliable world;
    world.send_limit = 1;
    Running comm(2);
    Lines service;
    REQUIRE(service.start(comm) == 0);
    Target target(service.address());
    std::string text;
    for (int i = 0; i < 2000; i++)
        text.push_back(static_cast<char>('a' + i * 7 % 26));
    Ask ask(text);
    REQUIRE(comm.request(&ask, &target) == 0);
    REQUIRE(ask.done.wait());
    CHECK(ask.is(CS_STATE_SUCCESS, 0));
    CHECK(ask.in.text == text);
    REQUIRE(service.finish());
}

TEST_CASE("what a client's request fails with is what the system said") {
    struct Case {
        Unreliable::Call call;
        int error;
        int cause;
    };
    for (const Case &each :
         {Case{Unreliable::SOCKET, EMFILE, CC_CONNECT}, Case{Unreliable::CONNECT, ENETUNREACH, CC_CONNECT},
          Case{Unreliable::CONNECT, EADDRNOTAVAIL, CC_CONNECT},
          Case{Unreliable::EPOLL_ADD, ENOSPC, CC_CONNECT}, Case{Unreliable::SEND, EPIPE, CC_SEND},
          Case{Unreliable::SEND, ECONNRESET, CC_SEND}, Case{Unreliable::RECV, EHOSTUNREACH, CC_FIRST_BYTE}}) {
        INFO("call ", each.call, " says ", each.error);
        Unreliable world;
        Running comm(1);
        Socket listener = Socket::listening();
        Target target(listener.address());
        size_t descriptors = open_descriptors();
        world.fail(each.call, 1, each.error);
        Ask ask("x");
        REQUIRE(comm.request(&ask, &target) == 0);
        if (each.call == Unreliable::RECV) {
            Socket peer = listener.accepted();
            REQUIRE(peer.send("x\n"));
            REQUIRE(ask.done.wait());
        }
        REQUIRE(ask.done.wait());
        CHECK(ask.is(CS_STATE_ERROR, each.error));
        CHECK(ask.cause == each.cause);
        CHECK(target.released == 1);
        CHECK(eventually([&] { return open_descriptors() == descriptors; }));
        // On the loop the same is known at once, when it happens before the connection is made.
        if (each.cause == CC_CONNECT) {
            world.fail(each.call, 1, each.error);
            Ask again("x");
            REQUIRE(run_on(comm.loop(0), [&] {
                CHECK(comm.request(&again, &target) == -1);
                CHECK(errno == each.error);
            }));
            CHECK(again.handled == 0);
            CHECK(target.released == 1); // there was nothing to release
        }
    }
}

TEST_CASE("a datagram service survives failures of recvmmsg() and of sending") {
    Unreliable world;
    Running comm(1);
    Lines service;
    service.listen_fd = [] { return parley::sys::socket(AF_INET, SOCK_DGRAM, 0); };
    REQUIRE(service.start(comm) == 0);
    for (int error : {ECONNREFUSED, EHOSTUNREACH, EINTR}) {
        world.fail(Unreliable::RECVMMSG, 1, error, 2);
        Socket client = Socket::connected(service.address(), SOCK_DGRAM);
        REQUIRE(client.send("x\n"));
        CHECK(client.receive(2) == "x\n");
    }
    world.fail(Unreliable::SEND, 1, ECONNREFUSED);
    Socket client = Socket::connected(service.address(), SOCK_DGRAM);
    REQUIRE(client.send("lost\n"));
    REQUIRE(service.requests.wait(4));
    REQUIRE(client.send("y\n"));
    CHECK(client.receive(2) == "y\n");
    CHECK(service.stopped.count() == 0);
    REQUIRE(service.finish());
    CHECK(service.sessions == 0);
}
