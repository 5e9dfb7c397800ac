#include <string>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("the callback server answers its own client session") {
    server running("01_callback_echo");
    CHECK(running.read_line() == "got: hello");
    CHECK(stop(running) == 0);
}

TEST_CASE("the callback server answers line after line on one connection") {
    server running("01_callback_echo");
    client_socket client(running.port);
    for (const char *line : {"one", "", "three and a bit"}) {
        client.send(std::string(line) + "\n");
        CHECK(client.read_line() == line);
    }
    CHECK(stop(running) == 0);
}

TEST_CASE("the callback server answers a client that has ended its stream") {
    server running("01_callback_echo");
    client_socket client(running.port);
    client.send("a\nb\nc\n");
    client.end_of_stream();
    CHECK(client.read_line() == "a");
    CHECK(client.read_line() == "b");
    CHECK(client.read_line() == "c");
    CHECK(client.closed());
    CHECK(stop(running) == 0);
}
