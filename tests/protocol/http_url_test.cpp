// URLs, by the rules and examples of RFC 3986.

#include <parley/http/url.hpp>

#include <doctest/doctest.h>

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

using namespace std::string_view_literals;
using parley::http::percent_decode;
using parley::http::percent_encode;
using parley::http::url;

TEST_CASE("a url has the parts that were written") {
    const url all("https://user:pass@Example.COM:8443/a/b%20c?x=1&y=/?#part?");
    CHECK(all.scheme() == "https");
    CHECK(all.user_info() == "user:pass");
    CHECK(all.host() == "example.com");
    CHECK(all.port() == 8443);
    CHECK(all.path() == "/a/b%20c");
    CHECK(all.query() == "x=1&y=/?");
    CHECK(all.fragment() == "part?");
    CHECK(all.target() == "/a/b%20c?x=1&y=/?");
    CHECK(all.authority() == "example.com:8443");
    CHECK(all.origin() == "https://example.com:8443");
    CHECK(all.to_string() == "https://user:pass@example.com:8443/a/b%20c?x=1&y=/?#part?");

    const url least("HTTP://a");
    CHECK(least.user_info().empty());
    CHECK(least.path() == "/");
    CHECK(least.target() == "/");
    CHECK_FALSE(least.query());
    CHECK_FALSE(least.fragment());
    CHECK(least.to_string() == "http://a/");
    CHECK(url().empty());
    CHECK(url().host().empty());
}

TEST_CASE("an empty query is one, and so is an empty fragment (RFC 3986, sections 3.4 and 3.5)") {
    const url empty("http://a?#");
    CHECK(empty.query() == "");
    CHECK(empty.fragment() == "");
    CHECK(empty.target() == "/?");
    CHECK(empty.to_string() == "http://a/?#");
    CHECK(empty != url("http://a"));
}

TEST_CASE("the port is the one of the scheme unless it is written (section 3.2.3)") {
    CHECK(url("http://a").port() == 80);
    CHECK(url("https://a").port() == 443);
    CHECK(url("ws://a").port() == 80);
    CHECK(url("wss://a").port() == 443);
    CHECK(url("other://a").port() == 0);
    CHECK(url("http://a:/").port() == 80);
    CHECK(url("http://a:80/") == url("http://a"));
    CHECK(url("http://a:080/").port() == 80);
    CHECK(url("https://a:80/").authority() == "a:80");
    CHECK(url("http://a:65535").port() == 65535);
    for (const char *wrong : {"http://a:0", "http://a:65536", "http://a:99999999999", "http://a:8x",
                              "http://a:-1", "http://a: 80", "http://a:80:80"})
        CHECK_FALSE(url::parse(wrong));
}

TEST_CASE("IPv6 literals stand in brackets (section 3.2.2)") {
    const url six("http://[2001:DB8::1]:8080/x");
    CHECK(six.host() == "2001:db8::1");
    CHECK(six.host_is_ipv6());
    CHECK(six.port() == 8080);
    CHECK(six.authority() == "[2001:db8::1]:8080");
    CHECK(url("http://[::ffff:1.2.3.4]").host() == "::ffff:1.2.3.4");
    CHECK_FALSE(url("http://127.0.0.1").host_is_ipv6());
    for (const char *wrong : {"http://[::1", "http://::1/", "http://[1.2.3.4]", "http://[::g]", "http://[]",
                              "http://[::1]x", "http://[::1%25lo]", "http://[v1.x]", "http://[::1]]"})
        CHECK_FALSE(url::parse(wrong));
}

TEST_CASE("what is no url is refused, with what and where") {
    auto why = [](std::string_view text) -> std::string {
        try {
            const url made(text);
            return "a url: " + made.to_string();
        } catch (const std::invalid_argument &e) {
            return e.what();
        }
    };
    CHECK(why("") == "url: nothing at 0 in \"\"");
    CHECK(why("/path") == "url: no scheme at 0 in \"/path\"");
    CHECK(why("example.com") == "url: no \"://\" at 11 in \"example.com\"");
    CHECK(why("http:/a") == "url: no \"//\" after the scheme at 4 in \"http:/a\"");
    CHECK(why("http://") == "url: no host at 7 in \"http://\"");
    CHECK(why("http:///x") == "url: no host at 7 in \"http:///x\"");
    CHECK(why("http://a b/") == "url: a space at 8 in \"http://a b/\"");
    CHECK(why("http://a/b c") == "url: a space at 10 in \"http://a/b c\"");
    CHECK(why("http://a/\r\nHost: b") == "url: a control character at 9 in \"http://a/??Host: b\"");
    CHECK(why("http://a/\xc3\xa4") == "url: a byte that is not ASCII at 9 in \"http://a/\xc3\xa4\"");
    CHECK(why("http://a/%zz") == "url: a '%' without two hexadecimal digits at 9 in \"http://a/%zz\"");
    CHECK(why("http://a/%4") == "url: a '%' without two hexadecimal digits at 9 in \"http://a/%4\"");
    CHECK(why("http://a\\b/") == "url: '\\' at 8 in \"http://a\\b/\"");
    CHECK(why("http://a@b@c/") == "url: '@' at 8 in \"http://a@b@c/\"");
    CHECK(why("http://a#b#c") == "url: '#' at 10 in \"http://a#b#c\"");
    CHECK(why("http://a/\0b"sv) == "url: a control character at 9 in \"http://a/?b\"");
    CHECK(why("http://[::1\0]/"sv).starts_with("url: no IPv6 address at 7"));
    CHECK(why("http://" + std::string(300, ' ')).size() < 260);
}

