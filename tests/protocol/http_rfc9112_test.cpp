// RFC 9112, section by section: what a recipient must refuse, and what it must take. Each row is fed whole, byte by
// byte and in all splits into two.

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "http_events.hpp"

using parley::http::parser;

namespace {

struct row {
    std::string section;
    std::string what;
    std::string input;
    const char *expected; // how what is told of it ends
};

std::string request(const std::string &lines, const std::string &start = "GET / HTTP/1.1") {
    return start + "\r\n" + lines + "\r\n";
}
std::string post(const std::string &lines, const std::string &body = "") {
    return "POST / HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n" + body;
}
std::string chunks(const std::string &body) {
    return post("Transfer-Encoding: chunked\r\n", body);
}

void check(parser::role role, const std::vector<row> &rows) {
    for (const row &one : rows) {
        CAPTURE(one.section);
        CAPTURE(one.what);
        const std::string told = told_of(role, one.input);
        CAPTURE(told);
        CHECK(told.ends_with(one.expected));
    }
}

constexpr const char *whole = "end; need_more";
const std::string host = "Host: a\r\n";

} // namespace

TEST_CASE("RFC 9112, 2: the message") {
    check(parser::request, {
                               {"2.2", "an empty line before the request", "\r\n" + request(host), whole},
                               {"2.2", "four of them", "\r\n\r\n\r\n\r\n" + request(host), whole},
                               {"2.2", "without end", "\r\n\r\n\r\n\r\n\r\n" + request(host),
                                "error 400 start line: an empty line stands in its place"},
                               {"2.2", "a line that ends in LF only", "GET / HTTP/1.1\nHost: a\r\n\r\n",
                                "error 400 start line: a line feed without a carriage return"},
                               {"2.2", "a field that does", "GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n",
                                "error 400 header line 2: a line feed without a carriage return"},
                               {"2.2", "a head that does", "GET / HTTP/1.1\r\nHost: a\r\n\n",
                                "error 400 header line 3: a line feed without a carriage return"},
                               {"2.2", "a bare CR in a value", request("Host: a\r\nX: 1\r2\r\n"),
                                "error 400 header line 3: a carriage return without a line feed"},
                               {"2.2", "a bare CR at the end of the head", "GET / HTTP/1.1\r\nHost: a\r\n\rX",
                                "error 400 header line 3: a carriage return without a line feed"},
                               {"2.2", "a blank before the first field", request(" X: 1\r\n" + host),
                                "error 400 header line 2: it begins with a blank"},
                               {"2.3", "HTTP/1.0", request("", "GET / HTTP/1.0"), whole},
                               {"2.3", "a lower case name", request(host, "GET / http/1.1"),
                                "error 400 start line: no HTTP version at its end"},
                               {"2.3", "HTTP/2.0", request(host, "GET / HTTP/2.0"),
                                "error 505 start line: a version other than HTTP/1.0 and HTTP/1.1"},
                               {"2.3", "HTTP/9.9", request(host, "GET / HTTP/9.9"),
                                "error 505 start line: a version other than HTTP/1.0 and HTTP/1.1"},
                               {"2.3", "HTTP/1.2", request(host, "GET / HTTP/1.2"),
                                "error 505 start line: a version other than HTTP/1.0 and HTTP/1.1"},
                               {"2.3", "two digits", request(host, "GET / HTTP/1.10"),
                                "error 400 start line: no HTTP version at its end"},
                               {"2.3", "no version", request(host, "GET /"),
                                "error 400 start line: no HTTP version at its end"},
                               {"2.3", "something else", request(host, "GET / FTP/1.1"),
                                "error 400 start line: no HTTP version at its end"},
                           });
}

