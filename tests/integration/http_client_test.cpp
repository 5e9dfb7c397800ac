// http::client against our own server, and against scripted ones that say what no good server says.

#include <parley/http/client.hpp>
#include <parley/http/server.hpp>

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "certificates.hpp"
#include "net.hpp"

namespace http = parley::http;
using namespace net;
using parley::errc;
using parley::task;

namespace {

class web {
public:
    explicit web(http::router routes, const http::server_options &options = {})
        : rt(with_loops(2)), door(parley::endpoint("127.0.0.1", 0), std::move(routes), options) {
        rt.sync_wait(rt.loop(0), [this]() -> task<> {
            auto opened = co_await door.listen();
            port = opened.value().port();
        }());
    }
    ~web() {
        rt.sync_wait(rt.loop(0), [this]() -> task<> {
            auto closed = co_await door.close();
            CHECK(closed);
        }());
    }
    std::string url(const std::string &path) const {
        return "http://127.0.0.1:" + std::to_string(port) + path;
    }

    parley::runtime rt;
    http::server door;
    unsigned port = 0;
};

http::router mirror() {
    http::router routes;
    routes.otherwise([](http::request &asked) -> task<http::response> {
        std::string text = asked.method() + " " + asked.target() + "\n";
        for (const auto [name, value] : asked.header())
            text.append(name).append(": ").append(value).append("\n");
        co_return http::response::text(200, text + "\n" + asked.body());
    });
    return routes;
}

// Says its lines to one connection after the other, each when a whole head has come.
class scripted_server {
public:
    explicit scripted_server(std::vector<std::string> answers)
        : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        REQUIRE(::bind(fd_, reinterpret_cast<sockaddr *>(&at), sizeof at) == 0);
        REQUIRE(::listen(fd_, 16) == 0);
        socklen_t length = sizeof at;
        ::getsockname(fd_, reinterpret_cast<sockaddr *>(&at), &length);
        port_ = ntohs(at.sin_port);
        thread_ = std::thread([this, answers = std::move(answers)] {
            for (const std::string &answer : answers) {
                const int peer = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
                std::string head;
                for (char c; head.find("\r\n\r\n") == std::string::npos && ::recv(peer, &c, 1, 0) == 1;)
                    head += c;
                heads.put(head);
                ::send(peer, answer.data(), answer.size(), MSG_NOSIGNAL);
                ::close(peer);
            }
        });
    }
    ~scripted_server() {
        thread_.join();
        ::close(fd_);
    }
    std::string url(const std::string &path = "/") const {
        return "http://127.0.0.1:" + std::to_string(port_) + path;
    }
    inbox<std::string> heads;

private:
    int fd_;
    unsigned port_ = 0;
    std::thread thread_;
};

parley::result<http::response> ask(parley::runtime &rt, const http::client &client, std::string url,
                                   http::request message = http::request()) {
    return rt.sync_wait(client.request(std::move(url), std::move(message)));
}

} // namespace

TEST_CASE("what a request looks like") {
    web server(mirror());
    const http::client client(http::client_options().header("User-Agent", "test/1"));
    auto got = ask(server.rt, client, server.url("/a?b=c#d"));
    REQUIRE(got);
    CHECK(got->status() == 200);
    CHECK(got->body() == "GET /a?b=c\nHost: 127.0.0.1:" + std::to_string(server.port) +
                             "\nUser-Agent: test/1\nAccept: */*\n\n");
    auto posted = server.rt.sync_wait(client.post(server.url("/up"), "body", "text/plain"));
    REQUIRE(posted);
    CHECK(posted->body().starts_with("POST /up\n"));
    CHECK(posted->body().ends_with("\nContent-Type: text/plain\nUser-Agent: test/1\nAccept: */*\n"
                                   "Content-Length: 4\n\nbody"));
    auto head = server.rt.sync_wait(client.head(server.url("/")));
    REQUIRE(head);
    CHECK(head->body().empty());
    CHECK(head->header("Content-Length") != "0");
    auto own = ask(server.rt, client, server.url("/"), http::request("PUT", "/x").set("Accept", "text/html"));
    REQUIRE(own);
    CHECK(own->body().find("Accept: text/html\n") != std::string::npos);
    CHECK(own->body().find("*/*") == std::string::npos);
}

