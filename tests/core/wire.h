// The other side of the wire, for tests of the core: plain blocking POSIX sockets that know nothing
// of it, and an inbox through which callbacks hand things to the test's thread. Whatever would wait
// longer than the hang guard ends the process and says where.

#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace wire {

constexpr int hang_guard_ms = 40000; // a machine under load, with a sanitizer, is no hang

[[noreturn]] inline void hang(const char *where) {
    fprintf(stderr, "hang guard: nothing for %d ms in %s (errno %d, %s)\n", hang_guard_ms, where, errno,
            strerror(errno));
    signal(SIGABRT, SIG_DFL); // past the test framework's handler, which may be what hangs
    abort();
}

// What callbacks put in, the test takes out, in order.
template <class T>
class Inbox {
public:
    void put(T value) {
        std::lock_guard<std::mutex> lock(mutex_);
        values_.push_back(std::move(value));
        arrived_.notify_all();
    }

    T take() {
        std::unique_lock<std::mutex> lock(mutex_);
        auto patience = std::chrono::milliseconds(hang_guard_ms);
        if (!arrived_.wait_for(lock, patience, [&] { return !values_.empty(); }))
            hang("Inbox::take");
        T value = std::move(values_.front());
        values_.pop_front();
        return value;
    }

    std::vector<T> take(size_t n) {
        std::vector<T> all;
        while (all.size() < n)
            all.push_back(take());
        return all;
    }

    size_t size() const {
        std::lock_guard<std::mutex> lock(mutex_);
        return values_.size();
    }

private:
    mutable std::mutex mutex_;
    std::condition_variable arrived_;
    std::deque<T> values_;
};

// Waits until something that only the kernel or an atomic tells has become true.
template <class Condition>
void until(Condition condition) {
    auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(hang_guard_ms);
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end)
            hang("until");
        poll(nullptr, 0, 1);
    }
}

class Stopwatch {
public:
    long ms() const {
        auto passed = std::chrono::steady_clock::now() - start_;
        return static_cast<long>(std::chrono::duration_cast<std::chrono::milliseconds>(passed).count());
    }

private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

struct Address {
    struct sockaddr_storage storage = {};
    socklen_t size = 0;

    struct sockaddr *get() { return reinterpret_cast<struct sockaddr *>(&storage); }
    const struct sockaddr *get() const { return reinterpret_cast<const struct sockaddr *>(&storage); }
    int family() const { return storage.ss_family; }

    // 127.0.0.1, any port.
    static Address loopback() {
        Address address;
        struct sockaddr_in in = {};
        in.sin_family = AF_INET;
        in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        memcpy(&address.storage, &in, sizeof in);
        address.size = sizeof in;
        return address;
    }
    // An AF_UNIX name of the kernel's choice.
    static Address local() {
        Address address;
        address.storage.ss_family = AF_UNIX;
        address.size = sizeof(sa_family_t);
        return address;
    }
};

// One end of a connection.
class Peer {
public:
    explicit Peer(int fd) : fd_(fd) {}
    // receive_buffer 0: the kernel's default.
    explicit Peer(const Address &to, int receive_buffer = 0)
        : fd_(socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        if (receive_buffer > 0)
            setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        if (::connect(fd_, to.get(), to.size) < 0)
            hang("Peer::Peer, connect");
        int one = 1;
        if (to.family() == AF_INET)
            setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    Peer(Peer &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    ~Peer() { close(); }

    int fd() const { return fd_; }

    // All of it; false when the other side is gone.
    bool send(std::string_view bytes) {
        while (!bytes.empty()) {
            ready(POLLOUT, "Peer::send");
            ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n < 0 && errno != EAGAIN)
                return false;
            if (n > 0)
                bytes.remove_prefix(static_cast<size_t>(n));
        }
        return true;
    }

    // Exactly n bytes, or fewer when the stream ends before.
    std::string read(size_t n) {
        std::string got;
        while (got.size() < n && some(got, n - got.size())) {
        }
        return got;
    }
    // Everything up to the end of the stream.
    std::string rest() {
        std::string got;
        while (some(got, 65536)) {
        }
        return got;
    }
    std::string line() {
        std::string got;
        while ((got.empty() || got.back() != '\n') && some(got, up_to_newline())) {
        }
        return got;
    }
    bool was_reset() const { return reset_; }

    // Waits for bytes, the end, or a reset, and takes nothing.
    void wait_readable() { ready(POLLIN, "Peer::wait_readable"); }
    bool readable_now() const {
        struct pollfd p = {fd_, POLLIN, 0};
        return poll(&p, 1, 0) > 0;
    }

    void finish() { ::shutdown(fd_, SHUT_WR); } // FIN
    void close() {
        if (fd_ >= 0)
            ::close(fd_);
        fd_ = -1;
    }
    void reset() { // RST
        struct linger now = {1, 0};
        setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close();
    }

private:
    void ready(short events, const char *where) {
        struct pollfd p = {fd_, events, 0};
        if (poll(&p, 1, hang_guard_ms) <= 0)
            hang(where);
    }

    // How many of the bytes that are there belong to the line; at least 1.
    size_t up_to_newline() {
        ready(POLLIN, "Peer::line");
        char peek[4096];
        ssize_t n = recv(fd_, peek, sizeof peek, MSG_PEEK);
        if (n <= 0)
            return 1;
        auto *newline = static_cast<char *>(memchr(peek, '\n', static_cast<size_t>(n)));
        return newline != nullptr ? static_cast<size_t>(newline - peek) + 1 : static_cast<size_t>(n);
    }

    bool some(std::string &got, size_t most) {
        ready(POLLIN, "Peer::read");
        size_t before = got.size();
        got.resize(before + most);
        ssize_t n = recv(fd_, got.data() + before, most, 0);
        got.resize(before + static_cast<size_t>(n > 0 ? n : 0));
        reset_ = n < 0;
        return n > 0;
    }

    int fd_;
    bool reset_ = false;
};

class Listener {
public:
    explicit Listener(Address at = Address::loopback(), int backlog = 128, int receive_buffer = 0)
        : fd_(socket(at.family(), SOCK_STREAM | SOCK_CLOEXEC, 0)), address_(at) {
        if (receive_buffer > 0)
            setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        if (::bind(fd_, at.get(), at.size) < 0 || listen(fd_, backlog) < 0)
            hang("Listener::Listener");
        address_.size = sizeof address_.storage;
        getsockname(fd_, address_.get(), &address_.size);
    }
    ~Listener() { close(); }

    const Address &address() const { return address_; }

    Peer accept() {
        struct pollfd p = {fd_, POLLIN, 0};
        if (poll(&p, 1, hang_guard_ms) <= 0)
            hang("Listener::accept");
        return Peer(::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC));
    }
    bool pending() const {
        struct pollfd p = {fd_, POLLIN, 0};
        return poll(&p, 1, 0) > 0;
    }
    void close() {
        if (fd_ >= 0)
            ::close(fd_);
        fd_ = -1;
    }

private:
    int fd_;
    Address address_;
};

// A port where connecting never ends: its backlog is full.
class Swamp {
public:
    Swamp() : listener_(Address::loopback(), 0) {
        for (int &fd : fds_) {
            fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            [[maybe_unused]] int under_way = connect(fd, listener_.address().get(), listener_.address().size);
        }
    }
    ~Swamp() {
        for (int fd : fds_)
            ::close(fd);
    }
    const Address &address() const { return listener_.address(); }

private:
    Listener listener_;
    int fds_[4];
};

} // namespace wire
