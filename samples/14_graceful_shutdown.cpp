// A server that ends well: on SIGTERM it takes nothing new, answers what is under way for two seconds at
// most, cuts off the rest, and says what it has done. A second signal cuts off at once.
// Run it, and in another terminal: nc 127.0.0.1 7000; a number is answered after as many milliseconds.

#include <atomic>
#include <chrono>
#include <csignal>
#include <exception>
#include <iostream>
#include <string>
#include <variant>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "arguments.hpp"

using namespace std::chrono_literals;

struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};

// [handler]
std::atomic<int> begun{0}, answered{0}; // of requests; handlers run on every loop

parley::task<> answer(parley::connection<lines> peer) {
    while (auto asked = co_await peer.recv()) { // once the server drains: errc::stopping
        begun++;
        const std::string text(asked->text());
        std::cout << "asked for " + text + '\n' << std::flush;
        co_await parley::sleep_for(std::chrono::milliseconds(std::atoi(text.c_str())));
        if (auto sent = co_await peer.send(*asked); !sent)
            co_return;
        answered++;
    }
}
// [/handler]

// [shutdown]
parley::task<> serve_until_told(parley::server<lines> &door) {
    parley::signal_set told(SIGINT, SIGTERM); // from now on none is lost
    co_await parley::with_scope([&](parley::scope &all) -> parley::task<> {
        all.spawn([&]() -> parley::task<> { // begins when the body waits for a signal
            auto listening = co_await door.listen();
            const parley::endpoint local = listening.value(); // throws what went wrong
            std::cout << "listening on " << local << std::endl;
            auto served = co_await door.serve(); // until the last handler has ended
            served.value();
        });
        co_await told.wait();
        std::cout << "draining, " << begun - answered << " under way" << std::endl;
        auto first = co_await parley::when_any(door.drain(2s), told.wait());
        if (auto *drained = std::get_if<0>(&first))
            std::cout << drained->value() << std::endl; // what became of the connections
        all.cancel(); // by a second signal: serve(), when cancelled, tells the handlers to stop
    });
    std::cout << answered << " answered, " << begun - answered << " cut off" << std::endl;
}
// [/shutdown]

parley::task<> open_and_serve(unsigned short port) {
    parley::server<lines> door(parley::endpoint("127.0.0.1", port), answer);
    co_await serve_until_told(door);
}

int main(int argc, char **argv) {
    const arguments given = parse_arguments(argc, argv, "[--port N]", 7000);
    try {
        parley::run(open_and_serve(given.port));
        return 0;
    } catch (const std::exception &e) {
        std::cerr << argv[0] << ": " << e.what() << '\n';
        return 1;
    }
}
