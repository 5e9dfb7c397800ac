#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include "process.h"

namespace {

std::string frame(std::string_view body) {
    std::string bytes;
    for (int shift = 24; shift >= 0; shift -= 8)
        bytes += static_cast<char>(body.size() >> shift & 0xff);
    return bytes.append(body);
}

} // namespace

TEST_CASE("one message class serves a coroutine's client and a callback's") {
    server running("04_own_protocol");
    CHECK(running.read_line() == "coroutine: hello");
    CHECK(running.read_line() == "callback: hello");
    CHECK(stop(running) == 0);
}

TEST_CASE("frames of every size come back as they were sent") {
    server running("04_own_protocol");
    client_socket client(running.port);
    for (const std::size_t size : {0u, 1u, 3u, 4u, 5u, 1000u, 65'536u, 1'000'000u}) {
        const std::string message = frame(std::string(size, static_cast<char>('a' + size % 26)));
        client.send(message);
        CHECK(client.read(message.size()) == message);
    }
    CHECK(stop(running) == 0);
}

TEST_CASE("a frame may arrive byte by byte, and two at once") {
    server running("04_own_protocol");
    client_socket client(running.port);
    const std::string both = frame("first") + frame("second");
    for (const char byte : both)
        client.send({&byte, 1});
    CHECK(client.read(both.size()) == both);
    client.send(both);
    CHECK(client.read(both.size()) == both);
    CHECK(stop(running) == 0);
}

TEST_CASE("a length that is too large closes that connection only") {
    server running("04_own_protocol");
    client_socket good(running.port);
    client_socket bad(running.port);
    bad.send("\xff\xff\xff\xff");
    CHECK(bad.closed());
    good.send(frame("still here"));
    CHECK(good.read(14) == frame("still here"));
    CHECK(stop(running) == 0);
}
