// What is everybody waiting for? A shop's tasks, its server's handlers and its connections, listed while they
// wait: each with the line of its co_await, with whom and for how long; below it what it has started.
// Run it: it prints the list as text and as JSON, and the awaits that an exception came through.

#include <csignal>
#include <stdexcept>
#include <iostream>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "run_sample.hpp"

using namespace std::chrono_literals;

struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};
using shop = parley::client<lines>;

parley::task<> sell(parley::connection<lines> peer) {
    while (auto asked = co_await peer.recv())
        co_await parley::sleep_for(1h); // it takes its time
}

parley::task<> order(shop &where, const char *what) {
    auto answer = co_await where.request(parley::line_message(what));
}

parley::task<> watch(parley::event &door_bell) {
    co_await door_bell.wait();
}

// [fails]
parley::task<> fetch() {
    co_await parley::yield();
    throw std::runtime_error("the shelf is empty");
}

parley::task<> deliver() {
    co_await fetch();
}
// [/fails]

parley::task<> market() {
    parley::server<lines> door(parley::endpoint("127.0.0.1", 0), sell);
    auto local = co_await door.listen();
    shop where(local.value());
    parley::event bell;
    // [look]
    auto look = [&](parley::scope &all) -> parley::task<> {
        all.spawn(parley::named("order of bread", order(where, "bread")));
        for (int i = 0; i < 20; ++i)
            all.spawn(watch(bell));
        co_await parley::sleep_for(50ms);

        parley::dump_tasks(std::cout);      // for people
        parley::dump_tasks_json(std::cout); // for programs
        std::cout << std::endl;

        all.cancel();
    };
    // [/look]
    co_await parley::with_scope(look);
    try {
        co_await deliver();
    } catch (const std::exception &e) {
        std::cout << e.what() << '\n' << parley::await_trace() << std::flush;
    }
}

int main(int argc, char **argv) {
    parley::dump_on_signal when_asked(SIGUSR1, std::cerr); // kill -USR1 <pid>
    return run_sample(argc, argv, market());
}
