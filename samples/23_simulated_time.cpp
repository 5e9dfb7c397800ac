// A limit of an hour, tested in milliseconds: a program of parley's runs unchanged in a simulated world,
// where time moves on as soon as nobody has anything left to do.
// Run it: it tests itself and prints how long that took, in the world and outside.

#include <chrono>
#include <exception>
#include <iostream>
#include <string>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>
#include <parley/sim/world.hpp>

#include "arguments.hpp"

using namespace std::chrono_literals;
namespace sim = parley::sim;

// [program]
struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};

parley::task<std::string> buy(parley::endpoint where) {
    parley::client<lines> client(where, parley::client_options().first_byte_limit(1h));
    auto answer = co_await client.request(parley::line_message("one, please"));
    if (answer)
        co_return answer->text();
    co_return parley::to_string(answer.error());
}
// [/program]

// [test]
// A server that takes the request and says nothing: buy() gives up after its hour.
parley::task<> a_silent_server(sim::world &world) {
    auto never = [](parley::connection<lines> peer) -> parley::task<> {
        while (auto order = co_await peer.recv())
            co_await parley::sleep_for(24h);
    };
    parley::server<lines> door(parley::endpoint("127.0.0.1", 0), never);
    auto where = co_await door.listen();
    const std::string said = co_await buy(where.value());
    world.expect(said.starts_with("timed out: first byte"), "buy() says why it has no answer: " + said);
    world.expect(world.now() >= 1h && world.now() < 61min, "buy() waits for an hour");
}

void test_the_hour(sim::world &world) {
    world.run([&] { parley::run(a_silent_server(world)); });
}
// [/test]

int main(int argc, char **argv) {
    parse_arguments(argc, argv, "");
    try {
        const auto start = std::chrono::steady_clock::now();
        sim::world world{1};
        test_the_hour(world);
        const std::chrono::duration<double, std::milli> real = std::chrono::steady_clock::now() - start;
        std::cout << std::chrono::duration<double>(world.now()).count() << " s of the world's time, "
                  << real.count() << " ms of ours" << std::endl;
        return 0;
    } catch (const std::exception &e) {
        std::cerr << argv[0] << ": " << e.what() << '\n';
        return 1;
    }
}
