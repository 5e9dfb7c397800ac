// A world for parley::sys::install() that passes everything on to the kernel, for tests to override what they
// want to see or to fail.
//
//     struct NoWakeUps : ForwardingWorld {
//         int eventfd() override { return errno = EMFILE, -1; }
//     } world;
//     InstalledWorld installed(world); // before any Communicator, and longer

#pragma once

#include "Sys.h"

namespace fixture {

class ForwardingWorld : public parley::sys::world {
public:
    int socket(int domain, int type, int protocol) override { return real.socket(domain, type, protocol); }
    int bind(int fd, const struct sockaddr *addr, socklen_t size) override {
        return real.bind(fd, addr, size);
    }
    int listen(int fd, int backlog) override { return real.listen(fd, backlog); }
    int accept(int fd, struct sockaddr *addr, socklen_t *size) override {
        return real.accept(fd, addr, size);
    }
    int connect(int fd, const struct sockaddr *addr, socklen_t size) override {
        return real.connect(fd, addr, size);
    }
    int shutdown(int fd, int how) override { return real.shutdown(fd, how); }
    int getsockname(int fd, struct sockaddr *addr, socklen_t *size) override {
        return real.getsockname(fd, addr, size);
    }
    int getpeername(int fd, struct sockaddr *addr, socklen_t *size) override {
        return real.getpeername(fd, addr, size);
    }
    int getsockopt(int fd, int level, int name, void *value, socklen_t *size) override {
        return real.getsockopt(fd, level, name, value, size);
    }
    int setsockopt(int fd, int level, int name, const void *value, socklen_t size) override {
        return real.setsockopt(fd, level, name, value, size);
    }
    ssize_t recv(int fd, void *buffer, size_t size, int flags) override {
        return real.recv(fd, buffer, size, flags);
    }
    ssize_t send(int fd, const void *buffer, size_t size, int flags) override {
        return real.send(fd, buffer, size, flags);
    }
    ssize_t recvmsg(int fd, struct msghdr *message, int flags) override {
        return real.recvmsg(fd, message, flags);
    }
    ssize_t sendmsg(int fd, const struct msghdr *message, int flags) override {
        return real.sendmsg(fd, message, flags);
    }
    int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) override {
        return real.recvmmsg(fd, messages, count, flags);
    }
    int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) override {
        return real.sendmmsg(fd, messages, count, flags);
    }
    ssize_t read(int fd, void *buffer, size_t size) override { return real.read(fd, buffer, size); }
    ssize_t write(int fd, const void *buffer, size_t size) override { return real.write(fd, buffer, size); }
    int set_nonblocking(int fd) override { return real.set_nonblocking(fd); }
    int close(int fd) override { return real.close(fd); }

    int epoll_create() override { return real.epoll_create(); }
    int epoll_ctl(int epfd, int operation, int fd, struct epoll_event *event) override {
        return real.epoll_ctl(epfd, operation, fd, event);
    }
    int epoll_wait(int epfd, struct epoll_event *events, int max, int64_t timeout_ns) override {
        return real.epoll_wait(epfd, events, max, timeout_ns);
    }
    int eventfd() override { return real.eventfd(); }

    int open(const char *path, int flags, mode_t mode) override { return real.open(path, flags, mode); }
    ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset, int flags) override {
        return real.preadv(fd, iov, count, offset, flags);
    }
    ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset, int flags) override {
        return real.pwritev(fd, iov, count, offset, flags);
    }
    int fsync(int fd) override { return real.fsync(fd); }
    int fdatasync(int fd) override { return real.fdatasync(fd); }

    int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                    struct addrinfo **result) override {
        return real.getaddrinfo(node, service, hints, result);
    }
    void freeaddrinfo(struct addrinfo *result) override { real.freeaddrinfo(result); }

    int sigaction(int signal, const struct sigaction *action, struct sigaction *old) override {
        return real.sigaction(signal, action, old);
    }
    int thread_start(parley::sys::thread_handle *thread, void (*run)(void *), void *argument) override {
        return real.thread_start(thread, run, argument);
    }
    void thread_join(parley::sys::thread_handle thread) override { real.thread_join(thread); }
    int64_t monotonic_ns() override { return real.monotonic_ns(); }
    int64_t realtime_ns() override { return real.realtime_ns(); }
    ssize_t random(void *buffer, size_t size) override { return real.random(buffer, size); }
    void *allocate(size_t size) override { return real.allocate(size); }
    void deallocate(void *memory) override { real.deallocate(memory); }

protected:
    parley::sys::world &real = parley::sys::kernel();
};

class InstalledWorld {
public:
    explicit InstalledWorld(parley::sys::world &world) { parley::sys::install(&world); }
    ~InstalledWorld() { parley::sys::install(nullptr); }
    InstalledWorld(const InstalledWorld &) = delete;
    InstalledWorld &operator=(const InstalledWorld &) = delete;
};

} // namespace fixture
