// What lies behind resume_on(): the part of a chain that runs on another loop than the rest of it.
//
// The task that goes away, and everything it awaits there, forms a chain on the other loop with a context of
// its own. For the chain at home that is one long operation, which ends when the task comes back or ends. So
// each loop touches only its own context, and the two talk by posting.

#pragma once

#include <coroutine>

#include <parley/config.hpp>
#include <parley/core/CommLoop.h>
#include <parley/core/Sync.h>
#include <parley/detail/context.hpp>
#include <parley/detail/record.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

class excursion final : public operation {
public:
    // Sends `task`, suspended at `self` on its chain's loop, to the loop `there`. Throws std::bad_alloc. When
    // it has returned the task may be running.
    static void leave(record &task, std::coroutine_handle<> self, parley::loop &there);

    // On the other loop: brings the task back; `self` goes on at home or, if that is given, on the loop
    // `onward`.
    static void come_back(record &task, std::coroutine_handle<> self, parley::loop *onward) noexcept;

    // On the other loop: the task has ended there. Its parent, or its owner, is told at home.
    static void finish(record &task) noexcept;

    // Of a task that is away.
    [[nodiscard]] static parley::loop &home_of(const record &task) noexcept { return of(task).home_.loop(); }

    // --- on the other loop, for who looks at it ---

    [[nodiscard]] const record &task() const noexcept { return task_; }
    [[nodiscard]] const context &chain() const noexcept { return there_; }
    [[nodiscard]] const excursion *next_guest() const noexcept { return next_guest_; }

private:
    struct context_there : context {
        context_there(parley::loop &there, excursion &e) noexcept : context(there, e.home_), of(e) {}
        excursion &of;
    };
    struct notice : CommNode {
        explicit notice(excursion &e, void (*f)(CommNode *)) noexcept : of(e) { run = f; }
        excursion &of;
    };

    excursion(record &task, parley::loop &there) noexcept;
    static excursion &of(const record &task) noexcept {
        return static_cast<context_there *>(task.context_)->of;
    }

    void cancel() noexcept override;
    const char *name() const noexcept override { return "another loop"; }
    bool is_elsewhere() const noexcept override { return true; }

    static void begin_there(CommNode *node) noexcept; // the first time that it runs there
    void end_there() noexcept;
    static void cancel_there(CommNode *node) noexcept;
    static void arrive(CommNode *node) noexcept;
    void release() noexcept;

    context &home_;
    record &task_;
    context_there there_;
    parley::loop *onward_ = nullptr;
    std::coroutine_handle<> self_;    // of the task that comes back
    excursion *next_guest_ = nullptr; // in the list of the other loop
    excursion *previous_guest_ = nullptr;
    bool over_ = false; // on the other loop: nothing is left to be cancelled
    notice end_{*this, arrive};
    notice cancel_{*this, cancel_there};
    sync::atomic<int> references_{1}; // the way home, and a cancel notice under way
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
