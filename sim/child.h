// A run in a process of its own: what it says comes back through a pipe, whatever becomes of it.

#pragma once

#include <parley/sim/world.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "choices.h"

namespace parley::sim::detail {

struct outcome {
    bool failed = false;
    std::string what;
    std::vector<std::string> trace;
    drawn taken; // only of runs that failed
    std::uint64_t fingerprint = 0;
    std::uint64_t number = 0; // what the child counted: schedules of an exploration
};

// In the child: ends it, telling what it has found. Of a run that failed also trace and choices.
[[noreturn]] void tell_failure(kernel &world, const std::string &what);
[[noreturn]] void tell_success(std::uint64_t fingerprint, std::uint64_t number);
// Counted beside what is told, also of a child that dies.
void tell_number(std::uint64_t number);

// Runs `body` in a child, which must end by one of the above.
outcome in_child(const std::function<void()> &body);

} // namespace parley::sim::detail