TEST_CASE("RFC 9112, 3: the request line") {
    check(
        parser::request,
        {
            {"3", "two blanks", request(host, "GET  / HTTP/1.1"),
             "error 400 start line: a character in the target that no URI has"},
            {"3", "a tab between", request(host, "GET\t/ HTTP/1.1"),
             "error 400 start line: the method is no token"},
            {"3", "a blank at the end", request(host, "GET / HTTP/1.1 "),
             "error 400 start line: no HTTP version at its end"},
            {"3", "a blank in the target", request(host, "GET /a b HTTP/1.1"),
             "error 400 start line: no HTTP version at its end"},
            {"3", "garbage", std::string("\x16\x03\x01\x02\x00\x01", 6),
             "error 400 start line: a control character"},
            {"3", "a NUL", request(host, std::string("GET /\0 HTTP/1.1", 15)),
             "error 400 start line: a control character"},
            {"3.1", "an unknown method", request(host, "BREW /pot HTTP/1.1"), whole},
            {"3.1", "a method in lower case is another method", request(host, "get / HTTP/1.1"), whole},
            {"3.1", "no token", request(host, "G@T / HTTP/1.1"),
             "error 400 start line: the method is no token"},
            {"3.1", "none", request(host, " / HTTP/1.1"), "error 400 start line: the method is no token"},
            {"3.2", "no Host", request("X: 1\r\n"), "error 400 header: no Host"},
            {"3.2", "two of them", request(host + host), "error 400 header: more than one Host"},
            {"3.2", "two that differ", request(host + "Host: b\r\n"), "error 400 header: more than one Host"},
            {"3.2", "two in HTTP/1.0", request(host + host, "GET / HTTP/1.0"),
             "error 400 header: more than one Host"},
            {"3.2", "an empty one", request("Host:\r\n"), whole},
            {"3.2", "with a user", request("Host: me@a\r\n"),
             "error 400 header: Host is no host with or without a port"},
            {"3.2", "with a path", request("Host: a/b\r\n"),
             "error 400 header: Host is no host with or without a port"},
            {"3.2", "with a blank", request("Host: a b\r\n"),
             "error 400 header: Host is no host with or without a port"},
            {"3.2", "a list", request("Host: a, b\r\n"),
             "error 400 header: Host is no host with or without a port"},
            {"3.2", "two ports", request("Host: a:1:2\r\n"),
             "error 400 header: Host is no host with or without a port"},
            {"3.2", "a port that is none", request("Host: a:b\r\n"),
             "error 400 header: Host is no host with or without a port"},
            {"3.2", "a percent sign with one digit", request("Host: a%4\r\n"),
             "error 400 header: Host is no host with or without a port"},
            {"3.2", "an open bracket", request("Host: [::1\r\n"),
             "error 400 header: Host is no host with or without a port"},
            {"3.2", "an IPv6 literal", request("Host: [::1]:8080\r\n"), whole},
            {"3.2", "a fragment in the target", request(host, "GET /a#b HTTP/1.1"),
             "error 400 start line: a character in the target that no URI has"},
            {"3.2", "an umlaut in the target", request(host, "GET /\xc3\xa4 HTTP/1.1"),
             "error 400 start line: a character in the target that no URI has"},
            {"3.2", "no path", request(host, "GET a HTTP/1.1"),
             "error 400 start line: the target is neither a path nor an absolute URI"},
            {"3.2.1", "the origin form", request(host, "GET /where?q=now HTTP/1.1"), whole},
            {"3.2.2", "the absolute form", request(host, "GET http://a/b HTTP/1.1"), whole},
            {"3.2.2", "without an authority", request(host, "GET http:///b HTTP/1.1"),
             "error 400 start line: the target is neither a path nor an absolute URI"},
            {"3.2.3", "CONNECT", request("Host: a:443\r\n", "CONNECT a:443 HTTP/1.1"), whole},
            {"3.2.3", "CONNECT to a path", request(host, "CONNECT / HTTP/1.1"),
             "error 400 start line: the target of CONNECT is no host:port"},
            {"3.2.3", "CONNECT without a port", request(host, "CONNECT a HTTP/1.1"),
             "error 400 start line: the target of CONNECT is no host:port"},
            {"3.2.3", "GET of an authority", request(host, "GET a:80 HTTP/1.1"),
             "error 400 start line: the target is neither a path nor an absolute URI"},
            {"3.2.4", "OPTIONS *", request(host, "OPTIONS * HTTP/1.1"), whole},
            {"3.2.4", "GET *", request(host, "GET * HTTP/1.1"),
             "error 400 start line: the target * is for OPTIONS only"},
        });
}

