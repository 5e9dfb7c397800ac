// The world's threads and its time. Each thread is a real one, so that thread-local variables, stacks and
// sanitizers are as they are; but only the one that has the baton runs, and it hands the baton on where the
// choices say so. Everything in here, and all of the world's state, belongs to whoever has the baton.

#pragma once

#include <parley/core/Sync.h>
#include <parley/core/Sys.h>

#include <sched.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "choices.h"

namespace parley::sim::detail {

struct host_state;

constexpr std::int64_t never = INT64_MAX;

struct thread {
    enum class state { ready, running, blocked, ended };

    std::size_t index = 0;
    std::string name;
    host_state *home = nullptr;
    state now = state::ready;
    const char *doing = "starts";  // the last call, or what it is blocked in
    const void *object = nullptr;  // of that
    std::int64_t deadline = never; // while blocked
    bool woken = false;            // by wake(), not by its deadline
    std::vector<thread *> joining; // threads that wait for its end

    void (*run)(void *) = nullptr;
    void *argument = nullptr;
    class scheduler *owner = nullptr;
    sys::thread_handle real = nullptr; // the kernel's; none for the first
    std::atomic<int> kernel_id{0};
    std::atomic<std::uint32_t> baton{0};
};

class scheduler final : public sync::scheduler {
public:
    // What the world has to say to the scheduler, and to hear from it.
    struct listener {
        virtual ~listener() = default;
        [[noreturn]] virtual void fail(const std::string &what) = 0;
        virtual void trace(const char *call, const std::string &text) = 0;
        virtual bool tracing_points() const noexcept = 0;
        virtual double stall_chance() const noexcept = 0;
        virtual std::int64_t longest_stall() const noexcept = 0;
    };

    scheduler(listener &world, choices &from) noexcept;
    ~scheduler() override;

    // The calling thread becomes the first one.
    void begin(host_state *home);
    // Fails if another thread is left.
    void end();

    std::int64_t now() const noexcept { return now_; }
    void jump(std::int64_t by);
    std::uint64_t steps() const noexcept { return steps_.load(std::memory_order_relaxed); }
    void preempt(double chance) noexcept { preemption_ = chance; }

    // The thread that runs; fails if the caller is not one of the world's.
    thread &self();
    static thread *calling() noexcept;

    // A place where another thread may go on. `doing` is static text.
    void point(const char *doing, const void *object);
    // Until wake() (true) or the deadline (false). With `object` for those who read what hangs.
    bool block(const char *doing, const void *object, std::int64_t deadline = never);
    void wake(thread &one);
    // Runs `what` at that time, between the threads' steps.
    void at(std::int64_t when, std::function<void()> what);

    int start(void (*run)(void *), void *argument, host_state *home, sys::thread_handle *handle);
    void join(sys::thread_handle handle);

    // What each thread does, for a report.
    std::string describe() const;
    const std::vector<std::unique_ptr<thread>> &threads() const noexcept { return threads_; }

    // --- sync::scheduler ---

    void lock(sync::mutex &m) override;
    bool try_lock(sync::mutex &m) override;
    void unlock(sync::mutex &m) override;
    bool wait(sync::condition_variable &c, sync::mutex &m, std::int64_t deadline) override;
    void notify(sync::condition_variable &c, bool all) noexcept override;
    void yield() noexcept override;
    void point(const void *object, const char *operation) noexcept override { point(operation, object); }

private:
    struct event {
        std::int64_t when;
        std::uint64_t number; // of equal times the first planned comes first
        std::function<void()> what;
        bool operator<(const event &other) const noexcept {
            return when != other.when ? when > other.when : number > other.number;
        }
    };
    struct lock_state {
        thread *owner = nullptr;
        std::deque<thread *> waiting;
    };

    static void main_of(void *it);
    static void last_word(void *it);
    void step();
    void hand_over(thread &from, thread &to);
    thread *next_ready();
    bool let_time_pass();
    void take_lock(sync::mutex &m, thread &me);
    void free_lock(sync::mutex &m);
    void watch();

    listener &world_;
    choices &choices_;
    std::int64_t now_ = 0;
    std::atomic<std::uint64_t> steps_{0};
    double preemption_ = 0.1;
    std::uint64_t most_steps_ = 1'000'000;
    std::vector<std::unique_ptr<thread>> threads_;
    std::size_t alive_ = 0;
    thread *running_ = nullptr;
    std::deque<thread *> ready_; // in the order in which they became so
    std::priority_queue<event> events_;
    std::uint64_t events_made_ = 0;
    std::unordered_map<const void *, lock_state> locks_;                // only those that are held
    std::unordered_map<const void *, std::deque<thread *>> conditions_; // only those waited for

    cpu_set_t processors_; // that the caller of begin() may use
    // A real thread that sees whether the run gets on.
    std::unique_ptr<std::thread> watcher_;
    std::atomic<std::uint32_t> over_{0};
    std::atomic<int> runner_{0}; // kernel's id of the thread that has the baton
    std::atomic<const thread *> runner_thread_{nullptr};
};

} // namespace parley::sim::detail
