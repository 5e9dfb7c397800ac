#include <csignal>
#include <string>

#include <doctest/doctest.h>

#include "process.h"

namespace {

// The head of an answer, without its date.
std::string head_of(client_socket &peer) {
    std::string head;
    for (std::string line; (line = peer.read_line()) != "\r" && !line.empty();) {
        if (!line.starts_with("Date: "))
            head += line + "\n";
    }
    return head;
}

} // namespace

TEST_CASE("the server has routes, whole and streamed bodies, a log, and an end in good order") {
    server running("17_http_server");
    client_socket peer(running.port);
    const std::string host = " HTTP/1.1\r\nHost: a\r\n";
    peer.send("GET /hello/you" + host + "\r\n");
    CHECK(head_of(peer) ==
          "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 11\r\n");
    CHECK(peer.read(11) == "hello, you\n");
    CHECK(running.read_line().value_or("").find(" method=GET target=/hello/you status=200 bytes=11 ") !=
          std::string::npos);
    peer.send("GET /count/2" + host + "\r\n");
    CHECK(head_of(peer) == "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n");
    CHECK(peer.read(19) == "2\r\n1\n\r\n2\r\n2\n\r\n0\r\n\r\n");
    peer.send("PUT /length" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    head_of(peer);
    CHECK(peer.read(2) == "5\n");
    CHECK(stop(running) == 0);
    CHECK(peer.closed());
    CHECK(running.read_rest().find("drained: 1 connection, 1 idle, 1 finished, 0 cancelled\n") !=
          std::string::npos);
    CHECK(running.errors() == "");
}
