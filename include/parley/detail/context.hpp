// How an operation and the tasks that await it meet: written for those who add an awaitable.
//
// A chain is a task, the task that it awaits, the one that this one awaits ... down to one leaf: an operation
// on the world. A chain does one thing at a time, so all that its members share stands once, in its
// `context`: the loop it runs on, the leaf it waits for, whether it was told to stop, its deadline. Chains
// begin at the runtime (start, run, detach_on), at a scope's spawn and at each branch of a combinator.
//
// A leaf is any class with these members; nothing has to be derived or registered, and coroutines of other
// libraries can await it as well (foreign.hpp sees to that):
//
//     bool await_ready();                                   // true: done already, or the answer is at hand
//     bool await_suspend(std::coroutine_handle<>, context&); // false: done at once, without suspending
//     T    await_resume();                                  // the result, or throws
//
// and what ends a leaf's wait is an `operation`: the leaf itself or, for thin leaves, the slot of the
// connection that it points to. In full:
//
//     class nap : private SleepSession, private detail::operation {      // in a header: declarations only
//     public:
//         bool await_ready() const noexcept { return false; }
//         bool await_suspend(std::coroutine_handle<>, detail::context& task) noexcept;
//         void await_resume() const noexcept {}
//     ...
//     bool nap::await_suspend(std::coroutine_handle<>, detail::context& task) noexcept {     // in a .cpp
//         task_ = &task;
//         task.begin(*this);                    // from here on cancel() may come; before the submission
//         return communicator.sleep(this) == 0; // false: not submitted, await_resume() follows
//     }
//     void nap::handle(int state, int) {        // the completion
//         if (state == SS_STATE_COMPLETE)
//             task_->complete();                // the last statement: *this may end right after it
//         else
//             task_->complete_stopped();        // await_resume() is not called, `cancelled` is thrown
//     }
//     void nap::cancel() noexcept { communicator.unsleep(this); }
//
// Rules.
// 1. All but complete_elsewhere() is called on the chain's loop, which is where a task runs and where the
//    core calls back when the session says handle_in_place().
// 2. await_suspend: call begin() before the submission. Return false only if no completion will come or if it
//    came inside the submission and was noted by the leaf itself (a flag that says "still submitting") and
//    not passed to complete(). It must not throw after begin().
// 3. Exactly one complete...() for each await_suspend that returned true. It never runs the task itself: it
//    posts the chain to its loop, which resumes it right after the current callback. So completing inside a
//    callback, inside cancel(), under an iteration over waiters, is always safe.
// 4. cancel() comes at most once, while the operation is waited for. A leaf that can stop at once (unlink)
//    calls complete_stopped() in it; one that must close something begins to and completes later, with
//    complete_stopped(); one that cannot be stopped does nothing. In each case the await ends only when
//    nothing of the user's memory is in use any more.
// 5. A leaf that completes with a value although its task was told to stop meanwhile: the value is dropped
//    and `cancelled` thrown, unless the leaf says `static constexpr bool keeps_result = true` because
//    dropping it would lose something (a connection, a message, a lock).
// 6. A task that is told to stop begins no further operation: await_suspend is not called.
// 7. Every so often a task yields although its leaf is done: between that and await_resume() other tasks run.
//    A leaf whose await_resume() touches what they may end has `void keep() noexcept`, called before that.
// 8. await_suspend(h, context&) stands in a .cpp: a frame must not be touched after it was published, and
//    compilers that inline it have been seen to do that.

#pragma once

#include <coroutine>
#include <cstdint>
#include <limits>
#include <string>

#include <parley/config.hpp>
#include <parley/core/CommLoop.h>
#include <parley/error.hpp>

namespace parley::inline PARLEY_ABI {

class loop;

namespace detail {

class branch;
class chain_list;
class context;
class excursion;
class record;
class promise_base;
class root_list;
template <class Op>
class leaf_await;
template <class T>
class task_await;

// What a chain waits for, seen from outside: can be ended, and can be named.
class operation {
public:
    // Rule 4 above. On the chain's loop.
    virtual void cancel() noexcept = 0;

    // A literal: "sleep", "recv".
    [[nodiscard]] virtual const char *name() const noexcept = 0;
    // The stage an error of this wait would name, at this moment.
    [[nodiscard]] virtual parley::stage stage() const noexcept { return parley::stage::none; }
    // With whom or on what: "127.0.0.1:7000", "fd 7". Called rarely, may allocate.
    [[nodiscard]] virtual std::string resource() const { return {}; }
    // The descriptor that it works on; -1 for none.
    [[nodiscard]] virtual int descriptor() const noexcept { return -1; }
    // Whether it is an excursion: the chain goes on, but on another loop.
    [[nodiscard]] virtual bool is_elsewhere() const noexcept { return false; }
    // Not null: a scope or a combinator, which waits for further chains.
    [[nodiscard]] virtual const branch *as_branch() const noexcept { return nullptr; }

