// A server and a client of parley's in an unkind world: every request is answered or fails, and nothing is
// left.

#include <doctest/doctest.h>

#include <errno.h>

#include <filesystem>
#include <string>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>
#include <parley/sim/search.hpp>

#include "../integration/certificates.hpp"

using namespace std::chrono_literals;
namespace sim = parley::sim;
using parley::line_message;
using parley::task;

namespace {

struct lines {
    using request = line_message;
    using response = line_message;
};

parley::runtime_options small() {
    parley::runtime_options options;
    options.loops = 1;
    options.executor_threads = 1;
    return options;
}

task<> echo(parley::connection<lines> peer) {
    while (auto line = co_await peer.recv())
        if (auto sent = co_await peer.send(*line); !sent)
            co_return;
}

struct setting {
    sim::faults unkind = {};
    parley::tls::context server_tls = {};
    parley::tls::client_options client_tls = {}; // if the server speaks TLS
    int clients = 3;
    int requests = 4;
};

struct tally {
    int answered = 0;
    int failed = 0;
};

task<> ask(const setting &how, parley::tls::context tls, int client, tally &told) {
    parley::client_options options;
    options.tls(std::move(tls)).first_byte_limit(20s).receive_limit(20s);
    parley::client<lines> server(parley::endpoint("127.0.0.1", 7000), options);
    for (int i = 0; i < how.requests; i++) {
        const std::string text = "request " + std::to_string(client) + "." + std::to_string(i);
        auto answer = co_await server.request(line_message(text));
        if (!answer) {
            told.failed++;
            continue;
        }
        sim::world::current()->expect(answer->text() == text, "an answer is to its own request");
        told.answered++;
    }
}

task<> serve_and_ask(const setting &how, tally &told) {
    parley::acceptor_options options;
    if (how.server_tls)
        options.tls(how.server_tls);
    parley::acceptor<lines> door(parley::endpoint("127.0.0.1", 7000), options);
    // Made in this world: it remembers sessions, which must not come from the run before.
    parley::tls::context tls;
    if (how.server_tls)
        tls = parley::tls::context::client(how.client_tls).value();
    auto listening = co_await door.listen();
    sim::world::current()->expect(listening.has_value(), "the server listens");
    co_await parley::with_scope([&](parley::scope &all) -> task<> {
        all.spawn([](parley::acceptor<lines> &at, parley::scope &peers) -> task<> {
            while (auto peer = co_await at.accept())
                peers.spawn(echo(std::move(*peer)));
        }(door, all));
        co_await parley::with_scope([&](parley::scope &asking) -> task<> {
            for (int i = 0; i < how.clients; i++)
                asking.spawn(ask(how, tls, i, told));
            co_return;
        });
        co_await door.close();
    });
}

// In a world that was made already.
tally echo_in(sim::world &world, const setting &how) {
    tally told;
    world.set_faults(how.unkind);
    world.run([&] {
        parley::run(small(), serve_and_ask(how, told));
        world.expect(told.answered + told.failed == how.clients * how.requests, "every request ends");
    });
    return told;
}

// For both sides, made outside of any world.
void use_tls(setting &how) {
    char directory[] = "/tmp/parley-sim-tls-XXXXXX";
    REQUIRE(mkdtemp(directory) != nullptr);
    const std::string at = directory;
    const net::identity authority = net::identity::self_signed("parley test authority", true);
    const net::identity server = authority.issue("server", "IP:127.0.0.1");
    server.write_certificate(at + "/certificate");
    server.write_key(at + "/key");
    how.server_tls = parley::tls::context::server(at + "/certificate", at + "/key").value();
    how.client_tls.trust_pem(authority.certificate_pem());
    std::filesystem::remove_all(at);
}

constexpr sim::faults moderate = {.short_read = 0.2,
                                  .short_write = 0.2,
                                  .would_block = 0.2,
                                  .reset = 0.02,
                                  .spurious_event = 0.1,
                                  .stale_event = 0.1,
                                  .late_event = 0.1,
                                  .stall = 0.01,
                                  .slow_disk = 0.1};

} // namespace

