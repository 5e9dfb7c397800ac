// The deadlines of one loop: a 4-ary heap of (time, order) pairs. A deadline that moves later is
// only a store into its timer; the heap still holds the old time and learns the new one when that
// comes up. So the timeouts of a busy connection cost nothing. Deadlines that are equal fire in the
// order they were queued.

#pragma once

#include <stdint.h>

#include <vector>

#include "CommLoop.h"

namespace parley::core {

constexpr int64_t never = INT64_MAX;

class TimerQueue {
public:
    // Moves the timer to `deadline`, queueing it if needed.
    void set(CommTimer *timer, int64_t deadline) {
        timer->deadline = deadline;
        if (timer->position == 0) {
            if (deadline != never) {
                heap_.push_back({deadline, order_++, timer});
                sift_up(heap_.size() - 1);
            }
        } else if (deadline < heap_[timer->position - 1].when) {
            heap_[timer->position - 1].when = deadline;
            heap_[timer->position - 1].order = order_++;
            sift_up(timer->position - 1);
        }
    }

    // Takes it out at once: its memory may go.
    void remove(CommTimer *timer) {
        timer->deadline = never;
        if (timer->position != 0)
            erase(timer->position - 1);
    }

    // When to look again; `never` when nothing is queued.
    int64_t next() const { return heap_.empty() ? never : heap_[0].when; }

    // The next timer whose deadline has passed, unlinked, or nullptr.
    CommTimer *expire(int64_t now) {
        while (!heap_.empty() && heap_[0].when <= now) {
            CommTimer *timer = heap_[0].timer;
            if (timer->deadline <= now) {
                erase(0);
                return timer;
            }
            if (timer->deadline == never) {
                erase(0);
            } else {
                heap_[0].when = timer->deadline;
                heap_[0].order = order_++;
                sift_down(0);
            }
        }
        return nullptr;
    }

    // Any timer, unlinked; nullptr when empty.
    CommTimer *pop() {
        if (heap_.empty())
            return nullptr;
        CommTimer *timer = heap_.back().timer;
        erase(heap_.size() - 1);
        return timer;
    }

    bool empty() const { return heap_.empty(); }

private:
    struct Item {
        int64_t when;
        uint64_t order;
        CommTimer *timer;

        bool before(const Item &other) const {
            return when != other.when ? when < other.when : order < other.order;
        }
    };

    void place(size_t index, const Item &item) {
        heap_[index] = item;
        item.timer->position = index + 1;
    }

    void sift_up(size_t index) {
        Item item = heap_[index];
        while (index > 0) {
            size_t parent = (index - 1) / 4;
            if (!item.before(heap_[parent]))
                break;
            place(index, heap_[parent]);
            index = parent;
        }
        place(index, item);
    }

    void sift_down(size_t index) {
        Item item = heap_[index];
        for (;;) {
            size_t child = index * 4 + 1;
            if (child >= heap_.size())
                break;
            size_t end = child + 4 < heap_.size() ? child + 4 : heap_.size();
            size_t least = child;
            for (size_t i = child + 1; i < end; i++)
                if (heap_[i].before(heap_[least]))
                    least = i;
            if (!heap_[least].before(item))
                break;
            place(index, heap_[least]);
            index = least;
        }
        place(index, item);
    }

    void erase(size_t index) {
        heap_[index].timer->position = 0;
        Item last = heap_.back();
        heap_.pop_back();
        if (index == heap_.size())
            return;
        place(index, last);
        if (index > 0 && last.before(heap_[(index - 1) / 4]))
            sift_up(index);
        else
            sift_down(index);
    }

    std::vector<Item> heap_;
    uint64_t order_ = 0;
};

} // namespace parley::core
