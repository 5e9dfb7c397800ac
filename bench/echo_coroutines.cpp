#include <chrono>
#include <csignal>
#include <exception>
#include <iostream>
#include <utility>

#include <parley/parley.hpp>
#include <parley/protocol/length_prefixed.hpp>

#include "echo_server.h"

namespace {

using namespace std::chrono_literals;

struct messages {
    using request = parley::length_prefixed;
    using response = parley::length_prefixed;
};

parley::task<> echo(parley::connection<messages> peer) {
    parley::length_prefixed message;
    while (auto received = co_await peer.recv(message))
        if (auto sent = co_await peer.send(message); !sent)
            co_return;
}

parley::task<> serve(unsigned short port, const on_port &tell) {
    parley::serve_options options;
    options.on_listening([&](const parley::endpoint &local) { tell(local.port()); });
    auto served = co_await parley::serve<messages>(parley::endpoint("127.0.0.1", port), echo, options);
    served.value();
}

parley::task<> serve_until_signal(unsigned short port, const on_port &tell) {
    co_await parley::with_scope([&](parley::scope &all) -> parley::task<> {
        all.spawn(serve(port, tell)); // begins when this task waits: a signal is never missed
        co_await parley::wait_signal(SIGINT, SIGTERM);
        all.cancel();
    });
}

} // namespace

int serve_with_coroutines(const echo_options &options, const on_port &tell) {
    parley::runtime_options ground;
    ground.loops = options.loops;
    ground.executor_threads = 1;
    // No limits of time: the callbacks have none either, and the suite leaves connections idle.
    ground.first_message = ground.send = -1ms;
    try {
        parley::run(ground, serve_until_signal(options.port, tell));
        return 0;
    } catch (const std::exception &e) {
        std::cerr << "echo_server: " << e.what() << '\n';
        return 1;
    }
}
