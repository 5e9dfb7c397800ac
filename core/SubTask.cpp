#include "SubTask.h"

#include <assert.h>

namespace {

constexpr unsigned max_nesting = 32;

// The calls of subtask_done() under way on this thread. The queue is filled only from within the innermost of
// max_nesting calls, which empties it before it returns.
struct Nesting {
    unsigned depth = 0;
    SubTask *first = nullptr;
    SubTask *last = nullptr;
};

constinit thread_local Nesting nesting;

} // namespace

void SubTask::subtask_done() noexcept {
    Nesting &here = nesting;

    if (here.depth == max_nesting) {
        next_finished_ = nullptr;
        (here.first ? here.last->next_finished_ : here.first) = this;
        here.last = this;
        return;
    }

    ++here.depth;
    carry_on(this);

    assert(here.depth == max_nesting || !here.first);
    while (SubTask *task = here.first) {
        here.first = task->next_finished_;
        carry_on(task);
    }

    --here.depth;
}

// Ends `task`, and what ends because of it, until another task was dispatched or there is nothing more to
// end.
void SubTask::carry_on(SubTask *task) {
    for (;;) {
        ParallelTask *parent = task->parent_;
        task->parent_ = nullptr; // the task may be used again, alone

        if (SubTask *next = task->done()) {
            next->parent_ = parent;
            next->dispatch();
            return;
        }

        // The last series to end must see what the others wrote.
        if (!parent || parent->unfinished_.fetch_sub(1, parley::sync::memory_order_acq_rel) != 1)
            return;

        task = parent;
    }
}

void ParallelTask::dispatch() {
    if (subtasks_nr == 0) {
        subtask_done();
        return;
    }

    SubTask **task = subtasks;
    SubTask **end = task + subtasks_nr;

    // Whatever hands a subtask to another thread publishes this store too.
    unfinished_.store(subtasks_nr, parley::sync::memory_order_relaxed);

    // `this` is alive as long as a subtask is not dispatched; the last may be its end, so the loop looks at
    // nothing of its own.
    do {
        (*task)->parent_ = this;
        (*task)->dispatch();
    } while (++task != end);
}
