#include <string>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("a task that lets nobody else run is reported while it does and when it is over, with its place") {
    const outcome ended = run_program(sample("26_stalled_loop"), {});
    CAPTURE(ended.output);
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    const auto has = [&](const std::string &text) { return ended.output.find(text) != std::string::npos; };
    CHECK(has("loop 0 is blocked for "));
    CHECK(has("loop 0 was blocked for "));
    CHECK(has(" s: in ")); // clang names the type as well
    CHECK(has("take_stock(), which went on at "));
    CHECK(has("26_stalled_loop.cpp:32\n"));
}
