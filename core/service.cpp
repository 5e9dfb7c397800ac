// A service's connections. CONNECTED -> RECEIVING -> SUCCESS -> IDLE (requests await replies) ->
// KEEPALIVE -> RECEIVING ..., one turn per message. Turns are answered in the order of their
// requests; whoever takes a turn out of AWAITING (reply, shutdown, destructor, the loop) decides it.

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <new>

#include "machine.h"
#include "owner.h"

// On the loop that accepted.
void CommMachine::service_born(ServiceLoop *home, int fd, const struct sockaddr *addr, socklen_t size) {
    CommBinding *binding = home->binding;
    Loop *here = home->loop;
    ServiceLoop *chosen = home;
    // The kernel's choice can starve a loop while connections are few: then the least loaded takes it.
    if (binding->loops > 1) {
        size_t own = here->connection_count.load(std::memory_order_relaxed);
        size_t least = own - own / 8;
        for (size_t i = 0; i < binding->loops; i++) {
            size_t n = binding->per_loop[i].loop->connection_count.load(std::memory_order_relaxed);
            if (n < least) {
                least = n;
                chosen = &binding->per_loop[i];
            }
        }
    }
    ServiceEntry *entry = new_service_entry(chosen->loop, addr, size);
    if (entry == nullptr) {
        here->world->close(fd);
        return;
    }
    entry->sockfd = fd;
    entry->state = CONN_STATE_CONNECTED;
    entry->home = chosen;
    entry->service = binding->service;
    service_incref(binding->service);
    if (chosen == home) {
        service_adopt(entry);
        return;
    }
    entry->node.run = [](CommNode *node) {
        service_adopt(static_cast<ServiceEntry *>(PARLEY_OWNER(node, Entry, node)));
    };
    if (!chosen->loop->post_remote(&entry->node))
        discard(entry);
}

void CommMachine::service_adopt(ServiceEntry *entry) {
    Loop *loop = entry->loop;
    ServiceLoop *home = entry->home;
    CommService *service = entry->service;
    if (loop->stopping() || home->unbound) {
        discard(entry);
        return;
    }
    entry->conn = service->new_connection(entry->sockfd);
    if (entry->conn == nullptr || enter_loop(entry) != 0) {
        discard(entry);
        return;
    }
    entry->max_turns = static_cast<uint16_t>(std::clamp(service->max_pipeline(), 1, UINT16_MAX));
    entry->at_connect = service->session_at_connect();
    entry->peer.response_timeout = service->response_timeout;
    if (entry->at_connect && start_session(entry) == nullptr) {
        doom(entry, errno, CC_NONE);
        return;
    }
    if (service->ssl_ctx != nullptr) {
        limit_receive(entry, service->ssl_accept_timeout, limits(entry).handshake);
        rearm(entry);
        if (tls_start(entry, service->ssl_ctx, false) < 0)
            doom(entry, entry->error, CC_TLS);
        return;
    }
    service_ready(entry);
}

// Connected, and TLS is done if there is any: the first request is awaited.
void CommMachine::service_ready(Entry *entry) {
    entry->read_gap = after(entry->loop, entry->target->response_timeout);
    limit_receive(entry, limits(entry).first_message);
    if (entry->outbox != nullptr)
        entry->writable = true; // pushed during the handshake
    rearm(entry);
}

CommSession *CommMachine::start_session(Entry *entry) {
    ServiceEntry *part = part_of(entry);
    CommTurn *turn = part->spare_turns;
    if (turn != nullptr) {
        part->spare_turns = turn->next;
    } else {
        turn = new (std::nothrow) CommTurn;
        if (turn == nullptr) {
            errno = ENOMEM;
            return nullptr;
        }
        turn->entry = entry;
    }
    errno = 0;
    CommSession *session = entry->service->new_session(entry->seq, entry->conn);
    if (session == nullptr) {
        turn->next = part->spare_turns;
        part->spare_turns = turn;
        if (errno == 0)
            errno = ENOMEM;
        return nullptr;
    }
    session->passive = true;
    session->target = &part->peer;
    session->turn = turn;
    session->out = nullptr;
    session->in = nullptr;
    session->cause = CC_NONE;
    session->limit_ms = -1;
    session->ssl_error = 0;
    session->verify_result = 0;
    turn->session = session;
    turn->next = nullptr;
    turn->ready = false;
    turn->state.store(TURN_RECEIVING, std::memory_order_relaxed);
    if (session->entry != entry) {
        if (session->entry != nullptr)
            unpin(session->entry);
        pin(entry);
        session->entry = entry;
    }
    session->seq = entry->seq++;
    entry->session = session;
    ticket_submitted(session, entry->loop);
    return session;
}

