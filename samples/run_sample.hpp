// How the samples are run that take no arguments and end by themselves, as 03_echo_client.cpp shows in full.

#pragma once

#include <exception>
#include <future>
#include <iostream>
#include <utility>

#include <parley/parley.hpp>

#include "arguments.hpp"

// The exit status of the program: 1 after a line on standard error that says what went wrong.
inline int run_sample(int argc, char **argv, parley::task<> work,
                      const parley::runtime_options &options = {}) {
    parse_arguments(argc, argv, "");
    try {
        parley::run(options, std::move(work));
        return 0;
    } catch (const std::exception &e) {
        std::cerr << argv[0] << ": " << e.what() << '\n';
        return 1;
    }
}

// The same for what is over when somebody keeps a promise.
inline int wait_until(const char *program, std::promise<void> &over) {
    try {
        over.get_future().get();
        return 0;
    } catch (const std::exception &e) {
        std::cerr << program << ": " << e.what() << '\n';
        return 1;
    }
}
