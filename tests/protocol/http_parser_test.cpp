// The parser's events, and that they do not depend on how the input was split.

#include <parley/http/parser.hpp>

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "http_events.hpp"

using parley::http::limits;
using parley::http::parser;

TEST_CASE("requests, one behind the other") {
    const std::string input =
        "GET /a?b=c HTTP/1.1\r\nHost: example\r\nX-One: 1\r\nX-One:  2 \r\n\r\n"
        "POST /up HTTP/1.1\r\nhost: example:8080\r\ncontent-length: 5\r\n\r\nhello"
        "\r\nPUT /chunks HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5\r\nhello\r\n6;name=\"a;b\"\r\n world\r\n0\r\nX-Sum: 42\r\n\r\n"
        "OPTIONS * HTTP/1.0\r\n\r\n";
    CHECK(told_of(parser::request, input) ==
          "head GET /a?b=c 1.1 {Host: example|X-One: 1|X-One: 2} keep; end; "
          "head POST /up 1.1 {host: example:8080|content-length: 5} keep; data hello; end; "
          "head PUT /chunks 1.1 {Host: [::1]:80|Transfer-Encoding: chunked} keep; data hello world; "
          "trailer {X-Sum: 42}; end; "
          "head OPTIONS * 1.0 {}; end; need_more");
}