// A whole request, or one that was announced.
void CommMachine::service_message(Entry *entry) {
    ServiceEntry *part = part_of(entry);
    CommSession *session = entry->session;
    CommTurn *turn = session->turn;
    turn->in_place = session->handle_in_place();
    entry->greeted = true;
    entry->first_wait = false;
    entry->receive_deadline = INT64_MAX;
    entry->read_gap = INT64_MAX;
    if (!entry->announced) {
        entry->session = nullptr;
        entry->state = CONN_STATE_IDLE;
    } else if (turn->in_place) {
        limit_receive(entry, session->receive_timeout());
    } else {
        entry->announced = false;
        doom(entry, ENOTSUP, CC_NONE);
        return;
    }
    CommTurn **end = &part->turns;
    while (*end != nullptr)
        end = &(*end)->next;
    *end = turn;
    entry->turn_count++;
    if (ticket_cancelled(session)) {
        // It was still receiving when cancel() took it: no TOREPLY any more.
        if (entry->announced)
            abandon_announced(entry);
        *end = nullptr;
        entry->turn_count--;
        turn_over(entry, turn);
        entry->state = CONN_STATE_CLOSING;
        entry->error = ECANCELED;
        entry->cause = CC_CANCEL;
        ticket_finished(session);
        deliver(entry->loop, session, CS_STATE_ERROR, ECANCELED, CC_CANCEL);
        return;
    }
    turn->state.store(TURN_AWAITING, std::memory_order_release);
    deliver(entry->loop, session, CS_STATE_TOREPLY, 0, CC_NONE);
    if (part->at_connect && entry->session == nullptr && may_receive(entry) &&
        start_session(entry) == nullptr)
        doom(entry, errno, CC_NONE);
}

// The turn was moved to REPLYING by reply().
int CommMachine::reply(CommSession *session, CommTurn *turn) {
    Entry *entry = turn->entry;
    Loop *loop = entry->loop;
    if (Loop::current() != loop) {
        session->node.run = posted_reply;
        if (loop->post_remote(&session->node))
            return 0;
        turn->state.store(TURN_GONE, std::memory_order_relaxed);
        errno = ENOENT; // the loop has ended and closed everything
        return -1;
    }
    if (!entry->datagram) {
        reply_given(entry, turn);
        return 0;
    }
    if (reply_datagram(session, turn) == 0)
        return 0;
    // The caller keeps the session, as if it had not called.
    turn->state.store(TURN_AWAITING, std::memory_order_release);
    return -1;
}

// A cancel() that found it on its way here left it to us.
void CommMachine::reply_given(Entry *entry, CommTurn *turn) {
    turn->ready = true;
    if (ticket_cancelled(turn->session))
        doom(entry, ECANCELED, CC_CANCEL);
    else if (entry->turns == turn)
        next_reply(entry);
}

void CommMachine::posted_reply(CommNode *node) {
    CommSession *session = PARLEY_OWNER(node, CommSession, node);
    CommTurn *turn = session->turn;
    Entry *entry = turn->entry;
    if (entry->sockfd < 0) {
        // It went while the reply was on its way here.
        session->turn = nullptr;
        bool cancelled = !ticket_finished(session);
        bool stopped = entry->loop->stopping();
        if (cancelled)
            deliver(entry->loop, session, CS_STATE_ERROR, ECANCELED, CC_CANCEL);
        else if (stopped)
            deliver(entry->loop, session, CS_STATE_STOPPED, 0, CC_STOP);
        else
            deliver(entry->loop, session, CS_STATE_ERROR, entry->error > 0 ? entry->error : ECONNRESET,
                    CC_SEND);
        return;
    }
    if (entry->datagram) {
        if (reply_datagram(session, turn) < 0) {
            int error = errno;
            datagram_over(entry);
            turn_over(entry, turn);
            deliver(entry->loop, session, CS_STATE_ERROR, ticket_finished(session) ? error : ECANCELED,
                    CC_SEND);
        }
        return;
    }
    reply_given(entry, turn);
}

// Sends the oldest replies as long as they are given and the socket takes them.
void CommMachine::next_reply(Entry *entry) {
    if (entry->replying)
        return; // further down on the stack
    entry->replying = true;
    while (entry->turns != nullptr && entry->turns->ready && entry->sockfd >= 0 &&
           entry->state != CONN_STATE_CLOSING && entry->state != CONN_STATE_ERROR) {
        CommTurn *turn = entry->turns;
        if (turn->writing)
            break;
        write_reply(entry, turn);
    }
    entry->replying = false;
}

