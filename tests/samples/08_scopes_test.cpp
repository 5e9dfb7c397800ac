#include <string>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("the sample of combinators compares, takes the first, gives up and goes home") {
    const outcome ended = run_program(sample("08_scopes"), {});
    CAPTURE(ended.output);
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    CHECK(ended.output.starts_with("both: 10 euros, 20 euros\nfirst: number 1, 10 euros\n"
                                   "late: timed out: first byte, 127.0.0.1:"));
    CHECK(ended.output.ends_with(" (limit 0.1 s)\nhome\n"));
}

TEST_CASE("the sample of combinators takes no arguments") {
    CHECK(run_program(sample("08_scopes"), {"100"}).status == 2);
}
