#include <doctest/doctest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <parley/result.hpp>

using parley::errc;
using parley::error;
using parley::result;
using parley::unexpected;

namespace {

result<int> half(int x) {
    if (x % 2 != 0)
        return unexpected(errc::bad_message, parley::stage::receive);
    return x / 2;
}

struct throws_on_copy {
    throws_on_copy() = default;
    throws_on_copy(const throws_on_copy &) { throw std::runtime_error("copy"); }
    throws_on_copy(throws_on_copy &&) { throw std::runtime_error("move"); }
    throws_on_copy &operator=(const throws_on_copy &) = default;
    throws_on_copy &operator=(throws_on_copy &&) = default;
};

} // namespace

TEST_CASE("a result holds a value or an error") {
    result<int> good = half(4);
    CHECK(good.has_value());
    CHECK(bool(good));
    CHECK(*good == 2);
    CHECK(good.value() == 2);
    CHECK(good.value_or(7) == 2);
    result<int> bad = half(3);
    CHECK(!bad.has_value());
    CHECK(!bad);
    CHECK(bad.error() == errc::bad_message);
    CHECK(bad.error().stage() == parley::stage::receive);
    CHECK(bad.value_or(7) == 7);
    CHECK_THROWS_AS(static_cast<void>(bad.value()), parley::exception);
}

TEST_CASE("a result is bound and tested in one line") {
    if (auto x = half(8))
        CHECK(*x == 4);
    else
        FAIL("a value was expected");
    if (auto x = half(7); !x)
        CHECK(x.error() == errc::bad_message);
    else
        FAIL("an error was expected");
}

TEST_CASE("a result of nothing says only whether it worked") {
    result<> good;
    CHECK(good.has_value());
    *good;
    good.value();
    result<> bad = unexpected(errc::closed);
    CHECK(!bad);
    CHECK(bad.error() == errc::closed);
    CHECK_THROWS_AS(bad.value(), parley::exception);
    bad.emplace();
    CHECK(bad.has_value());
    CHECK(good == bad);
}

TEST_CASE("a result can hold what only moves") {
    result<std::unique_ptr<int>> a = std::make_unique<int>(3);
    result<std::unique_ptr<int>> b = std::move(a);
    CHECK(**b == 3);
    std::unique_ptr<int> p = std::move(b).value();
    CHECK(*p == 3);
    result<std::unique_ptr<int>> c = unexpected(errc::closed);
    c = std::make_unique<int>(4);
    CHECK(**c == 4);
    CHECK(*c->get() == 4);
}

TEST_CASE("results are assigned in all four ways") {
    const result<std::string> value = std::string("a value that is long enough for the heap");
    const result<std::string> failure = unexpected(errc::closed);
    result<std::string> r = std::string("x");
    r = value;
    CHECK(r == value);
    r = failure;
    CHECK(r == failure);
    r = failure;
    CHECK(r.error() == errc::closed);
    r = value;
    CHECK(*r == *value);
    r = result<std::string>(unexpected(errc::timed_out));
    CHECK(r == unexpected(errc::timed_out, parley::stage::none));
    r.emplace(3U, 'z');
    CHECK(r == "zzz");
}

TEST_CASE("an assignment that throws leaves the old error in place") {
    result<throws_on_copy> from;
    result<throws_on_copy> to = unexpected(errc::closed);
    CHECK_THROWS_AS(to = from, std::runtime_error);
    CHECK(!to);
    CHECK(to.error() == errc::closed);
}

TEST_CASE("results are chained") {
    CHECK(half(8).and_then(half) == 2);
    CHECK(half(6).and_then(half).error() == errc::bad_message);
    CHECK(half(5).and_then(half).error() == errc::bad_message);
    CHECK(half(8).transform([](int x) { return std::to_string(x); }) == "4");
    CHECK(!half(7).transform([](int x) { return std::to_string(x); }));
    CHECK(half(8).transform([](int) {}).has_value());
    CHECK(half(7).or_else([](const error &) { return result<int>(9); }) == 9);
    CHECK(half(8).or_else([](const error &) { return result<int>(9); }) == 4);
    CHECK(half(7).transform_error([](error e) { return e.set_peer("x"); }).error().peer() == "x");
    result<> nothing;
    CHECK(nothing.and_then([] { return half(2); }) == 1);
    CHECK(nothing.transform([] { return 5; }) == 5);
    result<> failed = unexpected(errc::closed);
    CHECK(failed.transform([] { return 5; }).error() == errc::closed);
    CHECK(failed.or_else([](const error &) { return result<>(); }).has_value());
    auto late = [](const error &) { return error(errc::timed_out); };
    CHECK(failed.transform_error(late).error() == errc::timed_out);
}

TEST_CASE("chaining moves out of a temporary and copies from a name") {
    result<std::vector<int>> v = std::vector<int>{1, 2, 3};
    auto size = [](std::vector<int> x) { return x.size(); };
    CHECK(v.transform(size) == 3U);
    CHECK(v->size() == 3);
    CHECK(std::move(v).transform(size) == 3U);
    CHECK(v->empty());
}

TEST_CASE("results compare by value, or by the error's code") {
    CHECK(half(4) == half(4));
    CHECK(half(4) != half(8));
    CHECK(half(4) != half(3));
    CHECK(half(1) == half(3));
    CHECK(half(4) == 2);
    CHECK(half(3) != 2);
    CHECK(half(4) == result<long>(2L));
}