TEST_CASE("a connection is used again, by requests one after the other and many at once") {
    http::router routes;
    std::atomic<int> served{0};
    inbox<std::string> peers;
    routes.get("/", [&](http::exchange &x) -> task<http::response> {
        ++served;
        peers.put(x.peer().to_string());
        co_return http::response::text(200, "x");
    });
    web server(std::move(routes));
    const http::client client;
    server.rt.sync_wait(server.rt.loop(0), [&]() -> task<> {
        for (int i = 0; i < 5; ++i) {
            auto got = co_await client.get(server.url("/"));
            CHECK(got);
        }
    }());
    const std::string first = peers.take();
    for (int i = 1; i < 5; ++i)
        CHECK(peers.take() == first);
    server.rt.sync_wait(server.rt.loop(0), [&]() -> task<> {
        std::vector<task<parley::result<http::response>>> all;
        for (int i = 0; i < 500; ++i)
            all.push_back(client.get(server.url("/")));
        const auto got = co_await parley::when_all(std::move(all));
        for (const auto &one : got)
            CHECK(one);
    }());
    CHECK(served == 505);
    client.close_idle();
}

TEST_CASE("redirections: methods, bodies, limits, and what is not sent to strangers") {
    web other(mirror());
    http::router routes;
    const auto to = [](http::exchange &x) -> task<http::response> {
        co_return http::response::redirect(std::stoi(std::string(x.parameter("status"))), "/echo?moved");
    };
    for (const char *method : {"GET", "POST", "PUT", "HEAD"})
        routes.add(method, "/to/{status}", to);
    routes.get("/round", [](http::request &) -> task<http::response> {
        co_return http::response::redirect(302, "round");
    });
    const std::string away = other.url("/away");
    routes.get("/away", [&](http::request &) -> task<http::response> {
        co_return http::response::redirect(302, away);
    });
    routes.get("/nowhere", [](http::request &) -> task<http::response> {
        co_return http::response(302).set("Location", "http://[");
    });
    routes.otherwise([](http::request &asked) -> task<http::response> {
        co_return http::response::text(200, asked.method() + " " + asked.target() + " " + asked.body());
    });
    web server(std::move(routes));
    const http::client client(
        http::client_options().header("Authorization", http::bearer_credentials("secret")));
    const auto result = [&](const char *method, const char *status) {
        auto got = ask(server.rt, client, server.url(std::string("/to/") + status),
                       http::request(method, "/").body(std::string(method) == "GET" ? "" : "b"));
        REQUIRE(got);
        return got->body();
    };
    CHECK(result("GET", "301") == "GET /echo?moved ");
    CHECK(result("POST", "301") == "GET /echo?moved ");
    CHECK(result("POST", "302") == "GET /echo?moved ");
    CHECK(result("PUT", "302") == "PUT /echo?moved b");
    CHECK(result("PUT", "303") == "GET /echo?moved ");
    CHECK(result("POST", "307") == "POST /echo?moved b");
    CHECK(result("POST", "308") == "POST /echo?moved b");
    CHECK(result("POST", "300") == "");
    auto round = ask(server.rt, client, server.url("/round"));
    REQUIRE(round);
    CHECK(round->status() == 302);
    auto none = ask(server.rt, http::client(http::client_options().max_redirects(0)), server.url("/to/301"));
    REQUIRE(none);
    CHECK(none->status() == 301);
    auto broken = ask(server.rt, client, server.url("/nowhere"));
    REQUIRE(broken);
    CHECK(broken->status() == 302);
    auto left = ask(server.rt, client, server.url("/away"), http::request("GET", "/").set("Cookie", "a=b"));
    REQUIRE(left);
    CHECK(left->body().starts_with("GET /away\n"));
    CHECK(left->body().find("secret") == std::string::npos);
    CHECK(left->body().find("Cookie") == std::string::npos);
    auto kept = ask(server.rt, client, other.url("/stay"), http::request("GET", "/").set("Cookie", "a=b"));
    REQUIRE(kept);
    CHECK(kept->body().find("Authorization: Bearer secret\n") != std::string::npos);
    CHECK(kept->body().find("Cookie: a=b\n") != std::string::npos);
}