TEST_CASE("responses of every kind of length") {
    CHECK(told_of(parser::response,
                  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 204 No Content\r\n\r\n") ==
          "head 200 OK 1.1 {Content-Length: 2} keep; data hi; end; head 204 No Content 1.1 {} keep; end; "
          "need_more");
    CHECK(told_of(parser::response, "HTTP/1.1 200\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n") ==
          "head 200  1.1 {Transfer-Encoding: CHUNKED} keep; end; need_more");
    CHECK(told_of(parser::response, "HTTP/1.0 200 Fine\r\n\r\nuntil the end") ==
          "head 200 Fine 1.0 {}; data until the end; end");
    CHECK(told_of(parser::response,
                  "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\nHTTP/1.1 200 \r\n"
                  "Connection: Close\r\nContent-Length: 0\r\n\r\n") ==
          "head 304 Not Modified 1.1 {Content-Length: 1000} keep; end; "
          "head 200  1.1 {Connection: Close|Content-Length: 0}; end; need_more");
}

TEST_CASE("interim answers, and the one that counts") {
    CHECK(told_of(parser::response,
                  "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                  "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx") ==
          "interim 100 {}; interim 103 {Link: </a>}; head 200 OK 1.1 {Content-Length: 1} keep; data x; end; "
          "need_more");
    std::string many;
    for (int i = 0; i < 9; ++i)
        many += "HTTP/1.1 102 Processing\r\n\r\n";
    CHECK(told_of(parser::response, many).ends_with("error 400 more than 8 interim answers"));
}

TEST_CASE("an answer to HEAD, and to CONNECT, and one that changes the protocol") {
    const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    CHECK(told_of(parser::response, answer, "HEAD") ==
          "head 200 OK 1.1 {Content-Length: 5} keep; end; need_more");
    parser p(parser::response);
    p.answer_to("HEAD");
    std::string_view input = answer;
    CHECK(p.next(input) == parser::event::head);
    CHECK(p.content_length() == 5);
    CHECK(p.next(input) == parser::event::end);
    CHECK_FALSE(p.upgraded());
    p.reset();
    p.answer_to("CONNECT");
    input = "HTTP/1.1 200 OK\r\n\r\n\x16\x03\x01";
    CHECK(p.next(input) == parser::event::head);
    CHECK(p.next(input) == parser::event::end);
    CHECK(p.upgraded());
    CHECK(input == "\x16\x03\x01");
    p.reset();
    input = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\n\r\nother";
    CHECK(p.next(input) == parser::event::head);
    CHECK(p.next(input) == parser::event::end);
    CHECK(p.upgraded());
    CHECK(input == "other");
}

TEST_CASE("the end of the input") {
    parser p(parser::request);
    CHECK(p.finish() == parser::event::need_more);
    std::string_view input = "\r\n";
    CHECK(p.next(input) == parser::event::need_more);
    CHECK(p.finish() == parser::event::need_more); // nothing has begun
    input = "GET";
    CHECK(p.next(input) == parser::event::need_more);
    CHECK(p.begun());
    CHECK(p.finish() == parser::event::error);
    CHECK(p.error().what == "the input ends in the middle of the head");
    p.reset();
    input = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell";
    CHECK(p.next(input) == parser::event::head);
    CHECK(p.next(input) == parser::event::data);
    CHECK(p.remaining() == 1);
    CHECK(p.finish() == parser::event::error);
    CHECK(p.error().what == "the input ends in the middle of the body");
    CHECK(p.next(input) == parser::event::error);
}

TEST_CASE("an interim answer leaves nothing behind, and is a beginning") {
    CHECK(told_of(parser::response,
                  "HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nHTTP/1.1 200 OK\r\n\r\nuntil the end") ==
          "interim 100 {Content-Length: 2}; head 200 OK 1.1 {}; data until the end; end");
    CHECK(told_of(parser::response, "HTTP/1.1 100 Continue\r\n\r\n") ==
          "interim 100 {}; cut: the input ends in the middle of the head");
}

TEST_CASE("bytes of a body that were read elsewhere") {
    parser p(parser::request);
    std::string_view input = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab";
    CHECK(p.next(input) == parser::event::head);
    CHECK(p.remaining() == 10);
    CHECK(p.next(input) == parser::event::data);
    p.skip(7);
    CHECK(p.remaining() == 1);
    input = "zGET";
    CHECK(p.next(input) == parser::event::data);
    CHECK(p.data() == "z");
    CHECK(p.next(input) == parser::event::end);
    CHECK(input == "GET");
}

TEST_CASE("limits hold at their last byte") {
    const limits small = limits().start_line(20).header_line(30).header_bytes(100).header_count(3);
    const auto get = [](const std::string &target, const std::string &header) {
        return "GET " + target + " HTTP/1.1\r\n" + header + "\r\n";
    };
    CHECK(told_of(parser::request, get("/123456", "Host: a\r\n"), "", small).find("error") ==
          std::string::npos);
    CHECK(told_of(parser::request, get("/1234567", "Host: a\r\n"), "", small) ==
          "error 414 start line: longer than 20 bytes");
    CHECK(told_of(parser::request, get("/", "Host: a\r\nX: " + std::string(27, 'x') + "\r\n"), "", small)
              .find("error") == std::string::npos);
    CHECK(told_of(parser::request, get("/", "Host: a\r\nX: " + std::string(28, 'x') + "\r\n"), "", small) ==
          "error 431 header line 3: longer than 30 bytes");
    CHECK(told_of(parser::request, get("/", "Host: a\r\nA: 1\r\nB: 2\r\n"), "", small).find("error") ==
          std::string::npos);
    CHECK(told_of(parser::request, get("/", "Host: a\r\nA: 1\r\nB: 2\r\nC: 3\r\n"), "", small) ==
          "error 431 the header has more than 3 fields");
    const std::string header =
        "Host: a\r\nA: " + std::string(24, 'a') + "\r\nB: " + std::string(24, 'b') + "\r\n";
    const std::size_t all = get("/", header).size();
    limits exact = small;
    CHECK(told_of(parser::request, get("/", header), "", exact.header_bytes(all)).find("error") ==
          std::string::npos);
    CHECK(told_of(parser::request, get("/", header), "", exact.header_bytes(all - 1)) ==
          "error 431 the header is longer than " + std::to_string(all - 1) + " bytes");
    const std::string chunked = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    const limits chunks = limits().chunk_header(10).trailer_bytes(20).trailer_count(2);
    CHECK(told_of(parser::request, chunked + "1;abcdef\r\nx\r\n1;abcdef\r\nx\r\n0\r\n\r\n", "", chunks)
              .ends_with("data xx; end; need_more"));
    CHECK(told_of(parser::request, chunked + "1;abcdefghijk\r\nx\r\n0\r\n\r\n", "", chunks)
              .ends_with("error 400 chunk: its line is longer than 10 bytes"));
    CHECK(told_of(parser::request, chunked + "1\r\nx\r\n0\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n", "", chunks)
              .ends_with("error 431 the trailer has more than 2 fields"));
    CHECK(told_of(parser::request, chunked + "0\r\nA: " + std::string(60, 'a') + "\r\n\r\n", "", chunks)
              .ends_with("error 431 the trailer is longer than 20 bytes"));
}
