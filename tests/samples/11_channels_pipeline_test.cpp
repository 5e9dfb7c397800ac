#include <cstdio>
#include <string>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("the pipeline squares all, holds no more than its channels do, and ends when it is told to") {
    const outcome ended = run_program(sample("11_channels_pipeline"), {});
    CAPTURE(ended.output);
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    int ahead = 0, taken = 0, late_ahead = 0, left = 0;
    long long sum = 0;
    REQUIRE(std::sscanf(ended.output.c_str(),
                        "1000 squares, sum 333833500, at most %d ahead, 0 left\n"
                        "%d squares, sum %lld, at most %d ahead, %d left\n",
                        &ahead, &taken, &sum, &late_ahead, &left) == 5);
    // Two channels of four, a value in the hands of the source and of each worker.
    CHECK(ahead <= 4 + 4 + 1 + 3);
    CHECK(late_ahead <= 4 + 4 + 1 + 3);
    CHECK(left <= 4);
}

TEST_CASE("the pipeline takes no arguments") {
    CHECK(run_program(sample("11_channels_pipeline"), {"100"}).status == 2);
}
