// What stands half-way when the cancel comes: a connect that nobody answers, half a message in either
// direction, half a handshake, a connection or a whole server that is being closed.

#include "network_subjects.hpp"

#include <filesystem>

#include <netinet/tcp.h>
#include <unistd.h>

#include <parley/sim/world.hpp>

#include "integration/certificates.hpp"

namespace matrix {

namespace {

// Nobody answers. In a world the peer is behind a broken link, and completion is the link's return: refused,
// as nobody listens there. On the real kernel the listener's backlog is full, and only the cancel ends it.
class a_connect_that_hangs final : public subject {
public:
    using subject::subject;
    task<> begin() override {
        endpoint where;
        if (parley::sim::world *world = parley::sim::world::current()) {
            if (!far_)
                far_ = &world->add_host("far");
            where = endpoint(far_->address(), 7777);
        } else {
            door_ = wire::listening(0);
            where = door_.local();
            for (wire &one : fillers_)
                one = wire::begun_to(where);
        }
        parley::client_options one;
        one.max_connections(1).keep_alive(0s).connect_limit(1h);
        client_ = std::make_unique<parley::client<lines>>(where, one);
        co_return;
    }
    void arrange(moment) override {
        if (far_)
            parley::sim::world::current()->partition(parley::sim::world::current()->local(), *far_);
    }
    task<> wait() override {
        auto answer = co_await client_->request(parley::line_message("request"));
        g.expect(!answer && answer.error().stage() == parley::stage::connect, "that was no connect");
    }
    task<> until_waiting() override { return yields(5); }
    void complete() override {
        if (far_)
            parley::sim::world::current()->heal(parley::sim::world::current()->local(), *far_);
    }
    task<> end() override {
        client_.reset();
        for (wire &one : fillers_)
            one.close();
        door_.close();
        co_return;
    }

private:
    static inline parley::sim::host *far_ =
        nullptr; // a world's only one; each world has a process of its own
    wire door_;
    wire fillers_[4];
    std::unique_ptr<parley::client<lines>> client_;
};

// Half of the answer is there.
class half_an_answer final : public a_request {
public:
    using a_request::a_request;
    task<> until_waiting() override {
        co_await a_request::until_waiting();
        server_.send("ans");
        co_await yields(3);
    }
    void complete() override {
        if (accepted())
            server_.send("wer\n");
    }
};

// The request is larger than what the kernels' buffers take, and the server reads none of it.
class half_a_request_sent final : public a_request {
public:
    using a_request::a_request;
    task<> wait() override {
        auto answer = co_await client_->request(parley::line_message(long_text(size)));
        g.expect(!answer,
                 "the answer to a request that the server does not have"); // it goes on with an error
    }
    task<> until_waiting() override {
        co_await a_request::until_waiting();
        co_await yields(3);
    }
    // The server gives up.
    void complete() override { server_.close(); }

private:
    const std::size_t size = std::size_t{parley::sim::world::current() ? 1u : 6u} << 20;
};

// Half of the request has come. The other half completes it, however often recv() was cancelled before.
class half_a_request_received final : public a_connection {
public:
    using a_connection::a_connection;
    task<> begin() override {
        co_await a_connection::begin();
        co_await connect();
        const int on = 1; // else the second half waits for the first one's delayed acknowledgement
        sys::setsockopt(client_.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    task<> end() override {
        co_await hang_up();
        co_await a_connection::end();
    }
    void arrange(moment) override {
        if (!half_)
            client_.send("requ");
        half_ = true;
    }
    task<> wait() override {
        auto line = co_await peer_.recv();
        g.expect(line && line->text() == "request", "not received");
        ++received_;
    }
    void complete() override {
        half_ = false;
        ++sent_;
        client_.send("est\n");
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
    bool half_ = false;
    int sent_ = 0, received_ = 0, answered_ = 0;
};

// Its files are gone when it is made. Real files, also in a world: OpenSSL reads them.
parley::tls::context server_context() {
    const std::string stem = "/tmp/parley-matrix-tls-" + std::to_string(::getpid());
    const net::identity one = net::identity::self_signed("localhost");
    one.write_certificate(stem + ".crt");
    one.write_key(stem + ".key");
    auto made = parley::tls::context::server(stem + ".crt", stem + ".key").value();
    std::filesystem::remove(stem + ".crt");
    std::filesystem::remove(stem + ".key");
    return made;
}

// The server waits for the client's hello, of which nothing, or the beginning, comes.
template <bool Half>
class a_servers_handshake final : public a_connection {
public:
    using a_connection::a_connection;
    task<> begin() override {
        door_ = std::make_unique<parley::acceptor<lines>>(endpoint("127.0.0.1", 0),
                                                          parley::acceptor_options().tls(server_context()));
        auto open = co_await door_->listen();
        g.expect(open.has_value(), "no port");
        where_ = *open;
    }
    task<> wait() override {
        co_await connect();
        if (Half)
            client_.send(std::string_view("\x16\x03\x01\x00\xf0\x01\x00", 7));
        waits_ = true;
        auto line = co_await peer_.recv();
        g.expect(!line && line.error().stage() == parley::stage::tls, "that was no handshake");
    }
    task<> until_waiting() override {
        co_await g.until([this] { return waits_; }, "it does not wait");
        co_await yields(2);
    }
    void complete() override {
        client_.send(long_text(600) + "\n"); // neither a hello nor the rest of one
    }
    task<> check(fate) override {
        waits_ = false;
        if (client_)
            co_await hang_up();
    }

private:
    bool waits_ = false;
};

// It is done at once or soon; the peer sees the close whether or not somebody waited for it.
class a_close final : public a_connection {
public:
    using a_connection::a_connection;
    task<> wait() override {
        co_await connect();
        closes_ = true;
        co_await peer_.close();
    }
    task<> until_waiting() override {
        return g.until([this] { return closes_; }, "it does not close");
    }
    std::optional<fate> cancelled_during() const override { return std::nullopt; }
    task<> check(fate) override {
        closes_ = false;
        if (client_)
            co_await hang_up();
    }

private:
    bool closes_ = false;
};

enum class ending { serve, close, drain };

// A whole server, one of whose handlers is busy. serve() cancelled tells it to stop; close() and drain()
// cancelled leave it to its work.
template <ending How>
class a_server final : public subject {
public:
    using subject::subject;
    void arrange(moment) override {
        go_.store(false, parley::sync::memory_order_relaxed);
        busy_.store(false, parley::sync::memory_order_relaxed);
        waits_ = false;
    }
    task<> wait() override {
        server_ = std::make_unique<parley::server<lines>>(
            endpoint("127.0.0.1", 0),
            [this](parley::connection<lines> peer) -> task<> { return serve(std::move(peer)); });
        auto open = co_await server_->listen();
        g.expect(open.has_value(), "no port");
        client_ = wire::to(*open);
        client_.send("request\n");
        co_await g.until([this] { return busy_.load(parley::sync::memory_order_acquire); }, "no handler");
        waits_ = true;
        if constexpr (How == ending::serve) {
            auto served = co_await server_->serve();
            g.expect(served.has_value(), "not served");
        } else if constexpr (How == ending::close) {
            auto closed = co_await server_->close();
            g.expect(closed.has_value(), "not closed");
        } else {
            auto report = co_await server_->drain(1h);
            g.expect(report.has_value(), "not drained");
        }
    }
    task<> until_waiting() override {
        co_await g.until([this] { return waits_; }, "it does not wait");
        co_await yields(2);
    }
    void complete() override {
        go_.store(true, parley::sync::memory_order_release);
        if constexpr (How == ending::serve)
            g.rt.start(
                g.rt.loop(0),
                [this]() -> task<> {
                    auto closed = co_await server_->close();
                    g.expect(closed.has_value(), "not closed");
                },
                [this](parley::outcome<>) { closed_.set(); });
        else
            closed_.set();
        completed_.store(true, parley::sync::memory_order_release);
    }
    task<> check(fate) override {
        if (completed_.exchange(false, parley::sync::memory_order_acq_rel)) {
            co_await closed_.wait();
            closed_.reset();
        }
        go_.store(true, parley::sync::memory_order_release);
        if (server_) {
            auto report = co_await server_->drain(1h);
            g.expect(report.has_value(), "not drained");
        }
        if (client_)
            co_await g.until([this] { return client_.sees_the_close(); }, "the client sees no close");
        client_.close();
        server_.reset();
    }

private:
    task<> serve(parley::connection<lines> peer) {
        auto line = co_await peer.recv();
        busy_.store(true, parley::sync::memory_order_release);
        while (!go_.load(parley::sync::memory_order_acquire))
            co_await parley::sleep_for(20us);
        if (!line)
            co_return;
        auto answered = co_await peer.send(parley::line_message("answer"));
        static_cast<void>(answered);
    }

    std::unique_ptr<parley::server<lines>> server_;
    wire client_;
    parley::event closed_;
    parley::sync::atomic<bool> go_{false}, busy_{false}, completed_{false};
    bool waits_ = false;
};

} // namespace

std::vector<kind> halfway_kinds() {
    return {
        {"connect that hangs", make<a_connect_that_hangs>, 2},
        {"half an answer", make<half_an_answer>},
        {"half a request sent", make<half_a_request_sent>, 4},
        {"half a request received", make<half_a_request_received>},
        {"a server's handshake, silent", make<a_servers_handshake<false>>, 4},
        {"a server's handshake, half through", make<a_servers_handshake<true>>, 4},
        {"close of a connection", make<a_close>, 2},
        {"serve", make<a_server<ending::serve>>, 4},
        {"close of a server", make<a_server<ending::close>>, 4},
        {"drain of a server", make<a_server<ending::drain>>, 4},
    };
}

} // namespace matrix
