// A connection from birth to death: its place on a loop, what readiness and deadlines lead to, and
// how it is closed. What the states mean is in conn_entry.h.

#include <errno.h>

#include <algorithm>
#include <new>

#include "machine.h"
#include "owner.h"

namespace {

void begin(CommConnEntry *entry, parley::core::Loop *loop) {
    INIT_LIST_HEAD(&entry->list);
    INIT_LIST_HEAD(&entry->all);
    entry->loop = loop;
    loop->retain();
    loop->connection_count.fetch_add(1, std::memory_order_relaxed);
}

} // namespace

CommMachine::Entry *CommMachine::new_client_entry(Loop *loop) {
    void *memory = loop->world->allocate(sizeof(CommConnEntry));
    if (memory == nullptr)
        return nullptr;
    auto *entry = new (memory) CommConnEntry;
    begin(entry, loop);
    entry->on_events = on_events;
    entry->timer.fire = on_timer;
    return entry;
}

ServiceEntry *CommMachine::new_service_entry(Loop *loop, const struct sockaddr *addr, socklen_t size) {
    void *memory = loop->world->allocate(sizeof(ServiceEntry));
    if (memory == nullptr)
        return nullptr;
    auto *entry = new (memory) ServiceEntry;
    begin(entry, loop);
    entry->on_events = on_events;
    entry->timer.fire = on_timer;
    entry->serves = true;
    entry->first_turn.entry = entry;
    entry->spare_turns = &entry->first_turn;
    void *place = entry->address;
    if (size > sizeof entry->address) {
        place = loop->world->allocate(size);
        if (place == nullptr) {
            unpin(entry);
            return nullptr;
        }
    }
    std::copy_n(reinterpret_cast<const char *>(addr), size, static_cast<char *>(place));
    entry->peer.addr = static_cast<struct sockaddr *>(place);
    entry->peer.addrlen = size;
    entry->peer.is_peer = true;
    entry->target = &entry->peer;
    return entry;
}

int CommMachine::enter_loop(Entry *entry) {
    if (entry->loop->add_source(entry, entry->sockfd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) < 0)
        return errno;
    list_add(&entry->all, entry->serves ? &part_of(entry)->home->connections : &entry->loop->entries);
    return 0;
}

void CommMachine::leave_loop(Entry *entry) {
    list_del(&entry->all);
    INIT_LIST_HEAD(&entry->all);
    entry->loop->remove_timer(&entry->timer);
    entry->loop->remove_source(entry, entry->sockfd);
}

void CommMachine::on_events(parley::core::Source *source, uint32_t events) {
    auto *entry = static_cast<Entry *>(source);
    // Behind the end of the stream there is nothing to read: drive() would wait for ever for it to be read.
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) && !entry->eof)
        entry->readable = true;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        entry->writable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP))
        entry->hangup = true;
    if (entry->tls != nullptr)
        tls_events(entry); // a FIN behind a close_notify that was read before
    if ((events & (EPOLLHUP | EPOLLERR)) && !entry->datagram)
        entry->broken = true;
    drive(entry);
}

void CommMachine::schedule(Entry *entry) {
    if (entry->scheduled || entry->sockfd < 0)
        return;
    entry->scheduled = true;
    pin(entry);
    entry->node.run = [](CommNode *node) {
        Entry *self = PARLEY_OWNER(node, Entry, node);
        self->scheduled = false;
        drive(self);
        unpin(self);
    };
    entry->loop->schedule(&entry->node);
}

