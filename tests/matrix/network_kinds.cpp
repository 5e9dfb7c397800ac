// Both sides of the wire. The other end is plain sockets, of the real kernel or of the world.

#include "network_subjects.hpp"

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <sys/socket.h>

#include <parley/sim/world.hpp>

namespace matrix {

namespace {

// --- The server's side ---

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
