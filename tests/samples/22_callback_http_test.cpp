#include <csignal>
#include <string>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("HTTP with callbacks: the service answers itself, and others") {
    server running("22_callback_http");
    CHECK(running.read_line() == "got: 200 OK, GET /hello");
    client_socket peer(running.port);
    peer.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\nHEAD /b HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n");
    const std::string begin =
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ";
    const std::string first = begin + "7\r\n\r\nGET /a\n", second = begin + "8\r\n\r\n";
    CHECK(peer.read(first.size()) == first);
    CHECK(peer.read(second.size()) == second);
    CHECK(peer.read_line() == "HTTP/1.1 400 Bad Request\r");
    CHECK(stop(running) == 0);
    CHECK(running.errors() == "");
}