void CommMachine::drive(Entry *entry) {
    if (entry->sockfd < 0 || entry->driving)
        return;
    entry->driving = true;
    // Each step leaves its cause behind (a readiness bit, a queue, a state), so this ends.
    for (bool again = true; again && entry->sockfd >= 0;) {
        again = false;
        if (entry->state == CONN_STATE_CLOSING) {
            fail(entry, entry->cause == CC_STOP ? CS_STATE_STOPPED : CS_STATE_ERROR, entry->error,
                 entry->cause);
        } else if (entry->state == CONN_STATE_ERROR) {
            fail(entry, CS_STATE_ERROR, entry->error, entry->cause);
        } else if (entry->state == CONN_STATE_CONNECTING) {
            client_step(entry);
            again = entry->state != CONN_STATE_CONNECTING;
        } else if (entry->handshaking) {
            int done = tls_handshake(entry);
            if (done < 0)
                fail(entry, CS_STATE_ERROR, entry->error, CC_TLS);
            else if (done > 0)
                service_ready(entry);
            again = done != 0;
        } else if (entry->outbox != nullptr && entry->writable &&
                   !(entry->broken && entry->readable && entry->service == nullptr)) {
            flush(entry); // of a broken client connection the answer is read first
            if (entry->dropped && entry->outbox == nullptr)
                close_dropped(entry);
            again = true;
        } else if ((entry->readable || entry->leftover != nullptr ||
                    (entry->eof && entry->turn_count == 0)) &&
                   may_receive(entry)) {
            read(entry);
            bool budget_left = !entry->readable || !may_receive(entry);
            if (!budget_left)
                schedule(entry); // the others first
            again = entry->state == CONN_STATE_CLOSING || entry->state == CONN_STATE_ERROR ||
                    (entry->outbox != nullptr && entry->writable) ||
                    (budget_left && (entry->broken || (entry->tls != nullptr && entry->hangup)));
        } else if (entry->paused && entry->service == nullptr) {
            // Its answer may all be here, whatever has become of the peer.
        } else if (entry->broken || (entry->tls != nullptr && entry->hangup && entry->readable &&
                                     entry->turn_count > 0 && tls_said_goodbye(entry))) {
            // Nothing can be read any more and nothing written: whoever awaits a reply is told.
            fail(entry, CS_STATE_ERROR, ECONNRESET, CC_EOF);
        }
    }
    entry->driving = false;
    if (entry->hangup && entry->service != nullptr && entry->turn_count > 0 && entry->sockfd >= 0)
        tell_half_closed(entry);
}

void CommMachine::rearm(Entry *entry) {
    int64_t nearest = std::min(entry->receive_deadline, entry->read_gap);
    if (entry->outbox != nullptr)
        nearest = std::min(nearest, std::min(entry->outbox->send_deadline, entry->outbox->write_gap));
    entry->loop->set_timer(&entry->timer, nearest);
}

void CommMachine::limit_receive(Entry *entry, int ms, int other) {
    entry->receive_limit = nearer(ms, other);
    entry->receive_deadline = after(entry->loop, entry->receive_limit);
}

void CommMachine::on_timer(CommTimer *timer) {
    Entry *entry = PARLEY_OWNER(timer, Entry, timer);
    int64_t now = entry->loop->now();
    int gap = entry->target != nullptr ? entry->target->response_timeout : -1;
    int limit = entry->receive_limit, cause;
    if (entry->outbox != nullptr && std::min(entry->outbox->send_deadline, entry->outbox->write_gap) <= now) {
        cause = CC_SEND;
        limit = entry->outbox->send_deadline <= now ? entry->outbox->send_limit : gap;
    } else if (entry->receive_deadline <= now) {
        cause = entry->handshaking                      ? CC_TLS
                : entry->state == CONN_STATE_CONNECTING ? CC_CONNECT
                : entry->state == CONN_STATE_RECEIVING  ? (entry->first_wait ? CC_FIRST_BYTE : CC_RECEIVE)
                : entry->state == CONN_STATE_CONNECTED  ? CC_RECEIVE
                                                        : CC_IDLE;
    } else if (entry->read_gap <= now) {
        cause = entry->got_bytes ? CC_GAP : CC_FIRST_BYTE;
        limit = gap;
    } else {
        return rearm(entry);
    }
    entry->expired = true;
    entry->receive_limit = limit;
    entry->driving = true;
    fail(entry, CS_STATE_ERROR, ETIMEDOUT, cause);
    entry->driving = false;
}

