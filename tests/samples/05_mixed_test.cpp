#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("callbacks and coroutines answer on one connection, in the order of the lines") {
    server running("05_mixed");
    client_socket client(running.port);
    client.send("one\nask two\nthree\n");
    CHECK(client.read_line() == "one");
    CHECK(client.read_line() == "they say two");
    CHECK(client.read_line() == "three");
    CHECK(stop(running) == 0);
}

TEST_CASE("a coroutine's question may start further coroutines") {
    server running("05_mixed");
    client_socket client(running.port);
    client.send("ask ask ask who\n");
    CHECK(client.read_line() == "they say they say they say who");
    CHECK(stop(running) == 0);
}

TEST_CASE("a client that asks and goes away leaves the mixed server unharmed") {
    server running("05_mixed");
    for (int i = 0; i < 20; i++)
        client_socket(running.port).send("ask nobody\n");
    client_socket client(running.port);
    client.send("ask me\n");
    CHECK(client.read_line() == "they say me");
    CHECK(stop(running) == 0);
    CHECK(running.errors() == "");
}
