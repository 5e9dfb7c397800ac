// The fields of HTTP messages: order, case, lists, and what may not be smuggled into them.

#include <parley/http/fields.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

using namespace std::string_view_literals;
using parley::http::fields;

namespace {

std::string text_of(const fields &all) {
    std::string text;
    for (const auto [name, value] : all)
        text.append(name).append("=").append(value).append(";");
    return text;
}

} // namespace

TEST_CASE("fields keep their order and their case, and are found without it") {
    fields all;
    CHECK(all.empty());
    all.add("Host", "a");
    all.add("X-One", "1");
    all.add("x-one", "2");
    CHECK(text_of(all) == "Host=a;X-One=1;x-one=2;");
    CHECK(all.size() == 3);
    CHECK(all.get("HOST") == "a");
    CHECK(all.get("X-ONE") == "1");
    CHECK(all.count("x-One") == 2);
    CHECK(all.joined("X-one") == "1, 2");
    CHECK(all.joined("none").empty());
    CHECK_FALSE(all.get("X-On"));
    CHECK_FALSE(all.contains("X-Onee"));
    CHECK(all[2].name == "x-one");
    CHECK(all.bytes() == 17);
    all.add("Empty", "");
    CHECK(all.get("empty") == "");
}

TEST_CASE("set takes the place of the first and of all others") {
    fields all;
    for (const char *value : {"1", "2", "3"}) {
        all.add("A", value);
        all.add("B", value);
    }
    all.set("a", "new");
    CHECK(text_of(all) == "a=new;B=1;B=2;B=3;");
    all.set("C", "last");
    CHECK(text_of(all) == "a=new;B=1;B=2;B=3;C=last;");
    all.set("B", "");
    CHECK(text_of(all) == "a=new;B=;C=last;");
    CHECK(all.bytes() == 10);
}

TEST_CASE("erase says how many there were") {
    fields all;
    all.add("A", "1");
    all.add("B", "2");
    all.add("a", "3");
    CHECK(all.erase("A") == 2);
    CHECK(all.erase("A") == 0);
    CHECK(text_of(all) == "B=2;");
    all.clear();
    CHECK(all.empty());
    CHECK(all.begin() == all.end());
    CHECK(all.bytes() == 0);
}

TEST_CASE("a field that is set a million times takes no more room than a few") {
    fields all;
    const std::string value(100, 'x');
    for (int i = 0; i < 1'000'000; ++i)
        all.set("A", value);
    CHECK(all.bytes() == 101);
    const fields copy = all;
    CHECK(copy.get("A") == value);
}

TEST_CASE("parts of it may be added to itself") {
    fields all;
    all.add("Name", "value");
    for (int i = 0; i < 100; ++i)
        all.add(all[0].name, all[0].value);
    CHECK(all.count("name") == 101);
    CHECK(all[100].value == "value");
    all.set(all[3].name, all[4].value);
    CHECK(text_of(all) == "Name=value;");
}

TEST_CASE("nothing that would break out of a field is taken (RFC 9110, sections 5.1 and 5.5)") {
    fields all;
    all.add("Kept", "1");
    for (const std::string_view name :
         {""sv, "a b"sv, "a:"sv, "a\r\nb"sv, "a\0"sv, "\xc3\xa4"sv, "(a)"sv, " a"sv})
        CHECK_THROWS_AS(all.add(name, "x"), std::invalid_argument);
    for (const std::string_view value :
         {"a\r\nb: c"sv, "a\n"sv, "a\rb"sv, "\0"sv, "a\x7f"sv, " a"sv, "a "sv, "\ta"sv}) {
        CHECK_THROWS_AS(all.add("A", value), std::invalid_argument);
        CHECK_THROWS_AS(all.set("Kept", value), std::invalid_argument);
    }
    CHECK(text_of(all) == "Kept=1;");
    for (const std::string_view value : {"a b"sv, "a\tb"sv, "\xe4\xff"sv, "\"q, \\\" \""sv})
        CHECK_NOTHROW(all.add("A", value));
}

TEST_CASE("members of lists (RFC 9110, section 5.6.1)") {
    fields all;
    all.add("Connection", "keep-alive, Upgrade");
    all.add("Connection", " , ,close"sv.substr(1));
    CHECK(all.has_member("connection", "upgrade"));
    CHECK(all.has_member("connection", "close"));
    CHECK(all.has_member("Connection", "Keep-Alive"));
    CHECK_FALSE(all.has_member("connection", "keep"));
    CHECK_FALSE(all.has_member("connection", "keep-alive, upgrade"));
    CHECK_FALSE(all.has_member("none", "close"));
    fields quoted;
    quoted.add("A", R"("one, two", three, "fo\"ur, five)");
    CHECK(quoted.has_member("a", R"("one, two")"));
    CHECK(quoted.has_member("a", "three"));
    CHECK_FALSE(quoted.has_member("a", "two\""));
    CHECK_FALSE(quoted.has_member("a", "five"));
}

TEST_CASE("a message that is used again has the memory of the last one") {
    fields all;
    all.reserve(4, 64);
    for (int i = 0; i < 3; ++i) {
        all.clear();
        all.add("Content-Type", "text/plain");
        all.add("Content-Length", "12");
        CHECK(all.size() == 2);
    }
    fields other = all;
    CHECK(other == all);
    other.set("content-type", "text/plain");
    CHECK_FALSE(other == all); // the name's case
}
