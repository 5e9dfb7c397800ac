// The handler threads: they run completions that a Communicator with handler_threads > 0 takes off
// its loops. Intrusive nodes, one lock per batch, one wake-up per node as long as somebody sleeps.

#pragma once

#include <stddef.h>

#include <vector>

#include "CommLoop.h"
#include "Sync.h"
#include "Sys.h"

struct CommCore;

namespace parley::core {

class HandlerPool {
public:
    // Starts n threads: 0, or an errno with all of them joined again.
    int start(sys::world &world, const CommCore *owner, size_t n);
    // Waits until the queue is empty and every thread has left.
    void finish();

    // A chain of `count` nodes, in order. Any thread. False after finish(): the nodes are not taken.
    bool put(CommNode *head, CommNode *tail, size_t count);

    int grow();    // 0 or an errno
    void shrink(); // one thread leaves as soon as it is free

    // The Communicator whose handler thread this is, or nullptr.
    static const CommCore *current() noexcept;

private:
    static void entry(void *self);
    void work();

    sys::world *world_ = nullptr;
    const CommCore *owner_ = nullptr;
    parley::sync::mutex mutex_;
    parley::sync::condition_variable available_;
    CommNode *head_ = nullptr;
    CommNode **tail_ = &head_;
    size_t idle_ = 0;
    size_t leaving_ = 0;
    bool closed_ = false;   // threads leave when the queue is empty
    bool finished_ = false; // nobody is left to look at the queue
    std::vector<sys::thread_handle> threads_;
};

} // namespace parley::core
