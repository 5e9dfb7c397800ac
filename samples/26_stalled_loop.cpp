// Who keeps a loop busy? A task that computes for long without co_await is reported, with the place after
// which it went on, while it does so and when it is over.
// Run it: it prints the two reports.

#include <atomic>
#include <chrono>
#include <csignal>
#include <iostream>
#include <thread>

#include <parley/parley.hpp>

#include "run_sample.hpp"

using namespace std::chrono_literals;

// [stall]
std::atomic<int> complaints{0};

parley::runtime_options watchful() {
    parley::runtime_options options;
    options.dump_signal = SIGUSR1; // kill -USR1 <pid>: the list, on standard error
    options.stall_threshold = 200ms;
    options.on_stall = [](const parley::stall_report &stall) {
        std::cout << stall << std::endl;
        complaints++;
    };
    return options;
}

parley::task<> take_stock() {
    co_await parley::yield();
    while (complaints == 0) // nothing else goes on here meanwhile: this belongs into compute()
        std::this_thread::sleep_for(1ms);
}
// [/stall]

parley::task<> shop() {
    co_await take_stock();
    while (complaints < 2) // the loop is free again, which is reported meanwhile
        co_await parley::sleep_for(1ms);
}

int main(int argc, char **argv) {
    return run_sample(argc, argv, shop(), watchful());
}
