// The demo's traffic: many coroutines on all loops, each of which sends messages of all sizes to one server
// after the other, awaits the answers and checks every byte of them.

#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <parley/parley.hpp>
#include <parley/protocol/length_prefixed.hpp>

#include "histogram.h"

struct messages {
    using request = parley::length_prefixed;
    using response = parley::length_prefixed;
};

// The coroutine server of the demo: answers each message with itself.
parley::task<> echo(parley::connection<messages> peer);

// What one loop's coroutines have done. They alone change it; the counters may be read at any time, the rest
// when they have ended.
struct alignas(64) tally {
    std::atomic<std::uint64_t> begun{0}; // requests sent; sleeps begun
    std::atomic<std::uint64_t> ended{0}; // answers that came and were right; sleeps that ended
    std::atomic<std::uint64_t> bytes{0}; // of these answers
    std::uint64_t wrong = 0;             // answers with other bytes than were sent
    histogram times;
    std::vector<std::string> complaints; // the first few errors

    static constexpr std::size_t complaints_kept = 3;

    static void count(std::atomic<std::uint64_t> &what, std::uint64_t more = 1) noexcept {
        what.store(what.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
    }
    void complain(std::string why) {
        if (complaints.size() < complaints_kept)
            complaints.push_back(std::move(why));
    }
};

// One tally for each loop.
using tallies = std::vector<tally>;

struct totals {
    std::uint64_t begun = 0;
    std::uint64_t ended = 0;
    std::uint64_t bytes = 0;
};
totals sum(const tallies &of) noexcept; // any thread, any time

class traffic {
public:
    static constexpr std::size_t connections = 256;
    static constexpr std::size_t coroutines = 2000;
    static constexpr std::size_t largest = std::size_t{1} << 20;

    // New requests are sent for so long, and at least one by each coroutine.
    traffic(tallies &results, std::chrono::nanoseconds time, std::uint64_t seed) noexcept
        : tallies_(results), time_(time), seed_(seed) {}

    // Talks to these servers by turns, over the number of connections above in all. Ends when every request
    // has been answered or has failed.
    parley::task<> drive(std::vector<parley::endpoint> servers);

private:
    using clients = std::vector<parley::client<messages>>;

    parley::task<> drive_on(parley::loop &home, clients &servers);
    parley::task<> converse(clients &servers, std::size_t number, tally &mine) const;

    tallies &tallies_;
    std::chrono::nanoseconds time_;
    std::uint64_t seed_;
    std::chrono::steady_clock::time_point end_{};
};

// The same for time alone: `count` coroutines on all loops that sleep for times between half of `longest` and
// all of it. The tallies tell how late they woke.
parley::task<> sleep_all(tallies &results, std::size_t count, std::chrono::nanoseconds longest,
                         std::uint64_t seed);
