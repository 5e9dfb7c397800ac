// Steps of work that follow one another (a series) or run side by side (ParallelTask), each told of its end
// by a call to subtask_done(). The glue classes CommRequest, SleepRequest, ExecRequest and IORequest are such
// steps: a session of the core that is also a SubTask.

#pragma once

#include <stddef.h>

#include "Sync.h"

class ParallelTask;

// One step. dispatch() begins it; when it has ended, on whatever thread, it calls subtask_done() once, as the
// last thing it does. done() then says what comes next.
//
//     class Step : public SubTask {
//     public:
//         void dispatch() override { start_something([this] { this->subtask_done(); }); }
//
//     private:
//         SubTask *done() override {
//             SubTask *next = make_next_step();
//             delete this;
//             return next;
//         }
//     };
//
// A step may end inside its own dispatch(), and a million of them may do so in a row: the stack does not
// grow. Up to 32 calls of subtask_done() nest on a thread, so that a done() which starts further steps finds
// them as far as they can get when their dispatch() returns; the next one is queued, without allocation, and
// carried on by the innermost of the 32 as soon as control is back in it. Only a done() that runs as deep as
// that, starts a step and blocks until the step's done() ran on this same thread, would wait for ever.
//
// Neither dispatch() nor done() may throw: an exception that reaches subtask_done() ends the program.
class SubTask {
public:
    // Begins the step. It may have ended, and `this` may be gone, before this returns.
    virtual void dispatch() = 0;

private:
    // The step has ended: the thread of subtask_done(). Returns the task that follows it (`this` to run
    // again), which takes the place of this one in its ParallelTask and is dispatched at once; or nullptr,
    // the end of the series. `this` may be destroyed in here: it is not touched again. Whoever overrides
    // done() owns the task.
    virtual SubTask *done() = 0;

protected:
    // To be called once for each dispatch(). done() has run when this returns, unless 32 calls are under way
    // on this thread. Whichever it is, `this` may be gone.
    void subtask_done() noexcept;

public:
    SubTask() = default;
    virtual ~SubTask() = default;

    // A word for the user, nullptr at first: the series that the task belongs to, say.
    void *get_pointer() const { return pointer_; }
    void set_pointer(void *value) { pointer_ = value; }

private:
    static void carry_on(SubTask *task);

    ParallelTask *parent_ = nullptr;   // from its dispatch until the last of its series ended
    SubTask *next_finished_ = nullptr; // while it waits for the innermost subtask_done()
    void *pointer_ = nullptr;

    friend class ParallelTask;
};

// Runs any number of series side by side and ends when all of them have. Each begins with one of the
// subtasks.
class ParallelTask : public SubTask {
public:
    // Borrows the array and the tasks in it. The array must stay until the last of them is dispatched, the
    // tasks until they are done.
    ParallelTask(SubTask **tasks, size_t n) : subtasks(tasks), subtasks_nr(n) {}

    // Dispatches the subtasks in order, on this thread. Without any, the task ends at once. What runs when
    // all series have ended is done(), on the thread of the last.
    virtual void dispatch();

protected:
    SubTask **subtasks;
    size_t subtasks_nr;

private:
    parley::sync::atomic<size_t> unfinished_{0};

    friend class SubTask;
};
