#include <string>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("the list has the named task with whom it waits for, the alike ones in one line, and both forms") {
    const outcome ended = run_program(sample("15_look_inside"), {});
    CAPTURE(ended.output);
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    const auto has = [&](const std::string &text) { return ended.output.find(text) != std::string::npos; };
    CHECK(has("runtime 1, loop 0: "));
    CHECK(has("\n    \"order of bread\" "));
    CHECK(has(": request 127.0.0.1:"));
    CHECK(has("\n    20 times, the oldest: "));
    CHECK(has("\n{\"loops\":[{\"runtime\":1,\"loop\":0,\"state\":\"answered\",\"lag\":0."));
    CHECK(has("\"name\":\"order of bread\""));
    // Two awaits, the inner one first.
    CHECK(has("\nthe shelf is empty\n  awaited at "));
    CHECK(has("15_look_inside.cpp:42 in "));
}
