// The coroutine around each task that a runtime begins, and the place where a thread waits for one.

#pragma once

#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/core/Sync.h>
#include <parley/outcome.hpp>
#include <parley/task.hpp>

class Executor;

namespace parley::inline PARLEY_ABI {

class runtime;

namespace detail {

// "parley: exception in <where>: <what>" on standard error, with the awaits that it left and those that its
// scope ended with after it (exception_notes.hpp).
void report_exception(const char *where, const std::exception_ptr &exception) noexcept;

template <class F>
concept makes_task = requires(F &f) { requires is_task<std::remove_cvref_t<decltype(f())>>; };

// The function is a parameter of this coroutine, and so lives in its frame.
template <makes_task F>
std::invoke_result_t<F &> call_kept(F make) {
    co_return co_await unlisted_task(make());
}

template <class T, class F>
task<void> report_to(task<T> work, F on_end) {
    outcome<T> how = co_await task_outcome<T>(std::move(work));
    try {
        on_end(std::move(how));
    } catch (...) {
        report_exception("the callback of runtime::start", std::current_exception());
    }
}

template <class F>
task<void> run_detached(task<void> work, F on_exception) {
    outcome<void> how = co_await task_outcome<void>(std::move(work));
    try {
        if (how.exception())
            on_exception(how.exception());
    } catch (...) {
        report_exception("the callback of detach_on", std::current_exception());
    }
}

// Begins `root` as the first task of a chain that the runtime of `where` owns. Any thread.
void begin_root(parley::loop &where, task<void> &&root);

// A thread that is about to wait for a task of the runtime. Throws std::system_error (EDEADLK) on a loop. On a
// thread of the runtime's Executor, which the task may need, another takes its place for as long as this lives;
// throws std::system_error if there can be none.
class wait_permit {
public:
    explicit wait_permit(const runtime &rt);
    wait_permit(const wait_permit &) = delete;
    ~wait_permit();

private:
    Executor *stand_in_ = nullptr;
};

template <class T>
class waiting_room {
public:
    void leave(outcome<T> &&how) {
        // Notified under the lock: the room may be gone as soon as the one who waits in it can go on.
        sync::lock_guard<sync::mutex> lock(mutex_);
        how_.emplace(std::move(how));
        changed_.notify_one();
    }
    outcome<T> wait() {
        sync::unique_lock<sync::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return how_.has_value(); });
        return std::move(*how_);
    }

private:
    sync::mutex mutex_;
    sync::condition_variable changed_;
    std::optional<outcome<T>> how_;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
