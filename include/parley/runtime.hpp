// The ground that tasks run on: loops, threads that compute, file operations. Most programs need no more than
// run() (run.hpp); one that has threads or callbacks of its own makes a runtime and starts tasks on it.

#pragma once

#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/core/CommScheduler.h>
#include <parley/core/Executor.h>
#include <parley/detail/root.hpp>
#include <parley/detail/saturate.hpp>
#include <parley/loop.hpp>
#include <parley/outcome.hpp>
#include <parley/stall_report.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {
class all_runtimes;
}

// What a runtime is made of. 0 threads means as many as the machine has processors.
class runtime_options {
public:
    runtime_options() noexcept {}

    std::size_t loops = 0;
    // Threads for callbacks of sessions that do not handle_in_place(). Tasks and parley's own operations
    // never use them: 0 here does mean none, and then every callback runs on its loop.
    std::size_t handler_threads = 0;
    std::size_t executor_threads = 0;
    // File operations in flight at once; more fail with EAGAIN.
    int file_operations = 65536;
    // What servers and clients apply where they set nothing themselves: for a whole first request, for a TLS
    // handshake, for sending one message. Any duration; negative is without limit. They hold for callback
    // services of this runtime as well; a runtime that borrows its scheduler leaves that scheduler's as they
    // are.
    detail::any_duration first_message = std::chrono::seconds(30);
    detail::any_duration handshake = std::chrono::seconds(10);
    detail::any_duration send = std::chrono::seconds(60);

    // A loop whose turn lasts for longer than this is reported (stall_report.hpp), by a thread that looks at
    // all loops four times in that time; zero or less is never, and then there is no such thread.
    detail::any_duration stall_threshold = std::chrono::nanoseconds(0);
    // Is told of it, on that thread; a line on standard error when empty. What it throws goes there too.
    std::function<void(const stall_report &)> on_stall;

    // While the runtime lives, this signal writes every task of the process to standard error, as
    // dump_on_signal (dump_tasks.hpp) does; 0 is none.
    int dump_signal = 0;
};

class runtime {
public:
    // Starts everything, and owns it. Throws std::system_error.
    runtime() : runtime(runtime_options()) {}
    explicit runtime(const runtime_options &options);

    // Runs tasks on the loops of a scheduler that is initialised and that callbacks use too. The scheduler
    // stays the caller's and must not be deinitialised before the runtime is destroyed. Executor and file
    // operations are the runtime's own.
    explicit runtime(CommScheduler &scheduler) : runtime(scheduler, runtime_options()) {}
    runtime(CommScheduler &scheduler, const runtime_options &options);

    // stop(), then waits for every task to end, then ends the threads. Not on one of its loops: that
    // terminates the program with a message, as it could never return.
    ~runtime();

    // Runs the task on one of the loops: on the calling loop if that is this runtime's, else on the one with
    // the fewest tasks; or on `where`. Then calls on_end(outcome<T>) there, once. Any thread, callbacks of
    // the core included. After stop() the task does not begin and the outcome is a stopped one. on_end is
    // kept until then; what it throws is reported on standard error and goes no further.
    template <class T, class F>
    void start(task<T> work, F &&on_end) {
        start(choose_loop(), std::move(work), std::forward<F>(on_end));
    }
    template <class T, class F>
    void start(parley::loop &where, task<T> work, F &&on_end);

    // The same for a function that makes the task, such as a lambda that captures; it is kept as long as the
    // task.
    template <class M, class F>
        requires detail::makes_task<std::decay_t<M>>
    void start(M &&make, F &&on_end) {
        start(choose_loop(), std::forward<M>(make), std::forward<F>(on_end));
    }
    template <class M, class F>
        requires detail::makes_task<std::decay_t<M>>
    void start(parley::loop &where, M &&make, F &&on_end) {
        start(where, detail::call_kept(std::decay_t<M>(std::forward<M>(make))), std::forward<F>(on_end));
    }

    // Runs the task and blocks the calling thread until it has ended. The task's value; throws what the task
    // threw, and parley::exception with errc::stopping if it was stopped. On a loop, whose tasks it would
    // stop for ever, it throws std::system_error (EDEADLK) and the task does not begin. Inside compute() it
    // is safe: while it blocks, the Executor has one more thread.
    template <class T>
    T sync_wait(task<T> work) {
        return sync_wait(choose_loop(), std::move(work));
    }
    template <class T>
    T sync_wait(parley::loop &where, task<T> work);

    // Tells every task to stop, those that are started later too: their awaits throw `cancelled`. Returns at
    // once. Any thread, tasks included; idempotent.
    void stop() noexcept;
    [[nodiscard]] bool stopping() const noexcept;

    // The loops; they live as long as the runtime. Any thread.
    [[nodiscard]] std::size_t loops() const noexcept;
    [[nodiscard]] parley::loop &loop(std::size_t index) const noexcept;

    // What the runtime stands on, for callback programs and operations. Any thread.
    [[nodiscard]] CommScheduler &scheduler() const noexcept;
    [[nodiscard]] Communicator &communicator() const noexcept { return scheduler().communicator(); }
    [[nodiscard]] Executor &executor() const noexcept;
    [[nodiscard]] ExecQueue &compute_queue() const noexcept; // what compute() uses
    [[nodiscard]] IOService &io_service() const noexcept;

    runtime(const runtime &) = delete;
    runtime &operator=(const runtime &) = delete;

private:
    friend class detail::root_list;
    friend class detail::all_runtimes;
    class parts;

    [[nodiscard]] parley::loop &choose_loop() const noexcept;
    void root_ended() noexcept;
    friend void detail::begin_root(parley::loop &where, task<void> &&root);
    static void begin_root(parley::loop &where, task<void> &&root);
    void begin(const runtime_options &options);

    std::unique_ptr<parts> parts_;
    runtime *next_ = nullptr; // in the list of all that live
};

// --- Implementation ---

template <class T, class F>
void runtime::start(parley::loop &where, task<T> work, F &&on_end) {
    static_assert(std::is_invocable_v<std::decay_t<F> &, outcome<T>>,
                  "parley: on_end is called with the outcome<T> of the task<T>");
    detail::begin_root(where, detail::report_to(std::move(work), std::decay_t<F>(std::forward<F>(on_end))));
}

template <class T>
T runtime::sync_wait(parley::loop &where, task<T> work) {
    const detail::wait_permit permit(*this);
    detail::waiting_room<T> room;
    start(where, std::move(work), [&room](outcome<T> how) { room.leave(std::move(how)); });
    return room.wait().get();
}

} // namespace parley::inline PARLEY_ABI
