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
                std::chrono::nanoseconds after, const char *limit) {
    CAPTURE(parley::to_string(why));
    CHECK(why.detail() == limit);
    CHECK(why == parley::errc::timed_out);
    CHECK(why.stage() == where);
    CHECK(why.peer() == peer.to_string());
    CHECK(within_20ms(why.elapsed(), after));
}

task<> silent(connection peer) {
    while (auto asked = co_await peer.recv())
        co_await parley::sleep_for(24h);
}

// The first bytes of an answer of a hundred.
struct torn : CommMessageOut {
    int encode(struct iovec vectors[], int) override {
        vectors[0] = {piece, sizeof piece};
        return 1;
    }
    char piece[8] = {0, 0, 0, 100, 'x', 'x', 'x', 'x'};
};
struct tearing {
    using request = parley::length_prefixed;
    using response = torn;
};

task<> sends_a_piece(parley::connection<tearing> peer) {
    auto asked = co_await peer.recv();
    auto sent = co_await peer.send(torn());
    auto next = co_await peer.recv();
}

task<> answers_after_5s(connection peer) {
    while (auto asked = co_await peer.recv()) {
        co_await parley::sleep_for(5s);
        if (auto sent = co_await peer.send(packet(1)); !sent)
            co_return;
    }
}

struct torn_requests {
    using request = torn;
    using response = parley::length_prefixed;
};

// The thread stands still, in the world's time.
void block_for_10s() {
    parley::sync::mutex mutex;
    parley::sync::condition_variable never;
    parley::sync::unique_lock<parley::sync::mutex> lock(mutex);
    never.wait_for(lock, 10s, [] { return false; });
}

task<> large(connection peer) {
    while (auto asked = co_await peer.recv())
        if (auto sent = co_await peer.send(packet(1'000'000)); !sent)
            co_return;
}

// How the connection of a client that asks with P ended, as its handler was told.
template <class P>
task<parley::error> told_to_handler(parley::serve_options options, typename P::request request,
                                    std::size_t answer = 1) {
    parley::error told;
    auto note = [&](connection peer) -> task<> {
        for (;;) {
            auto asked = co_await peer.recv();
            if (!asked) {
                told = asked.error();
                co_return;
            }
            auto sent = co_await peer.send(packet(answer));
            if (!sent) {
                told = sent.error();
                co_return;
            }
        }
    };
    parley::server<packets> door(parley::endpoint("127.0.0.1", 0), note, options);
    auto where = co_await door.listen();
    parley::client<P> asking(where.value());
    auto answered = co_await asking.request(std::move(request));
    co_await parley::sleep_for(20s);
    co_return told;
}

} // namespace

TEST_CASE("stalled while it waits for a connection, a request names pool wait") {
    in_world([](sim::world &) -> task<> {
        parley::server<packets> door(parley::endpoint("127.0.0.1", 0), silent);
        auto where = co_await door.listen();
        client asking(where.value(), parley::client_options().max_connections(1).pool_wait_limit(4s));
        co_await parley::with_scope([&](parley::scope &all) -> task<> {
            all.spawn([&]() -> task<> { auto first = co_await asking.request(packet(1)); });
            co_await parley::sleep_for(1s);
            auto answer = co_await asking.request(packet(1));
            REQUIRE_FALSE(answer);
            check_late(answer.error(), parley::stage::pool_wait, *where, 4s, "limit 4 s");
            auto late = co_await parley::with_timeout(3s, asking.request(packet(1)));
            REQUIRE_FALSE(late);
            check_late(late.error(), parley::stage::pool_wait, *where, 3s, "limit 3 s");
            all.cancel();
        });
    });
}

