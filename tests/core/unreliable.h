// The kernel, with one kind of call that fails from its n-th time on, as often as asked: for walking through
// all the places where the world may say no. Install it while no Communicator is running.

#pragma once

#include <errno.h>
#include <stdint.h>

#include <algorithm>
#include <atomic>

#include "forwarding_world.h"

namespace peers {

class Unreliable : public fixture::ForwardingWorld {
public:
    enum Call : int {
        SOCKET,
        BIND,
        LISTEN,
        ACCEPT,
        CONNECT,
        GETSOCKNAME,
        GETSOCKOPT,
        SETSOCKOPT,
        RECV,
        SEND,
        RECVMMSG,
        NONBLOCKING,
        CLOSE,
        EPOLL_CREATE,
        EPOLL_ADD,
        EPOLL_MOD,
        EPOLL_DEL,
        EPOLL_WAIT,
        EVENTFD,
        THREAD_START,
        ALLOCATE,
        CALLS
    };

    Unreliable() { parley::sys::install(this); }
    ~Unreliable() override { parley::sys::install(nullptr); }

    static constexpr int64_t for_ever = INT64_MAX;

    // The n-th such call from now (from 1) fails with `error`, and so do the `times - 1` after it.
    void fail(Call call, int64_t n, int error, int64_t times = 1) {
        call_ = CALLS;
        error_ = error;
        times_ = times;
        left_ = n;
        failures_ = 0;
        call_ = call;
    }
    void reliable() { call_ = CALLS; }
    // How often it has failed since.
    int64_t failures() const { return failures_; }

    // Bytes that one send() takes at most; 0 is no limit.
    std::atomic<size_t> send_limit{0};

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
    int getsockopt(int fd, int level, int name, void *value, socklen_t *length) override {
        return fails(GETSOCKOPT) ? -1 : real.getsockopt(fd, level, name, value, length);
    }
    int setsockopt(int fd, int level, int name, const void *value, socklen_t length) override {
        return fails(SETSOCKOPT) ? -1 : real.setsockopt(fd, level, name, value, length);
    }
    ssize_t recv(int fd, void *buffer, size_t size, int flags) override {
        return fails(RECV) ? -1 : real.recv(fd, buffer, size, flags);
    }
    ssize_t send(int fd, const void *buffer, size_t size, int flags) override {
        size_t most = send_limit;
        return fails(SEND) ? -1 : real.send(fd, buffer, most != 0 ? std::min(most, size) : size, flags);
    }
    ssize_t recvmsg(int fd, struct msghdr *message, int flags) override {
        return fails(RECV) ? -1 : real.recvmsg(fd, message, flags);
    }
    ssize_t sendmsg(int fd, const struct msghdr *message, int flags) override {
        if (fails(SEND))
            return -1;
        size_t most = send_limit;
        if (most == 0)
            return real.sendmsg(fd, message, flags);
        const struct iovec &first = message->msg_iov[0];
        return real.send(fd, first.iov_base, std::min(most, first.iov_len), flags);
    }
    int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) override {
        return fails(RECVMMSG) ? -1 : real.recvmmsg(fd, messages, count, flags);
    }
    int set_nonblocking(int fd) override { return fails(NONBLOCKING) ? -1 : real.set_nonblocking(fd); }
    // As on Linux: whatever close() says, the descriptor is gone.
    int close(int fd) override {
        int result = real.close(fd);
        return fails(CLOSE) ? -1 : result;
    }

    int epoll_create() override { return fails(EPOLL_CREATE) ? -1 : real.epoll_create(); }
    int epoll_ctl(int epfd, int operation, int fd, struct epoll_event *event) override {
        if (operation == EPOLL_CTL_DEL) // it says no, but closing the descriptor would have done it anyway
            return real.epoll_ctl(epfd, operation, fd, event) < 0 || fails(EPOLL_DEL) ? -1 : 0;
        Call call = operation == EPOLL_CTL_ADD ? EPOLL_ADD : EPOLL_MOD;
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
        void *memory = real.allocate(size);
        blocks_ += memory != nullptr;
        return memory;
    }
    void deallocate(void *memory) override {
        blocks_ -= memory != nullptr;
        real.deallocate(memory);
    }
    // Allocated and not yet freed.
    int64_t blocks() const { return blocks_; }

private:
    bool fails(Call call) {
        if (call_.load() != call)
            return false;
        int64_t position = --left_;
        if (position > 0 || position <= -times_.load())
            return false;
        failures_++;
        errno = error_;
        return true;
    }

    std::atomic<int> call_{CALLS};
    std::atomic<int> error_{0};
    std::atomic<int64_t> times_{0}, left_{0}, failures_{0}, blocks_{0};
};

} // namespace peers
