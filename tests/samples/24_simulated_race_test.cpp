#include <string>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("the planted mistake is found within a thousand seeds, told with its trace, and brought back") {
    const outcome ended = run_program(sample("24_simulated_race"), {});
    CAPTURE(ended.output);
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    CHECK(ended.output.find("the careful shop passes 200 seeds; the other one does not:\n") == 0);
    CHECK(ended.output.find(" fails: one piece is sold once\n") != std::string::npos);
    CHECK(ended.output.find("connect") != std::string::npos);
    CHECK(ended.output.find("\nBrought back, call by call.\n") != std::string::npos);
}