TEST_CASE("a request that has left the queue for its limit is passed over, and the next one is served") {
    in_world([](sim::world &) -> task<> {
        parley::server<packets> door(parley::endpoint("127.0.0.1", 0), answers_after_5s);
        auto where = co_await door.listen();
        client asking(where.value(), parley::client_options().max_connections(1).pool_wait_limit(3s));
        co_await parley::with_scope([&](parley::scope &all) -> task<> {
            all.spawn([&]() -> task<> {
                auto first = co_await asking.request(packet(1)); // has the connection until 5 s
                CHECK(first);
            });
            all.spawn([&]() -> task<> {
                co_await parley::sleep_for(1s);
                auto second = co_await asking.request(packet(1));
                REQUIRE_FALSE(second);
                CHECK(second.error().stage() == parley::stage::pool_wait);
            });
            co_await parley::sleep_for(2500ms);
            auto third = co_await asking.request(packet(1));
            CHECK(third);
        });
    });
}

TEST_CASE("stalled while its name is looked up, a request names resolve") {
    sim::world world{1};
    const sim::host &far = world.add_host("far");
    world.run([&] {
        parley::runtime_options options;
        options.loops = options.executor_threads = 1;
        parley::run(options, [](std::string name) -> task<> {
            const parley::endpoint where(name, 7000);
            co_await parley::with_scope([&](parley::scope &all) -> task<> {
                all.spawn([&]() -> task<> { co_await parley::compute(block_for_10s); });
                co_await parley::yield();
                client asking(where, parley::client_options().resolve_limit(3s));
                auto answer = co_await asking.request(packet(1));
                REQUIRE_FALSE(answer);
                check_late(answer.error(), parley::stage::resolve, where, 3s, "limit 3 s");
                auto late = co_await parley::with_timeout(2s, asking.request(packet(1)));
                REQUIRE_FALSE(late);
                check_late(late.error(), parley::stage::resolve, where, 2s, "limit 2 s");
            });
        }(far.name()));
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
        check_late(answer.error(), parley::stage::connect, where, 3s, "limit 3 s");
        auto late = co_await parley::with_timeout(2s, asking.request(packet(1)));
        REQUIRE_FALSE(late);
        check_late(late.error(), parley::stage::connect, where, 2s, "limit 2 s");
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
        // There and back to connect, and then the limit.
        check_late(answer.error(), parley::stage::tls, *where, 2s + 1s, "limit 1 s");
        auto late = co_await parley::with_timeout(2500ms, asking.request(packet(1)));
        REQUIRE_FALSE(late);
        check_late(late.error(), parley::stage::tls, *where, 2500ms, "limit 2.5 s");
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
        check_late(answer.error(), parley::stage::send, *where, 3s, "limit 3 s");
        co_await parley::sleep_for(5min); // until the link is free again
        client patient(where.value());
        auto late = co_await parley::with_timeout(2s, patient.request(packet(1'000'000)));
        REQUIRE_FALSE(late);
        check_late(late.error(), parley::stage::send, *where, 2s, "limit 2 s");
    });
}

TEST_CASE("stalled before the answer, a request names first byte, by its limit and by a budget") {
    in_world([](sim::world &) -> task<> {
        parley::server<packets> door(parley::endpoint("127.0.0.1", 0), silent);
        auto where = co_await door.listen();
        client asking(where.value(), parley::client_options().first_byte_limit(3s));
        auto answer = co_await asking.request(packet(1));
        REQUIRE_FALSE(answer);
        check_late(answer.error(), parley::stage::first_byte, *where, 3s, "limit 3 s");
        auto late = co_await parley::with_timeout(2s, asking.request(packet(1)));
        REQUIRE_FALSE(late);
        check_late(late.error(), parley::stage::first_byte, *where, 2s, "limit 2 s");
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
        check_late(answer.error(), parley::stage::receive, *where, 3s, "limit 3 s");
        co_await parley::sleep_for(1min); // until the link is free again
        client patient(where.value());
        auto late = co_await parley::with_timeout(8s, patient.request(packet(1)));
        REQUIRE_FALSE(late);
        check_late(late.error(), parley::stage::receive, *where, 8s, "limit 8 s");
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
        check_late(late.error(), parley::stage::first_byte, *at_c, 3s, "limit 3 s");
    });
}

