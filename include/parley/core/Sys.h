// The one seam between parley and the world: every socket, descriptor, clock, file, thread and
// random number the core asks for is asked for here. Overrides such as
// CommTarget::create_connect_fd() should use these functions too, so that a program can later run
// unchanged in a simulated world.
//
// The functions have the names, arguments, results and errno of the system calls they stand for.
// Differences are said beside them.

#pragma once

#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include <atomic>

struct addrinfo;

namespace parley::sys {

// A running thread; made by world::thread_start, ended by world::thread_join.
using thread_handle = void *;

// What the core may ask of the world. The real one forwards to the kernel; a simulated one keeps
// sockets, time and schedule in memory. All functions may be called from any thread.
class world {
public:
    virtual ~world() = default;

    // Sockets. Every descriptor is made close-on-exec; send and sendmsg never raise SIGPIPE.
    virtual int socket(int domain, int type, int protocol) = 0;
    virtual int bind(int fd, const struct sockaddr *addr, socklen_t addrlen) = 0;
    virtual int listen(int fd, int backlog) = 0;
    virtual int accept(int fd, struct sockaddr *addr, socklen_t *addrlen) = 0; // non-blocking descriptor
    virtual int connect(int fd, const struct sockaddr *addr, socklen_t addrlen) = 0;
    virtual int shutdown(int fd, int how) = 0;
    virtual int getsockname(int fd, struct sockaddr *addr, socklen_t *addrlen) = 0;
    virtual int getpeername(int fd, struct sockaddr *addr, socklen_t *addrlen) = 0;
    virtual int getsockopt(int fd, int level, int name, void *value, socklen_t *length) = 0;
    virtual int setsockopt(int fd, int level, int name, const void *value, socklen_t length) = 0;
    virtual ssize_t recv(int fd, void *buffer, size_t size, int flags) = 0;
    virtual ssize_t send(int fd, const void *buffer, size_t size, int flags) = 0;
    virtual ssize_t recvmsg(int fd, struct msghdr *message, int flags) = 0;
    virtual ssize_t sendmsg(int fd, const struct msghdr *message, int flags) = 0;
    virtual int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) = 0;
    virtual int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) = 0;
    virtual ssize_t read(int fd, void *buffer, size_t size) = 0;
    virtual ssize_t write(int fd, const void *buffer, size_t size) = 0;
    virtual int set_nonblocking(int fd) = 0; // also sets close-on-exec
    virtual int close(int fd) = 0;

    // Readiness. epoll_wait takes nanoseconds: -1 waits without end, 0 does not wait.
    virtual int epoll_create() = 0;
    virtual int epoll_ctl(int epfd, int operation, int fd, struct epoll_event *event) = 0;
    virtual int epoll_wait(int epfd, struct epoll_event *events, int max, int64_t timeout_ns) = 0;
    virtual int eventfd() = 0; // non-blocking, starts at 0

    // Files.
    virtual int open(const char *path, int flags, mode_t mode) = 0;
    virtual ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset, int flags) = 0;
    virtual ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset, int flags) = 0;
    virtual int fsync(int fd) = 0;
    virtual int fdatasync(int fd) = 0;

    // Names. As getaddrinfo: 0 or an EAI_ code. May block: never called on a loop.
    virtual int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                            struct addrinfo **result) = 0;
    virtual void freeaddrinfo(struct addrinfo *result) = 0;

    // Signals, threads, time, randomness, memory.
    virtual int sigaction(int signal, const struct sigaction *action, struct sigaction *old) = 0;
    // Runs `run(argument)` on a new thread. It blocks all signals but those that a fault of the thread itself
    // raises, which would kill the process past any handler if they were blocked, and a profiler's ticks. 0
    // or an errno.
    virtual int thread_start(thread_handle *thread, void (*run)(void *), void *argument) = 0;
    virtual void thread_join(thread_handle thread) = 0;
    virtual unsigned processors();      // that threads may run on, 1 or more; the real ones unless overridden
    virtual int64_t monotonic_ns() = 0; // never goes back
    virtual int64_t realtime_ns() = 0;
    virtual ssize_t random(void *buffer, size_t size) = 0;
    virtual void *allocate(size_t size) = 0; // nullptr and ENOMEM; aligned for any scalar
    virtual void deallocate(void *memory) = 0;
};

// The real kernel. Lives for ever.
world &kernel() noexcept;

namespace detail {
extern std::atomic<world *> installed;
}

// The world in force: the kernel unless another one was installed. A loop reads it once, when it
// starts.
inline world &current() noexcept {
    world *other = detail::installed.load(std::memory_order_acquire);
    return other != nullptr ? *other : kernel();
}

// Replaces the world of the whole process; nullptr restores the kernel. Call it while no
// Communicator, Executor or IOService is initialised. The caller keeps ownership.
void install(world *replacement) noexcept;

inline int socket(int domain, int type, int protocol) {
    return current().socket(domain, type, protocol);
}
inline int bind(int fd, const struct sockaddr *addr, socklen_t addrlen) {
    return current().bind(fd, addr, addrlen);
}
inline int connect(int fd, const struct sockaddr *addr, socklen_t addrlen) {
    return current().connect(fd, addr, addrlen);
}
inline int shutdown(int fd, int how) {
    return current().shutdown(fd, how);
}
inline int getsockname(int fd, struct sockaddr *addr, socklen_t *addrlen) {
    return current().getsockname(fd, addr, addrlen);
}
inline int getpeername(int fd, struct sockaddr *addr, socklen_t *addrlen) {
    return current().getpeername(fd, addr, addrlen);
}
inline int getsockopt(int fd, int level, int name, void *value, socklen_t *length) {
    return current().getsockopt(fd, level, name, value, length);
}
inline int setsockopt(int fd, int level, int name, const void *value, socklen_t length) {
    return current().setsockopt(fd, level, name, value, length);
}
inline ssize_t recv(int fd, void *buffer, size_t size, int flags) {
    return current().recv(fd, buffer, size, flags);
}
inline ssize_t send(int fd, const void *buffer, size_t size, int flags) {
    return current().send(fd, buffer, size, flags);
}
inline int close(int fd) {
    return current().close(fd);
}
inline int64_t monotonic_ns() {
    return current().monotonic_ns();
}

} // namespace parley::sys
