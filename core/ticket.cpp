// Cancelling by name. A ticket is a slot in a table that is never freed and a generation that moves
// on with every completion, so a ticket can be used at any time, whatever became of its session.
//
// One word per slot decides between completion and cancel:
//   idle(g)      no submission in flight
//   flying(g)    submitted; completion moves to idle(g+1), cancel() to looking(g)
//   looking(g)   cancel() has the guard: on to cancelled(g), or back to flying(g); completion waits for it
//   cancelled(g) cancel() was first; the completion that comes reports ECANCELED, moves to idle(g+1)
//   waiting(g)   a thread is blocked for a target's slot: leaves as idle(g), or cancelled(g) by cancel()
// `session` and `loop` are read by the loop that cancel() posted to; `guard` keeps the session from
// being destroyed on another thread in that moment.

#include <errno.h>

#include <mutex>

#include "machine.h"
#include "owner.h"

namespace {

using parley::core::Loop;

enum : uint64_t { IDLE, FLYING, LOOKING, CANCELLED, WAITING };

constexpr uint64_t word(uint32_t generation, uint64_t state) {
    return static_cast<uint64_t>(generation) << 8 | state;
}

struct Slot {
    parley::sync::atomic<uint64_t> state{word(1, IDLE)};
    parley::sync::atomic<bool> guard{false};
    parley::sync::atomic<Loop *> loop{nullptr};
    CommSession *session = nullptr;
    CommMachine::TicketWait *wait = nullptr; // while waiting; under guard
    bool waking = false;                     // cancel() is at `wait`; under guard
    bool posted = false;                     // node is linked; under guard
    bool released = false;                   // no session any more; under guard
    uint32_t index = 0;
    Slot *next_free = nullptr;
    CommNode node;

    void lock() {
        while (guard.exchange(true, std::memory_order_acquire))
            parley::sync::yield(); // held for a few instructions at a time
    }
    void unlock() { guard.store(false, std::memory_order_release); }
};

constexpr size_t chunk_size = 256;
constexpr size_t max_chunks = 1 << 16;

// Chunks come and never go: a slot is reached without a lock.
struct Table {
    parley::sync::mutex mutex; // guards growth and the free list
    parley::sync::atomic<Slot *> chunks[max_chunks] = {};
    uint32_t used = 1; // 0 names nothing
    Slot *free = nullptr;

    Slot *find(uint32_t index) {
        if (index == 0 || index / chunk_size >= max_chunks)
            return nullptr;
        Slot *chunk = chunks[index / chunk_size].load(std::memory_order_acquire);
        return chunk != nullptr ? &chunk[index % chunk_size] : nullptr;
    }

    Slot *take() {
        std::lock_guard<parley::sync::mutex> lock(mutex);
        if (free != nullptr) {
            Slot *slot = free;
            free = slot->next_free;
            return slot;
        }
        if (used / chunk_size >= max_chunks)
            return nullptr;
        auto &place = chunks[used / chunk_size];
        Slot *chunk = place.load(std::memory_order_relaxed);
        if (chunk == nullptr) {
            chunk = new (std::nothrow) Slot[chunk_size];
            if (chunk == nullptr)
                return nullptr;
            place.store(chunk, std::memory_order_release);
        }
        Slot *slot = &chunk[used % chunk_size];
        slot->index = used++;
        return slot;
    }

    void give(Slot *slot) {
        std::lock_guard<parley::sync::mutex> lock(mutex);
        slot->next_free = free;
        free = slot;
    }
};

Table &table() {
    static Table *instance = new Table; // tickets may outlive every static
    return *instance;
}

} // namespace

CommTicket CommMachine::ticket_of(CommSession *session) {
    Slot *slot = table().find(session->ticket_slot);
    if (slot == nullptr) {
        slot = table().take();
        if (slot == nullptr)
            return {};
        slot->session = session;
        slot->released = false;
        session->ticket_slot = slot->index;
        if (session->flying)
            slot_submitted(session,
                           session->passive ? session->entry->loop : static_cast<Loop *>(session->home));
    }
    return {slot->index, static_cast<uint32_t>(slot->state.load(std::memory_order_acquire) >> 8)};
}

void CommMachine::slot_submitted(CommSession *session, Loop *loop) {
    Slot *slot = table().find(session->ticket_slot);
    slot->loop.store(loop, std::memory_order_relaxed);
    uint64_t now = slot->state.load(std::memory_order_relaxed);
    slot->state.store(word(static_cast<uint32_t>(now >> 8), FLYING), std::memory_order_release);
}

void CommMachine::ticket_recalled(CommSession *session) {
    session->flying = false;
    if (Slot *slot = table().find(session->ticket_slot)) {
        uint64_t now = slot->state.load(std::memory_order_relaxed);
        slot->state.store(word(static_cast<uint32_t>(now >> 8), IDLE), std::memory_order_release);
    }
}

bool CommMachine::slot_finished(CommSession *session) {
    Slot *slot = table().find(session->ticket_slot);
    uint64_t now = slot->state.load(std::memory_order_acquire);
    uint64_t next = word(static_cast<uint32_t>(now >> 8) + 1, IDLE);
    while ((now & 0xff) == FLYING || (now & 0xff) == LOOKING) {
        if ((now & 0xff) == LOOKING) {
            slot->lock();
            slot->unlock();
            now = slot->state.load(std::memory_order_acquire);
        } else if (slot->state.compare_exchange_strong(now, next, std::memory_order_acq_rel)) {
            return true;
        }
    }
    bool ours = (now & 0xff) != CANCELLED;
    if (!ours) {
        // cancel() may be about to post to the loop, which must not end before.
        slot->lock();
        slot->unlock();
    }
    slot->state.store(next, std::memory_order_release);
    return ours;
}

