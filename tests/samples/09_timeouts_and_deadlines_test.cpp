#include <regex>
#include <string>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("the sample of limits says which ran out, at which stage, with whom and when") {
    const outcome ended = run_program(sample("09_timeouts_and_deadlines"), {});
    CAPTURE(ended.output);
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    const std::string late = R"(: timed out: first byte, 127\.0\.0\.1:\d+, after \d+\.\d{3} s)";
    CHECK(std::regex_match(ended.output, std::regex("(answered: (10|20)\nthere is time left: true\n){2}"
                                                    "budget" +
                                                    late + R"( \(limit 0\.3 s\))" + "\nfirst try" + late +
                                                    R"( \(limit 0\.05 s\))" + "\nboth tries" + late +
                                                    R"( \(limit 0\.2 s\))" + "\nstage" + late +
                                                    R"( \(limit 0\.04 s\))" + "\n")));
}

TEST_CASE("the sample of limits takes no arguments") {
    CHECK(run_program(sample("09_timeouts_and_deadlines"), {"100"}).status == 2);
}
