#include <doctest/doctest.h>

#include "peers.h"

using namespace peers;

namespace {

Socket silent_server() {
    Socket server(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    Address at = loopback();
    REQUIRE(bind(server.fd(), at.get(), at.size) == 0);
    return server;
}

// Takes one datagram and answers it.
std::string answer(const Socket &server, std::string_view with) {
    char buffer[2048];
    Address from;
    from.size = sizeof from.storage;
    ssize_t n = recvfrom(server.fd(), buffer, sizeof buffer, 0, from.get(), &from.size);
    if (n < 0)
        return "(none)";
    sendto(server.fd(), with.data(), with.size(), 0, from.get(), from.size);
    return std::string(buffer, static_cast<size_t>(n));
}

int datagram_socket() {
    return parley::sys::socket(AF_INET, SOCK_DGRAM, 0);
}

} // namespace

TEST_CASE(
    "a target whose socket is a datagram socket asks by datagram, and keeps the socket for the next time") {
    Running comm(1);
    Socket server = silent_server();
    Target target(server.address());
    target.connect_fd = datagram_socket;
    for (int i = 0; i < 3; i++) {
        Ask ask("question");
        REQUIRE(comm.request(&ask, &target) == 0);
        CHECK(answer(server, "answer\n") == "question\n");
        REQUIRE(ask.done.wait());
        CHECK(ask.is(CS_STATE_SUCCESS, 0));
        CHECK(ask.in.text == "answer");
        CHECK(ask.seq == i);
        CHECK(target.has_idle_conn() == 1);
    }
    CHECK(comm.loop(0)->counters().connects == 1);
}

TEST_CASE("a datagram that is never answered times out, and the next request is not told of it") {
    Running comm(1);
    Socket server = silent_server();
    Target target(server.address(), -1, 20);
    target.connect_fd = datagram_socket;
    Ask lost("lost");
    auto begin = std::chrono::steady_clock::now();
    REQUIRE(comm.request(&lost, &target) == 0);
    REQUIRE(lost.done.wait());
    CHECK(std::chrono::steady_clock::now() - begin >= 20ms);
    CHECK(lost.is(CS_STATE_ERROR, ETIMEDOUT));
    CHECK(lost.cause == CC_FIRST_BYTE);
    CHECK(answer(server, "too late\n") == "lost\n");
    Target patient(server.address());
    patient.connect_fd = datagram_socket;
    Ask next("next");
    REQUIRE(comm.request(&next, &patient) == 0);
    CHECK(answer(server, "answer\n") == "next\n");
    REQUIRE(next.done.wait());
    CHECK(next.is(CS_STATE_SUCCESS, 0));
    CHECK(next.in.text == "answer");
}

TEST_CASE("a datagram to a port where nobody is fails with ECONNREFUSED") {
    Running comm(1);
    Socket server = silent_server();
    Address nobody = server.address();
    server.close();
    Target target(nobody);
    target.connect_fd = datagram_socket;
    Ask ask("anybody?");
    REQUIRE(comm.request(&ask, &target) == 0);
    REQUIRE(ask.done.wait());
    CHECK(ask.is(CS_STATE_ERROR, ECONNREFUSED));
    CHECK(target.released == 1);
}

TEST_CASE("an empty datagram is no answer and no end") {
    Running comm(1);
    Socket server = silent_server();
    Target target(server.address());
    target.connect_fd = datagram_socket;
    Ask ask("question");
    REQUIRE(comm.request(&ask, &target) == 0);
    char buffer[64];
    Address from;
    from.size = sizeof from.storage;
    REQUIRE(recvfrom(server.fd(), buffer, sizeof buffer, 0, from.get(), &from.size) == 9);
    REQUIRE(sendto(server.fd(), "", 0, 0, from.get(), from.size) == 0);
    REQUIRE(run_on(comm.loop(0), [] {}));
    CHECK(ask.handled == 0);
    REQUIRE(sendto(server.fd(), "answer\n", 7, 0, from.get(), from.size) == 7);
    REQUIRE(ask.done.wait());
    CHECK(ask.is(CS_STATE_SUCCESS, 0));
}

TEST_CASE("an answer in two datagrams is put together") {
    Running comm(1);
    Socket server = silent_server();
    Target target(server.address());
    target.connect_fd = datagram_socket;
    Ask ask("question");
    REQUIRE(comm.request(&ask, &target) == 0);
    char buffer[64];
    Address from;
    from.size = sizeof from.storage;
    REQUIRE(recvfrom(server.fd(), buffer, sizeof buffer, 0, from.get(), &from.size) == 9);
    REQUIRE(sendto(server.fd(), "ans", 3, 0, from.get(), from.size) == 3);
    REQUIRE(sendto(server.fd(), "wer\n", 4, 0, from.get(), from.size) == 4);
    REQUIRE(ask.done.wait());
    CHECK(ask.is(CS_STATE_SUCCESS, 0));
    CHECK(ask.in.text == "answer");
}

TEST_CASE("a late second answer to a pooled datagram socket is never read as the next request's answer") {
    Running comm(1);
    Socket server = silent_server();
    Target target(server.address());
    target.connect_fd = datagram_socket;
    Ask first("first"), second("second");
    REQUIRE(comm.request(&first, &target) == 0);
    char buffer[64];
    Address from;
    from.size = sizeof from.storage;
    REQUIRE(recvfrom(server.fd(), buffer, sizeof buffer, 0, from.get(), &from.size) == 6);
    REQUIRE(sendto(server.fd(), "one\n", 4, 0, from.get(), from.size) == 4);
    REQUIRE(first.done.wait());
    REQUIRE(sendto(server.fd(), "stray\n", 6, 0, from.get(), from.size) == 6);
    REQUIRE(eventually([&] { return target.has_idle_conn() == 0; })); // nobody asked: not pooled any more
    REQUIRE(comm.request(&second, &target) == 0);
    CHECK(answer(server, "two\n") == "second\n");
    REQUIRE(second.done.wait());
    CHECK(second.is(CS_STATE_SUCCESS, 0));
    CHECK(second.in.text == "two");
}

TEST_CASE("deinit() ends a datagram request with STOPPED") {
    Running comm(1);
    Socket server = silent_server();
    Target target(server.address());
    target.connect_fd = datagram_socket;
    Ask ask("question");
    REQUIRE(comm.request(&ask, &target) == 0);
    REQUIRE(ask.started.wait());
    comm.deinit();
    CHECK(ask.is(CS_STATE_STOPPED, 0));
}
