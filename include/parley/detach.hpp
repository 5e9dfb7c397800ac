// A task that nobody waits for. A scope (scope.hpp) is nearly always what is wanted instead: it knows when
// its children have ended and where their exceptions go.

#pragma once

#include <exception>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/detail/root.hpp>
#include <parley/loop.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {

// Runs `work` on the loop `where`, starting soon; runtime::stop() cancels it and the end of the runtime waits
// for it. If an exception leaves it, on_exception(std::exception_ptr) is called, on that loop. Any thread.
template <class F>
void detach_on(loop &where, task<> work, F &&on_exception) {
    static_assert(std::is_invocable_v<std::decay_t<F> &, std::exception_ptr>,
                  "parley: detach_on takes a function that is called with the std::exception_ptr of what "
                  "the task throws: [](std::exception_ptr failure) { ... }");
    std::decay_t<F> kept(std::forward<F>(on_exception));
    detail::begin_root(where, detail::run_detached(std::move(work), std::move(kept)));
}

// The same for a function that makes the task; it is kept as long as the task.
template <class M, class F>
    requires detail::makes_task<std::decay_t<M>>
void detach_on(loop &where, M &&make, F &&on_exception) {
    detach_on(where, detail::call_kept(std::decay_t<M>(std::forward<M>(make))),
              std::forward<F>(on_exception));
}

} // namespace parley::inline PARLEY_ABI
