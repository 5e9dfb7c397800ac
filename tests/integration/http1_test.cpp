// HTTP/1.1 as any other protocol: parley::serve<http1> and parley::client<http1> over loopback.

#include <parley/http/http1.hpp>
#include <parley/parley.hpp>

#include <doctest/doctest.h>

#include <string>

namespace http = parley::http;
using namespace std::chrono_literals;

namespace {

parley::task<> answer(parley::connection<http::http1> peer) {
    http::request asked;
    while (auto got = co_await peer.recv(asked)) {
        if (asked.error()) {
            auto refused =
                co_await peer.send(http::response::text(asked.error()->status, asked.error()->what));
            static_cast<void>(refused);
            co_await peer.close();
            co_return;
        }
        http::response reply =
            http::response::text(200, asked.method() + " " + asked.target() + ": " + asked.body());
        if (asked.path() == "/last")
            reply.set("Connection", "close");
        reply.answers_to(asked);
        if (auto sent = co_await peer.send(std::move(reply)); !sent)
            co_return;
    }
}

} // namespace

TEST_CASE("http1 is a protocol: requests, answers, keep-alive, HEAD, close") {
    parley::runtime rt;
    rt.sync_wait([]() -> parley::task<> {
        parley::server<http::http1> door(parley::endpoint("127.0.0.1", 0), answer);
        auto local = co_await door.listen();
        REQUIRE(local);
        parley::client<http::http1> client(*local);
        auto get = co_await client.request(http::request("GET", "/a").set("Host", "localhost"));
        REQUIRE(get);
        CHECK(get->status() == 200);
        CHECK(get->body() == "GET /a: ");
        auto post = co_await client.request(
            http::request("POST", "/b").set("Host", "localhost").body(std::string(200000, 'x')));
        REQUIRE(post);
        CHECK(post->body() == "POST /b: " + std::string(200000, 'x'));
        auto head = co_await client.request(http::request("HEAD", "/c").set("Host", "localhost"));
        REQUIRE(head);
        CHECK(head->body().empty());
        CHECK(head->header("content-length") == "9");
        for (int i = 0; i < 3; ++i) {
            auto last = co_await client.request(http::request("GET", "/last").set("Host", "localhost"));
            REQUIRE(last);
            CHECK(last->body() == "GET /last: ");
            CHECK_FALSE(last->keep_alive());
        }
        auto bad = co_await client.request(http::request("GET", "/d"));
        REQUIRE(bad);
        CHECK(bad->status() == 400);
        CHECK(bad->body() == "header: no Host");
        auto closed = co_await door.close();
        CHECK(closed);
    }());
}
