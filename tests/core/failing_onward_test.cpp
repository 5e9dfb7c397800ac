// A kind of system call that fails from its n-th time on and never recovers, or recovers late: for every kind
// and every n, what was begun is completed once, the stop ends in order and nothing is left.

#include <doctest/doctest.h>

#include "forwarding_world.h"
#include "peers.h"

using namespace peers;

namespace {

enum Call {
    SOCKET,
    BIND,
    LISTEN,
    ACCEPT,
    CONNECT,
    GETSOCKNAME,
    GETSOCKOPT,
    SETSOCKOPT,
    RECEIVING,
    SENDING,
    CLOSE,
    NONBLOCKING,
    EPOLL_CREATE,
    EPOLL_ADD,
    EPOLL_MOD,
    EPOLL_DEL,
    EPOLL_WAIT,
    EVENTFD,
    THREAD_START,
    ALLOCATE
};

class Broken : public fixture::ForwardingWorld {
public:
    Broken() { parley::sys::install(this); }
    ~Broken() override { parley::sys::install(nullptr); }

    // The n-th such call, from 1, fails with `error`, and so do all after it.
    void fail(Call call, int64_t n, int error) {
        failures_ = 0;
        error_ = error;
        left_ = n;
        call_ = call;
    }
    void mend() { call_ = -1; }
    int64_t failures() const { return failures_; }
    int64_t blocks() const { return blocks_; }

    int socket(int domain, int type, int protocol) override {
        return fails(SOCKET) ? -1 : real.socket(domain, type, protocol);
    }
    int bind(int fd, const struct sockaddr *addr, socklen_t size) override {
        return fails(BIND) ? -1 : real.bind(fd, addr, size);
    }
    int listen(int fd, int backlog) override { return fails(LISTEN) ? -1 : real.listen(fd, backlog); }
    int accept(int fd, struct sockaddr *addr, socklen_t *size) override {
        return fails(ACCEPT) ? -1 : real.accept(fd, addr, size);
    }
    int connect(int fd, const struct sockaddr *addr, socklen_t size) override {
        return fails(CONNECT) ? -1 : real.connect(fd, addr, size);
    }
    int getsockname(int fd, struct sockaddr *addr, socklen_t *size) override {
        return fails(GETSOCKNAME) ? -1 : real.getsockname(fd, addr, size);
    }
    int getsockopt(int fd, int level, int name, void *value, socklen_t *size) override {
        return fails(GETSOCKOPT) ? -1 : real.getsockopt(fd, level, name, value, size);
    }
    int setsockopt(int fd, int level, int name, const void *value, socklen_t size) override {
        return fails(SETSOCKOPT) ? -1 : real.setsockopt(fd, level, name, value, size);
    }
    ssize_t recv(int fd, void *buffer, size_t size, int flags) override {
        return fails(RECEIVING) ? -1 : real.recv(fd, buffer, size, flags);
    }
    ssize_t recvmsg(int fd, struct msghdr *message, int flags) override {
        return fails(RECEIVING) ? -1 : real.recvmsg(fd, message, flags);
    }
    ssize_t send(int fd, const void *buffer, size_t size, int flags) override {
        return fails(SENDING) ? -1 : real.send(fd, buffer, size, flags);
    }
    ssize_t sendmsg(int fd, const struct msghdr *message, int flags) override {
        return fails(SENDING) ? -1 : real.sendmsg(fd, message, flags);
    }
    // As on Linux: whatever close() says, the descriptor is gone.
    int close(int fd) override {
        int result = real.close(fd);
        return fails(CLOSE) ? -1 : result;
    }
    int set_nonblocking(int fd) override { return fails(NONBLOCKING) ? -1 : real.set_nonblocking(fd); }
    int epoll_create() override { return fails(EPOLL_CREATE) ? -1 : real.epoll_create(); }
    int epoll_ctl(int epfd, int operation, int fd, struct epoll_event *event) override {
        Call call = operation == EPOLL_CTL_ADD   ? EPOLL_ADD
                    : operation == EPOLL_CTL_MOD ? EPOLL_MOD
                                                 : EPOLL_DEL;
        if (call == EPOLL_DEL) // it says no, but closing the descriptor would have done it anyway
            return real.epoll_ctl(epfd, operation, fd, event) < 0 || fails(call) ? -1 : 0;
        return fails(call) ? -1 : real.epoll_ctl(epfd, operation, fd, event);
    }
    int epoll_wait(int epfd, struct epoll_event *events, int max, int64_t timeout_ns) override {
        return fails(EPOLL_WAIT) ? -1 : real.epoll_wait(epfd, events, max, timeout_ns);
    }
    int eventfd() override { return fails(EVENTFD) ? -1 : real.eventfd(); }
    int thread_start(parley::sys::thread_handle *thread, void (*run)(void *), void *argument) override {
        return fails(THREAD_START) ? error_.load() : real.thread_start(thread, run, argument);
    }
    void *allocate(size_t size) override {
        if (fails(ALLOCATE))
            return nullptr;
        blocks_++;
        return real.allocate(size);
    }
    void deallocate(void *memory) override {
        blocks_ -= memory != nullptr;
        real.deallocate(memory);
    }

private:
    bool fails(Call call) {
        if (call_.load() != call || --left_ >= 1)
            return false;
        failures_++;
        errno = error_;
        return true;
    }

    std::atomic<int> call_{-1}, error_{0};
    std::atomic<int64_t> left_{0}, failures_{0}, blocks_{0};
};

struct Failure {
    Call call;
    int error;
    const char *name;
};

const Failure failures[] = {
    {SOCKET, EMFILE, "socket"},
    {BIND, EACCES, "bind"},
    {LISTEN, EADDRINUSE, "listen"},
    {ACCEPT, ENFILE, "accept"},
    {CONNECT, ENETUNREACH, "connect"},
    {GETSOCKNAME, ENOBUFS, "getsockname"},
    {GETSOCKOPT, ENOBUFS, "getsockopt"},
    {SETSOCKOPT, ENOMEM, "setsockopt"},
    {RECEIVING, ECONNRESET, "recv"},
    {SENDING, EPIPE, "send"},
    {CLOSE, EIO, "close"},
    {NONBLOCKING, EINVAL, "fcntl"},
    {EPOLL_CREATE, ENFILE, "epoll_create"},
    {EPOLL_ADD, ENOSPC, "epoll_ctl, add"},
    {EPOLL_ADD, ENOMEM, "epoll_ctl, add"},
    {EPOLL_ADD, EEXIST, "epoll_ctl, add"},
    {EPOLL_MOD, ENOMEM, "epoll_ctl, modify"},
    {EPOLL_DEL, ENOENT, "epoll_ctl, delete"},
    {EPOLL_WAIT, EINTR, "epoll_wait"},
    {EVENTFD, EMFILE, "eventfd"},
    {THREAD_START, EAGAIN, "thread_start"},
    {ALLOCATE, ENOMEM, "allocate"},
};

// It ends once, well or not. Who cannot be accepted at all is given up here: the kernel took the connection,
// and nobody will ever answer.
void ask(Communicator &comm, CommTarget &target, const std::string &text, const Broken &world) {
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
void a_life(Broken &world, size_t loops, size_t handlers, bool recovers) {
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
            world.mend();
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
            Broken world;
            world.fail(failure.call, n, failure.error);
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
