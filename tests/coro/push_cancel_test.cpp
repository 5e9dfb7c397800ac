// A push that the peer does not take, cancelled while a request of the connection awaits its answer.

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <string>

#include <netinet/in.h>
#include <sys/socket.h>

#include <parley/core/Sys.h>
#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "coro_test.hpp"
#include "in_world.hpp"

using namespace std::chrono_literals;
using parley::endpoint;
using parley::line_message;
using parley::task;
namespace sys = parley::sys;

namespace {

struct lines {
    using request = line_message;
    using response = line_message;
};

[[gnu::noinline]] line_message of_length(std::size_t size) {
    return line_message(std::string(size, 'x'));
}

// A client that asks once and then takes nothing.
int ask_and_do_nothing(const endpoint &where) {
    sockaddr_storage address;
    const socklen_t size = where.to_sockaddr(address).value();
    const int fd = sys::socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(sys::connect(fd, reinterpret_cast<sockaddr *>(&address), size) == 0);
    REQUIRE(sys::send(fd, "request\n", 8, 0) == 8);
    return fd;
}

// How long it takes until the connection is closed, when `begin_to_end` ends a push that hangs.
template <class F>
std::chrono::nanoseconds with_a_push_that_hangs(F &begin_to_end) {
    return in_world([&](parley::sim::world &) -> task<> {
        parley::acceptor<lines> door{endpoint("127.0.0.1", 0)};
        auto where = co_await door.listen();
        const int client = ask_and_do_nothing(*where);
        auto peer = co_await door.accept();
        auto request = co_await peer->recv();
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([&]() -> task<> { auto pushed = co_await peer->push(of_length(4u << 20)); });
            for (int i = 0; i < 5; ++i)
                co_await parley::yield();
            co_await begin_to_end(s, *peer);
        });
        co_await peer->close();
        sys::close(client);
    });
}

} // namespace

TEST_CASE("a cancelled push closes the connection at once, whatever the peer does not take") {
    no_frames_left check;
    auto cancels = [](parley::scope &s, parley::connection<lines> &) -> task<> {
        s.cancel();
        co_return;
    };
    CHECK(with_a_push_that_hangs(cancels) < 1s);
}

TEST_CASE("close() does not wait for a push that the peer does not take") {
    no_frames_left check;
    auto closes = [](parley::scope &, parley::connection<lines> &peer) -> task<> { co_await peer.close(); };
    CHECK(with_a_push_that_hangs(closes) < 1s);
}
