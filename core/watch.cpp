// Readiness of descriptors that are not the core's. epoll takes a descriptor once, so its reader
// and its writer share a slot; a waiter is told once and has to ask again.

#include <errno.h>

#include <new>

#include "machine.h"
#include "owner.h"

struct CommWatchSlot : parley::core::Source {
    struct list_head link; // the loop's
    int fd = -1;
    CommWatch *reader = nullptr;
    CommWatch *writer = nullptr;
    parley::core::Loop *loop = nullptr;
};

namespace {

using parley::core::Loop;

uint32_t wanted(const CommWatchSlot *slot) {
    return (slot->reader != nullptr ? EPOLLIN | EPOLLRDHUP : 0u) | (slot->writer != nullptr ? EPOLLOUT : 0u) |
           EPOLLONESHOT;
}

// The descriptor is let go with its last waiter: the user may close it then.
void settle(CommWatchSlot *slot) {
    if (slot->reader != nullptr || slot->writer != nullptr) {
        slot->loop->modify_source(slot, slot->fd, wanted(slot));
        return;
    }
    slot->loop->remove_source(slot, slot->fd);
    list_del(&slot->link);
    delete slot;
}

} // namespace

int CommMachine::watch(Loop *loop, CommWatch *watch, int fd, bool writing) {
    CommWatchSlot *slot = nullptr;
    struct list_head *position;
    list_for_each(position, &loop->watches) {
        auto *each = PARLEY_OWNER(position, CommWatchSlot, link);
        if (each->fd == fd)
            slot = each;
    }
    if (slot != nullptr && (writing ? slot->writer : slot->reader) != nullptr) {
        errno = EBUSY;
        return -1;
    }
    if (slot == nullptr) {
        slot = new (std::nothrow) CommWatchSlot;
        if (slot == nullptr) {
            errno = ENOMEM;
            return -1;
        }
        slot->fd = fd;
        slot->loop = loop;
        slot->on_events = [](parley::core::Source *source, uint32_t events) {
            auto *self = static_cast<CommWatchSlot *>(source);
            bool both = (events & (EPOLLERR | EPOLLHUP)) != 0;
            CommWatch *reader = both || (events & (EPOLLIN | EPOLLRDHUP)) ? self->reader : nullptr;
            CommWatch *writer = both || (events & EPOLLOUT) ? self->writer : nullptr;
            Loop *its_loop = self->loop;
            for (CommWatch *ready : {reader, writer})
                if (ready != nullptr)
                    ready->slot = nullptr;
            if (reader != nullptr)
                self->reader = nullptr;
            if (writer != nullptr)
                self->writer = nullptr;
            settle(self);
            for (CommWatch *ready : {reader, writer}) {
                if (ready == nullptr)
                    continue;
                // By post, since the one may cancel and destroy the other.
                ready->loop = its_loop;
                ready->node.run = [](CommNode *node) {
                    PARLEY_OWNER(node, CommWatch, node)->handle(CS_STATE_SUCCESS, 0);
                };
                its_loop->post_local(&ready->node);
            }
        };
        (writing ? slot->writer : slot->reader) = watch;
        if (loop->add_source(slot, fd, wanted(slot)) < 0) {
            delete slot;
            return -1;
        }
        list_add(&slot->link, &loop->watches);
    } else {
        (writing ? slot->writer : slot->reader) = watch;
        settle(slot);
    }
    watch->slot = slot;
    watch->loop = loop;
    return 0;
}

int CommMachine::unwatch(CommWatch *watch) {
    CommWatchSlot *slot = watch->slot;
    if (slot == nullptr || slot->loop != Loop::current()) {
        errno = ENOENT;
        return -1;
    }
    watch->slot = nullptr;
    (slot->writer == watch ? slot->writer : slot->reader) = nullptr;
    settle(slot);
    watch->node.run = [](CommNode *node) {
        PARLEY_OWNER(node, CommWatch, node)->handle(CS_STATE_ERROR, ECANCELED);
    };
    static_cast<Loop *>(watch->loop)->post_local(&watch->node);
    return 0;
}

void CommMachine::stop_watches(Loop *loop) {
    while (!list_empty(&loop->watches)) {
        auto *slot = PARLEY_OWNER(loop->watches.next, CommWatchSlot, link);
        CommWatch *waiting = slot->reader != nullptr ? slot->reader : slot->writer;
        (slot->reader == waiting ? slot->reader : slot->writer) = nullptr;
        waiting->slot = nullptr;
        settle(slot);
        waiting->handle(CS_STATE_STOPPED, 0);
    }
}
