// Waiting, under a mutex, for something that others change under it: as std::condition_variable, for tasks of
// any loops.
//
//     auto guard = co_await door.lock();                      // parley::mutex door; parley::condition changed;
//     auto filled = [&] { return !queue.empty(); };
//     co_await changed.wait(guard, filled);
//
//     queue.push(x), changed.notify_one();                    // the other side, which holds door
//
// However a wait ends, the mutex is locked again: when it was notified, when its time is over, and also when
// the task is told to stop, before `cancelled` is thrown. So what unwinds under the guard may rely on it.

#pragma once

#include <chrono>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/detail/callable.hpp>
#include <parley/detail/wait_queue.hpp>
#include <parley/mutex.hpp>
#include <parley/result.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {
class condition_wait;
class condition_wait_for;
} // namespace detail

// All who wait at the same time do so with guards of the same mutex, whose tasks then lock it in the order in
// which they began to wait. A task does not wake without a reason, but what it waits for may have been
// undone by others before it has the lock: so wait with a predicate, or in a loop. Waiting without one
// allocates nothing, and nor does notifying. It must live until every wait has returned; destroying it while
// tasks wait ends the program in a debug build.
class condition final : private detail::wait_queue {
public:
    constexpr condition() noexcept = default;
    ~condition() { close(); }

    // Any thread, with or without the lock. Resumes nobody inside.
    void notify_one() noexcept;
    void notify_all() noexcept;

    // `co_await c.wait(guard)`: unlocks, waits for a notification, locks. An empty guard is
    // std::invalid_argument. A task that is notified although it was told to stop returns, with the lock;
    // its next await throws `cancelled`. The guard must stay where it is, and is not to be touched meanwhile.
    [[nodiscard]] detail::condition_wait wait(mutex::guard &held);
    // With a limit: result<>, with errc::timed_out, and the lock in any case. Locking again has no limit.
    template <class Rep, class Period>
    [[nodiscard]] detail::condition_wait_for wait_for(mutex::guard &held,
                                                      std::chrono::duration<Rep, Period> limit);
    template <class Clock, class Duration>
    [[nodiscard]] detail::condition_wait_for wait_until(mutex::guard &held,
                                                        std::chrono::time_point<Clock, Duration> when);

    // Until pred(), which is called with the lock, at once and after each notification.
    template <class Predicate>
    [[nodiscard]] task<> wait(mutex::guard &held, Predicate &&pred) {
        detail::check_callable<Predicate>();
        return wait_while_not(held, std::decay_t<Predicate>(std::forward<Predicate>(pred)));
    }
    // errc::timed_out only if pred() is false at the end of the time.
    template <class Rep, class Period, class Predicate>
    [[nodiscard]] task<result<>> wait_for(mutex::guard &held, std::chrono::duration<Rep, Period> limit,
                                          Predicate &&pred) {
        detail::check_callable<Predicate>();
        return wait_while_not(held, end_of(detail::nanoseconds_of(limit)),
                              std::decay_t<Predicate>(std::forward<Predicate>(pred)));
    }
    template <class Clock, class Duration, class Predicate>
    [[nodiscard]] task<result<>> wait_until(mutex::guard &held, std::chrono::time_point<Clock, Duration> when,
                                            Predicate &&pred) {
        detail::check_callable<Predicate>();
        return wait_while_not(held, end_of(detail::nanoseconds_until(when)),
                              std::decay_t<Predicate>(std::forward<Predicate>(pred)));
    }

private:
    friend class detail::condition_wait;
    friend class detail::condition_wait_for;

    template <class Predicate>
    task<> wait_while_not(mutex::guard &held, Predicate pred);
    template <class Predicate>
    task<result<>> wait_while_not(mutex::guard &held, std::int64_t end, Predicate pred);

    static mutex &mutex_of(mutex::guard &held);
    // As monotonic_now(), and the time that is left.
    static std::int64_t end_of(std::int64_t limit) noexcept;
    static std::int64_t left_until(std::int64_t end) noexcept;

    void notify(bool all) noexcept;
    const char *what() const noexcept override { return "condition"; }
    bool take_or_mark(detail::wait_entry &) noexcept override { return false; }
    void advance(detail::grants &) noexcept override {}
};

// --- Implementation ---

namespace detail {

// The second half of a wait: the way back to the lock, which nothing cuts short.
class relock final : public wait_entry {
public:
    explicit relock(mutex &m) noexcept : wait_entry(m), mutex_(m) {}

    void unlock() noexcept { mutex_.unlock(); }
    // Then the task goes on. Any thread; the last statement.
    void start(context &task, bool stopped) noexcept;

private:
    void granted() noexcept override { task_->complete_elsewhere(stopped_); }

    mutex &mutex_;
    bool stopped_ = false;
};

class [[nodiscard]] condition_wait final : public wait_entry {
public:
    static constexpr bool keeps_result = true;

    condition_wait(wait_queue &c, mutex &m) noexcept : wait_entry(c), back_(m) {}
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    void await_resume() const noexcept {}

private:
    void granted() noexcept override { back_.start(*task_, false); }
    void cancel() noexcept override;

    relock back_;
};

class [[nodiscard]] condition_wait_for final : public timed_entry {
public:
    static constexpr bool keeps_result = true;

    condition_wait_for(wait_queue &c, mutex &m, std::int64_t limit) noexcept
        : timed_entry(c, limit), back_(m) {}
    bool await_ready() const noexcept { return false; } // without time left it lets others have the lock, too
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    result<> await_resume() noexcept {
        if (had())
            return {};
        return unexpected(failure());
    }

private:
    void over(bool stopped) noexcept override { back_.start(*task_, stopped); }

    relock back_;
};

} // namespace detail

inline detail::condition_wait condition::wait(mutex::guard &held) {
    return {*this, mutex_of(held)};
}
template <class Rep, class Period>
detail::condition_wait_for condition::wait_for(mutex::guard &held, std::chrono::duration<Rep, Period> limit) {
    return {*this, mutex_of(held), detail::nanoseconds_of(limit)};
}
template <class Clock, class Duration>
detail::condition_wait_for condition::wait_until(mutex::guard &held,
                                                 std::chrono::time_point<Clock, Duration> when) {
    return {*this, mutex_of(held), detail::nanoseconds_until(when)};
}

template <class Predicate>
task<> condition::wait_while_not(mutex::guard &held, Predicate pred) {
    while (!pred())
        co_await wait(held);
}

template <class Predicate>
task<result<>> condition::wait_while_not(mutex::guard &held, std::int64_t end, Predicate pred) {
    while (!pred()) {
        detail::condition_wait_for once(*this, mutex_of(held), left_until(end));
        result<> in_time = co_await once;
        if (in_time)
            continue;
        if (pred())
            break;
        co_return in_time;
    }
    co_return result<>();
}

} // namespace parley::inline PARLEY_ABI
