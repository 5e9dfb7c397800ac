// From main() into a task: all that most programs need.
//
//     parley::task<int> server();
//     int main() { return parley::run(server()); }

#pragma once

#include <utility>

#include <parley/config.hpp>
#include <parley/runtime.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {

// Runs the task on loop 0 of a runtime of its own and blocks until it has ended and everything is stopped and
// joined. The task's value; throws as sync_wait().
template <class T>
T run(task<T> work) {
    runtime rt;
    return rt.sync_wait(rt.loop(0), std::move(work));
}
template <class T>
T run(const runtime_options &options, task<T> work) {
    runtime rt(options);
    return rt.sync_wait(rt.loop(0), std::move(work));
}

} // namespace parley::inline PARLEY_ABI
