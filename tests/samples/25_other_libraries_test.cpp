#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("each of the others does its part, in both directions") {
    const outcome ended = run_program(sample("25_other_libraries"), {});
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    CHECK(ended.output == "worker: stopped\n"
                          "their timer: timed out\n"
                          "their job: 1\n"
                          "their job: 2\n"
                          "their job: 3\n"
                          "from an arena: 5\n"
                          "as a code: Connection refused\n");
}
