// The parser and the reference, on inputs from a grammar with mutations, and on the fuzzer's corpus.

#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <random>
#include <string>
#include <string_view>

#include "http_check.hpp"

namespace {

class generator {
public:
    explicit generator(unsigned seed) : random_(seed) {}

    std::size_t below(std::size_t n) { return random_() % n; }
    std::string pick(std::initializer_list<std::string_view> from) {
        return std::string(from.begin()[below(from.size())]);
    }
    // Mostly the first, else one of the others.
    std::string usually(std::string_view first, std::initializer_list<std::string_view> others) {
        return below(8) != 0 ? std::string(first) : pick(others);
    }

    std::string message(bool request) {
        std::string m = below(10) == 0 ? "\r\n" : "";
        const std::string version =
            usually("HTTP/1.1", {"HTTP/1.0", "HTTP/1.0", "HTTP/2.0", "HTTP/1.2", "http/1.1"});
        if (request) {
            const std::string method =
                pick({"GET", "POST", "PUT", "OPTIONS", "CONNECT", "BREW", "get", "M-SEARCH"});
            std::string target =
                pick({"/", "/a?b=c", "/a%20b", "http://a/b", "http://a", "a:80", "*", "/\"<>"});
            if (method == "CONNECT")
                target = usually("a:443", {"a", "a:", ":1", "[::1]:1", "/"});
            m += method + " " + target + " " + version + "\r\n";
            m +=
                usually("Host: a\r\n", {"", "host:a:80\r\n", "Host: [::1]:8\r\n", "Host: [::1\r\n",
                                        "Host: a%4a\r\n", "Host: a%4\r\n", "Host: a:b\r\n", "Host: a:1:2\r\n",
                                        "Host:\r\n", "Host: ]\r\n", "Host: a\r\nHost: a\r\n"});
        } else {
            m += version + " " +
                 pick({"200", "200", "200", "100", "103", "101", "204", "304", "404", "099", "999"}) +
                 usually(" OK", {"", " ", " \t", "  two ", "x"}) + "\r\n";
        }
        for (std::size_t n = below(4); n != 0; --n)
            m += pick({"X: 1",
                       "X:",
                       "X: \t a \t",
                       "Accept: a,b",
                       "X: \xc3\xa4",
                       "X : 1",
                       " X: 1",
                       "X",
                       ": 1",
                       "Connection: close",
                       "Connection: keep-alive",
                       "Connection: keep-alive, close",
                       "Connection: a, ,b",
                       "Connection:",
                       "Connection: ,",
                       "Connection: \"a,close\"",
                       "Proxy-Connection: keep-alive",
                       "Upgrade: websocket",
                       "Upgrade: a/1, b/2",
                       "Upgrade: /",
                       "Expect: 100-continue",
                       "Trailer: X"}) +
                 "\r\n";
        std::string body;
        for (std::size_t n = below(6); n != 0; --n)
            body += pick(
                {"a", "bc", "\r\n", "0\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\n"});
        switch (below(4)) {
        case 0:
            return m + "Content-Length: " +
                   usually(std::to_string(body.size()),
                           {"+1", "0x1", "-1", "1,1", "1 1", "", "18446744073709551616", "999999999999999999",
                            "01", "1\r\nContent-Length: 1", "1\r\nTransfer-Encoding: chunked"}) +
                   "\r\n\r\n" + body;
        case 1:
            return m + "Transfer-Encoding: " +
                   usually("chunked", {"CHUNKED", "gzip, chunked", "chunked, chunked", "xchunked", "identity",
                                       "", "chunked,", "chunked;a", "chunked\r\nTransfer-Encoding: chunked",
                                       "chunked\r\nContent-Length: 1"}) +
                   "\r\n\r\n" + chunked();
        default:
            return m + "\r\n";
        }
    }

    std::string chunked() {
        std::string all;
        for (std::size_t n = below(4); n != 0; --n) {
            const std::string data = pick({"a", "hello", "0123456789", "\r\n", "0\r\n\r\n"});
            all += std::string(below(3), '0') +
                   (data.size() == 10 ? pick({"a", "A"}) : std::to_string(data.size())) + extension() +
                   "\r\n" + data + usually("\r\n", {"", "\n", "\r", "x\r\n"});
        }
        all += usually("0", {"00", "", "-0", "0x0", "10000000000000000", "ffffffffffffffff"}) + extension() +
               "\r\n";
        for (std::size_t n = below(3); n != 0; --n)
            all += usually("X: 1", {"Y:\t2 ", "Host: a", "TE: a", "Content-Length: 1",
                                    "Transfer-Encoding: chunked", " folded", "X", "X : 1",
                                    "Connection: close", "Upgrade: x", "X: \x01", "X: a\rb", "X: a\nb"}) +
                   "\r\n";
        return all + "\r\n";
    }
    std::string extension() {
        return usually("", {";a", ";a=b", " ; a = b", ";a=\"b\\\"c\";d", ";a=\"b", ";", "; ", ";=b",
                            ";a=", ";a=;b", " ", ",a", ";a b", ";a=\"b\"c", ";a=\"\\\x01\"", ";a=\"\t\"",
                            "\t;a\t=\tb", ";a ;b", ";a=b "});
    }

    void mutate(std::string &s) {
        const std::size_t at = below(s.size() + 1);
        constexpr std::string_view bytes("\r\n \t:;,=\"\\0a%[]\0\x7f\x80#/", 20);
        switch (below(6)) {
        case 0:
            s.insert(at, 1, bytes[below(bytes.size())]);
            break;
        case 1:
            s.erase(at, 1);
            break;
        case 2:
            if (at < s.size())
                s[at] = bytes[below(bytes.size())];
            break;
        case 3:
            if (at < s.size())
                s[at] = static_cast<char>(below(256));
            break;
        case 4:
            s.resize(at);
            break;
        default:
            s.insert(at, s.substr(below(s.size() + 1), below(12)));
        }
    }

    std::string input(bool request) {
        std::string all;
        for (std::size_t n = 1 + below(3); n != 0; --n)
            all += message(request);
        if (below(2) == 0)
            for (std::size_t n = 1 + below(3); n != 0; --n)
                mutate(all);
        return all;
    }

private:
    std::mt19937 random_;
};

} // namespace

TEST_CASE("the parser and the reference agree on 100,000 inputs") {
    generator some(9112);
    std::size_t differ = 0, taken = 0, refused = 0;
    for (int i = 0; i < 100'000 && differ < 5; ++i) {
        const bool request = some.below(2) == 0;
        const std::string answers = request ? "" : some.usually("", {"HEAD", "CONNECT"});
        const std::string input = some.input(request);
        const std::string what = what_differs(request, answers, input, some.below(input.size() + 1));
        CAPTURE(i);
        CHECK(what == "");
        differ += what.empty() ? 0 : 1;
        ++(reference_told(request, input, answers).ends_with("refused") ? refused : taken);
    }
    // Both kinds are there in numbers.
    CHECK(taken > 10'000);
    CHECK(refused > 10'000);
}

TEST_CASE("the parser and the reference agree on the fuzzer's corpus") {
    std::size_t files = 0;
    for (const auto &file : std::filesystem::directory_iterator(PARLEY_HTTP_CORPUS)) {
        CAPTURE(file.path().filename().string());
        std::ifstream stream(file.path(), std::ios::binary);
        const std::string input((std::istreambuf_iterator<char>(stream)), {});
        CHECK(what_differs(input) == "");
        ++files;
    }
    CHECK(files > 0);
}