TEST_CASE("a server of a server of a client stops its work when the budget of the client is used up") {
    in_world([](sim::world &) -> task<> {
        using std::chrono::steady_clock;
        const auto options = parley::serve_options().cancel_when_half_closed(true);
        const std::int64_t began = parley::detail::monotonic_now();
        std::int64_t ended = 0;
        auto work = [&](connection peer) -> task<> {
            struct note {
                std::int64_t &at;
                ~note() { at = parley::detail::monotonic_now(); }
            } at_end{ended};
            auto asked = co_await peer.recv();
            co_await parley::sleep_for(24h);
        };
        parley::server<packets> c(parley::endpoint("127.0.0.1", 0), work, options);
        auto at_c = co_await c.listen();
        client asks_c(at_c.value());
        auto pass_on = [&](connection peer) -> task<> {
            auto asked = co_await peer.recv();
            auto answer = co_await asks_c.request(packet(1));
            if (!answer)
                co_return;
            auto sent = co_await peer.send(*answer);
        };
        parley::server<packets> b(parley::endpoint("127.0.0.1", 0), pass_on, options);
        auto at_b = co_await b.listen();
        client asks_b(at_b.value());
        auto late = co_await parley::with_timeout(3s, asks_b.request(packet(1)));
        REQUIRE_FALSE(late);
        check_late(late.error(), parley::stage::first_byte, *at_b, 3s, "limit 3 s");
        co_await parley::sleep_for(20ms);
        CHECK(within_20ms(std::chrono::nanoseconds(ended - began), 3s));
    });
}

TEST_CASE("stalled between two pieces of the answer, a request names gap, under a budget receive") {
    in_world([](sim::world &) -> task<> {
        parley::server<tearing> door(parley::endpoint("127.0.0.1", 0), sends_a_piece);
        auto where = co_await door.listen();
        client asking(where.value(), parley::client_options().gap_limit(3s));
        auto answer = co_await asking.request(packet(1));
        REQUIRE_FALSE(answer);
        check_late(answer.error(), parley::stage::gap, *where, 3s, "limit 3 s");
        auto late = co_await parley::with_timeout(2s, asking.request(packet(1)));
        REQUIRE_FALSE(late);
        check_late(late.error(), parley::stage::receive, *where, 2s, "limit 2 s");
    });
}

TEST_CASE("the total limit of a request names the stage in which it stood") {
    in_world([](sim::world &) -> task<> {
        parley::server<packets> door(parley::endpoint("127.0.0.1", 0), silent);
        auto where = co_await door.listen();
        client asking(where.value(), parley::client_options().total_limit(3s).max_connections(1));
        auto answer = co_await asking.request(packet(1));
        REQUIRE_FALSE(answer);
        check_late(answer.error(), parley::stage::first_byte, *where, 3s, "limit 3 s");
        CHECK(parley::to_string(answer.error()) ==
              "timed out: first byte, " + where->to_string() + ", after 3.000 s (limit 3 s)");
        co_await parley::with_scope([&](parley::scope &all) -> task<> {
            all.spawn([&]() -> task<> {
                client patient(where.value());
                auto late =
                    co_await parley::with_timeout(2s, asking.request(packet(1))); // nearer: the budget
                REQUIRE_FALSE(late);
                check_late(late.error(), parley::stage::first_byte, *where, 2s, "limit 2 s");
            });
            co_await parley::sleep_for(1s);
            // Waits 1 s for the connection, and has 2 s of the 3 s left for the rest.
            auto second = co_await parley::with_timeout(1h, asking.request(packet(1)));
            REQUIRE_FALSE(second);
            check_late(second.error(), parley::stage::first_byte, *where, 3s, "limit 3 s");
        });
    });
}

TEST_CASE("of a limit for the queue and one for all, whichever is nearer ends the wait") {
    in_world([](sim::world &) -> task<> {
        parley::server<packets> door(parley::endpoint("127.0.0.1", 0), silent);
        auto where = co_await door.listen();
        auto options = parley::client_options().max_connections(1).total_limit(4s);
        for (const auto &[queue, nearer] : {std::pair(2s, 2s), std::pair(9s, 4s)}) {
            client asking(where.value(), parley::client_options(options).pool_wait_limit(queue));
            co_await parley::with_scope([&](parley::scope &all) -> task<> {
                all.spawn([&]() -> task<> {
                    auto first = co_await asking.request(packet(1)); // until 4 s
                });
                co_await parley::yield();
                auto late = co_await asking.request(packet(1));
                REQUIRE_FALSE(late);
                CHECK(within_20ms(late.error().elapsed(), nearer));
                CHECK(late.error().detail() == (nearer == 2s ? "limit 2 s" : "limit 4 s"));
            });
        }
    });
}

