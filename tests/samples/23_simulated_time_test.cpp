#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("the simulated hour is an hour, and buy() says why it gave up") {
    const outcome ended = run_program(sample("23_simulated_time"), {});
    CAPTURE(ended.output);
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    CHECK(ended.output.find("3600 s of the world's time, ") == 0);
}
