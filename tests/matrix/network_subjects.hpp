// What the kinds of the network have in common: plain sockets for the other end, of the real kernel or of the
// world, and the subjects that more than one kind begins with.

#pragma once

#include "driver.hpp"

#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <netinet/in.h>
#include <sys/socket.h>

#include <parley/core/Sys.h>
#include <parley/protocol/line_message.hpp>

namespace matrix {

namespace sys = parley::sys;
using parley::endpoint;

struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};

// A descriptor of the test's own, and what a plain program does with it.
class wire {
public:
    wire() = default;
    explicit wire(int fd) : fd_(fd) {}
    wire(wire &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    wire &operator=(wire &&other) noexcept {
        close();
        fd_ = std::exchange(other.fd_, -1);
        return *this;
    }
    ~wire() { close(); }

    static wire to(const endpoint &where, int receive_buffer = 0) {
        sockaddr_storage address;
        const socklen_t size = where.to_sockaddr(address).value();
        wire made(sys::socket(AF_INET, SOCK_STREAM, 0));
        if (receive_buffer > 0)
            sys::setsockopt(made.fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        if (sys::connect(made.fd_, reinterpret_cast<sockaddr *>(&address), size) != 0)
            made.close();
        return made;
    }
    // Has begun to connect, and does not wait.
    static wire begun_to(const endpoint &where) {
        sockaddr_storage address;
        const socklen_t size = where.to_sockaddr(address).value();
        wire made(sys::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        sys::connect(made.fd_, reinterpret_cast<sockaddr *>(&address), size);
        return made;
    }
    static wire listening(int backlog) {
        sockaddr_in any{};
        any.sin_family = AF_INET;
        any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        wire made(sys::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        sys::bind(made.fd_, reinterpret_cast<sockaddr *>(&any), sizeof any);
        sys::current().listen(made.fd_, backlog);
        return made;
    }
    // The next connection, if there is one.
    wire accept() const { return wire(sys::current().accept(fd_, nullptr, nullptr)); }
    endpoint local() const {
        sockaddr_storage address;
        socklen_t size = sizeof address;
        sys::getsockname(fd_, reinterpret_cast<sockaddr *>(&address), &size);
        return endpoint(reinterpret_cast<sockaddr *>(&address), size);
    }

    bool send(std::string_view bytes) const {
        return sys::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT) == static_cast<ssize_t>(bytes.size());
    }
    // What is there now: how much, and whether the other side has closed.
    std::size_t drain() {
        char room[65536];
        std::size_t all = 0;
        for (;;) {
            const ssize_t n = sys::recv(fd_, room, sizeof room, MSG_DONTWAIT);
            if (n > 0) {
                all += static_cast<std::size_t>(n);
                continue;
            }
            closed_ = closed_ || n == 0 || errno != EAGAIN;
            return all;
        }
    }
    bool sees_the_close() {
        drain();
        return closed_;
    }
    int fd() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    void close() {
        if (fd_ >= 0)
            sys::close(std::exchange(fd_, -1));
        closed_ = false;
    }

private:
    int fd_ = -1;
    bool closed_ = false;
};

// Not inlined: g++ 12 then sees overlaps that are none.
[[gnu::noinline]] inline std::string long_text(std::size_t size) {
    return std::string(size, 'x');
}

class a_door : public subject {
public:
    using subject::subject;
    task<> begin() override {
        door_ = std::make_unique<parley::acceptor<lines>>(endpoint("127.0.0.1", 0));
        auto open = co_await door_->listen();
        g.expect(open.has_value(), "no port");
        where_ = *open;
    }
    task<> end() override {
        co_await door_->drain(0s);
        door_.reset();
    }

protected:
    std::unique_ptr<parley::acceptor<lines>> door_;
    endpoint where_;
};

class a_connection : public a_door {
public:
    using a_door::a_door;
    task<> connect(int receive_buffer = 0) {
        client_ = wire::to(where_, receive_buffer);
        auto accepted = co_await door_->accept();
        g.expect(accepted.has_value(), "not accepted");
        peer_ = std::move(*accepted);
    }
    task<> hang_up() {
        co_await peer_.close();
        co_await g.until([this] { return client_.sees_the_close(); }, "the client sees no close");
        client_.close();
    }

protected:
    wire client_;
    parley::connection<lines> peer_;
};

// A server that answers when it is told to, made of plain sockets; each request has a connection of its own.
class a_request : public subject {
public:
    using subject::subject;
    task<> begin() override {
        door_ = wire::listening(64);
        parley::client_options one;
        one.max_connections(1).keep_alive(0s);
        client_ = std::make_unique<parley::client<lines>>(door_.local(), one);
        co_return;
    }
    task<> wait() override {
        auto answer = co_await client_->request(parley::line_message("request"));
        g.expect(answer && answer->text() == "answer", "not answered");
    }
    task<> until_waiting() override {
        co_await g.until([this] { return accepted(); }, "no connection comes");
    }
    void complete() override {
        if (accepted())
            server_.send("answer\n");
    }
    task<> check(fate) override {
        // The peer sees the close, and the slot is there for the next one.
        co_await g.until([this] { return !accepted() || server_.sees_the_close(); }, "no close");
        server_.close();
        co_await parley::with_scope([this](parley::scope &s) -> task<> {
            s.spawn(a_request::wait());
            co_await a_request::until_waiting();
            server_.send("answer\n");
        });
        server_.close();
    }
    task<> end() override {
        client_.reset();
        door_.close();
        co_return;
    }

protected:
    bool accepted() {
        if (!server_)
            server_ = door_.accept();
        return static_cast<bool>(server_);
    }
    wire door_, server_;
    std::unique_ptr<parley::client<lines>> client_;
};

} // namespace matrix
