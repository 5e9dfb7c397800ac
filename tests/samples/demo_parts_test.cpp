// What the demo's proof rests on: the pattern that finds a wrong byte, and the histogram.

#include <chrono>
#include <cstdint>
#include <string>

#include <doctest/doctest.h>

#include "histogram.h"
#include "pattern.h"

using namespace std::chrono_literals;

TEST_CASE("a pattern finds each wrong byte, whatever its place and the body's size") {
    for (const std::size_t size : {1u, 7u, 8u, 9u, 63u, 64u, 100u}) {
        std::string body(size, '\0');
        fill_pattern(body.data(), size, 42);
        CHECK(is_pattern(body, 42));
        for (char &byte : body) {
            byte = static_cast<char>(byte ^ 1);
            CHECK(!is_pattern(body, 42));
            byte = static_cast<char>(byte ^ 1);
        }
    }
}

TEST_CASE("bodies of different numbers differ") {
    std::string body(16, '\0');
    fill_pattern(body.data(), body.size(), 1);
    CHECK(!is_pattern(body, 2));
    CHECK(is_pattern("", 2)); // nothing to differ in
}

TEST_CASE("a histogram knows percentiles to seven per cent and the maximum exactly") {
    histogram times;
    for (int i = 1; i <= 100'000; i++)
        times.add(i * 1us);
    CHECK(times.count() == 100'000);
    CHECK(times.max() == 100ms);
    for (const double part : {0.01, 0.5, 0.9, 0.99, 1.0}) {
        const double exact = part * 100e6;
        const auto found = static_cast<double>(times.percentile(part).count());
        CHECK(found >= exact * 0.999);
        CHECK(found <= exact * 1.07);
    }
}

TEST_CASE("a histogram of nothing has no rows and zeros") {
    const histogram none;
    CHECK(none.count() == 0);
    CHECK(none.percentile(0.5) == 0ns);
    CHECK(none.max() == 0ns);
    CHECK(none.rows(8).empty());
}

TEST_CASE("the rows of a histogram are few and hold every value once") {
    histogram times;
    for (int i = 0; i < 40; i++)
        times.add(std::chrono::nanoseconds(std::int64_t{1} << i));
    times.add(-5ns);
    histogram all;
    all.add(times);
    all.add(times);
    const auto rows = all.rows(8);
    CHECK(rows.size() <= 8);
    std::uint64_t sum = 0;
    auto limit = -1ns;
    for (const histogram::row &row : rows) {
        CHECK(row.below > limit);
        limit = row.below;
        sum += row.count;
    }
    CHECK(sum == 82);
    CHECK(limit > all.max());
}
