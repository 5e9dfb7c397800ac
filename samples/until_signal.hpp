// How the samples that serve are run: until SIGINT or SIGTERM, as 02_echo_server.cpp shows in full.

#pragma once

#include <csignal>
#include <exception>
#include <iostream>
#include <utility>

#include <parley/parley.hpp>

#include "arguments.hpp"

// Runs `work`, and then waits for a signal; or cancels the work when that comes first.
inline parley::task<> until_signal(parley::task<> work) {
    co_await parley::with_scope([&](parley::scope &all) -> parley::task<> {
        all.spawn(std::move(work)); // begins when this task waits
        co_await parley::wait_signal(SIGINT, SIGTERM);
        all.cancel();
    });
}

// The same from main(). The exit status of the program: 1 after a line on standard error that says what went
// wrong.
inline int run_until_signal(const char *program, parley::runtime &rt, parley::task<> work) {
    try {
        rt.sync_wait(until_signal(std::move(work)));
        return 0;
    } catch (const std::exception &e) {
        std::cerr << program << ": " << e.what() << '\n';
        return 1;
    }
}
inline int run_until_signal(const char *program, parley::task<> work) {
    parley::runtime rt;
    return run_until_signal(program, rt, std::move(work));
}
