// What became of a server's connections while it drained.
//
//     if (auto drained = co_await door.drain(10s); drained && drained->cancelled > 0)
//         log << *drained; // "drained: 12 connections, 9 idle, 2 finished, 1 cancelled", and who that was

#pragma once

#include <cstddef>
#include <iosfwd>
#include <string>
#include <vector>

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {

// connections == finished + cancelled: each is counted once, by how its handler ended.
struct drain_report {
    std::size_t connections = 0; // that had a handler when the server began to close
    std::size_t idle = 0;        // of these: awaited a request, or had never spoken, and were closed at once
    std::size_t finished = 0;    // handlers that ended by themselves
    std::size_t cancelled = 0;   // handlers that were told to stop, at the limit or because serve() was

    // A line for each that was cancelled, in no order: its peer, what it was in and where. "handler of
    // 127.0.0.1:4711: sleep, main.cpp:31". Fewer when there was no memory for all.
    std::vector<std::string> overstayed;
};

// "drained: ...", and below it those that overstayed, indented, a line each.
std::ostream &operator<<(std::ostream &out, const drain_report &report);

} // namespace parley::inline PARLEY_ABI
