// The end of a TLS connection: close_notify is sent, and missed where its absence means that something is
// missing.

#include "one_server.hpp"
#include "tls_world.hpp"

#include <string>
#include <thread>

using namespace net;
using parley::endpoint;
using parley::line_message;

namespace {

// A client or a server of OpenSSL's, blocking.
class old_school {
public:
    old_school(int fd, SSL_CTX *ctx, bool client) : ssl_(SSL_new(ctx)) {
        SSL_set_fd(ssl_.get(), fd);
        REQUIRE((client ? SSL_connect(ssl_.get()) : SSL_accept(ssl_.get())) == 1);
    }
    void send(std::string_view text) {
        REQUIRE(SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size())) > 0);
    }
    std::string recv_some() {
        char piece[1000];
        const int n = SSL_read(ssl_.get(), piece, sizeof piece);
        end_ = n > 0 ? 0 : SSL_get_error(ssl_.get(), n);
        return n > 0 ? std::string(piece, static_cast<std::size_t>(n)) : "";
    }
    // Of the last recv_some(): SSL_ERROR_ZERO_RETURN is a close_notify.
    int end() const { return end_; }
    void close_notify() { SSL_shutdown(ssl_.get()); }

private:
    std::unique_ptr<SSL, openssl_free<SSL_free>> ssl_;
    int end_ = 0;
};

struct anybody {
    std::unique_ptr<SSL_CTX, openssl_free<SSL_CTX_free>> ctx{SSL_CTX_new(TLS_client_method())};
};

// A port of this machine, and what comes to it.
class listener {
public:
    listener() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in any{};
        any.sin_family = AF_INET;
        any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof any;
        REQUIRE(::bind(fd_, reinterpret_cast<sockaddr *>(&any), length) == 0);
        REQUIRE(::listen(fd_, 5) == 0);
        ::getsockname(fd_, reinterpret_cast<sockaddr *>(&any), &length);
        local = endpoint("127.0.0.1", ntohs(any.sin_port));
    }
    listener(const listener &) = delete;
    ~listener() { ::close(fd_); }

    // Serves one connection, which is closed without a goodbye.
    template <class How>
    void serve(SSL_CTX *ctx, How how) {
        const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
        {
            old_school peer(fd, ctx, false);
            how(peer);
        }
        ::close(fd);
    }
    endpoint local;

private:
    int fd_;
};

std::unique_ptr<SSL_CTX, openssl_free<SSL_CTX_free>> context_of(const identity &who) {
    std::unique_ptr<SSL_CTX, openssl_free<SSL_CTX_free>> ctx(SSL_CTX_new(TLS_server_method()));
    SSL_CTX_use_certificate(ctx.get(), who.x509());
    SSL_CTX_use_PrivateKey(ctx.get(), who.key());
    return ctx;
}

// What a client of parley's gets from a server that answers `text` and ends like `how`.
template <class How>
parley::result<line_message> answered(const tls_world &w, std::string text, How how,
                                      std::chrono::milliseconds keep_alive = 60s) {
    const auto ctx = context_of(w.localhost);
    listener at;
    std::thread server([&] {
        at.serve(ctx.get(), [&](old_school &peer) {
            CHECK(peer.recv_some() == "hello\n");
            if (!text.empty())
                peer.send(text);
            how(peer);
        });
    });
    parley::runtime rt(with_loops(1));
    auto answer =
        rt.sync_wait([](endpoint to, tls::context with,
                        std::chrono::milliseconds keep) -> parley::task<parley::result<line_message>> {
            parley::client<lines> c(to, parley::client_options().tls(with).keep_alive(keep));
            auto got = co_await c.request(line_message("hello"));
            co_return got;
        }(at.local, w.client(), keep_alive));
    server.join();
    return answer;
}

constexpr const char *cut = "closed without TLS' goodbye (close_notify): what came may not be all";

} // namespace

TEST_CASE("TLS truncation: an answer that is cut off is an error that says so") {
    const tls_world w;
    auto answer = answered(w, "hel", [](old_school &) {});
    REQUIRE(!answer);
    CHECK(answer.error().message() == "unexpected eof while reading");
    CHECK(answer.error().detail() == std::string("the server ") + cut);
}

TEST_CASE("TLS truncation: an answer that ends too early with a goodbye is the server's doing") {
    const tls_world w;
    auto answer = answered(w, "hel", [](old_school &peer) { peer.close_notify(); });
    REQUIRE(!answer);
    CHECK(answer.error() == std::errc::connection_reset);
    auto whole = answered(w, "hello\n", [](old_school &) {});
    CHECK(whole); // it is all there, however the connection ends
}

TEST_CASE("TLS truncation: a request that is cut off is an error of recv()") {
    const tls_world w;
    tls_server server(w.server());
    anybody who;
    SUBCASE("in the middle of a message") {
        raw_peer socket(server.local);
        old_school peer(socket.fd(), who.ctx.get(), true);
        peer.send("hel");
        socket.half_close();
        const parley::error why = server.failures.take();
        CHECK(why.message() == "unexpected eof while reading");
        CHECK(why.detail() == std::string("the client ") + cut);
    }
    SUBCASE("between two messages nothing is missing") {
        raw_peer socket(server.local);
        old_school peer(socket.fd(), who.ctx.get(), true);
        socket.half_close();
        CHECK(server.failures.take() == parley::errc::end_of_stream);
    }
}

TEST_CASE("TLS truncation: we say goodbye when we close") {
    const tls_world w;
    auto server = serve_one<lines>(
        [](parley::connection<lines> peer) -> parley::task<> {
            auto line = co_await peer.recv();
            REQUIRE(line);
            auto sent = co_await peer.send(*line);
            CHECK(sent);
            co_await peer.close();
        },
        parley::acceptor_options().tls(w.server()));
    anybody who;
    raw_peer socket(server.local);
    old_school peer(socket.fd(), who.ctx.get(), true);
    peer.send("hello\n");
    CHECK(peer.recv_some() == "hello\n");
    CHECK(peer.recv_some().empty());
    CHECK(peer.end() == SSL_ERROR_ZERO_RETURN);
    server.join();
}

TEST_CASE("TLS truncation: a client says goodbye as well") {
    const tls_world w;
    int end = 0;
    auto answer = answered(
        w, "hello\n",
        [&](old_school &peer) {
            CHECK(peer.recv_some().empty());
            end = peer.end();
        },
        0s);
    CHECK(answer);
    CHECK(end == SSL_ERROR_ZERO_RETURN);
}

TEST_CASE("TLS truncation: a kept-alive connection that ended without a goodbye is no loss to a retriable "
          "request") {
    const tls_world w;
    const auto ctx = context_of(w.localhost);
    listener at;
    std::thread server([&] {
        at.serve(ctx.get(), [](old_school &peer) {
            CHECK(peer.recv_some() == "1\n");
            peer.send("1\n");
            CHECK(peer.recv_some() == "2\n"); // and no answer
        });
        at.serve(ctx.get(), [](old_school &peer) {
            CHECK(peer.recv_some() == "2\n");
            peer.send("2\n");
        });
    });
    parley::runtime rt(with_loops(1));
    rt.sync_wait([](endpoint to, tls::context with) -> parley::task<> {
        parley::client<lines> c(to, parley::client_options().tls(with).retriable());
        for (const char *text : {"1", "2"}) {
            auto got = co_await c.request(line_message(text));
            REQUIRE(got);
            CHECK(got->text() == text);
        }
    }(at.local, w.client()));
    server.join();
}
