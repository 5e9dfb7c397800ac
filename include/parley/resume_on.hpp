// Moving a task to another loop, by name: the only way in which a task ever changes its thread.

#pragma once

#include <coroutine>
#include <source_location>

#include <parley/config.hpp>
#include <parley/detail/record.hpp>
#include <parley/loop.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {
class foreign_hop;
}

// `co_await resume_on(target)`: the rest of this task, and what it awaits, runs on `target`, until it moves
// again or ends. Its awaiter is not moved: it goes on where it was. `target` is a loop of the same runtime,
// otherwise std::invalid_argument is thrown. Cancelling reaches the task over there.
//
// A coroutine of another library's type goes on on `target` as well; it may await this on any thread.
class [[nodiscard]] resume_on {
public:
    explicit resume_on(loop &target) noexcept : target_(target) {}

    detail::foreign_hop operator co_await() && noexcept; // for those; foreign.hpp

private:
    friend class detail::promise_base;
    loop &target_;
};

// --- Implementation ---

namespace detail {

class hop_await {
public:
    hop_await(record &task, parley::loop &target) noexcept : task_(task), target_(target) {}
    hop_await(hop_await &&) = delete;

    bool await_ready() const noexcept { return &task_.chain().loop() == &target_; }
    void await_suspend(std::coroutine_handle<> self);
    void await_resume();

private:
    record &task_;
    parley::loop &target_;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
