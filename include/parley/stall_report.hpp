// A loop that has been kept from its sockets and timers for too long, and by whom: somebody computes, or waits
// without co_await. A runtime looks for that when its options ask for it:
//
//     parley::runtime_options options;
//     options.stall_threshold = 100ms;
//     options.on_stall = [](const parley::stall_report &stall) { log << stall; }; // else: standard error
//     parley::run(options, serve_all());

#pragma once

#include <chrono>
#include <cstddef>
#include <iosfwd>
#include <source_location>

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {

// One stall makes two reports: when it has lasted for the threshold, and when it is over; of one that lasts to
// the end of the runtime there is only the first. Loops are looked at four times per threshold, so every stall
// of 1.25 times the threshold is seen, and none that is shorter than the threshold.
struct stall_report {
    std::size_t loop = 0;               // the index of the loop
    std::chrono::nanoseconds lasted{0}; // until now, or until it was seen to be over: a quarter of the
                                        // threshold more at most
    bool over = false;
    bool in_task = false; // otherwise in a callback of the core's; always that without PARLEY_SIGHT
    // Of a task: the co_await after which it went on, which is the last before the place in question. Empty
    // for one that has awaited nothing yet. Of the report at the threshold; the one at the end repeats it.
    std::source_location where;
};

// "loop 0 is blocked for 0.100 s: in serve(parley::connection<lines>), which went on at server.cpp:31"
std::ostream &operator<<(std::ostream &out, const stall_report &report);

} // namespace parley::inline PARLEY_ABI
