#include "Sys.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <new>
#include <thread>

namespace parley::sys {

namespace {

// A blocking call that a signal interrupted is made again.
template <class Call>
auto retry(Call call) {
    for (;;) {
        auto result = call();
        if (result >= 0 || errno != EINTR)
            return result;
    }
}

// glibc makes the calls of the data path cancellation points, which costs four locked instructions
// a call in a process with threads. parley never cancels a thread. The sanitizers want to see the
// functions, though: they learn from them what was written and who synchronises with whom.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PARLEY_PLAIN_CALLS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define PARLEY_PLAIN_CALLS 1
#endif
#endif
#ifdef PARLEY_PLAIN_CALLS
ssize_t call_recv(int fd, void *buffer, size_t size, int flags) {
    return ::recv(fd, buffer, size, flags);
}
ssize_t call_send(int fd, const void *buffer, size_t size, int flags) {
    return ::send(fd, buffer, size, flags);
}
ssize_t call_recvmsg(int fd, struct msghdr *message, int flags) {
    return ::recvmsg(fd, message, flags);
}
ssize_t call_sendmsg(int fd, const struct msghdr *message, int flags) {
    return ::sendmsg(fd, message, flags);
}
#else
ssize_t call_recv(int fd, void *buffer, size_t size, int flags) {
    return ::syscall(SYS_recvfrom, fd, buffer, size, flags, nullptr, nullptr);
}
ssize_t call_send(int fd, const void *buffer, size_t size, int flags) {
    return ::syscall(SYS_sendto, fd, buffer, size, flags, nullptr, 0);
}
ssize_t call_recvmsg(int fd, struct msghdr *message, int flags) {
    return ::syscall(SYS_recvmsg, fd, message, flags);
}
ssize_t call_sendmsg(int fd, const struct msghdr *message, int flags) {
    return ::syscall(SYS_sendmsg, fd, message, flags);
}
#endif

struct thread_start_block {
    void (*run)(void *);
    void *argument;
};

void *thread_main(void *block) {
    std::unique_ptr<thread_start_block> start(static_cast<thread_start_block *>(block));
    void (*run)(void *) = start->run;
    void *argument = start->argument;
    start.reset();
    run(argument);
    return nullptr;
}

class kernel_world final : public world {
public:
    int socket(int domain, int type, int protocol) override {
        return ::socket(domain, type | SOCK_CLOEXEC, protocol);
    }
    int bind(int fd, const struct sockaddr *addr, socklen_t addrlen) override {
        return ::bind(fd, addr, addrlen);
    }
    int listen(int fd, int backlog) override { return ::listen(fd, backlog); }
    int accept(int fd, struct sockaddr *addr, socklen_t *addrlen) override {
        return retry([&] { return ::accept4(fd, addr, addrlen, SOCK_NONBLOCK | SOCK_CLOEXEC); });
    }
    int connect(int fd, const struct sockaddr *addr, socklen_t addrlen) override {
        return ::connect(fd, addr, addrlen);
    }
    int shutdown(int fd, int how) override { return ::shutdown(fd, how); }
    int getsockname(int fd, struct sockaddr *addr, socklen_t *addrlen) override {
        return ::getsockname(fd, addr, addrlen);
    }
    int getpeername(int fd, struct sockaddr *addr, socklen_t *addrlen) override {
        return ::getpeername(fd, addr, addrlen);
    }
    int getsockopt(int fd, int level, int name, void *value, socklen_t *length) override {
        return ::getsockopt(fd, level, name, value, length);
    }
    int setsockopt(int fd, int level, int name, const void *value, socklen_t length) override {
        return ::setsockopt(fd, level, name, value, length);
    }
    ssize_t recv(int fd, void *buffer, size_t size, int flags) override {
        return retry([&] { return call_recv(fd, buffer, size, flags); });
    }
    ssize_t send(int fd, const void *buffer, size_t size, int flags) override {
        return retry([&] { return call_send(fd, buffer, size, flags | MSG_NOSIGNAL); });
    }
    ssize_t recvmsg(int fd, struct msghdr *message, int flags) override {
        return retry([&] { return call_recvmsg(fd, message, flags | MSG_CMSG_CLOEXEC); });
    }
    ssize_t sendmsg(int fd, const struct msghdr *message, int flags) override {
        return retry([&] { return call_sendmsg(fd, message, flags | MSG_NOSIGNAL); });
    }
    int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) override {
        return retry([&] { return ::recvmmsg(fd, messages, count, flags, nullptr); });
    }
    int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) override {
        return retry([&] { return ::sendmmsg(fd, messages, count, flags | MSG_NOSIGNAL); });
    }
    ssize_t read(int fd, void *buffer, size_t size) override {
        return retry([&] { return ::read(fd, buffer, size); });
    }
    ssize_t write(int fd, const void *buffer, size_t size) override {
        return retry([&] { return ::write(fd, buffer, size); });
    }
    int set_nonblocking(int fd) override {
        int flags = ::fcntl(fd, F_GETFL);
        if (flags < 0)
            return -1;
        if ((flags & O_NONBLOCK) == 0 && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
            return -1;
        return ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    // On Linux the descriptor is gone whatever close() says; trying again could close another's.
    int close(int fd) override { return ::close(fd); }

    int epoll_create() override { return ::epoll_create1(EPOLL_CLOEXEC); }
    int epoll_ctl(int epfd, int operation, int fd, struct epoll_event *event) override {
        return ::epoll_ctl(epfd, operation, fd, event);
    }
    int epoll_wait(int epfd, struct epoll_event *events, int max, int64_t timeout_ns) override {
        if (timeout_ns <= 0)
            return ::epoll_wait(epfd, events, max, timeout_ns < 0 ? -1 : 0);
        if (!coarse_wait_.load(std::memory_order_relaxed)) {
            struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
            int n = ::epoll_pwait2(epfd, events, max, &timeout, nullptr);
            if (n >= 0 || errno != ENOSYS)
                return n;
            coarse_wait_.store(true, std::memory_order_relaxed); // a kernel before 5.11
        }
        int64_t ms = timeout_ns / 1000000 + 1;
        return ::epoll_wait(epfd, events, max, ms > INT32_MAX ? INT32_MAX : static_cast<int>(ms));
    }
    int eventfd() override { return ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

    int open(const char *path, int flags, mode_t mode) override {
        return retry([&] { return ::open(path, flags | O_CLOEXEC, mode); });
    }
    ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset, int flags) override {
        return retry([&] { return ::preadv2(fd, iov, count, offset, flags); });
    }
    ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset, int flags) override {
        return retry([&] { return ::pwritev2(fd, iov, count, offset, flags); });
    }
    int fsync(int fd) override {
        return retry([&] { return ::fsync(fd); });
    }
    int fdatasync(int fd) override {
        return retry([&] { return ::fdatasync(fd); });
    }

    int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                    struct addrinfo **result) override {
        return ::getaddrinfo(node, service, hints, result);
    }
    void freeaddrinfo(struct addrinfo *result) override { ::freeaddrinfo(result); }