bool CommMachine::slot_cancelled(const CommSession *session) {
    return (table().find(session->ticket_slot)->state.load(std::memory_order_acquire) & 0xff) == CANCELLED;
}

void CommMachine::slot_release(CommSession *session) {
    Slot *slot = table().find(session->ticket_slot);
    session->ticket_slot = 0;
    slot->lock();
    slot->session = nullptr;
    slot->released = true;
    uint64_t now = slot->state.load(std::memory_order_relaxed);
    slot->state.store(word(static_cast<uint32_t>(now >> 8) + 1, IDLE), std::memory_order_release);
    bool linked = slot->posted;
    slot->unlock();
    if (!linked)
        table().give(slot);
}

void CommMachine::ticket_waits(CommSession *session, TicketWait *wait) {
    Slot *slot = table().find(session->ticket_slot);
    slot->lock();
    slot->wait = wait;
    uint64_t now = slot->state.load(std::memory_order_relaxed);
    slot->state.store(word(static_cast<uint32_t>(now >> 8), WAITING), std::memory_order_release);
    slot->unlock();
}

bool CommMachine::ticket_waited(CommSession *session) {
    Slot *slot = table().find(session->ticket_slot);
    slot->lock();
    while (slot->waking) {
        slot->unlock();
        parley::sync::yield();
        slot->lock();
    }
    slot->wait = nullptr;
    uint64_t now = slot->state.load(std::memory_order_relaxed);
    bool cancelled = (now & 0xff) == CANCELLED;
    uint32_t generation = static_cast<uint32_t>(now >> 8);
    slot->state.store(word(cancelled ? generation + 1 : generation, IDLE), std::memory_order_release);
    slot->unlock();
    return cancelled;
}

// The mutex of the wait is taken without the guard, because the waiter holds them the other way round.
bool CommMachine::cancel_wait(CommTicket ticket) {
    Slot *slot = table().find(ticket.slot);
    uint64_t expected = word(ticket.generation, WAITING);
    if (slot == nullptr || slot->state.load(std::memory_order_acquire) != expected)
        return false;
    slot->lock();
    bool ours = slot->state.compare_exchange_strong(expected, word(ticket.generation, CANCELLED),
                                                    std::memory_order_acq_rel);
    TicketWait *wait = slot->wait;
    if (ours)
        slot->waking = true;
    slot->unlock();
    if (!ours)
        return false;
    wait->leave(wait);
    slot->lock();
    slot->waking = false;
    slot->unlock();
    return true;
}

int CommMachine::cancel(CommTicket ticket) {
    if (cancel_wait(ticket))
        return 0;
    Slot *slot = table().find(ticket.slot);
    uint64_t expected = word(ticket.generation, FLYING);
    if (slot == nullptr || slot->state.load(std::memory_order_acquire) != expected) {
        errno = ENOENT;
        return -1;
    }
    slot->lock();
    if (!slot->state.compare_exchange_strong(expected, word(ticket.generation, LOOKING),
                                             std::memory_order_acq_rel)) {
        slot->unlock();
        errno = ENOENT;
        return -1;
    }
    // A service session that nobody can answer any more is its owner's: nothing would follow. Until the
    // guard is free its completion waits, so that it may be looked at; and until it was looked at it is
    // not cancelled for anybody, or its loop could end it for a cancel() that then says ENOENT.
    if (CommSession *session = slot->session;
        session != nullptr && session->passive && session->entry != nullptr &&
        !part_of(session->entry)->open.load(std::memory_order_acquire)) {
        slot->state.store(word(ticket.generation, FLYING), std::memory_order_release);
        slot->unlock();
        errno = ENOENT;
        return -1;
    }
    slot->state.store(word(ticket.generation, CANCELLED), std::memory_order_release);
    if (!slot->posted) {
        slot->posted = true;
        slot->node.run = [](CommNode *node) {
            Slot *self = PARLEY_OWNER(node, Slot, node);
            self->lock();
            self->posted = false;
            bool over = self->released;
            if (self->session != nullptr && (self->state.load(std::memory_order_acquire) & 0xff) == CANCELLED)
                cancel_session(self->session);
            self->unlock();
            if (over)
                table().give(self);
        };
        // If the loop has ended, it has stopped the session, which reports the cancel.
        if (!slot->loop.load(std::memory_order_relaxed)->post_any(&slot->node))
            slot->posted = false;
    }
    slot->unlock();
    return 0;
}

// On the session's loop, which only marks: handle() comes from the top of the loop.
void CommMachine::cancel_session(CommSession *session) {
    Entry *entry = session->entry;
    if (entry == nullptr)
        return; // between two loops: whoever picks it up looks at the ticket
    if (session->passive) {
        CommTurn *turn = session->turn;
        if (turn == nullptr)
            return;
        int expected = TURN_AWAITING;
        if (turn->state.compare_exchange_strong(expected, TURN_DROPPED, std::memory_order_acq_rel)) {
            if (entry->datagram)
                datagram_over(entry);
            else
                close_dropped(entry);
            return;
        }
        if (expected == TURN_RECEIVING && entry->turn_count == 0)
            close_dropped(entry); // nothing is owed to the peer: an orderly end
        else if (expected == TURN_RECEIVING || turn->ready)
            doom(entry, ECANCELED, CC_CANCEL);
    } else if (entry->session == session && Loop::current() == entry->loop) {
        if (entry->state == CONN_STATE_CONNECTING || entry->state == CONN_STATE_RECEIVING)
            doom(entry, ECANCELED, CC_CANCEL);
    }
}
