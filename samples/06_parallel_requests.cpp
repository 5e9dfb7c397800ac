// Many requests at once: a scope owns the tasks that ask, and ends when the last of them has its answer. The
// client opens connections up to its limit; a request that finds them all in use waits for one.
// Run it: a server of its own, which takes 20 ms for an answer, is asked 50 times in turn and then at once.

#include <chrono>
#include <exception>
#include <iostream>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "arguments.hpp"

using namespace std::chrono_literals;

constexpr int requests = 50, connections = 25;

struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};

parley::task<> answer_slowly(parley::connection<lines> peer) {
    while (auto line = co_await peer.recv()) {
        co_await parley::sleep_for(20ms);
        if (auto sent = co_await peer.send(*line); !sent)
            co_return;
    }
}

parley::task<> ask(parley::client<lines> &server, int number, int &answers) {
    const std::string text = std::to_string(number);
    auto answer = co_await server.request(parley::line_message(text));
    if (answer.value().text() == text)
        answers++; // tasks of a scope share a loop: no lock
}

parley::task<int> in_turn(parley::client<lines> &server) {
    int answers = 0;
    for (int i = 0; i < requests; i++)
        co_await ask(server, i, answers);
    co_return answers;
}

parley::task<int> at_once(parley::client<lines> &server) {
    int answers = 0;
    co_await parley::with_scope([&](parley::scope &all) -> parley::task<> {
        for (int i = 0; i < requests; i++)
            all.spawn(ask(server, i, answers));
        co_return;
    });
    co_return answers;
}

parley::task<> measure(const char *how, parley::task<int> work) {
    const auto start = std::chrono::steady_clock::now();
    const int answers = co_await std::move(work);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    std::cout << how << ": " << answers << " answers in " << taken.count() << " s" << std::endl;
}

parley::task<> compare() {
    parley::server<lines> door(parley::endpoint("127.0.0.1", 0), answer_slowly);
    auto local = co_await door.listen();
    parley::client<lines> server(local.value(), parley::client_options().max_connections(connections));
    co_await measure("in turn", in_turn(server));
    co_await measure("at once", at_once(server));
}

int main(int argc, char **argv) {
    parse_arguments(argc, argv, "");
    try {
        parley::run(compare());
        return 0;
    } catch (const std::exception &e) {
        std::cerr << argv[0] << ": " << e.what() << '\n';
        return 1;
    }
}
