// What the integration tests share: two protocols, handlers that echo, a runtime whose tasks are watched, and
// the other side of the wire as plain blocking POSIX sockets that know nothing of parley. What would wait for
// ever ends the process and says where.

#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include <doctest/doctest.h>

#include <parley/parley.hpp>
#include <parley/protocol/length_prefixed.hpp>
#include <parley/protocol/line_message.hpp>

namespace net {

using namespace std::chrono_literals;

constexpr std::chrono::seconds hang_guard{30};

[[noreturn]] inline void hang(const char *where) {
    std::fprintf(stderr, "hang guard: nothing came in %s (errno %d, %s)\n", where, errno,
                 std::strerror(errno));
    std::abort();
}

struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};

struct packets {
    using request = parley::length_prefixed;
    using response = parley::length_prefixed;
};

// What tasks put in, the test's thread takes out, in order.
template <class T>
class inbox {
public:
    void put(T value) {
        std::lock_guard lock(mutex_);
        values_.push_back(std::move(value));
        arrived_.notify_all();
    }
    T take() {
        std::unique_lock lock(mutex_);
        if (!arrived_.wait_for(lock, hang_guard, [this] { return !values_.empty(); }))
            hang("inbox::take");
        T value = std::move(values_.front());
        values_.pop_front();
        return value;
    }
    bool empty() {
        std::lock_guard lock(mutex_);
        return values_.empty();
    }

private:
    std::mutex mutex_;
    std::condition_variable arrived_;
    std::deque<T> values_;
};

inline parley::runtime_options with_loops(std::size_t loops) {
    parley::runtime_options options;
    options.loops = loops;
    options.executor_threads = 2;
    return options;
}

// Runs a task in the background and waits for its end when it goes. An exception fails the test.
class background {
public:
    background(parley::runtime &rt, parley::loop &where, parley::task<> work) {
        rt.start(where, std::move(work), [this](parley::outcome<> how) { ended_.put(std::move(how)); });
    }
    background(parley::runtime &rt, parley::task<> work) : background(rt, rt.loop(0), std::move(work)) {}
    background(const background &) = delete;
    ~background() { join(); }

    // Whether it ran to its end; false: it was stopped.
    bool join() {
        if (!joined_) {
            parley::outcome<> how = ended_.take();
            joined_ = true;
            stopped_ = how.stopped();
            CHECK(!how.exception());
        }
        return !stopped_;
    }

private:
    inbox<parley::outcome<>> ended_;
    bool joined_ = false;
    bool stopped_ = false;
};

template <class P>
parley::task<> echo(parley::connection<P> peer) {
    while (auto message = co_await peer.recv()) {
        auto sent = co_await peer.send(*message);
        if (!sent)
            co_return;
    }
}

// The same without an allocation per message.
template <class P>
parley::task<> frugal_echo(parley::connection<P> peer) {
    typename P::request message;
    while (auto received = co_await peer.recv(message)) {
        auto sent = co_await peer.send(message);
        if (!sent)
            co_return;
    }
}

// A runtime with an echo server on all its loops.
template <class P>
class echo_server {
public:
    explicit echo_server(std::size_t loops = 2, parley::endpoint where = parley::endpoint("127.0.0.1", 0),
                         parley::serve_options options = {})
        : rt(with_loops(loops)), running_(rt, serve(std::move(where), std::move(options))) {
        local = listening_.take();
    }
    ~echo_server() { rt.stop(); }

    parley::runtime rt;
    parley::endpoint local;

private:
    parley::task<> serve(parley::endpoint where, parley::serve_options options) {
        options.on_listening([this](const parley::endpoint &at) { listening_.put(at); });
        auto served = co_await parley::serve<P>(std::move(where), echo<P>, std::move(options));
        if (!served) {
            std::fprintf(stderr, "%s\n", to_string(served.error()).c_str());
            std::abort();
        }
    }

    inbox<parley::endpoint> listening_;
    background running_;
};

// A client of the old school.
class raw_peer {
public:
    explicit raw_peer(const parley::endpoint &where) {
        sockaddr_storage address;
        socklen_t length = where.to_sockaddr(address).value();
        fd_ = ::socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        timeval limit{hang_guard.count(), 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (::connect(fd_, reinterpret_cast<sockaddr *>(&address), length) < 0) {
            error_ = errno;
            close();
        }
    }
    raw_peer(const raw_peer &) = delete;
    ~raw_peer() { close(); }

    int connect_error() const { return error_; }
    int fd() const { return fd_; }

    parley::endpoint local() const {
        sockaddr_storage address;
        socklen_t length = sizeof address;
        ::getsockname(fd_, reinterpret_cast<sockaddr *>(&address), &length);
        return parley::endpoint(reinterpret_cast<sockaddr *>(&address), length);
    }

    void send(std::string_view bytes) {
        while (!bytes.empty()) {
            ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (n < 0)
                hang("raw_peer::send");
            bytes.remove_prefix(static_cast<std::size_t>(n));
        }
    }
    void half_close() { ::shutdown(fd_, SHUT_WR); }
    void close() {
        if (fd_ >= 0)
            ::close(std::exchange(fd_, -1));
    }
    // Closes with RST.
    void reset() {
        linger now{1, 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close();
    }

    // Without its line feed; "<end>" when the stream ends before one.
    std::string recv_line() {
        std::string line;
        for (;;) {
            char c;
            ssize_t n = recv_some(&c, 1);
            if (n <= 0)
                return line.empty() ? "<end>" : line + "<end>";
            if (c == '\n')
                return line;
            line += c;
        }
    }
    // Everything up to the end of the stream, or to a reset.
    std::string recv_all() {
        std::string all;
        char piece[4096];
        for (ssize_t n; (n = recv_some(piece, sizeof piece)) > 0;)
            all.append(piece, static_cast<std::size_t>(n));
        return all;
    }
    bool is_closed_by_peer() {
        char c;
        return recv_some(&c, 1) <= 0;
    }

private:
    ssize_t recv_some(char *into, std::size_t size) {
        ssize_t n = ::recv(fd_, into, size, 0);
        if (n < 0 && errno == EAGAIN)
            hang("raw_peer::recv");
        return n;
    }

    int fd_ = -1;
    int error_ = 0;
};

// A directory of the test's own.
class temp_dir {
public:
    temp_dir() {
        char name[] = "/tmp/parley-test-XXXXXX";
        path_ = ::mkdtemp(name);
    }
    temp_dir(const temp_dir &) = delete;
    ~temp_dir() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    std::string operator/(std::string_view name) const { return (path_ / name).string(); }

private:
    std::filesystem::path path_;
};

inline std::size_t open_descriptors() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto &one : std::filesystem::directory_iterator("/proc/self/fd"))
        ++count;
    return count;
}

} // namespace net