TEST_CASE("what a bad server says is an error that tells what was wrong") {
    parley::runtime rt(with_loops(1));
    const http::client client(http::client_options().limits(http::limits().body(1000)));
    const auto why = [&](const std::string &answer) {
        scripted_server server({answer});
        auto got = ask(rt, client, server.url(), http::request("POST", "/"));
        REQUIRE_FALSE(got);
        return got.error();
    };
    CHECK(why("HTTP/1.1 2x0 OK\r\n\r\n") == std::errc::bad_message);
    CHECK(why("HTTP/1.1 2x0 OK\r\n\r\n").detail() == "start line: the status is no number of three digits");
    CHECK(why("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx") ==
          std::errc::bad_message);
    CHECK(why("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n") == std::errc::message_size);
    CHECK(why("HTTP/1.1 200 OK\r\n\r\n" + std::string(2000, 'x')).detail() ==
          "the body is longer than 1000 bytes");
    CHECK(why("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc") == std::errc::connection_reset);
    CHECK(why("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc") ==
          std::errc::connection_reset);
    CHECK(why("") == std::errc::connection_reset);
    std::string hints;
    for (int i = 0; i < 100; ++i)
        hints += "HTTP/1.1 103 Early Hints\r\n\r\n";
    CHECK(why(hints).detail() == "more than 8 interim answers");
}

TEST_CASE("answers until the end of the stream, interim ones, and none behind a close") {
    parley::runtime rt(with_loops(1));
    const http::client client;
    scripted_server server({"HTTP/1.0 200 OK\r\n\r\nall of it",
                            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 \r\n\r\n",
                            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"});
    auto first = ask(rt, client, server.url());
    REQUIRE(first);
    CHECK(first->body() == "all of it");
    auto second = ask(rt, client, server.url());
    REQUIRE(second);
    CHECK(second->status() == 204);
    auto third = ask(rt, client, server.url());
    REQUIRE(third);
    CHECK(third->body() == "x");
}

TEST_CASE("only what may be repeated is, on a connection that the server has closed") {
    parley::runtime rt(with_loops(1));
    const http::client client;
    const std::string answer =
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"; // and closes, against its word
    {
        scripted_server server({answer, answer, answer});
        for (int i = 0; i < 3; ++i) {
            auto got = ask(rt, client, server.url());
            REQUIRE(got);
            CHECK(got->body() == "x");
        }
    }
}

TEST_CASE("URLs that are none") {
    parley::runtime rt(with_loops(1));
    const http::client client;
    for (const char *text : {"", "nonsense", "ftp://127.0.0.1/", "http://", "http://a b/"}) {
        auto got = ask(rt, client, text);
        REQUIRE_FALSE(got);
        CHECK(got.error() == std::errc::invalid_argument);
        CHECK(std::string(got.error().detail()).ends_with("\"" + std::string(text) + "\""));
    }
}

TEST_CASE("credentials") {
    CHECK(http::basic_credentials("Aladdin", "open sesame") ==
          "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="); // RFC 7617
    CHECK(http::basic_credentials("", "") == "Basic Og==");
    CHECK_THROWS_AS(static_cast<void>(http::basic_credentials("a:b", "c")), std::invalid_argument);
    CHECK(http::bearer_credentials("t") == "Bearer t");
}