TEST_CASE("references are resolved as in RFC 3986, section 5.4") {
    const url base("http://a/b/c/d;p?q");
    struct example {
        const char *reference;
        const char *target;
    };
    for (const auto &[reference, target] : {
             // 5.4.1
             example{"g", "http://a/b/c/g"},
             {"./g", "http://a/b/c/g"},
             {"g/", "http://a/b/c/g/"},
             {"/g", "http://a/g"},
             {"//g", "http://g/"},
             {"?y", "http://a/b/c/d;p?y"},
             {"g?y", "http://a/b/c/g?y"},
             {"#s", "http://a/b/c/d;p?q#s"},
             {"g#s", "http://a/b/c/g#s"},
             {"g?y#s", "http://a/b/c/g?y#s"},
             {";x", "http://a/b/c/;x"},
             {"g;x", "http://a/b/c/g;x"},
             {"g;x?y#s", "http://a/b/c/g;x?y#s"},
             {"", "http://a/b/c/d;p?q"},
             {".", "http://a/b/c/"},
             {"./", "http://a/b/c/"},
             {"..", "http://a/b/"},
             {"../", "http://a/b/"},
             {"../g", "http://a/b/g"},
             {"../..", "http://a/"},
             {"../../", "http://a/"},
             {"../../g", "http://a/g"},
             // 5.4.2
             {"../../../g", "http://a/g"},
             {"../../../../g", "http://a/g"},
             {"/./g", "http://a/g"},
             {"/../g", "http://a/g"},
             {"g.", "http://a/b/c/g."},
             {".g", "http://a/b/c/.g"},
             {"g..", "http://a/b/c/g.."},
             {"..g", "http://a/b/c/..g"},
             {"./../g", "http://a/b/g"},
             {"./g/.", "http://a/b/c/g/"},
             {"g/./h", "http://a/b/c/g/h"},
             {"g/../h", "http://a/b/c/h"},
             {"g;x=1/./y", "http://a/b/c/g;x=1/y"},
             {"g;x=1/../y", "http://a/b/c/y"},
             {"g?y/./x", "http://a/b/c/g?y/./x"},
             {"g?y/../x", "http://a/b/c/g?y/../x"},
             {"g#s/./x", "http://a/b/c/g#s/./x"},
             {"g#s/../x", "http://a/b/c/g#s/../x"},
             // Absolute ones, whose dots go as well (5.2.2), and what only looks absolute.
             {"https://B/x/../y?z", "https://b/y?z"},
             {"//g/..", "http://g/"},
             {"./x:y", "http://a/b/c/x:y"},
             {"?a:b", "http://a/b/c/d;p?a:b"},
         }) {
        CAPTURE(reference);
        const auto resolved = base.resolve(reference);
        REQUIRE(resolved);
        CHECK(resolved->to_string() == target);
    }
    for (const char *wrong : {"g:h", "http:g", "a b", "/%", "//", "//[", "g\n"})
        CHECK_FALSE(base.resolve(wrong));
    CHECK(url("http://u:p@a/b").resolve("c")->user_info() == "u:p");
    CHECK(url().resolve("http://a/b")->path() == "/b");
}

TEST_CASE("percent-encoding goes there and back for every byte (section 2.1)") {
    std::string all;
    for (int c = 0; c < 256; ++c)
        all += static_cast<char>(c);
    CHECK(percent_decode(percent_encode(all)) == all);
    CHECK(percent_encode("aZ09-._~") == "aZ09-._~");
    CHECK(percent_encode(" /?#%\xff") == "%20%2F%3F%23%25%FF");
    CHECK(percent_decode("a%2fb%2Fc") == "a/b/c");
    CHECK(percent_decode("1+1") == "1+1");
    for (const char *wrong : {"%", "%4", "a%", "%4g", "%%41"})
        CHECK_FALSE(percent_decode(wrong));
}

TEST_CASE("a url is written to a stream as it is") {
    std::ostringstream out;
    out << url("http://a:81/b");
    CHECK(out.str() == "http://a:81/b");
}
