// Who runs a completion, and where: on the loop, on a handler thread, or wherever a
// CommEventHandler wants it.

#include <errno.h>

#include "machine.h"
#include "owner.h"

namespace {

// The core whose callback a CommEventHandler runs on this thread.
thread_local const CommCore *called_back = nullptr;

} // namespace

bool CommMachine::in_callback_of(const CommCore *core) {
    return called_back == core;
}

void CommMachine::complete(Loop *loop, CommNode *node, bool stay) {
    CommCore *core = loop->core;
    if (stay || in_place(core)) {
        node->run(node);
        return;
    }
    if (core->event_handler == nullptr && Loop::current() == loop)
        loop->hand_over(node);
    else
        to_handlers(core, node, node, 1);
}

void CommMachine::to_handlers(CommCore *core, CommNode *head, CommNode *tail, size_t count) {
    tail->next = nullptr;
    bool gone = core->handlers_gone.load(std::memory_order_acquire);
    if (!gone && core->event_handler == nullptr && core->handlers.put(head, tail, count))
        return;
    bool here = gone || core->event_handler == nullptr; // deinit() is through: nobody else will
    while (head != nullptr) {
        CommNode *node = head;
        head = node->next;
        if (here) {
            node->run(node);
            continue;
        }
        // The node's own link is free now: it carries the core to wherever the routine runs.
        node->next = reinterpret_cast<CommNode *>(core);
        core->event_handler->schedule(
            [](void *context) {
                auto *self = static_cast<CommNode *>(context);
                const CommCore *before = called_back;
                called_back = reinterpret_cast<CommCore *>(self->next);
                self->run(self);
                called_back = before;
            },
            node);
    }
}

void CommMachine::deliver(Loop *loop, CommSession *session, int state, int error, int cause, int limit) {
    set_cause(session, cause, limit);
    if (in_place(loop->core)) {
        session->handle(state, error);
        return;
    }
    session->pending_state = static_cast<int8_t>(state);
    session->pending_error = error;
    session->node.run = [](CommNode *node) {
        CommSession *self = PARLEY_OWNER(node, CommSession, node);
        self->handle(self->pending_state, self->pending_error);
    };
    complete(loop, &session->node, session->handle_in_place());
}

void CommMachine::deliver_push(CommPush *push, int state, int error) {
    push->handle(state, error);
}

CommMachine::Loop *CommMachine::least_loaded(CommCore *core) {
    Loop *best = core->loops[0];
    size_t least = best->connection_count.load(std::memory_order_relaxed);
    for (size_t i = 1; i < core->nloops; i++) {
        size_t n = core->loops[i]->connection_count.load(std::memory_order_relaxed);
        if (n < least) {
            least = n;
            best = core->loops[i];
        }
    }
    return best;
}

CommMachine::Loop *CommMachine::loop_for_work(CommCore *core) {
    Loop *here = Loop::current();
    if (here != nullptr && here->core == core)
        return here;
    return core->loops[core->next_loop.fetch_add(1, std::memory_order_relaxed) % core->nloops];
}

// A session that is sent again goes where its connection was just pooled: protocols that log in and
// then ask rely on getting it back. Otherwise where one is idle; else to the least loaded.
CommMachine::Loop *CommMachine::loop_for_request(CommCore *core, CommSession *session, CommTarget *target) {
    CommPool *pool = target->pool.load(std::memory_order_acquire);
    if (pool != nullptr && pool->core == core) {
        Loop *idle = nullptr;
        for (size_t i = 0; i < pool->loops; i++) {
            if (pool->per_loop[i].count.load(std::memory_order_relaxed) == 0)
                continue;
            if (pool->per_loop[i].loop == session->home)
                return pool->per_loop[i].loop;
            idle = pool->per_loop[i].loop;
        }
        if (idle != nullptr)
            return idle;
    }
    return least_loaded(core);
}

bool CommMachine::loop_is_empty(Loop *loop) {
    struct list_head *position;
    list_for_each(position, &loop->services) {
        if (!list_empty(&PARLEY_OWNER(position, ServiceLoop, link)->connections))
            return false;
    }
    return list_empty(&loop->entries) && list_empty(&loop->sleepers) && list_empty(&loop->listeners) &&
           list_empty(&loop->watches) && list_empty(&loop->datagrams);
}

void CommMachine::stop_entry(Entry *entry) {
    Loop *loop = entry->loop;
    entry->driving = true;
    fail(entry, CS_STATE_STOPPED, 0, CC_STOP);
    loop->run_ready();
}

void CommMachine::stop_loop(Loop *loop) {
    loop->begin_stop();
    struct list_head *position, *next;
    list_for_each_safe(position, next, &loop->listeners) {
        Listener *listener = PARLEY_OWNER(position, Listener, link);
        close_listener(PARLEY_OWNER(listener, ServiceLoop, listener), 0, true);
    }
    // A failing connection's callbacks may end others and unbind services: never trust a saved `next`.
    while (!list_empty(&loop->entries))
        stop_entry(PARLEY_OWNER(loop->entries.next, Entry, all));
    for (bool again = true; again;) {
        again = false;
        list_for_each(position, &loop->services) {
            ServiceLoop *home = PARLEY_OWNER(position, ServiceLoop, link);
            if (!list_empty(&home->connections)) {
                stop_entry(PARLEY_OWNER(home->connections.next, Entry, all));
                again = true;
                break;
            }
        }
    }
    while (!list_empty(&loop->datagrams))
        datagram_over(PARLEY_OWNER(loop->datagrams.next, Entry, all));
    stop_watches(loop);
    stop_sleepers(loop);
}
