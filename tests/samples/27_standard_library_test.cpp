#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("a stop_token, an arena and an error code do their part") {
    const outcome ended = run_program(sample("27_standard_library"), {});
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    CHECK(ended.output == "worker: stopped\n"
                          "from an arena: 5\n"
                          "as a code: Connection refused\n");
}
