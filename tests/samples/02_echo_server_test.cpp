#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("the echo server answers lines that arrive together, in their order") {
    server running("02_echo_server");
    client_socket client(running.port);
    std::string all;
    for (int i = 0; i < 1000; i++)
        all += std::to_string(i) + '\n';
    client.send(all);
    CHECK(client.read(all.size()) == all);
    CHECK(stop(running) == 0);
}

TEST_CASE("the echo server answers a line that arrives in pieces") {
    server running("02_echo_server");
    client_socket client(running.port);
    for (const char *piece : {"h", "el", "lo", "\r", "\n"})
        client.send(piece);
    CHECK(client.read_line() == "hello");
    CHECK(stop(running) == 0);
}

TEST_CASE("the echo server answers a client that has ended its stream, as `nc -N` does") {
    server running("02_echo_server");
    client_socket client(running.port);
    client.send("first\nsecond\n");
    client.end_of_stream();
    CHECK(client.read_line() == "first");
    CHECK(client.read_line() == "second");
    CHECK(client.closed());
    CHECK(stop(running) == 0);
}

TEST_CASE("the echo server serves many clients at once") {
    server running("02_echo_server");
    std::vector<std::unique_ptr<client_socket>> clients;
    for (int i = 0; i < 100; i++)
        clients.push_back(std::make_unique<client_socket>(running.port));
    for (std::size_t i = 0; i < clients.size(); i++)
        clients[i]->send("client " + std::to_string(i) + '\n');
    for (std::size_t i = 0; i < clients.size(); i++)
        CHECK(clients[i]->read_line() == "client " + std::to_string(i));
    CHECK(stop(running) == 0);
}

TEST_CASE("a line without an end closes its own connection and no other") {
    server running("02_echo_server");
    client_socket good(running.port);
    client_socket bad(running.port);
    bad.send(std::string(65'538, 'x')); // a line_message takes 64 KiB and a carriage return
    CHECK(bad.closed());
    good.send("still here\n");
    CHECK(good.read_line() == "still here");
    CHECK(stop(running) == 0);
}
