// What the tests of signals share.

#pragma once

#include <atomic>
#include <csignal>
#include <sstream>

#include <signal.h>

inline volatile std::sig_atomic_t own_handler_calls = 0;

// A handler of the test's, which counts: the disposition before and after parley's.
class own_handler {
public:
    explicit own_handler(int number) : number_(number) {
        struct sigaction mine = {};
        mine.sa_handler = [](int) { own_handler_calls = own_handler_calls + 1; };
        ::sigaction(number, &mine, &old_);
        own_handler_calls = 0;
    }
    own_handler(const own_handler &) = delete;
    ~own_handler() { ::sigaction(number_, &old_, nullptr); }

private:
    int number_;
    struct sigaction old_ = {};
};

// Where a dump goes that is written on a thread of its own; whoever waits for a flush has it whole.
class counted_flushes : public std::stringbuf {
public:
    std::atomic<int> flushes{0};

private:
    int sync() override {
        ++flushes;
        flushes.notify_all();
        return 0;
    }
};
