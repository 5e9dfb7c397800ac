#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("HTTP with callbacks: a service answers, a session asks") {
    const outcome ended = run_program(sample("22_callback_http"), {});
    CHECK(ended.status == 0);
    CHECK(ended.errors == "");
    CHECK(ended.output == "GET /hello\n");
}