TEST_CASE("RFC 9112, 4: the status line") {
    const std::string rest = "\r\nContent-Length: 0\r\n\r\n";
    check(parser::response, {
                                {"4", "a reason", "HTTP/1.1 404 Not Found" + rest, whole},
                                {"4", "an empty reason", "HTTP/1.1 404 " + rest, whole},
                                {"4", "not even a blank", "HTTP/1.1 404" + rest, whole},
                                {"4", "a status that nobody knows", "HTTP/1.1 799 ?" + rest, whole},
                                {"4", "two digits", "HTTP/1.1 40 Not" + rest,
                                 "error 400 start line: the status is no number of three digits"},
                                {"4", "four digits", "HTTP/1.1 4040 Not" + rest,
                                 "error 400 start line: the status is no number of three digits"},
                                {"4", "letters", "HTTP/1.1 4o4 Not" + rest,
                                 "error 400 start line: the status is no number of three digits"},
                                {"4", "less than 100", "HTTP/1.1 099 Not" + rest,
                                 "error 400 start line: a status of less than 100"},
                                {"4", "a control character in the reason", "HTTP/1.1 200 O\x01K" + rest,
                                 "error 400 start line: a control character"},
                                {"4", "another protocol", "ICY 200 OK" + rest,
                                 "error 400 start line: no HTTP version at its end"},
                                {"4", "a later version", "HTTP/2.0 200 OK" + rest,
                                 "error 505 start line: a version other than HTTP/1.0 and HTTP/1.1"},
                                {"2.2", "an empty line before it", "\r\nHTTP/1.1 200 OK" + rest,
                                 "error 400 start line: an empty line stands in its place"},
                            });
}

TEST_CASE("RFC 9112, 5: fields") {
    check(parser::request,
          {
              {"5", "no blank behind the colon", request("Host:a\r\n"), whole},
              {"5", "blanks and tabs around the value", request("Host: \t a \t \r\n"), whole},
              {"5", "an empty value", request(host + "X:\r\n"), whole},
              {"5.1", "a blank before the colon", request(host + "X : 1\r\n"),
               "error 400 header line 3: the name of the field is no token, or a blank stands before its "
               "colon"},
              {"5.1", "a blank in the name", request(host + "X Y: 1\r\n"),
               "error 400 header line 3: the name of the field is no token, or a blank stands before its "
               "colon"},
              {"5.1", "no colon", request(host + "XY\r\n"),
               "error 400 header line 3: the name of the field is no token, or a blank stands before its "
               "colon"},
              {"5.1", "no name", request(host + ": 1\r\n"),
               "error 400 header line 3: the name of the field is no token, or a blank stands before its "
               "colon"},
              {"5.1", "a name that is no token", request(host + "X(: 1\r\n"),
               "error 400 header line 3: the name of the field is no token, or a blank stands before its "
               "colon"},
              {"5.2", "a folded line", request(host + "X: 1\r\n 2\r\n"),
               "error 400 header line 4: a folded line"},
              {"5.2", "folded with a tab", request(host + "X: 1\r\n\t2\r\n"),
               "error 400 header line 4: a folded line"},
              {"5.5 of RFC 9110", "a NUL in a value", request(host + std::string("X: a\0b\r\n", 8)),
               "error 400 header line 3: a control character"},
              {"5.5 of RFC 9110", "a DEL in a value", request(host + "X: a\x7f\r\n"),
               "error 400 header line 3: a control character"},
              {"5.5 of RFC 9110", "bytes above 127", request(host + "X: \xc3\xa4\r\n"), whole},
          });
}

