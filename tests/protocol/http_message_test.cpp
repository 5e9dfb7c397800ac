// Requests and responses as messages of the core: what is parsed into them, what is sent of them.

#include <parley/http/http1.hpp>
#include <parley/http/status.hpp>

#include <doctest/doctest.h>

#include <sys/uio.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace http = parley::http;

namespace {

// The hooks that the core calls.
template <class M>
struct open : M {
    using M::append;
    using M::encode;
    using M::M;
    using M::reserve;
};
using request = open<http::request>;
using response = open<http::response>;

template <class M>
std::string sent(M &message) {
    struct iovec vectors[16];
    const int count = message.encode(vectors, 16);
    REQUIRE(count >= 0);
    std::string all;
    for (int i = 0; i < count; ++i)
        all.append(static_cast<const char *>(vectors[i].iov_base), vectors[i].iov_len);
    return all;
}

// What append() returned for the whole input, and how much it left.
template <class M>
std::pair<int, std::size_t> feed(M &message, std::string_view input) {
    std::size_t size = input.size();
    const int result = message.append(input.data(), &size);
    return {result, input.size() - size};
}

using taken = std::pair<int, std::size_t>;

} // namespace

TEST_CASE("a request there and back") {
    request out("PUT", "/notes/7?draft=1");
    out.set("Host", "example").set("Content-Type", "text/plain").body("remember");
    const std::string wire = sent(out);
    CHECK(wire == "PUT /notes/7?draft=1 HTTP/1.1\r\nHost: example\r\nContent-Type: text/plain\r\n"
                  "Content-Length: 8\r\n\r\nremember");
    request in;
    CHECK(feed(in, wire + "GET") == taken{1, 3});
    CHECK(in.method() == "PUT");
    CHECK(in.target() == "/notes/7?draft=1");
    CHECK(in.path() == "/notes/7");
    CHECK(in.query() == "draft=1");
    CHECK(in.header("content-type") == "text/plain");
    CHECK(in.header("nothing").empty());
    CHECK(in.body() == "remember");
    CHECK(in.keep_alive());
    CHECK_FALSE(in.error());
    // Byte by byte into the same object.
    for (std::size_t i = 0; i < wire.size(); ++i)
        CHECK(feed(in, wire.substr(i, 1)) == taken{i + 1 == wire.size() ? 1 : 0, 0});
    CHECK(in.body() == "remember");
}

