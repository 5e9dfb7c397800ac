#include <string>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("the sample of callbacks awaits a library and a session, and is started by a callback") {
    const outcome ended = run_program(sample("13_callbacks_to_co_await"), {});
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    CHECK(ended.output == "library: timed out, then 0\nsession: hello\n");
}

TEST_CASE("the sample of callbacks takes no arguments") {
    CHECK(run_program(sample("13_callbacks_to_co_await"), {"100"}).status == 2);
}
