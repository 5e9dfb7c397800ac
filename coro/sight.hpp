// What dump_tasks() has seen: made on the loops, written out by who asked.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <vector>

#include <parley/config.hpp>
#include <parley/error.hpp>

namespace parley::inline PARLEY_ABI {

class runtime;

namespace detail {

// One task; or a chain whose tasks are all on another loop.
struct seen_task {
    static constexpr std::size_t none = static_cast<std::size_t>(-1);
    enum class condition : std::uint8_t { suspended, running, waiting, ready, away };

    std::size_t parent = none; // an index in the same list
    condition state = condition::suspended;
    std::source_location site; // empty: it has awaited nothing yet
    std::string name;
    std::string purpose;          // of the first of a chain
    const char *awaits = nullptr; // of the innermost of a chain, and so all below
    parley::stage stage = parley::stage::none;
    std::string resource;
    int fd = -1;
    std::int64_t since = 0;       // monotonic; 0: not known
    std::size_t omitted = 0;      // awaiting tasks between it and its parent
    const void *abroad = nullptr; // what connects it with its part on another loop
    bool is_guest = false;        // that part
};

struct seen_connection {
    std::string peer;
    const char *condition = "";
    int fd = -1;
    std::size_t unanswered = 0;
};

struct seen_loop {
    enum class condition : std::uint8_t { answered, blocked, ended };

    std::size_t runtime = 0; // counted from 1, in the order of this list
    std::size_t index = 0;
    condition state = condition::blocked;
    std::chrono::nanoseconds lag{0}; // of loop::lag()
    bool in_task = false;            // of one that is blocked
    std::source_location site;
    std::vector<seen_task> tasks;
    std::vector<seen_connection> connections;
};

// Asks every loop of the process, or of `only`. Any thread.
[[nodiscard]] std::vector<seen_loop> look(runtime *only, std::chrono::nanoseconds patience);

} // namespace detail
} // namespace parley::inline PARLEY_ABI
