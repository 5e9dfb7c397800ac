// An echo server in coroutines: the lines of each client are answered by a coroutine of its own, and the
// clients are spread over every core of the machine. Ends on SIGINT and SIGTERM.
// Run it, and in another terminal: nc 127.0.0.1 7000, or sample 03.

#include <csignal>
#include <iostream>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "arguments.hpp"

// [server]
struct lines {
    using request = parley::line_message;  // what clients send
    using response = parley::line_message; // what servers answer
};

parley::task<> echo(parley::connection<lines> peer) {
    while (auto line = co_await peer.recv())
        if (auto sent = co_await peer.send(*line); !sent)
            co_return;
}

parley::task<> serve_lines(parley::endpoint where) {
    parley::serve_options options;
    options.on_listening([](auto &local) { std::cout << "listening on " << local << std::endl; });
    auto served = co_await parley::serve<lines>(where, echo, options);
    served.value(); // throws what went wrong
}
// [/server]

// Until the work has ended, or a signal ends it.
parley::task<> until_signal(parley::task<> work) {
    co_await parley::with_scope([&](parley::scope &both) -> parley::task<> {
        both.spawn(std::move(work)); // begins when this task waits
        co_await parley::wait_signal(SIGINT, SIGTERM);
        both.cancel();
    });
}

int main(int argc, char **argv) {
    const arguments given = parse_arguments(argc, argv, "[--port N]", 7000);
    try {
        parley::run(until_signal(serve_lines(parley::endpoint("127.0.0.1", given.port))));
        return 0;
    } catch (const parley::exception &e) {
        std::cerr << argv[0] << ": " << e.what() << '\n';
        return 1;
    }
}