void CommMachine::doom(Entry *entry, int error, int cause) {
    if (entry->sockfd < 0 || entry->state == CONN_STATE_CLOSING || entry->state == CONN_STATE_ERROR)
        return;
    leave_kept(entry);
    entry->state = error != 0 ? CONN_STATE_ERROR : CONN_STATE_CLOSING; // orderly, if nothing went wrong
    entry->error = error;
    entry->cause = static_cast<int8_t>(cause);
    schedule(entry);
}

void CommMachine::fail(Entry *entry, int state, int error, int cause) {
    if (entry->sockfd < 0)
        return;
    if (entry->service != nullptr)
        service_failed(entry, state, error, cause);
    else
        client_failed(entry, state, error, cause);
}

void CommMachine::close(Entry *entry) {
    Loop *loop = entry->loop;
    // With output that is left the peer must see that something is missing.
    bool orderly = entry->state != CONN_STATE_ERROR && !entry->broken && entry->outbox == nullptr;
    entry->state = CONN_STATE_CLOSING;
    list_del(&entry->list);
    INIT_LIST_HEAD(&entry->list);
    leave_loop(entry);
    if (entry->serves)
        leave_service(part_of(entry)->home);
    if (entry->tls != nullptr && orderly)
        tls_close(entry);
    // No session has a hold on it: the user's object goes first, as it always did.
    if (entry->ref.load(std::memory_order_acquire) == 1) {
        delete entry->conn;
        entry->conn = nullptr;
    }
    int fd = entry->sockfd;
    entry->sockfd = -1;
    loop->world->close(fd);
    loop->connection_count.fetch_sub(1, std::memory_order_relaxed);
    if (!entry->serves && entry->pool != nullptr)
        entry->pool->sockets.fetch_sub(1, std::memory_order_relaxed);
    drop_leftover(entry);
    drop_output(entry, loop->stopping() ? CS_STATE_STOPPED : CS_STATE_ERROR,
                loop->stopping() ? 0 : ECONNRESET);
    tls_free(entry);
    loop->bury(entry);
}

void CommMachine::discard(Entry *entry) {
    if (entry->sockfd >= 0) {
        entry->loop->world->close(entry->sockfd);
        entry->sockfd = -1;
    }
    entry->loop->connection_count.fetch_sub(1, std::memory_order_relaxed);
    if (!entry->serves && entry->pool != nullptr)
        entry->pool->sockets.fetch_sub(1, std::memory_order_relaxed);
    unpin(entry);
}

void CommMachine::unpin(Entry *entry) {
    if (entry->ref.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    Loop *loop = entry->loop;
    parley::sys::world *world = loop->world;
    delete entry->conn;
    if (!entry->serves && entry->pool != nullptr)
        release_pool(entry->pool);
    CommService *service = entry->service;
    if (entry->serves) {
        ServiceEntry *part = part_of(entry);
        if (part->peer.addr != nullptr && reinterpret_cast<char *>(part->peer.addr) != part->address)
            world->deallocate(part->peer.addr);
        part->peer.addr = nullptr;
        for (CommTurn *list : {part->turns, part->spare_turns}) {
            while (list != nullptr) {
                CommTurn *turn = list;
                list = turn->next;
                if (turn != &part->first_turn)
                    delete turn;
            }
        }
        part->~ServiceEntry();
        world->deallocate(part);
    } else {
        entry->~CommConnEntry();
        world->deallocate(entry);
    }
    if (service != nullptr)
        service_decref(service);
    loop->release();
}

const CommDeadlines &CommMachine::limits(const Entry *entry) {
    if (entry->service != nullptr)
        return entry->service->deadlines != nullptr ? *entry->service->deadlines
                                                    : entry->loop->core->deadlines;
    if (entry->target != nullptr && entry->target->deadlines != nullptr)
        return *entry->target->deadlines;
    return entry->loop->core->deadlines;
}