    int sigaction(int signal, const struct sigaction *action, struct sigaction *old) override {
        return ::sigaction(signal, action, old);
    }
    int thread_start(thread_handle *thread, void (*run)(void *), void *argument) override {
        auto block =
            std::unique_ptr<thread_start_block>(new (std::nothrow) thread_start_block{run, argument});
        auto id = std::unique_ptr<pthread_t>(new (std::nothrow) pthread_t);
        if (!block || !id)
            return ENOMEM;
        // Blocked before the thread is there: to block them in it would leave a moment in which it takes one.
        sigset_t blocked, old;
        sigfillset(&blocked);
        for (int signal : {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, SIGPROF})
            sigdelset(&blocked, signal);
        pthread_sigmask(SIG_BLOCK, &blocked, &old);
        int error = pthread_create(id.get(), nullptr, thread_main, block.get());
        pthread_sigmask(SIG_SETMASK, &old, nullptr);
        if (error != 0)
            return error;
        block.release();
        *thread = id.release();
        return 0;
    }
    void thread_join(thread_handle thread) override {
        std::unique_ptr<pthread_t> id(static_cast<pthread_t *>(thread));
        pthread_join(*id, nullptr);
    }
    int64_t monotonic_ns() override { return now(CLOCK_MONOTONIC); }
    int64_t realtime_ns() override { return now(CLOCK_REALTIME); }
    ssize_t random(void *buffer, size_t size) override {
        return retry([&] { return ::getrandom(buffer, size, 0); });
    }
    void *allocate(size_t size) override { return ::malloc(size); }
    void deallocate(void *memory) override { ::free(memory); }

private:
    static int64_t now(clockid_t clock) {
        struct timespec t;
        ::clock_gettime(clock, &t);
        return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
    }

    std::atomic<bool> coarse_wait_{false};
};

} // namespace

unsigned world::processors() {
    return std::max(1u, std::thread::hardware_concurrency());
}

world &kernel() noexcept {
    // Never destroyed: sockets may be closed by the destructors of other statics.
    static kernel_world *instance = new kernel_world;
    return *instance;
}

namespace detail {

constinit std::atomic<world *> installed{nullptr};

} // namespace detail

void install(world *replacement) noexcept {
    detail::installed.store(replacement, std::memory_order_release);
}

} // namespace parley::sys
