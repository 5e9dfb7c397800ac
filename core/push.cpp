// Output outside the protocol's turns. On the connection's loop it is written at once or queued
// behind what is; from another thread it is copied and posted. Bounded by the high-water mark.

#include <errno.h>
#include <limits.h>
#include <string.h>

#include <algorithm>
#include <new>

#include "machine.h"
#include "owner.h"

namespace {

// Bytes on their way from another thread.
struct PostedBytes {
    CommNode node;
    CommConnEntry *entry;
    long long seq;
    size_t size;
    char bytes[1];
};

bool open_for_push(const CommConnEntry *entry) {
    return entry->sockfd >= 0 && entry->state != CONN_STATE_CLOSING && entry->state != CONN_STATE_ERROR;
}

} // namespace

// The service session has a turn, and its peer is there.
bool CommMachine::answerable(const CommSession *session) {
    if (session->turn == nullptr)
        return false;
    int state = session->turn->state.load(std::memory_order_acquire);
    return state != TURN_GONE && state != TURN_DROPPED;
}

int CommMachine::push(CommSession *session, const void *data, size_t size, size_t high_water) {
    // Before the first byte of the answer and after the end a client has no connection that others may
    // look at.
    if (!(session->passive ? answerable(session) : session->receiving.load(std::memory_order_acquire))) {
        errno = ENOENT;
        return -1;
    }
    Entry *entry = session->entry;
    if (entry->queued.load(std::memory_order_relaxed) >= high_water) {
        errno = EAGAIN;
        return -1;
    }
    Loop *loop = entry->loop;
    if (Loop::current() == loop) {
        if (!open_for_push(entry)) {
            errno = ENOENT;
            return -1;
        }
        if (entry->datagram && session->passive) {
            struct iovec iov = {const_cast<void *>(data), size};
            return static_cast<int>(send_datagram(entry, &iov, 1));
        }
        return send_bytes(entry, data, size);
    }
    void *memory = loop->world->allocate(sizeof(PostedBytes) + size);
    if (memory == nullptr) {
        errno = ENOMEM;
        return -1;
    }
    auto *posted = new (memory) PostedBytes;
    posted->entry = entry;
    posted->seq = session->seq;
    posted->size = size;
    memcpy(posted->bytes, data, size);
    pin(entry);
    entry->queued.fetch_add(static_cast<uint32_t>(size), std::memory_order_relaxed);
    posted->node.run = [](CommNode *node) {
        auto *self = PARLEY_OWNER(node, PostedBytes, node);
        Entry *target = self->entry;
        target->queued.fetch_sub(static_cast<uint32_t>(self->size), std::memory_order_relaxed);
        // A client connection may serve another request by now.
        bool same =
            target->service != nullptr || (target->session != nullptr && target->session->seq == self->seq);
        if (same && open_for_push(target)) {
            if (target->datagram && target->service != nullptr) {
                struct iovec iov = {self->bytes, self->size};
                send_datagram(target, &iov, 1);
            } else {
                send_bytes(target, self->bytes, self->size);
            }
        }
        parley::sys::world *world = target->loop->world;
        unpin(target);
        world->deallocate(self);
    };
    if (!loop->post_remote(&posted->node)) {
        unpin(entry);
        loop->world->deallocate(posted);
        errno = ENOENT;
        return -1;
    }
    return static_cast<int>(std::min<size_t>(size, INT_MAX));
}

int CommMachine::push(CommPush *push, size_t high_water) {
    CommSession *session = push->session;
    Entry *entry = session->entry;
    if (entry == nullptr || entry->datagram || (session->passive && !answerable(session))) {
        errno = ENOENT;
        return -1;
    }
    if (!session->passive) {
        if (Loop::current() != entry->loop) {
            errno = EPERM;
            return -1;
        }
        if (entry->session != session || entry->state != CONN_STATE_RECEIVING || entry->all_pushed) {
            errno = ENOENT;
            return -1;
        }
    }
    if (entry->queued.load(std::memory_order_relaxed) >= high_water) {
        errno = EAGAIN;
        return -1;
    }
    Loop *loop = entry->loop;
    push->entry = entry;
    if (Loop::current() == loop) {
        // At once, so that what is said next on this loop comes after it; but handle() never runs inside
        // push().
        if (offer_push(push) != 0) {
            push->node.run = [](CommNode *node) {
                auto *self = PARLEY_OWNER(node, CommPush, node);
                deliver_push(self, self->pending_state, self->pending_error);
            };
            loop->post_local(&push->node);
        }
        return 0;
    }
    pin(entry);
    push->node.run = [](CommNode *node) {
        auto *self = PARLEY_OWNER(node, CommPush, node);
        Entry *target = self->entry;
        int sent = offer_push(self);
        unpin(target);
        if (sent != 0)
            deliver_push(self, self->pending_state, self->pending_error);
    };
    if (!loop->post_remote(&push->node)) {
        unpin(entry);
        errno = ENOENT;
        return -1;
    }
    return 0;
}

// 0: it is queued, and completed from there. Else it is over: how, is in the push.
int CommMachine::offer_push(CommPush *push) {
    Entry *entry = push->entry;
    errno = 0;
    int sent = -1;
    if (!open_for_push(entry)) {
        errno = ENOENT;
    } else if (CommMessageOut *message = push->message_out()) {
        sent = send_message(entry, message, Output::PUSH, push, nullptr);
        if (sent < 0)
            doom(entry, errno, CC_SEND);
    }
    int error = errno != 0 ? errno : ENOMEM;
    if (sent == 0) {
        Output *output = entry->outbox->last; // ours
        for (int i = 0; i < output->count; i++)
            output->size += output->write_iov[i].iov_len;
        entry->queued.fetch_add(static_cast<uint32_t>(output->size), std::memory_order_relaxed);
        return 0;
    }
    bool stopped = entry->loop->stopping();
    push->entry = nullptr;
    push->pending_state = sent > 0 ? CS_STATE_SUCCESS : stopped ? CS_STATE_STOPPED : CS_STATE_ERROR;
    push->pending_error = sent > 0 || stopped ? 0 : error;
    return sent;
}
