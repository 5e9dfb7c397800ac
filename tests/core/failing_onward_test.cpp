// A kind of system call that fails from its n-th time on and never recovers, or recovers late: for every kind
// and every n, what was begun is completed once, the stop ends in order and nothing is left.

#include <doctest/doctest.h>

#include "peers.h"
#include "unreliable.h"

using namespace peers;

namespace {

struct Failure {
    Unreliable::Call call;
    int error;
    const char *name;
};

const Failure failures[] = {
    {Unreliable::SOCKET, EMFILE, "socket"},
    {Unreliable::BIND, EACCES, "bind"},
    {Unreliable::LISTEN, EADDRINUSE, "listen"},
    {Unreliable::ACCEPT, ENFILE, "accept"},
    {Unreliable::CONNECT, ENETUNREACH, "connect"},
    {Unreliable::GETSOCKNAME, ENOBUFS, "getsockname"},
    {Unreliable::GETSOCKOPT, ENOBUFS, "getsockopt"},
    {Unreliable::SETSOCKOPT, ENOMEM, "setsockopt"},
    {Unreliable::RECV, ECONNRESET, "recv"},
    {Unreliable::SEND, EPIPE, "send"},
    {Unreliable::CLOSE, EIO, "close"},
    {Unreliable::NONBLOCKING, EINVAL, "fcntl"},
    {Unreliable::EPOLL_CREATE, ENFILE, "epoll_create"},
    {Unreliable::EPOLL_ADD, ENOSPC, "epoll_ctl, add"},
    {Unreliable::EPOLL_ADD, ENOMEM, "epoll_ctl, add"},
    {Unreliable::EPOLL_ADD, EEXIST, "epoll_ctl, add"},
    {Unreliable::EPOLL_MOD, ENOMEM, "epoll_ctl, modify"},
    {Unreliable::EPOLL_DEL, ENOENT, "epoll_ctl, delete"},
    {Unreliable::EPOLL_WAIT, EINTR, "epoll_wait"},
    {Unreliable::EVENTFD, EMFILE, "eventfd"},
    {Unreliable::THREAD_START, EAGAIN, "thread_start"},
    {Unreliable::ALLOCATE, ENOMEM, "allocate"},
};

// It ends once, well or not. Who cannot be accepted at all is given up here: the kernel took the connection,
// and nobody will ever answer.
void ask(Communicator &comm, CommTarget &target, const std::string &text, const Unreliable &world) {
    Ask one(text);
    CommTicket ticket = one.ticket();
    if (comm.request(&one, &target) < 0) {
        CHECK(one.handled == 0);
        return;
    }
    REQUIRE(eventually([&] { return one.done.count() > 0 || world.failures() > 0; }));
    // Cancelled, failed or answered: it ends once.
    (void)comm.cancel(ticket);
    REQUIRE(one.done.wait());
    CHECK(one.handled == 1);
    if (one.state == CS_STATE_SUCCESS)
        CHECK(one.in.text == text);
}

// Recovers before the end or not until everything is over.
void a_life(Unreliable &world, size_t loops, size_t handlers, bool recovers) {
    Communicator comm;
    if (comm.init(loops, handlers) < 0)
        return;
    Lines service;
    if (service.start(comm) < 0)
        return;
    Address to = service.address();
    {
        Target target(to.size != 0 ? to : loopback(1));
        const struct sockaddr *addr;
        socklen_t size;
        target.get_addr(&addr, &size);
        if (addr != nullptr) {
            ask(comm, target, "small", world);
            ask(comm, target, std::string(1 << 20, 'x'), world);
        }
        Nap nap(0ms);
        REQUIRE(comm.sleep(&nap) == 0);
        REQUIRE(nap.done.wait());
        if (recovers) {
            world.reliable();
            Address now = service.address();
            CHECK(eventually([&] {
                Socket client = Socket::connected(now);
                return client.send("x\n") && client.receive(2) == "x\n";
            }));
        }
    }
    CHECK(service.stopped.count() == 0);
    // A peer whose end is never reported would be waited for.
    comm.unbind(&service, recovers ? -1 : 0);
    REQUIRE(service.unbound.wait());
    comm.deinit();
    CHECK(service.alive == 0);
    CHECK(service.sessions == 0);
}

void walk(const Failure &failure, size_t loops, size_t handlers, bool recovers) {
    INFO(std::string(failure.name), " says ", failure.error, ", ", loops, " loops, ", handlers,
         " handler threads");
    size_t descriptors = open_descriptors(), threads = running_threads();
    for (int64_t n = 1;; n++) {
        INFO("from call ", n);
        bool over;
        {
            Unreliable world;
            world.fail(failure.call, n, failure.error, Unreliable::for_ever);
            a_life(world, loops, handlers, recovers);
            over = world.failures() == 0;
            CHECK(world.blocks() == 0);
        }
        CHECK(open_descriptors() == descriptors);
        CHECK(eventually([&] { return running_threads() == threads; }));
        if (over)
            break;
        if (n > 8) // the data path repeats itself
            n += n / 2;
    }
}

} // namespace

TEST_CASE("whichever call fails from some time on, the service recovers when the calls do") {
    for (const Failure &failure : failures)
        walk(failure, 2, 0, true);
}

TEST_CASE("whichever call fails from some time on and for ever, the stop ends in order: callbacks on loops") {
    for (const Failure &failure : failures)
        walk(failure, 2, 0, false);
}

TEST_CASE("whichever call fails from some time on and for ever, the stop ends in order: callbacks on handler "
          "threads") {
    for (const Failure &failure : failures)
        walk(failure, 1, 2, false);
}
