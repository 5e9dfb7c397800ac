#include <string>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("the sample of cancellation unwinds, finishes what is shielded, tidies up and ends") {
    const outcome ended = run_program(sample("10_cancellation"), {});
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    CHECK(ended.output == "work unwinds\nsaved; stopped\ntidied up\nall have ended\n"
                          "from a thread: stopped\nhandler unwinds\n");
}

TEST_CASE("the sample of cancellation takes no arguments") {
    CHECK(run_program(sample("10_cancellation"), {"100"}).status == 2);
}
