#include <cstdio>
#include <string>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("requests at once are all answered, and take less time than in turn") {
    const outcome ended = run_program(sample("06_parallel_requests"), {});
    CAPTURE(ended.output);
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    int in_turn = 0, at_once = 0;
    double turns = 0, once = 0;
    REQUIRE(std::sscanf(ended.output.c_str(), "in turn: %d answers in %lf s\nat once: %d answers in %lf s\n",
                        &in_turn, &turns, &at_once, &once) == 4);
    CHECK(in_turn == 50);
    CHECK(at_once == 50);
    CHECK(turns >= 50 * 0.020);
    CHECK(once < turns);
}

TEST_CASE("the sample of parallel requests takes no arguments") {
    CHECK(run_program(sample("06_parallel_requests"), {"100"}).status == 2);
}
