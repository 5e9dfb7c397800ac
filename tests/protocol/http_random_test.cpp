// Thousands of inputs that are almost HTTP: whatever the parser makes of one, it makes the same of it in pieces, and a
// message that is refused stays refused. What they are made of is random from a fixed seed.

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "http_events.hpp"

using parley::http::limits;
using parley::http::parser;

namespace {

class dice {
public:
    explicit dice(unsigned seed) : from_(seed) {}
    std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(from_); }
    template <class T>
    const T &one_of(const std::vector<T> &all) {
        return all[below(all.size())];
    }

private:
    std::mt19937 from_;
};

const std::vector<std::string> requests = {
    "GET /a?b=c HTTP/1.1\r\nHost: example\r\nX: 1\r\n\r\n",
    "POST /up HTTP/1.1\r\nhost: a:80\r\ncontent-length: 5\r\n\r\nhello",
    "PUT / HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;n=\"a;b\"\r\n "
    "world\r\n0\r\nX-Sum: 1\r\n\r\n",
    "OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nConnection: a, close\r\n\r\n",
};
const std::vector<std::string> responses = {
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nA: b\r\n\r\n",
    "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\n\r\nuntil the end",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
};
const std::vector<std::string> pieces = {"\r",
                                         "\n",
                                         "\r\n",
                                         "\r\n\r\n",
                                         " ",
                                         "\t",
                                         ":",
                                         ";",
                                         ",",
                                         "\"",
                                         "0",
                                         "1",
                                         "f",
                                         "chunked",
                                         "Content-Length: 3\r\n",
                                         "Transfer-Encoding: chunked\r\n",
                                         "Host: b\r\n",
                                         "HTTP/1.1",
                                         "HTTP/2.0",
                                         "GET ",
                                         "\x01",
                                         "\x7f",
                                         "\xc3",
                                         std::string(1, '\0'),
                                         "0\r\n",
                                         "0\r\n\r\n",
                                         "ffffffffffffffff\r\n",
                                         "100000000000000000\r\n"};

std::string almost(dice &d, const std::vector<std::string> &models) {
    std::string text = d.one_of(models);
    if (d.below(3) == 0)
        text += d.one_of(models);
    for (std::size_t i = d.below(4); i > 0 && !text.empty(); --i) {
        const std::size_t at = d.below(text.size());
        switch (d.below(4)) {
        case 0:
            text.insert(at, d.one_of(pieces));
            break;
        case 1:
            text.erase(at, 1 + d.below(5));
            break;
        case 2:
            text.replace(at, 1, d.one_of(pieces));
            break;
        default:
            text.insert(at, text.substr(d.below(text.size()), 1 + d.below(20)));
        }
    }
    return text;
}

void check(parser::role role, const std::vector<std::string> &models, unsigned seed) {
    dice d(seed);
    const limits most = limits()
                            .start_line(60)
                            .header_line(60)
                            .header_bytes(300)
                            .header_count(6)
                            .chunk_header(20)
                            .trailer_bytes(40);
    for (int round = 0; round < 4000; ++round) {
        const std::string input = almost(d, models);
        const std::string whole = told_of_pieces(role, {input}, "", most);
        std::vector<std::string_view> parts;
        const bool bytes = round % 4 == 0;
        for (std::string_view rest = input; !rest.empty();) {
            const std::size_t n = bytes ? 1 : 1 + d.below(rest.size());
            parts.push_back(rest.substr(0, n));
            rest.remove_prefix(n);
        }
        const std::string split = told_of_pieces(role, parts, "", most);
        CAPTURE(input);
        REQUIRE(split == whole);
    }
}

} // namespace

TEST_CASE("almost requests, whole and in pieces") {
    check(parser::request, requests, 1);
}

TEST_CASE("almost responses, whole and in pieces") {
    check(parser::response, responses, 2);
}
