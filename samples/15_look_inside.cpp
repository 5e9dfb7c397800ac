// What is everybody waiting for? A shop's tasks, its server's handlers and its connections, listed while they
// wait: each with the line of its co_await, with whom and for how long; below it what it has started.
// Run it: it prints the list as text and as JSON, the awaits that an exception came through, and who kept a
// loop busy.

#include <atomic>
#include <csignal>
#include <iostream>
#include <stdexcept>
#include <thread>

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

// [stall]
std::atomic<bool> somebody_complains{false};

parley::runtime_options watchful() {
    parley::runtime_options options;
    options.dump_signal = SIGUSR1; // kill -USR1 <pid>: the list, on standard error
    options.stall_threshold = 200ms;
    options.on_stall = [](const parley::stall_report &stall) {
        std::cout << stall << std::endl;
        somebody_complains = true;
    };
    return options;
}

parley::task<> take_stock() {
    co_await parley::yield();
    while (!somebody_complains) // nothing else goes on here meanwhile: this belongs into compute()
        std::this_thread::sleep_for(1ms);
}
// [/stall]

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
    co_await take_stock();
}

int main(int argc, char **argv) {
    return run_sample(argc, argv, market(), watchful());
}