TEST_CASE("a body is announced where one is expected, and only there") {
    request get("GET", "/"), post("POST", "/");
    CHECK(sent(get) == "GET / HTTP/1.1\r\n\r\n");
    CHECK(sent(post) == "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
    response empty(200), none(204), unchanged(304), interim(100);
    CHECK(sent(empty) == "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    none.body("nobody sees this");
    CHECK(sent(none) == "HTTP/1.1 204 No Content\r\n\r\n");
    CHECK(sent(unchanged) == "HTTP/1.1 304 Not Modified\r\n\r\n");
    CHECK(sent(interim) == "HTTP/1.1 100 Continue\r\n\r\n");
    response head(200);
    head.body("12345").answers_to("HEAD");
    CHECK(sent(head) == "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    response odd(799);
    CHECK(sent(odd) == "HTTP/1.1 799 \r\nContent-Length: 0\r\n\r\n");
}

TEST_CASE("what nobody could parse is not sent") {
    CHECK_THROWS_AS(http::request("G T", "/"), std::invalid_argument);
    CHECK_THROWS_AS(http::request("", "/"), std::invalid_argument);
    CHECK_THROWS_AS(http::request("GET", "/a b"), std::invalid_argument);
    CHECK_THROWS_AS(http::request("GET", "/\r\nX: 1"), std::invalid_argument);
    CHECK_THROWS_AS(http::request("GET", ""), std::invalid_argument);
    CHECK_THROWS_AS(http::response(99), std::invalid_argument);
    CHECK_THROWS_AS(http::response(200).set("X", "a\r\nSet-Cookie: b"), std::invalid_argument);
    request framed("POST", "/");
    framed.set("Transfer-Encoding", "chunked");
    struct iovec vectors[4];
    CHECK(framed.encode(vectors, 4) == -1);
    CHECK(errno == EINVAL);
}

TEST_CASE("a request that must be refused is complete, and says what to answer") {
    request in;
    CHECK(feed(in, "GET / HTTP/1.1\r\nHost : a\r\n\r\n").first == 1);
    REQUIRE(in.error());
    CHECK(in.error()->status == 400);
    CHECK(in.error()->what ==
          "header line 2: the name of the field is no token, or a blank stands before its colon");
    CHECK_FALSE(in.keep_alive());

    http::limits small;
    in.limits(small.body(10));
    CHECK(feed(in, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n").first == 1);
    REQUIRE(in.error());
    CHECK(in.error()->status == 413);
    CHECK(in.error()->what == "the body is longer than 10 bytes");
    CHECK(feed(in, "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n").first ==
          0);
    CHECK_FALSE(in.error());
    CHECK(feed(in, "6\r\nabcdef\r\n").first == 1);
    CHECK(in.error()->status == 413);
}

TEST_CASE("a response that must be refused fails its parse") {
    response in;
    errno = 0;
    CHECK(feed(in, "HTTP/1.1 2x0 OK\r\n\r\n").first == -1);
    CHECK(errno == EBADMSG);
    CHECK(in.error()->section == std::string("4"));
    in.limits(http::limits().body(3));
    CHECK(feed(in, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").first == -1);
    CHECK(errno == EMSGSIZE);
}

TEST_CASE("a response to HEAD, and one until the end of the stream") {
    response in;
    in.answers_to("HEAD");
    CHECK(feed(in, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").first == 1);
    CHECK(in.body().empty());
    CHECK(in.keep_alive());
    in.answers_to("GET");
    CHECK(feed(in, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nX: 1\r\n\r\nabc").first == 0);
    CHECK(feed(in, "def").first == 0);
    CHECK(in.end_of_stream());
    CHECK(in.body() == "abcdef");
    CHECK_FALSE(in.keep_alive());
    CHECK(in.header("X") == "1");
    CHECK(feed(in, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc").first == 0);
    CHECK_FALSE(in.end_of_stream());
}

TEST_CASE("a large body is read where it stays") {
    const std::string body(3 << 20, 'b');
    request in;
    in.limits(http::limits().body(body.size()));
    CHECK(
        feed(in, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\nb")
            .first == 0);
    std::size_t at = 1, direct = 0;
    int result = 0;
    while (result == 0) {
        std::size_t room = 0;
        if (void *place = in.reserve(&room)) {
            REQUIRE(room <= body.size() - at);
            std::size_t n = std::min<std::size_t>(room, 65000);
            std::memcpy(place, body.data() + at, n);
            at += n;
            direct += n;
            result = in.append(place, &n);
        } else {
            REQUIRE(room == 0);
            std::size_t n = body.size() - at;
            result = in.append(body.data() + at, &n);
            at += n;
        }
    }
    CHECK(result == 1);
    CHECK(direct > body.size() / 2);
    CHECK((in.body() == body));
    // What comes another way although room was given.
    CHECK(feed(in, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n").first == 0);
    std::size_t room = 0;
    CHECK(in.reserve(&room) != nullptr);
    CHECK(room == 20000);
    CHECK(feed(in, body.substr(0, 20000)) == taken{1, 0});
    CHECK((in.body() == body.substr(0, 20000)));
}

TEST_CASE("the path of every form of target") {
    CHECK(http::request("GET", "/a/b?c").path() == "/a/b");
    CHECK(http::request("GET", "http://host:80/a?b").path() == "/a");
    CHECK(http::request("GET", "http://host").path() == "/");
    CHECK(http::request("GET", "http://host?b").path() == "/");
    CHECK(http::request("OPTIONS", "*").path().empty());
    CHECK(http::request("CONNECT", "host:443").path().empty());
}

TEST_CASE("copies and moves are messages of their own") {
    request in;
    CHECK(feed(in, "GET /a HTTP/1.1\r\nHost: a\r\n\r\n").first == 1);
    http::request copy = in;
    const http::request moved = std::move(in);
    CHECK(copy.target() == "/a");
    CHECK(moved.target() == "/a");
    copy = moved;
    CHECK(copy.header("host") == "a");
}

TEST_CASE("what is known of methods and statuses") {
    CHECK(http::reason_phrase(404) == "Not Found");
    CHECK(http::reason_phrase(799).empty());
    CHECK(http::is_safe("GET"));
    CHECK_FALSE(http::is_safe("PUT"));
    CHECK(http::is_idempotent("PUT"));
    CHECK_FALSE(http::is_idempotent("POST"));
    CHECK_FALSE(http::has_body(200, "HEAD"));
    CHECK_FALSE(http::has_body(304, "GET"));
    CHECK(http::has_body(404, "GET"));
}
