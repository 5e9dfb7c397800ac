// A request that stalls in one stage after the other: the error names the stage, the peer and the time,
// within 20 ms, and a budget's error the limit as well.

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <string>

#include <parley/parley.hpp>
#include <parley/protocol/length_prefixed.hpp>
#include <parley/sim/world.hpp>

#include "../coro/in_world.hpp"

using namespace std::chrono_literals;
namespace sim = parley::sim;
using parley::task;

namespace {

struct packets {
    using request = parley::length_prefixed;
    using response = parley::length_prefixed;
};
using client = parley::client<packets>;
using connection = parley::connection<packets>;

parley::length_prefixed packet(std::size_t size) {
    parley::length_prefixed made;
    std::fill_n(static_cast<char *>(made.resize_for_overwrite(size)), size, 'x');
    return made;
}

bool within_20ms(std::chrono::nanoseconds took, std::chrono::nanoseconds expected) {
    return took >= expected && took < expected + 20ms;
}

void check_late(const parley::error &why, parley::stage where, const parley::endpoint &peer,
                std::chrono::nanoseconds after) {
    CAPTURE(parley::to_string(why));
    CHECK(why == parley::errc::timed_out);
    CHECK(why.stage() == where);
    CHECK(why.peer() == peer.to_string());
    CHECK(within_20ms(why.elapsed(), after));
}

task<> silent(connection peer) {
    while (auto asked = co_await peer.recv())
        co_await parley::sleep_for(24h);
}

task<> large(connection peer) {
    while (auto asked = co_await peer.recv())
        if (auto sent = co_await peer.send(packet(1'000'000)); !sent)
            co_return;
}

} // namespace

TEST_CASE("stalled while it waits for a connection, a request names pool wait") {
    in_world([](sim::world &) -> task<> {
        parley::server<packets> door(parley::endpoint("127.0.0.1", 0), silent);
        auto where = co_await door.listen();
        client asking(where.value(), parley::client_options().max_connections(1));
        co_await parley::with_scope([&](parley::scope &all) -> task<> {
            all.spawn([&]() -> task<> { auto first = co_await asking.request(packet(1)); });
            co_await parley::sleep_for(1s);
            auto late = co_await parley::with_timeout(3s, asking.request(packet(1)));
            REQUIRE_FALSE(late);
            check_late(late.error(), parley::stage::pool_wait, *where, 3s);
            CHECK(late.error().detail() == "limit 3 s");
            all.cancel();
        });
    });
}

TEST_CASE("stalled in connect, a request names connect, by its limit and by a budget") {
    in_world([](sim::world &world) -> task<> {
        sim::host &far = world.add_host("far");
        world.partition(world.local(), far);
        const parley::endpoint where(far.address(), 7000);
        client asking(where, parley::client_options().connect_limit(3s));
        auto answer = co_await asking.request(packet(1));
        REQUIRE_FALSE(answer);
        check_late(answer.error(), parley::stage::connect, where, 3s);
        auto late = co_await parley::with_timeout(2s, asking.request(packet(1)));
        REQUIRE_FALSE(late);
        check_late(late.error(), parley::stage::connect, where, 2s);
        CHECK(late.error().detail() == "limit 2 s");
    });
}

TEST_CASE("stalled in the handshake, a request names tls") {
    const auto context = parley::tls::context::client().value();
    in_world([&](sim::world &world) -> task<> {
        world.link(world.local(), world.local(), {.latency = 1s});
        parley::server<packets> door(parley::endpoint("127.0.0.1", 0), silent);
        auto where = co_await door.listen();
        client asking(where.value(), parley::client_options().tls(context).handshake_limit(1s));
        auto answer = co_await asking.request(packet(1));
        REQUIRE_FALSE(answer);
        check_late(answer.error(), parley::stage::tls, *where, 2s + 1s); // there and back, and the limit
    });
}

TEST_CASE("stalled while it is sent, a request names send") {
    in_world([](sim::world &world) -> task<> {
        world.link(world.local(), world.local(), {.bytes_per_second = 10'000});
        parley::server<packets> door(parley::endpoint("127.0.0.1", 0), silent);
        auto where = co_await door.listen();
        client asking(where.value(), parley::client_options().send_limit(3s));
        auto answer = co_await asking.request(packet(1'000'000));
        REQUIRE_FALSE(answer);
        check_late(answer.error(), parley::stage::send, *where, 3s);
    });
}

TEST_CASE("stalled before the answer, a request names first byte, by its limit and by a budget") {
    in_world([](sim::world &) -> task<> {
        parley::server<packets> door(parley::endpoint("127.0.0.1", 0), silent);
        auto where = co_await door.listen();
        client asking(where.value(), parley::client_options().first_byte_limit(3s));
        auto answer = co_await asking.request(packet(1));
        REQUIRE_FALSE(answer);
        check_late(answer.error(), parley::stage::first_byte, *where, 3s);
        auto late = co_await parley::with_timeout(2s, asking.request(packet(1)));
        REQUIRE_FALSE(late);
        check_late(late.error(), parley::stage::first_byte, *where, 2s);
    });
}

TEST_CASE("stalled within the answer, a request names receive, by its limit and by a budget") {
    in_world([](sim::world &world) -> task<> {
        world.link(world.local(), world.local(), {.bytes_per_second = 100'000});
        parley::server<packets> door(parley::endpoint("127.0.0.1", 0), large);
        auto where = co_await door.listen();
        client asking(where.value(), parley::client_options().receive_limit(3s));
        auto answer = co_await asking.request(packet(1));
        REQUIRE_FALSE(answer);
        check_late(answer.error(), parley::stage::receive, *where, 3s);
        co_await parley::sleep_for(1min); // until the link is free again
        client patient(where.value());
        auto late = co_await parley::with_timeout(8s, patient.request(packet(1)));
        REQUIRE_FALSE(late);
        check_late(late.error(), parley::stage::receive, *where, 8s);
    });
}

TEST_CASE("A asks B, which asks C: the budget of A ends the call that C works on") {
    in_world([](sim::world &) -> task<> {
        parley::server<packets> c(parley::endpoint("127.0.0.1", 0), silent);
        auto at_c = co_await c.listen();
        auto asks_c = [](client &asking) -> task<parley::length_prefixed> {
            auto answer = co_await asking.request(packet(1));
            co_return std::move(answer).value();
        };
        client asking(at_c.value());
        auto late = co_await parley::with_timeout(3s, [&]() -> task<int> {
            auto inner = co_await parley::with_timeout(1h, asks_c(asking));
            co_return 1;
        });
        REQUIRE_FALSE(late);
        check_late(late.error(), parley::stage::first_byte, *at_c, 3s);
        CHECK(late.error().detail() == "limit 3 s");
    });
}