    operation(const operation &) = delete;
    operation &operator=(const operation &) = delete;

protected:
    operation() = default;
    ~operation() = default;
};

// An operation that waits for chains of its own. Cancelling goes through them breadth first, from a list, so
// that no depth of nesting grows the stack.
class branch : public operation {
public:
    // Lists itself; cancel_children() follows, before the outermost cancel() returns.
    void cancel() noexcept final;
    [[nodiscard]] const branch *as_branch() const noexcept final { return this; }
    // One of the chains it waits for, the eldest; nullptr for none.
    [[nodiscard]] virtual const context *eldest() const noexcept { return nullptr; }
    // All of them; nullptr for none.
    [[nodiscard]] virtual const chain_list *children() const noexcept { return nullptr; }

protected:
    branch() = default;
    ~branch() = default;

    // Calls cancel() of every child's context.
    virtual void cancel_children() noexcept = 0;
    // The loop on which all of this happens.
    [[nodiscard]] virtual parley::loop &home() const noexcept = 0;

private:
    friend class context;
    branch *next_cancelled_ = nullptr;
};

// What is inherited by everything below and rarely changed: one pointer in the context, an immutable object
// that with_deadline and the like keep in their own frame.
struct inherited {
    std::int64_t deadline = std::numeric_limits<std::int64_t>::max(); // CommLoop::now()'s clock; max: none
    const void *locals = nullptr;                                     // task-local values
};

// The state of one chain. Its memory belongs to the chain's first task, or to who began the chain.
class context : private CommNode {
public:
    // --- for operations ---

    [[nodiscard]] parley::loop &loop() const noexcept { return *home_; }
    [[nodiscard]] bool stopping() const noexcept { return stopping_; }
    // Monotonic nanoseconds as CommLoop::now(); INT64_MAX when there is none.
    [[nodiscard]] std::int64_t deadline() const noexcept {
        return inherited_ ? inherited_->deadline : std::numeric_limits<std::int64_t>::max();
    }

    // From now on `op` is what cancel reaches.
    void begin(operation &op) noexcept;
    // The operation is done; the chain goes on soon, with await_resume() or with `cancelled`. On the loop.
    void complete() noexcept;
    void complete_stopped() noexcept;
    // The same from any thread. cancel() may still come to the operation until the task has gone on, and must
    // then do nothing. The last statement: the operation may end on its loop before this returns.
    void complete_elsewhere(bool stopped = false) noexcept;

    // Nothing to wait for: the task goes on when the loop has done what it has to do now. Instead of begin()
    // and complete().
    void pass() noexcept { post(); }

    // The innermost task of the chain. Valid while the chain waits; with PARLEY_SIGHT also while it runs.
    [[nodiscard]] record &task() const noexcept;
    // False when the first task of the chain is on another loop.
    [[nodiscard]] bool has_task() const noexcept { return bool(waiter_); }

    // --- for chains ---

    // Marks the chain as stopping and cancels what it waits for. Iterative. On the loop; idempotent.
    void cancel() noexcept;

    [[nodiscard]] operation *awaiting() const noexcept { return awaiting_; }
    [[nodiscard]] std::int64_t since() const noexcept { return since_; } // of the wait; as CommLoop::now()
    [[nodiscard]] const detail::inherited *inherits() const noexcept { return inherited_; }

    // A chain on `home`; `first` is resumed once start() was called.
    context(parley::loop &home, std::coroutine_handle<> first, const detail::inherited *from) noexcept;
    // The same chain going on elsewhere (resume_on).
    context(parley::loop &home, const context &other) noexcept;
    // Posts a node of one's own to the chain's loop. Any thread; aborts the program if that loop has ended.
    void post_other(CommNode &node) noexcept;
    // Posts the chain to its loop. Any thread, once. False when the loop has ended: nothing will run.
    [[nodiscard]] bool start() noexcept;

    context(const context &) = delete;
    context &operator=(const context &) = delete;

private:
    template <class Op>
    friend class leaf_await;
    template <class T>
    friend class task_await;
    friend class excursion;
    friend class promise_base;
    friend class record;
    friend class root_list;
    friend class parley::loop;

    enum : std::uint8_t { ready_limit = 64 };

    static void run(CommNode *node) noexcept;
    static void run_root(CommNode *node) noexcept; // the first time, of a chain in a root_list

    // Which task is the innermost now, for who looks at the chain while it runs.
    void note_innermost([[maybe_unused]] std::coroutine_handle<> task) noexcept {
#if PARLEY_SIGHT
        waiter_ = task;
#endif
    }
    // The waiter goes on after everything else that the loop has to do now.
    void repost(std::coroutine_handle<> waiter) noexcept {
        waiter_ = waiter;
        post();
    }
    void post() noexcept { post_other(*this); }
    // Counts an await that found everything ready. False at each 64th: then repost() instead of going on.
    bool spend_ready() noexcept {
        if (++ready_ < ready_limit)
            return true;
        ready_ = 0;
        return false;
    }

    parley::loop *home_;
    operation *awaiting_ = nullptr;
    std::coroutine_handle<> waiter_; // who goes on, and with PARLEY_SIGHT who runs
    const detail::inherited *inherited_ = nullptr;
    std::int64_t since_ = 0;
    std::uint8_t ready_ = 0; // awaits in a row that did not suspend
    bool stopping_ = false;  // for good: every further await throws `cancelled`
    bool stopped_ = false;   // the operation ended without a result
    bool yielding_ = false;  // suspended although the leaf is ready
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