TEST_CASE("RFC 9112, 6: how long the body is") {
    const char *digits = "error 400 header: Content-Length is no number";
    const char *end = "error 400 header: Transfer-Encoding does not end in chunked, once";
    check(
        parser::request,
        {
            {"6.1", "both lengths", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
             "Transfer-Encoding, or one beside Content-Length"},
            {"6.1", "both, the other way round", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
             "Content-Length is no number, a second one, or beside Transfer-Encoding"},
            {"6.1", "chunked in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
             "error 400 header: Transfer-Encoding in HTTP/1.0"},
            {"6.1", "another coding before it", post("Transfer-Encoding: gzip, chunked\r\n"),
             "error 501 header: a Transfer-Encoding other than chunked"},
            {"6.1", "the same in two fields",
             post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
             "error 501 header: a Transfer-Encoding other than chunked"},
            {"6.3", "chunked is not the last", post("Transfer-Encoding: chunked, gzip\r\n"), end},
            {"6.3", "chunked twice", post("Transfer-Encoding: chunked, chunked\r\n"), end},
            {"6.3", "chunked twice, in two fields",
             post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
             "a second Transfer-Encoding, or one beside Content-Length"},
            {"6.3", "xchunked", post("Transfer-Encoding: xchunked\r\n"), end},
            {"6.3", "identity", post("Transfer-Encoding: identity\r\n"), end},
            {"6.3", "quoted", post("Transfer-Encoding: \"chunked\"\r\n"), end},
            {"6.3", "with a parameter", post("Transfer-Encoding: chunked;a=b\r\n"), end},
            {"6.3", "nothing", post("Transfer-Encoding:\r\n"), end},
            {"6.3", "an empty member behind it", post("Transfer-Encoding: chunked,\r\n"), end},
            {"6.3", "an empty member before it", post("Transfer-Encoding: ,chunked\r\n"),
             "error 501 header: a Transfer-Encoding other than chunked"},
            {"6.3", "a vertical tab before it", post("Transfer-Encoding: \vchunked\r\n"),
             "error 400 header line 3: a control character"},
            {"6.1", "without case", post("Transfer-Encoding: ChUnKeD\r\n", "0\r\n\r\n"), whole},
            {"6.2", "a length", post("Content-Length: 2\r\n", "ab"), whole},
            {"6.2", "zeros before it", post("Content-Length: 0002\r\n", "ab"), whole},
            {"6.2", "of nothing", post("Content-Length: 0\r\n"), whole},
            {"6.2", "a sign", post("Content-Length: +5\r\n"),
             "Content-Length is no number, a second one, or beside Transfer-Encoding"},
            {"6.2", "negative", post("Content-Length: -1\r\n"),
             "Content-Length is no number, a second one, or beside Transfer-Encoding"},
            {"6.2", "hexadecimal", post("Content-Length: 0x5\r\n"),
             "Content-Length is no number, a second one, or beside Transfer-Encoding"},
            {"6.2", "letters behind it", post("Content-Length: 5abc\r\n"),
             "Content-Length is no number, a second one, or beside Transfer-Encoding"},
            {"6.2", "a fraction", post("Content-Length: 5.0\r\n"),
             "Content-Length is no number, a second one, or beside Transfer-Encoding"},
            {"6.2", "empty", post("Content-Length:\r\n"),
             "Content-Length is no number, a second one, or beside Transfer-Encoding"},
            {"6.2", "2^64", post("Content-Length: 18446744073709551616\r\n"),
             "Content-Length is no number, a second one, or beside Transfer-Encoding"},
            {"6.2", "2^63", post("Content-Length: 9223372036854775808\r\n"), digits},
            {"6.3", "a list of the same", post("Content-Length: 5, 5\r\n"), digits},
            {"6.3", "a list that differs", post("Content-Length: 5, 6\r\n"),
             "Content-Length is no number, a second one, or beside Transfer-Encoding"},
            {"6.3", "twice the same", post("Content-Length: 5\r\nContent-Length: 5\r\n"),
             "error 400 header: more than one Content-Length"},
            {"6.3", "two that differ", post("Content-Length: 5\r\nContent-Length: 6\r\n"),
             "Content-Length is no number, a second one, or beside Transfer-Encoding"},
            {"6.3", "neither: no body", post(""), whole},
        });
    check(parser::response,
          {
              {"6.3", "204 has none", "HTTP/1.1 204 \r\nContent-Length: 5\r\n\r\nHTTP/1.1 204 \r\n\r\n",
               "end; need_more"},
              {"6.3", "304 has none",
               "HTTP/1.1 304 \r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 204 \r\n\r\n", "end; need_more"},
              {"6.3", "until the end of the stream", "HTTP/1.1 200 \r\n\r\nabc", "data abc; end"},
              {"6.3", "a coding that is not chunked", "HTTP/1.1 200 \r\nTransfer-Encoding: gzip\r\n\r\nabc",
               end},
              {"6.1", "a coding in 1xx", "HTTP/1.1 100 \r\nTransfer-Encoding: chunked\r\n\r\n",
               "error 400 header: Transfer-Encoding in an answer that has no body"},
              {"8", "cut off", "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nabc",
               "cut: the input ends in the middle of the body"},
              {"8", "cut off in a chunk", "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
               "cut: the input ends in the middle of the body"},
              {"8", "cut off before the last chunk",
               "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
               "cut: the input ends in the middle of the body"},
          });
}

