// What all samples that serve have in common.

#include <algorithm>
#include <initializer_list>
#include <string>

#include <doctest/doctest.h>

#include "process.h"

namespace {

constexpr std::initializer_list<const char *> servers = {
    "01_callback_echo", "02_echo_server", "04_own_protocol", "05_mixed", "14_graceful_shutdown"};

bool is_one_line(const std::string &text) {
    return text.ends_with('\n') && std::count(text.begin(), text.end(), '\n') == 1;
}

} // namespace

TEST_CASE("a sample that serves ends with status 0 on SIGTERM") {
    for (const char *name : servers) {
        CAPTURE(name);
        server running(name);
        CHECK(stop(running) == 0);
        CHECK(running.errors() == "");
    }
}

TEST_CASE("a sample that serves ends with status 0 on SIGINT") {
    for (const char *name : servers) {
        CAPTURE(name);
        server running(name);
        running.send_signal(SIGINT);
        CHECK(running.wait() == 0);
    }
}

TEST_CASE("a sample that serves ends although a client is connected and silent") {
    for (const char *name : servers) {
        CAPTURE(name);
        server running(name);
        client_socket silent(running.port);
        CHECK(stop(running) == 0);
        CHECK(silent.closed());
    }
}

TEST_CASE("a sample that serves says in one line that its port is in use, and ends with status 1") {
    const taken_port taken;
    for (const char *name : servers) {
        const outcome ended = run_program(sample(name), {"--port", std::to_string(taken.number)});
        CAPTURE(ended.errors);
        CHECK(ended.status == 1);
        CHECK(ended.output == "");
        CHECK(is_one_line(ended.errors));
        CHECK(ended.errors.find(std::string(name) + ": ") != std::string::npos);
        CHECK(ended.errors.find("Address already in use") != std::string::npos);
        CHECK(ended.errors.find(std::to_string(taken.number)) != std::string::npos);
    }
}

TEST_CASE("a sample that serves refuses a bad port with status 2 and says so") {
    for (const char *name : servers) {
        for (const char *port : {"65536", "-1", "http", "80x", ""}) {
            const outcome ended = run_program(sample(name), {"--port", port});
            CAPTURE(port);
            CHECK(ended.status == 2);
            CHECK(ended.errors.find("--port wants a number from 0 to 65535") != std::string::npos);
        }
    }
}

TEST_CASE("a sample that serves refuses arguments that it does not know with status 2") {
    for (const char *name : servers) {
        CAPTURE(name);
        CHECK(run_program(sample(name), {"--prot", "7000"}).status == 2);
        CHECK(run_program(sample(name), {"--port"}).status == 2);
        CHECK(run_program(sample(name), {"7000"}).status == 2);
    }
}

TEST_CASE("a sample explains itself with --help") {
    for (const char *name : servers) {
        const outcome ended = run_program(sample(name), {"--help"});
        CHECK(ended.status == 0);
        CHECK(ended.output == "usage: " + sample(name) + " [--port N]\n");
    }
}
