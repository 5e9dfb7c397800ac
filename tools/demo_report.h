// What the demo found out, and how it is told: to people, or as one line of JSON.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "histogram.h"
#include "terminal.h"
#include "traffic.h"

// One part of the demo, when it is over.
struct demo_part {
    std::string key;   // "coroutines", "callbacks", "mixed", "sleep"
    std::string title; // for people
    bool is_traffic = true;
    double seconds = 0;
    std::uint64_t connections = 0; // accepted by the servers
    std::uint64_t at_once = 0;     // the most sleeps at one time
    totals counted;
    std::uint64_t wrong = 0; // answers with other bytes
    histogram times;         // latencies; how late sleepers woke
};

struct demo_report {
    std::size_t loops = 0;
    std::vector<demo_part> parts;
    std::vector<std::string> problems; // in words, for people

    // What is left when everything has ended.
    std::ptrdiff_t leaked_frames = 0;
    std::ptrdiff_t leaked_descriptors = 0;
    std::size_t leaked_sessions = 0;

    // Of the parts with traffic.
    std::uint64_t sent() const noexcept;
    std::uint64_t answered() const noexcept;
    std::uint64_t lost() const noexcept { return sent() - answered(); }
    std::uint64_t leaked() const noexcept;
    bool is_proof() const noexcept { return problems.empty() && sent() != 0 && lost() == 0 && leaked() == 0; }
};

void print_part(terminal &out, const demo_part &part);

// The last line for people: "proof: ..." or "no proof: ...", without its end.
std::string proof_line(const demo_report &report);

// All figures, in one line without its end.
std::string to_json(const demo_report &report);
