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

parley::task<> shop() {
    co_await take_stock();
    co_await parley::sleep_for(300ms); // the loop is free again, which is reported meanwhile
}

int main(int argc, char **argv) {
    return run_sample(argc, argv, shop(), watchful());
}
