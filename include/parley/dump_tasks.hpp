// Everything that is waiting, listed while the program runs: each task with the place of its co_await, what
// it awaits, with whom and since when; below it what it started; and the connections that were accepted.
//
//     parley::dump_tasks(std::cerr);            // from any thread, a task or a debugger
//
//     runtime 1, loop 0: 1 task, 1 connection
//       handler of 127.0.0.1:41234: main.cpp:12 in echo: recv 127.0.0.1:41234, fd 9, 3.204 s
//       connection 127.0.0.1:41234, fd 9: idle
//
// named() (named.hpp) gives a task a name. Built without PARLEY_SIGHT, a CMake option, nothing can be seen.

#pragma once

#include <chrono>
#include <cstddef>
#include <iosfwd>
#include <memory>

#include <parley/config.hpp>
#include <parley/detail/saturate.hpp>

namespace parley::inline PARLEY_ABI {

class runtime;

class dump_options {
public:
    dump_options() noexcept {}

    // Siblings that stand at the same places and await the same become one line if they are more than this;
    // shown is the one that waits longest. Text only.
    std::size_t group_above = 8;
    // A loop that has not answered by then is listed as blocked, with the place at which the task that it
    // runs was resumed.
    detail::any_duration patience = std::chrono::milliseconds(100);
};

// Writes a tree of all tasks of the process, or of one runtime, which must not be destroyed meanwhile. Any
// thread. Each loop lists its own tasks between two callbacks, so what is written about different loops may
// be of slightly different moments. The calling thread waits for the other loops, at most `patience`; on a
// loop it holds up that loop for so long. Throws std::bad_alloc, and what `out` throws.
void dump_tasks(std::ostream &out, const dump_options &options = {});
void dump_tasks(std::ostream &out, runtime &of, const dump_options &options = {});

// The same as one JSON object in one line, without grouping:
//
//     {"loops": [{"runtime", "loop", "state": "answered" | "blocked" | "ended", "lag", "site"}],
//      "tasks": [{"id", "parent", "runtime", "loop", "state": "running" | "waiting" | "ready" | "away",
//                 "name", "purpose", "site", "awaits", "stage", "resource", "fd", "seconds", "omitted"}],
//      "connections": [{"runtime", "loop", "peer", "fd", "state", "unanswered"}]}
//
// "lag" is loop::lag(), in seconds; "site" is {"file", "line", "function"}. What is not known is left out. A
// parent stands before its children.
void dump_tasks_json(std::ostream &out, const dump_options &options = {});
void dump_tasks_json(std::ostream &out, runtime &of, const dump_options &options = {});

// While it lives, the signal makes a thread of its own write dump_tasks() to `out` and flush it; so it works
// though every loop be blocked. The signal handler only writes to an eventfd; wait_signal() for the same
// signal gets it too. Any thread; the destructor waits for a dump under way. `out` must outlive it, and is
// used on that thread. Throws std::system_error: EINVAL for what is no signal, or why there is no thread.
//
//     parley::dump_on_signal usr1(SIGUSR1, std::cerr);           // kill -USR1 <pid>
class dump_on_signal {
public:
    dump_on_signal(int number, std::ostream &out, const dump_options &options = {});
    ~dump_on_signal();
    dump_on_signal(const dump_on_signal &) = delete;
    dump_on_signal &operator=(const dump_on_signal &) = delete;

private:
    class parts;
    std::unique_ptr<parts> parts_;
};

} // namespace parley::inline PARLEY_ABI