TEST_CASE("RFC 9112, 7: chunks") {
    const char *bad =
        "error 400 chunk: its line is no size in hexadecimal digits, extensions if any, and CRLF";
    const char *extension =
        "error 400 chunk: its line is no size in hexadecimal digits, extensions if any, and CRLF";
    check(
        parser::request,
        {
            {"7.1", "none", chunks("0\r\n\r\n"), whole},
            {"7.1", "some", chunks("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), "data abc; end; need_more"},
            {"7.1", "digits in both cases", chunks("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), whole},
            {"7.1", "zeros before it", chunks("0001\r\na\r\n000\r\n\r\n"), "data a; end; need_more"},
            {"7.1", "no size", chunks("\r\na\r\n"), bad},
            {"7.1", "a size that is none", chunks("g\r\na\r\n"), bad},
            {"7.1", "0x before it", chunks("0x1\r\na\r\n0\r\n\r\n\r\n"), extension},
            {"7.1", "a sign before it", chunks("+1\r\na\r\n"), bad},
            {"7.1", "negative", chunks("-1\r\na\r\n"), bad},
            {"7.1", "a blank before it", chunks(" 1\r\na\r\n"), bad},
            {"7.1", "2^64", chunks("10000000000000000\r\na\r\n"), bad},
            {"7.1", "2^64 in two chunks", chunks("1\r\na\r\nffffffffffffffff\r\nb"),
             "error 400 chunk: the body would be longer than 2^64 bytes"},
            {"7.1", "LF only", chunks("1\na\r\n0\r\n\r\n"), extension},
            {"7.1", "CR only", chunks("1\ra\r\n0\r\n\r\n"), bad},
            {"7.1", "more data than the size says", chunks("1\r\nab\r\n0\r\n\r\n"), bad},
            {"7.1", "less data than the size says", chunks("3\r\nab\r\n0\r\n\r\n"), bad},
            {"7.1", "no CRLF behind the data", chunks("1\r\na0\r\n\r\n"), bad},
            {"7.1", "LF only behind the data", chunks("1\r\na\n0\r\n\r\n"), bad},
            {"7.1.1", "extensions", chunks("1;a;b=c;d=\"e;f\"\r\nx\r\n0;z\r\n\r\n"),
             "data x; end; need_more"},
            {"7.1.1", "LF in an extension", chunks("1;ab\n\r\re\n0\r\n\r\n"), extension},
            {"7.1.1", "no name", chunks("1;=c\r\nx\r\n"), extension},
            {"7.1.1", "an open quotation", chunks("1;a=\"b\r\nx\r\n"), extension},
            {"7.1.1", "a quotation whose end is quoted", chunks("1;a=\"\\\"\r\nx\r\n0\r\n\r\n"), extension},
            {"7.1.1", "something else behind the size", chunks("1,a\r\nx\r\n"), extension},
            {"7.1.2", "a trailer", chunks("0\r\nX: 1\r\nY: 2\r\n\r\n"),
             "trailer {X: 1|Y: 2}; end; need_more"},
            {"7.1.2", "a folded line in it", chunks("0\r\nX: 1\r\n 2\r\n\r\n"),
             "error 400 trailer line 2: a folded line"},
            {"7.1.2", "no field", chunks("0\r\nX\r\n\r\n"),
             "error 400 trailer line 1: the name of the field is no token, or a blank stands before its "
             "colon"},
            {"7.1.2", "a length in it", chunks("0\r\nContent-Length: 5\r\n\r\n"),
             "Content-Length is no number, a second one, or beside Transfer-Encoding"},
            {"7.1.2", "a coding in it", chunks("0\r\nTransfer-Encoding: chunked\r\n\r\n"),
             "a second Transfer-Encoding, or one beside Content-Length"},
            {"6.5.1 of RFC 9110", "a Host in it", chunks("0\r\nHost: b\r\n\r\n"),
             "error 400 trailer: Host may not stand in it"},
            {"6.5.1 of RFC 9110", "a Set-Cookie in it", chunks("0\r\nset-cookie: b\r\n\r\n"),
             "error 400 trailer: set-cookie may not stand in it"},
        });
}

TEST_CASE("RFC 9112, 9: whether the connection stays") {
    const auto stays = [](const std::string &lines, const char *version = "1.1") {
        return told_of(parser::request,
                       "GET / HTTP/" + std::string(version) + "\r\nHost: a\r\n" + lines + "\r\n")
                   .find(" keep;") != std::string::npos;
    };
    CHECK(stays(""));
    CHECK_FALSE(stays("Connection: close\r\n"));
    CHECK_FALSE(stays("Connection: Upgrade, CLOSE\r\n"));
    CHECK_FALSE(stays("Connection: a\r\nConnection: close\r\n"));
    CHECK_FALSE(stays("Connection: keep-alive, close\r\n"));
    CHECK_FALSE(stays("", "1.0"));
    CHECK(stays("Connection: Keep-Alive\r\n", "1.0"));
    CHECK_FALSE(stays("Connection: Keep-Alive, close\r\n", "1.0"));
}

// What a proxy in front could read in another way than we do: ../shared/faults.md, rows 35 to 40.
TEST_CASE("nothing is smuggled") {
    const std::string hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    for (const std::string &lines : {
             std::string("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
             std::string("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n"),
             std::string("Transfer-Encoding : chunked\r\n"),
             std::string("Transfer-Encoding\t: chunked\r\n"),
             std::string("Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n"),
             std::string("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n"),
             std::string("X: X\nTransfer-Encoding: chunked\r\n"),
             std::string("Transfer-Encoding:\n chunked\r\n"),
             std::string(" Transfer-Encoding: chunked\r\n"),
             std::string("Transfer-Encoding: chunked\r\r\n"),
             std::string("Transfer-Encoding: chunked\v\r\n"),
             std::string("Transfer-Encoding: [chunked]\r\n"),
             std::string("Transfer-Encoding: chunk\r\n"),
             std::string("Content-Length: 0\r\nContent-Length: 44\r\n"),
             std::string("Content-Length: 44\r\nContent-Length: 0\r\n"),
             std::string("Content-Length: 0,44\r\n"),
             std::string("Content-Length: 44\r\n 0\r\n"),
             std::string("Content-Length : 44\r\n"),
             std::string("Content_Length: 44\r\nContent-Length: 0x2c\r\n"),
         }) {
        CAPTURE(lines);
        const std::string told = told_of(parser::request, post(lines, "0\r\n\r\n" + hidden));
        CAPTURE(told);
        CHECK(told.find("hidden") == std::string::npos);
        CHECK(told.starts_with("error "));
    }
}