TEST_CASE("in a kind world every request is answered") {
    sim::world world{1};
    const tally told = echo_in(world, {});
    CHECK(told.answered == 12);
    CHECK(told.failed == 0);
}

TEST_CASE("in an unkind world every request is answered or fails, and nothing is left") {
    auto failure =
        sim::search("unkind echo", 200, [](sim::world &world) { echo_in(world, {.unkind = moderate}); });
    CHECK_MESSAGE(!failure, *failure);
}

TEST_CASE("faults short of resets cost no answer") {
    sim::faults gentle = moderate;
    gentle.reset = 0;
    auto failure = sim::search("gentle echo", 50, [&](sim::world &world) {
        world.expect(echo_in(world, {.unkind = gentle}).failed == 0, "nothing fails");
    });
    CHECK_MESSAGE(!failure, *failure);
}

TEST_CASE("a TLS echo is the same run for the same seed, and another one for another") {
    setting how;
    use_tls(how);
    const auto run = [&](std::uint64_t seed) {
        sim::world world{seed};
        const tally told = echo_in(world, how);
        CHECK(told.answered == 12);
        return world.fingerprint();
    };
    const std::uint64_t first = run(1);
    CHECK(run(1) == first);
    CHECK(run(2) != first);
}

TEST_CASE("in an unkind world every TLS request is answered or fails, and nothing is left") {
    setting how;
    use_tls(how);
    how.unkind = moderate;
    auto failure = sim::search("unkind TLS echo", 50, [&](sim::world &world) { echo_in(world, how); });
    CHECK_MESSAGE(!failure, *failure);
}

TEST_CASE("a file on a slow disk is written and read all the same") {
    auto failure = sim::search("slow disk", 30, [](sim::world &world) {
        world.set_faults({.short_read = 0.3, .short_write = 0.3, .stall = 0.02, .slow_disk = 0.5});
        world.run([&] {
            parley::run(small(), []() -> task<> {
                auto file = parley::file::open("/data", parley::file_mode::write);
                const std::string text(5000, 'p');
                auto wrote = co_await file->write_at(0, text);
                sim::world::current()->expect(wrote && *wrote == text.size(), "all is written");
                auto synced = co_await file->sync();
                sim::world::current()->expect(synced.has_value(), "it is on the disk");
                auto in = parley::file::open("/data", parley::file_mode::read);
                std::string back(6000, '\0');
                auto read = co_await in->read_at(0, std::span(back.data(), back.size()));
                sim::world::current()->expect(read && back.substr(0, *read) == text, "it is read back");
            }());
            world.expect(world.local().read_file("/data").size() == 5000, "the disk holds it");
        });
    });
    CHECK_MESSAGE(!failure, *failure);
}

TEST_CASE("a full disk and a broken one are told by name") {
    sim::world world{1};
    world.local().limit_disk(100);
    world.fail_calls(sim::call::fsync, EIO);
    world.fail_calls(sim::call::preadv, EIO);
    world.run([&] {
        parley::run(small(), []() -> task<> {
            auto file = parley::file::open("/data", parley::file_mode::write);
            REQUIRE(file);
            auto wrote = co_await file->write_at(0, std::string(100, 'x'));
            CHECK(wrote);
            wrote = co_await file->write_at(100, "more");
            REQUIRE_FALSE(wrote);
            CHECK(wrote.error() == std::errc::no_space_on_device);
            auto synced = co_await file->sync();
            REQUIRE_FALSE(synced);
            CHECK(synced.error() == std::errc::io_error);
            synced = co_await file->sync();
            CHECK(synced);
            auto in = parley::file::open("/data", parley::file_mode::read);
            std::string back(10, '\0');
            auto read = co_await in->read_at(0, std::span(back.data(), back.size()));
            REQUIRE_FALSE(read);
            CHECK(read.error() == std::errc::io_error);
            read = co_await in->read_at(0, std::span(back.data(), back.size()));
            CHECK(*read == 10);
        }());
    });
}
