// Both sides of the wire. The other end is plain sockets, of the real kernel or of the world.

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
#include <parley/sim/world.hpp>

namespace matrix {

namespace {

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
[[gnu::noinline]] std::string long_text(std::size_t size) {
    return std::string(size, 'x');
}

// --- The server's side ---

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

class an_accept final : public a_door {
public:
    using a_door::a_door;
    task<> wait() override {
        auto peer = co_await door_->accept();
        g.expect(peer.has_value(), "not accepted");
        ++accepted_;
    }
    void complete() override {
        client_ = wire::to(where_);
        ++connected_;
    }
    task<> check(fate) override {
        if (accepted_ < connected_)
            co_await wait(); // it was not lost
        g.expect(accepted_ == connected_, "a connection that nobody made");
        if (client_)
            co_await g.until([this] { return client_.sees_the_close(); }, "the client sees no close");
        client_.close();
    }

private:
    wire client_;
    int accepted_ = 0, connected_ = 0;
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

class a_recv final : public a_connection {
public:
    using a_connection::a_connection;
    task<> begin() override {
        co_await a_connection::begin();
        co_await connect();
    }
    task<> end() override {
        co_await hang_up();
        co_await a_connection::end();
    }
    task<> wait() override {
        auto line = co_await peer_.recv();
        g.expect(line && line->text() == "request", "not received");
        ++received_;
    }
    void complete() override {
        ++sent_;
        g.expect(client_.send("request\n"), "not sent"); // in one piece: Nagle's delay would end no race
    }
    task<> check(fate) override {
        if (received_ < sent_)
            co_await wait(); // it was not lost
        g.expect(received_ == sent_, "received what was not sent");
        if (answered_ < received_) {
            auto answered = co_await peer_.send(parley::line_message("answer"));
            g.expect(answered.has_value(), "not answered");
            ++answered_;
        }
        client_.drain();
    }

private:
    int sent_ = 0, received_ = 0, answered_ = 0;
};

// A send or push that the client does not take until it is told to. Cancelled, the client sees half of it and
// the close.
template <bool Push>
class a_send final : public a_connection {
public:
    using a_connection::a_connection;
    void arrange(moment) override { taken_ = 0; }
    task<> wait() override {
        co_await connect(1 << 16);
        client_.send("request\n");
        auto line = co_await peer_.recv();
        g.expect(line.has_value(), "not received");
        writes_ = true;
        parley::line_message large(long_text(size));
        parley::result<> sent;
        if constexpr (Push)
            sent = co_await peer_.push(std::move(large));
        else
            sent = co_await peer_.send(large);
        g.expect(sent.has_value(), "not written");
    }
    task<> until_waiting() override {
        co_await g.until([this] { return writes_; }, "it does not write");
        co_await yields(2);
    }
    void complete() override { taken_ += client_.drain(); }
    task<> check(fate how) override {
        writes_ = false;
        if (!client_)
            co_return;
        if (how == fate::finished)
            co_await g.until(
                [this] {
                    taken_ += client_.drain();
                    return taken_ == size + 1;
                },
                "not all was written");
        co_await hang_up();
    }

private:
    // More than both kernels' buffers take.
    const std::size_t size = std::size_t{parley::sim::world::current() ? 1u : 6u} << 20;
    bool writes_ = false;
    std::size_t taken_ = 0;
};

// The door is drained while a request awaits its answer.
class a_drain final : public a_connection {
public:
    using a_connection::a_connection;
    void arrange(moment) override {}
    task<> wait() override {
        co_await connect();
        client_.send("request\n");
        auto line = co_await peer_.recv();
        drains_ = true;
        co_await door_->drain(1h);
    }
    task<> until_waiting() override {
        co_await g.until([this] { return drains_; }, "it does not drain");
        co_await yields(2);
    }
    // The client goes; what is left of its connection is closed by its handle.
    void complete() override {
        const linger_now now;
        sys::setsockopt(client_.fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
        client_.close();
    }
    task<> check(fate) override {
        co_await peer_.close();
        peer_ = {};
        if (client_)
            co_await g.until([this] { return client_.sees_the_close(); }, "the client sees no close");
        client_.close();
        if (std::exchange(drains_, false)) {
            co_await door_->close();
            co_await begin();
        }
    }

private:
    struct linger_now {
        int on = 1, seconds = 0;
    };
    bool drains_ = false;
};

// --- The client's side ---

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

// The one slot of the pool is taken.
class a_wait_for_the_pool final : public a_request {
public:
    using a_request::a_request;
    void arrange(moment) override {
        ended_.reset();
        g.rt.start(
            g.rt.loop(0), [this]() -> task<> { return a_request::wait(); },
            [this](parley::outcome<>) { ended_.set(); });
    }
    task<> wait() override {
        co_await yields(2); // behind the other one
        auto answer = co_await client_->request(parley::line_message("request"));
        g.expect(answer && answer->text() == "second", "not answered");
    }
    task<> until_waiting() override {
        co_await a_request::until_waiting();
        co_await yields(3);
    }
    // The first is answered, and so is who comes after it.
    void complete() override {
        a_request::complete();
        told_.store(true, parley::sync::memory_order_release);
        g.rt.start(
            g.rt.loop(0),
            [this]() -> task<> {
                wire second;
                for (int i = 0; i < 2000 && told_.load(parley::sync::memory_order_acquire); ++i) {
                    if (!second)
                        second = door_.accept();
                    if (second && second.send("second\n"))
                        break;
                    co_await parley::sleep_for(10us);
                }
                while (second && !second.sees_the_close())
                    co_await parley::sleep_for(10us);
            },
            [this](parley::outcome<>) { answered_.set(); });
    }
    task<> check(fate how) override {
        if (told_.exchange(false, parley::sync::memory_order_acq_rel)) {
            co_await answered_.wait();
            answered_.reset();
        } else {
            co_await a_request::until_waiting();
            server_.send("answer\n");
        }
        co_await ended_.wait();
        server_.close();
        co_await a_request::check(how);
    }

private:
    parley::event ended_, answered_;
    parley::sync::atomic<bool> told_{false};
};

// A server that takes the connection and never speaks TLS.
class a_handshake final : public a_request {
public:
    using a_request::a_request;
    task<> begin() override {
        co_await a_request::begin();
        parley::client_options speaks;
        speaks.max_connections(1).keep_alive(0s).tls(parley::tls::context::client().value());
        secret_ = std::make_unique<parley::client<lines>>(door_.local(), speaks);
    }
    task<> wait() override {
        auto answer = co_await secret_->request(parley::line_message("request"));
        g.expect(!answer && answer.error().stage() == parley::stage::tls, "that was no handshake");
    }
    void complete() override {
        if (accepted())
            server_.send("this is not TLS, and long enough to be seen as none\n");
    }
    task<> end() override {
        secret_.reset();
        return a_request::end();
    }

private:
    std::unique_ptr<parley::client<lines>> secret_;
};

// --- Descriptors of somebody else ---

template <bool Writing>
class a_readiness final : public subject {
public:
    using subject::subject;
    task<> begin() override {
        wire door = wire::listening(4);
        ours_ = wire::to(door.local());
        co_await g.until(
            [&] {
                theirs_ = door.accept();
                return static_cast<bool>(theirs_);
            },
            "not accepted");
    }
    task<> end() override {
        ours_.close();
        theirs_.close();
        co_return;
    }
    void arrange(moment) override {
        ours_.drain();
        if constexpr (Writing)
            while (ours_.send(std::string_view(filler, sizeof filler)))
                ;
    }
    task<> wait() override {
        auto ready = Writing ? parley::writable(ours_.fd()) : parley::readable(ours_.fd());
        auto done = co_await std::move(ready);
        g.expect(done.has_value(), "not watched");
    }
    void complete() override {
        if constexpr (Writing)
            theirs_.drain();
        else
            theirs_.send("x");
    }
    std::optional<fate> cancelled_during() const override {
        return Writing ? std::nullopt : std::optional(fate::cancelled);
    }
    task<> check(fate) override {
        theirs_.drain();
        co_return;
    }

private:
    static constexpr char filler[4096] = {};
    wire ours_, theirs_;
};

} // namespace

std::vector<kind> network_kinds() {
    return {
        {"accept", make<an_accept>},
        {"recv", make<a_recv>},
        {"send", make<a_send<false>>, 4},
        {"push", make<a_send<true>>, 4},
        {"drain", make<a_drain>, 2},
        {"request", make<a_request>},
        {"a wait for the pool", make<a_wait_for_the_pool>},
        {"TLS handshake", make<a_handshake>, 4},
        {"readable", make<a_readiness<false>>},
        {"writable", make<a_readiness<true>>, 4},
    };
}

} // namespace matrix
