#include <string>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE(
    "a C library's sort asks a server, a visitor awaits two thousand deep, and time limits end a sort") {
    const outcome ended = run_program(sample("12_fibers"), {});
    CAPTURE(ended.output);
    CHECK(ended.errors == "");
    CHECK(ended.status == 0);
    const std::string expected = "Aare, Elbe, Donau\n"
                                 "2000 deep: 2001000\n"
                                 "timed out: first byte, 127.0.0.1:";
    CHECK(ended.output.starts_with(expected));
    CHECK(ended.output.ends_with("(limit 0.1 s)\n"));
}
