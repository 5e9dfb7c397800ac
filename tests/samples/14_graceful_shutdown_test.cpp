#include <csignal>
#include <string>

#include <doctest/doctest.h>

#include "process.h"

TEST_CASE("on SIGTERM what is under way is answered, and nothing new is taken") {
    server running("14_graceful_shutdown");
    client_socket working(running.port), idle(running.port);
    idle.send("0\n");
    CHECK(idle.read_line() == "0");
    CHECK(running.read_line() == "asked for 0");
    working.send("500\n");
    CHECK(running.read_line() == "asked for 500");
    running.send_signal(SIGTERM);
    // Two, if the loop of the idle connection has not counted its answer yet.
    CHECK(running.read_line().value_or("").starts_with("draining, "));
    CHECK(working.read_line() == "500");
    CHECK(working.closed());
    CHECK(idle.closed());
    CHECK(running.read_line() == "drained: 2 connections, 1 idle, 2 finished, 0 cancelled");
    CHECK(running.read_line() == "2 answered, 0 cut off");
    CHECK(running.wait() == 0);
    CHECK(running.errors() == "");
}

TEST_CASE("a second signal cuts off what is under way") {
    server running("14_graceful_shutdown");
    client_socket endless(running.port);
    endless.send("100000000\n");
    CHECK(running.read_line() == "asked for 100000000");
    running.send_signal(SIGINT);
    CHECK(running.read_line() == "draining, 1 under way");
    CHECK(stop(running) == 0);
    CHECK(endless.closed());
    CHECK(running.read_line() == "0 answered, 1 cut off");
    CHECK(running.errors() == "");
}

TEST_CASE("what is not answered within the limit is cut off without a second signal") {
    server running("14_graceful_shutdown");
    client_socket endless(running.port);
    endless.send("100000000\n");
    CHECK(running.read_line() == "asked for 100000000");
    CHECK(stop(running) == 0);
    CHECK(endless.closed());
    CHECK(running.read_line() == "draining, 1 under way");
    CHECK(running.read_line() == "drained: 1 connection, 0 idle, 0 finished, 1 cancelled");
    const std::string who = running.read_line().value_or("");
    CHECK(who.starts_with("  handler of 127.0.0.1:"));
    CHECK(who.find(": sleep") != std::string::npos);
    CHECK(running.read_rest() == "0 answered, 1 cut off\n");
}
