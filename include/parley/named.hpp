// Names for tasks, where the place in the source does not say enough: dump_tasks() shows them.
//
//     peers.spawn(parley::named("poller of " + host, poll(host)));

#pragma once

#include <string>
#include <utility>

#include <parley/config.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {

// The task, with a name; one frame more, which keeps the name.
template <class T>
[[nodiscard]] task<T> named(std::string name, task<T> work) {
    co_return co_await detail::named_task(name, std::move(work));
}

} // namespace parley::inline PARLEY_ABI