void CommMachine::write_reply(Entry *entry, CommTurn *turn) {
    CommSession *session = turn->session;
    turn->writing = true;
    if (ticket_cancelled(session)) {
        doom(entry, ECANCELED, CC_CANCEL);
        return;
    }
    errno = 0;
    CommMessageOut *message = message_out(session);
    if (message == nullptr) {
        doom(entry, errno != 0 ? errno : ENOMEM, CC_SEND);
        return;
    }
    int sent = send_message(entry, message, Output::REPLY, turn, session);
    if (sent > 0)
        turn_written(entry, turn);
    else if (sent < 0)
        doom(entry, errno, CC_SEND);
}

// The kernel has the whole reply.
void CommMachine::turn_written(Entry *entry, CommTurn *turn) {
    ServiceEntry *part = part_of(entry);
    CommSession *session = turn->session;
    Loop *loop = entry->loop;
    int keep = session->keep_alive_timeout();
    bool unread = entry->announced && entry->session == session;
    if (unread)
        abandon_announced(entry);
    entry->turns = turn->next;
    entry->turn_count--;
    turn_over(entry, turn);
    bool last = entry->turn_count == 0 && !entry->got_bytes; // nothing else is in flight
    if (keep == 0 || unread || entry->finished || (entry->unbound && last) || loop->stopping()) {
        entry->state = CONN_STATE_CLOSING;
        entry->error = 0;
        entry->cause = entry->unbound ? CC_STOP : CC_EOF;
    } else if (last) {
        entry->state = CONN_STATE_KEEPALIVE;
        limit_receive(entry, keep);
        enter_kept(entry);
        if (entry->receive_deadline != INT64_MAX)
            rearm(entry);
    }
    bool cancelled = !ticket_finished(session);
    if (cancelled)
        deliver(loop, session, CS_STATE_ERROR, ECANCELED, CC_CANCEL);
    else
        deliver(loop, session, CS_STATE_SUCCESS, 0, CC_NONE);
    if (part->at_connect && entry->session == nullptr && may_receive(entry) &&
        start_session(entry) == nullptr)
        doom(entry, errno, CC_NONE);
    // Closing, the end of the stream, and requests that came meanwhile wait for the top of the loop.
    if (!entry->driving &&
        (entry->state == CONN_STATE_CLOSING || entry->readable || entry->leftover != nullptr || entry->eof))
        schedule(entry);
}

// The session lets go of its turn.
void CommMachine::turn_over(Entry *entry, CommTurn *turn) {
    ServiceEntry *part = part_of(entry);
    turn->session->turn = nullptr;
    turn->session = nullptr;
    turn->ready = false;
    turn->writing = false;
    turn->told = false;
    turn->state.store(TURN_RECEIVING, std::memory_order_relaxed);
    turn->next = part->spare_turns;
    part->spare_turns = turn;
}