TEST_CASE("the limits of a served connection name themselves") {
    in_world([](sim::world &world) -> task<> {
        const auto with = [] { return parley::serve_options(); };
        auto idle = co_await told_to_handler<packets>(with().idle_limit(3s), packet(1));
        CHECK(idle.stage() == parley::stage::idle);
        CHECK(idle.detail() == "limit 3 s");
        auto gap = co_await told_to_handler<torn_requests>(with().gap_limit(3s), torn());
        CHECK(gap.stage() == parley::stage::gap);
        CHECK(gap.detail() == "limit 3 s");
        auto receive = co_await told_to_handler<torn_requests>(with().receive_limit(3s), torn());
        CHECK(receive.stage() == parley::stage::receive);
        CHECK(receive.detail() == "limit 3 s");
        auto first = co_await told_to_handler<torn_requests>(
            with().receive_limit(1h).first_message_limit(2500ms), torn());
        CHECK(first.stage() == parley::stage::receive);
        CHECK(first.detail() == "limit 2.5 s");
        world.link(world.local(), world.local(), {.bytes_per_second = 10'000});
        auto send = co_await told_to_handler<packets>(with().send_limit(3s), packet(1), 1'000'000);
        CHECK(send.stage() == parley::stage::send);
        CHECK(send.detail() == "limit 3 s");
        CHECK(within_20ms(send.elapsed(), 3s));
    });
}

TEST_CASE("a limit that begins while a longer one runs ends the wait in its own time") {
    sim::world world{1};
    world.run([&] {
        parley::runtime_options options;
        options.loops = options.executor_threads = 1;
        parley::run(options, []() -> task<> {
            parley::server<packets> door(parley::endpoint("127.0.0.1", 0), silent);
            auto where = co_await door.listen();
            const auto limits =
                parley::client_options().max_connections(1).total_limit(30s).pool_wait_limit(2s);
            client asking(parley::endpoint("localhost", where->port()), limits);
            co_await parley::with_scope([&](parley::scope &all) -> task<> {
                all.spawn([&]() -> task<> { co_await parley::compute(block_for_10s); });
                all.spawn([&]() -> task<> {
                    auto first = co_await asking.request(packet(1)); // has the connection from 10 s on
                    REQUIRE_FALSE(first);
                    check_late(first.error(), parley::stage::first_byte, *where, 30s, "limit 30 s");
                });
                co_await parley::yield();
                auto second = co_await asking.request(packet(1));
                REQUIRE_FALSE(second);
                check_late(second.error(), parley::stage::pool_wait, *where, 12s, "limit 2 s");
            });
        }());
    });
}

TEST_CASE("a request that is cancelled while its own limits run ends at once") {
    in_world([](sim::world &) -> task<> {
        parley::server<packets> door(parley::endpoint("127.0.0.1", 0), silent);
        auto where = co_await door.listen();
        const auto limits = parley::client_options().max_connections(1).total_limit(1h).pool_wait_limit(1min);
        client asking(where.value(), limits);
        const std::int64_t began = parley::detail::monotonic_now();
        co_await parley::with_scope([&](parley::scope &all) -> task<> {
            for (int i = 0; i < 3; ++i) {
                all.spawn([&]() -> task<> {
                    auto never = co_await asking.request(packet(1));
                    CHECK_MESSAGE(false, "cancelled, it does not go on");
                });
            }
            co_await parley::sleep_for(1s);
            all.cancel();
        });
        CHECK(within_20ms(std::chrono::nanoseconds(parley::detail::monotonic_now() - began), 1s));
    });
}
