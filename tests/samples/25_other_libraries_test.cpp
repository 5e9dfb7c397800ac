#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("parley awaits others, and others await parley") {
    const outcome ended = run_program(sample("25_other_libraries"), {});
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    CHECK(ended.output == "their timer: timed out\n"
                          "their job: 1\n"
                          "their job: 2\n"
                          "their job: 3\n");
}