void CommMachine::service_failed(Entry *entry, int state, int error, int cause) {
    ServiceEntry *part = part_of(entry);
    Loop *loop = entry->loop;
    leave_kept(entry);
    if (cause == CC_NONE)
        cause = entry->outbox != nullptr && entry->turn_count > 0 ? CC_SEND : CC_RECEIVE;
    CommSession *half_received = entry->announced ? entry->session : nullptr;
    CommMessageIn *half = half_received != nullptr ? drop_announced(entry) : nullptr;
    CommSession *receiving = entry->session;
    entry->session = nullptr;
    if (receiving != nullptr) {
        if (receiving->in != nullptr)
            receiving->in->entry = nullptr;
        if (entry->tls != nullptr)
            tls_report(entry, receiving);
        turn_over(entry, receiving->turn);
    }
    int limit = expired_limit(entry);
    bool lost = state == CS_STATE_ERROR && cause != CC_CANCEL && cause != CC_STOP;
    part->open.store(false, std::memory_order_release);
    entry->error = error;
    // Replies under way fail; a turn that still awaits its reply is marked, and reply() tells. One
    // whose reply is on its way from another thread stays for posted_reply().
    CommTurn *awaiting = nullptr, *replying = nullptr, **gone = &awaiting, **failed = &replying;
    CommTurn *turn = entry->turns;
    entry->turns = nullptr;
    entry->turn_count = 0;
    CommTurn *kept = nullptr;
    while (turn != nullptr) {
        CommTurn *next = turn->next;
        turn->next = nullptr;
        int expected = TURN_AWAITING;
        if (turn->ready) {
            *failed = turn;
            failed = &turn->next;
        } else if (turn->state.compare_exchange_strong(expected, TURN_GONE, std::memory_order_acq_rel) &&
                   lost && turn->in_place) {
            *gone = turn;
            gone = &turn->next;
        } else {
            turn->next = kept;
            kept = turn;
        }
        turn = next;
    }
    if (half != nullptr) {
        if (entry->state != CONN_STATE_ERROR)
            entry->state = CONN_STATE_CLOSING; // nothing can be sent any more
        tell_interrupted(entry, half_received, half, state, error, cause, limit);
    }
    close(entry);
    if (receiving != nullptr) {
        if (!ticket_finished(receiving))
            deliver(loop, receiving, CS_STATE_ERROR, ECANCELED, CC_CANCEL);
        else
            deliver(loop, receiving, state, error, cause, limit);
    }
    while (replying != nullptr) {
        turn = replying;
        replying = turn->next;
        CommSession *session = turn->session;
        turn_over(entry, turn);
        if (!ticket_finished(session))
            deliver(loop, session, CS_STATE_ERROR, ECANCELED, CC_CANCEL);
        else if (state == CS_STATE_STOPPED)
            deliver(loop, session, state, 0, cause);
        else
            deliver(loop, session, state, error != 0 ? error : ECONNRESET, cause, limit);
    }
    while (awaiting != nullptr) {
        turn = awaiting;
        awaiting = turn->next;
        turn->next = kept;
        kept = turn;
        if (turn->session != nullptr) // one of them may have deleted another
            turn->session->handle_peer_closed();
    }
    // Freed with the entry, which their sessions pin.
    while (kept != nullptr) {
        turn = kept;
        kept = turn->next;
        turn->next = entry->turns;
        entry->turns = turn;
    }
}

// Whoever awaits a reply is told once that the peer has sent its FIN. Each of them may reply, delete sessions or
// close, so the search begins anew.
void CommMachine::tell_half_closed(Entry *entry) {
    pin(entry);
    for (CommTurn *turn = entry->turns; turn != nullptr && entry->sockfd >= 0;) {
        if (turn->told || !turn->in_place || turn->session == nullptr ||
            turn->state.load(std::memory_order_acquire) != TURN_AWAITING) {
            turn = turn->next;
            continue;
        }
        turn->told = true;
        turn->session->handle_half_closed();
        turn = entry->turns;
    }
    unpin(entry);
}

// Taken from AWAITING to DROPPED, on any thread; the caller's hold on the entry goes with it.
// `at_once`: after cancel(), whose own way to the loop ends with the session.
void CommMachine::turn_dropped(CommTurn *turn, bool at_once) {
    Entry *entry = turn->entry;
    Loop *loop = entry->loop;
    turn->node.run = at_once && !entry->datagram ? posted_cancel : posted_drop;
    if (Loop::current() == loop) {
        turn->node.run(&turn->node);
        return;
    }
    if (!loop->post_remote(&turn->node))
        unpin(entry); // closed already
}

void CommMachine::posted_drop(CommNode *node) {
    CommTurn *turn = PARLEY_OWNER(node, CommTurn, node);
    Entry *entry = turn->entry;
    if (entry->datagram)
        datagram_over(entry);
    else if (entry->outbox != nullptr)
        entry->dropped = true; // what was pushed, or replied before, goes out first
    else
        close_dropped(entry);
    unpin(entry);
}

void CommMachine::posted_cancel(CommNode *node) {
    Entry *entry = PARLEY_OWNER(node, CommTurn, node)->entry;
    close_dropped(entry);
    unpin(entry);
}

void CommMachine::close_dropped(Entry *entry) {
    if (entry->sockfd < 0 || entry->state == CONN_STATE_CLOSING || entry->state == CONN_STATE_ERROR)
        return;
    entry->state = CONN_STATE_CLOSING;
    entry->error = ECANCELED;
    entry->cause = CC_CANCEL;
    schedule(entry);
}

void CommMachine::enter_kept(Entry *entry) {
    ServiceLoop *home = part_of(entry)->home;
    list_add(&entry->list, &home->kept);
    home->kept_count.store(home->kept_count.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

void CommMachine::leave_kept(Entry *entry) {
    if (entry->service == nullptr || list_empty(&entry->list))
        return;
    ServiceLoop *home = part_of(entry)->home;
    list_del(&entry->list);
    INIT_LIST_HEAD(&entry->list);
    home->kept_count.store(home->kept_count.load(std::memory_order_relaxed) - 1, std::memory_order_release);
}
