// A loop as a thing: the thread that owns a set of connections and runs their callbacks. Most
// programs never name one; those that want to run their own work beside the callbacks, or to know
// which loop they are on, use this header. Loops belong to a Communicator (Communicator.h).

#pragma once

#include <stddef.h>
#include <stdint.h>

class Communicator;
class CommWatch;

// A piece of work that is linked, never copied and never allocated by the core. Whoever posts it
// owns it and keeps it alive until `run` is entered; from then on the core does not touch it.
struct CommNode {
    CommNode *next = nullptr;
    void (*run)(CommNode *self) = nullptr;
};

// A deadline in a loop's queue. The loop's own; public only because SleepSession holds one.
struct CommTimer {
    int64_t deadline = INT64_MAX; // monotonic ns; INT64_MAX is never
    void (*fire)(CommTimer *self) = nullptr;
    int64_t when = 0; // by which it is queued, and its place among equals
    uint32_t order = 0;
    bool queued = false;
    // In the queue: the first below it, its right neighbour, and its left one or else its parent.
    CommTimer *child = nullptr;
    CommTimer *next = nullptr;
    CommTimer *previous = nullptr;
};

// What a loop has counted since it started. Each value is exact on its own; a snapshot taken while
// the loop runs may mix two moments.
struct CommLoopCounters {
    uint64_t turns;          // times round the loop
    uint64_t accepts;        // connections accepted
    uint64_t accept_errors;  // failed accepts, EMFILE and the like
    uint64_t connects;       // connections opened as a client
    uint64_t reuse_hits;     // requests sent on a kept-alive connection
    uint64_t stale_hits;     // of these, the ones whose connection the peer had just closed
    uint64_t migrations;     // idle connections handed to another loop
    uint64_t posts;          // nodes run that came from another thread
    uint64_t timers;         // timers that fired
    int64_t max_lateness_ns; // the latest any timer has fired
};

class CommLoop {
public:
    // The loop whose thread this is, or nullptr.
    static CommLoop *current() noexcept;

    // Runs node->run(node) on this loop, soon, after what was posted before it from the same
    // thread. Any thread. On the loop itself no lock and no atomic is involved, and the node runs
    // after the current callback has returned. 0; or -1/ESHUTDOWN when the loop has ended: then
    // the node is not linked and will not run.
    int post(CommNode *node) noexcept;

    // Monotonic nanoseconds, read once per turn. On the loop only.
    int64_t now() const noexcept { return now_; }

    // When the turn under way began, in monotonic nanoseconds; 0 while the loop waits for events and after
    // its end. So a value that stays is a callback, or many in one turn, that keep the loop from its
    // sockets and timers. Any thread.
    int64_t busy_since() const noexcept;

    // 0 ... Communicator::loops() - 1.
    size_t index() const noexcept { return index_; }

    Communicator *communicator() const noexcept { return communicator_; }

    // Open connections, client and service together. Any thread.
    size_t connections() const noexcept;

    // Any thread.
    CommLoopCounters counters() const noexcept;

    CommLoop(const CommLoop &) = delete;
    CommLoop &operator=(const CommLoop &) = delete;

protected:
    CommLoop() = default;
    ~CommLoop() = default;

    int64_t now_ = 0;
    size_t index_ = 0;
    Communicator *communicator_ = nullptr;
};
