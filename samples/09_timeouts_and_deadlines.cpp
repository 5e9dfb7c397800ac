// Limits of time: a budget for everything that is awaited below, limits of a client for the stages of its
// requests, and errors that say what was waited for, with whom, how long, and under which limit.
// Run it: its server takes as many milliseconds for an answer as it is asked to.

#include <array>
#include <chrono>
#include <iostream>
#include <string>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "run_sample.hpp"

using namespace std::chrono_literals;

struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};

parley::task<> answer_slowly(parley::connection<lines> peer) {
    while (auto asked = co_await peer.recv()) {
        co_await parley::sleep_for(std::chrono::milliseconds(std::stoi(std::string(asked->text()))));
        if (auto sent = co_await peer.send(*asked); !sent)
            co_return;
    }
}

// [budget]
// Knows of no limit, and obeys the one under which it is called.
parley::task<> ask(parley::client<lines> &server, const char *milliseconds) {
    auto answer = co_await server.request(parley::line_message(milliseconds));
    std::cout << "answered: " << answer.value().text() << std::endl;
}

parley::task<> ask_for_more_and_more(parley::client<lines> &server) {
    constexpr std::array<const char *, 3> waits{"10", "20", "5000"};
    for (const char *wait : waits) {
        co_await ask(server, wait);
        const auto left = co_await parley::time_left(); // of the caller's budget, if there is one
        std::cout << "there is time left: " << std::boolalpha << (left && *left > 0ns) << std::endl;
    }
}
// [/budget]

// [nested]
parley::task<> try_twice(parley::client<lines> &server) {
    auto first = co_await parley::with_timeout(50ms, ask(server, "5000"));
    if (!first) {
        std::cout << "first try: " << first.error() << std::endl;
        auto second = co_await parley::with_timeout(1h, ask(server, "5000")); // the caller's limit is nearer
        std::cout << "never printed: " << second.has_value() << std::endl;
    }
}
// [/nested]

parley::task<> limits() {
    parley::server<lines> door(parley::endpoint("127.0.0.1", 0), answer_slowly);
    auto where = co_await door.listen();
    parley::client<lines> server(where.value());

    auto budget = co_await parley::with_timeout(300ms, ask_for_more_and_more(server));
    std::cout << "budget: " << budget.error() << std::endl;
    auto nested = co_await parley::with_timeout(200ms, try_twice(server));
    std::cout << "both tries: " << nested.error() << std::endl;

    parley::client<lines> strict(*where, parley::client_options().connect_limit(1s).first_byte_limit(40ms));
    auto own = co_await parley::with_timeout(10s, strict.request(parley::line_message("5000")));
    std::cout << "stage: " << own.error() << std::endl;
}

int main(int argc, char **argv) {
    return run_sample(argc, argv, limits());
}
