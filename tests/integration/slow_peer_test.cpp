// Peers that are slow on purpose, against a server that sets nothing: the limits that hold by default. A
// second passes when the test says so.

#include "patient_world.hpp"

using namespace net;
using parley::connection;
using parley::endpoint;
using parley::errc;
using parley::line_message;
using parley::runtime;
using parley::task;

namespace {

bool has_news(const raw_peer &peer) {
    char byte;
    return ::recv(peer.fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
}

} // namespace

TEST_CASE("a request that comes byte by byte is cut off after thirty seconds, whatever its progress") {
    patient_world world;
    fixture::InstalledWorld installed(world);
    echo_server<lines> server(1);
    raw_peer dripping(server.local), silent(server.local), good(server.local);
    good.send("x\n");
    CHECK(good.recv_line() == "x");
    patient_world::settle(server.rt);
    for (int second = 1; second <= 25; second++) {
        dripping.send("h");
        good.send("y\n"); // who asks whole questions is served on
        CHECK(good.recv_line() == "y");
        world.pass(server.rt, 1s);
        CHECK_FALSE(has_news(dripping));
        CHECK_FALSE(has_news(silent));
    }
    world.pass(server.rt, 10s);
    CHECK(dripping.is_closed_by_peer());
    CHECK(silent.is_closed_by_peer());
    good.send("z\n");
    CHECK(good.recv_line() == "z");
}

TEST_CASE("a later request that comes byte by byte has thirty seconds from its first byte") {
    patient_world world;
    fixture::InstalledWorld installed(world);
    echo_server<lines> server(1);
    raw_peer client(server.local);
    client.send("x\n");
    CHECK(client.recv_line() == "x");
    world.pass(server.rt, 100s); // idle, which has no limit of its own
    CHECK_FALSE(has_news(client));
    for (int second = 1; second <= 25; second++) {
        client.send("h");
        patient_world::settle(server.rt);
        world.pass(server.rt, 1s);
        CHECK_FALSE(has_news(client));
    }
    world.pass(server.rt, 10s);
    CHECK(client.is_closed_by_peer());
}

TEST_CASE("a reader that takes a little every second has a minute for an answer, and not more") {
    patient_world world;
    fixture::InstalledWorld installed(world);
    inbox<parley::error> failure;
    inbox<endpoint> listening;
    runtime rt(with_loops(1));
    auto handler = [&failure](connection<packets> peer) -> task<> {
        auto packet = co_await peer.recv();
        parley::length_prefixed large;
        std::memset(large.resize_for_overwrite(64u << 20), 'x', 64u << 20);
        auto sent = co_await peer.send(large);
        failure.put(sent ? parley::error() : sent.error());
    };
    background running(rt, [](auto &h, inbox<endpoint> &at) -> task<> {
        parley::serve_options options;
        options.on_listening([&at](const endpoint &where) { at.put(where); });
        auto served = co_await parley::serve<packets>(endpoint("127.0.0.1", 0), h, std::move(options));
    }(handler, listening));
    raw_peer client(listening.take());
    client.send(std::string("\0\0\0\1x", 5));
    char piece[4096];
    CHECK(::recv(client.fd(), piece, sizeof piece, 0) > 0); // the answer has begun
    for (int second = 1; second <= 50; second++) {
        world.pass(rt, 1s);
        CHECK(::recv(client.fd(), piece, sizeof piece, 0) > 0);
        CHECK(failure.empty());
    }
    world.pass(rt, 15s);
    parley::error why = failure.take();
    CHECK(why == errc::timed_out);
    CHECK(why.stage() == parley::stage::send);
    rt.stop();
}

TEST_CASE("a producer whose reader stands still is suspended, with a bounded number of bytes on their way") {
    std::atomic<std::size_t> pushed{0};
    constexpr std::size_t size = 65536, most = 1000;
    inbox<endpoint> listening;
    runtime rt(with_loops(1));
    auto handler = [&pushed](connection<lines> peer) -> task<> {
        while (pushed < most) {
            auto taken = co_await peer.push(line_message(std::string(size - 1, 'x')));
            if (!taken)
                co_return;
            ++pushed;
        }
    };
    background running(rt, [](auto &h, inbox<endpoint> &at) -> task<> {
        parley::serve_options options;
        options.on_listening([&at](const endpoint &where) { at.put(where); });
        auto served = co_await parley::serve<lines>(endpoint("127.0.0.1", 0), h, std::move(options));
    }(handler, listening));
    {
        raw_peer reader(listening.take());
        // It stands still when the loop has turned often and taken nothing.
        std::size_t before = 0;
        for (int still = 0; still < 20;) {
            patient_world::settle(rt);
            std::size_t now = pushed;
            still = now > 0 && now == before ? still + 1 : 0;
            before = now;
        }
        CHECK(pushed < most / 2); // the kernel's buffers are smaller
        std::string all;
        char piece[65536];
        std::size_t got = 0;
        for (ssize_t n; got < most * size && (n = ::recv(reader.fd(), piece, sizeof piece, 0)) > 0;)
            got += static_cast<std::size_t>(n);
        CHECK(got == most * size);
        CHECK(pushed <= most);
    }
    rt.stop();
}
