// A loop, seen from a coroutine: the thread a task lives on. It is a CommLoop of the core together with the
// runtime it belongs to; everything a task awaits wakes it on its loop, so what one loop's tasks share needs
// no lock.

#pragma once

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <source_location>

#include <parley/config.hpp>
#include <parley/core/CommLoop.h>
#include <parley/core/Sync.h>
#include <parley/detail/chain_list.hpp>

class Communicator;
class CommScheduler;

namespace parley::inline PARLEY_ABI {

class runtime;

// Made by a runtime, one for each loop of its Communicator, and alive as long as the runtime. Any thread may
// hold a reference; members say where they may be called.
class loop {
public:
    // The loop whose task is running on this thread; nullptr outside of tasks.
    [[nodiscard]] static loop *current() noexcept;

    // 0 ... runtime().loops() - 1. Any thread.
    [[nodiscard]] std::size_t index() const noexcept { return core_.index(); }
    [[nodiscard]] parley::runtime &runtime() const noexcept { return runtime_; }
    // The core's loop: post(), now(), counters().
    [[nodiscard]] CommLoop &core() const noexcept { return core_; }
    [[nodiscard]] Communicator &communicator() const noexcept { return *core_.communicator(); }

    // Whether this is the calling thread's loop, in a task or in a callback of the core.
    [[nodiscard]] bool is_current() const noexcept { return CommLoop::current() == &core_; }

    // Tasks that the runtime began here and that have not ended: by start, run, detach_on, serve. Any thread.
    [[nodiscard]] std::size_t roots() const noexcept {
        return root_count_.load(parley::sync::memory_order_relaxed);
    }

    // How late any of its timers has ever been: a measure of how long its sockets have had to wait. Any thread.
    [[nodiscard]] std::chrono::nanoseconds lag() const noexcept {
        return std::chrono::nanoseconds(core_.counters().max_lateness_ns);
    }

    loop(const loop &) = delete;
    loop &operator=(const loop &) = delete;

private:
    friend class parley::runtime;
    friend class detail::branch;
    friend class detail::context;
    friend class detail::record;
    friend class detail::root_list;
    friend struct detail::loop_access;

    struct stop_node : CommNode {
        loop *of;
    };

    loop(parley::runtime &owner, CommLoop &core) noexcept;
    void post_stop() noexcept;

    // Resumes a task and whatever it hands over to, until the last of them waits for something. The one place
    // where coroutines are resumed.
    void resume(std::coroutine_handle<> task) noexcept;
    void publish(const std::source_location &site) noexcept;

    parley::runtime &runtime_;
    CommLoop &core_;
    std::coroutine_handle<> next_;        // who to go on with, in the form without symmetric transfer
    detail::record *finished_ = nullptr;  // the first task of a chain that has just ended
    detail::branch *cancelled_ = nullptr; // branches whose children are to be cancelled
    bool cancelling_ = false;
    detail::root_list roots_;                 // on the loop only
    detail::chain_source *sources_ = nullptr; // further chains that nothing here waits for
    detail::excursion *guests_ = nullptr;     // tasks that are here by resume_on
    // The source location of the task that was resumed last, as long as it runs; see loop_access::resumed_at.
    parley::sync::atomic<const void *> resumed_at_{nullptr};
    parley::sync::atomic<std::size_t> root_count_{0};
    stop_node stop_;
};

// The loop of the task that calls this. Throws parley::exception (no_runtime) outside of tasks.
[[nodiscard]] loop &this_loop();

} // namespace parley::inline PARLEY_ABI
