// The deadlines of one loop: a pairing heap (Fredman, Sedgewick, Sleator and Tarjan, 1986) of
// (time, order), whose links lie in the timers, so that to set one never needs memory. A deadline
// that moves later is only a store into its timer; the heap still holds the old time and learns the
// new one when that comes up. So the timeouts of a busy connection cost nothing. Deadlines that are
// equal fire in the order they were queued.

#pragma once

#include <stdint.h>

#include <utility>

#include "CommLoop.h"

namespace parley::core {

constexpr int64_t never = INT64_MAX;

class TimerQueue {
public:
    // Moves the timer to `deadline`, queueing it if needed.
    void set(CommTimer *timer, int64_t deadline) {
        timer->deadline = deadline;
        if (!timer->queued) {
            if (deadline != never)
                insert(timer);
        } else if (deadline < timer->when) {
            timer->when = deadline;
            timer->order = order_++;
            if (timer != root_) {
                cut(timer);
                root_ = meld(root_, timer);
            }
        }
    }

    // Takes it out at once: its memory may go.
    void remove(CommTimer *timer) {
        timer->deadline = never;
        if (timer->queued)
            erase(timer);
    }

    // When to look again; `never` when nothing is queued.
    int64_t next() const { return root_ == nullptr ? never : root_->when; }

    // The next timer whose deadline has passed, unlinked, or nullptr.
    CommTimer *expire(int64_t now) {
        while (root_ != nullptr && root_->when <= now) {
            CommTimer *timer = root_;
            erase(timer);
            if (timer->deadline <= now)
                return timer;
            if (timer->deadline != never)
                insert(timer);
        }
        return nullptr;
    }

    // Any timer, unlinked; nullptr when empty.
    CommTimer *pop() {
        CommTimer *timer = root_;
        if (timer != nullptr)
            erase(timer);
        return timer;
    }

    bool empty() const { return root_ == nullptr; }

private:
    static bool before(const CommTimer *a, const CommTimer *b) {
        if (a->when != b->when)
            return a->when < b->when;
        return static_cast<int32_t>(a->order - b->order) < 0; // order wraps round
    }

    // Of two roots the later becomes the first child of the other.
    static CommTimer *meld(CommTimer *a, CommTimer *b) {
        if (a == nullptr || b == nullptr)
            return a != nullptr ? a : b;
        if (before(b, a))
            std::swap(a, b);
        b->next = a->child;
        if (b->next != nullptr)
            b->next->previous = b;
        b->previous = a;
        a->child = b;
        return a;
    }

    // One root of a row of siblings: in pairs from the left, then all from the right. Without
    // recursion, however long the row is.
    static CommTimer *meld_row(CommTimer *row) {
        CommTimer *pairs = nullptr;
        while (row != nullptr) {
            CommTimer *a = row, *b = row->next;
            row = b != nullptr ? b->next : nullptr;
            a->next = a->previous = nullptr;
            if (b != nullptr)
                b->next = b->previous = nullptr;
            a = meld(a, b);
            a->next = pairs;
            pairs = a;
        }
        CommTimer *root = nullptr;
        while (pairs != nullptr) {
            CommTimer *rest = pairs->next;
            pairs->next = nullptr;
            root = meld(root, pairs);
            pairs = rest;
        }
        return root;
    }

    // Takes a timer that is no root from its parent, with what is below it.
    static void cut(CommTimer *timer) {
        if (timer->previous->child == timer)
            timer->previous->child = timer->next;
        else
            timer->previous->next = timer->next;
        if (timer->next != nullptr)
            timer->next->previous = timer->previous;
        timer->next = timer->previous = nullptr;
    }

    void insert(CommTimer *timer) {
        timer->when = timer->deadline;
        timer->order = order_++;
        timer->queued = true;
        root_ = meld(root_, timer);
    }

    void erase(CommTimer *timer) {
        CommTimer *below = meld_row(std::exchange(timer->child, nullptr));
        timer->queued = false;
        if (timer == root_) {
            root_ = below;
        } else {
            cut(timer);
            root_ = meld(root_, below);
        }
    }

    CommTimer *root_ = nullptr;
    uint32_t order_ = 0;
};

} // namespace parley::core
