#include <string>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("the echo client prints an answer for each word") {
    server running("02_echo_server");
    const outcome ended = run_program(sample("03_echo_client"),
                                      {"--port", std::to_string(running.port), "hello", "two words", ""});
    CHECK(ended.errors == "");
    CHECK(ended.output == "hello\ntwo words\n\n");
    CHECK(ended.status == 0);
    CHECK(stop(running) == 0);
}

TEST_CASE("the echo client talks to the callback server as well") {
    server running("01_callback_echo");
    const outcome ended =
        run_program(sample("03_echo_client"), {"--port", std::to_string(running.port), "hello"});
    CHECK(ended.output == "hello\n");
    CHECK(ended.status == 0);
    CHECK(stop(running) == 0);
}

TEST_CASE("the echo client says in one line who refused it, and ends with status 1") {
    unsigned short port;
    {
        const taken_port free_again;
        port = free_again.number;
    }
    const outcome ended = run_program(sample("03_echo_client"), {"--port", std::to_string(port), "hello"});
    CAPTURE(ended.errors);
    CHECK(ended.status == 1);
    CHECK(ended.output == "");
    CHECK(ended.errors.find("Connection refused: connect, 127.0.0.1:" + std::to_string(port)) !=
          std::string::npos);
}

TEST_CASE("the echo client wants something to say") {
    const outcome ended = run_program(sample("03_echo_client"), {});
    CHECK(ended.status == 2);
    CHECK(ended.errors.find("usage: ") != std::string::npos);
}
