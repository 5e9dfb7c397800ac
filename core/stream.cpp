// Stream mode: messages that are used while they come, and output in pieces. The reading itself is in
// read_half.cpp, CommPush in push.cpp; here is what only stream mode has. All on the connection's loop.

#include <errno.h>

#include "machine.h"

// A service's message said announce(): its session is replied to from now on, and read on.
void CommMachine::message_announced(Entry *entry) {
    entry->announced = true;
    entry->timed = true; // what is left of first_message is not for the rest
    service_message(entry);
}

// Its last byte is here. The reply may be given already, but not written.
void CommMachine::announced_message_complete(Entry *entry) {
    ServiceEntry *part = part_of(entry);
    entry->announced = false;
    entry->session = nullptr;
    entry->receive_deadline = INT64_MAX;
    entry->read_gap = INT64_MAX;
    entry->state = CONN_STATE_IDLE;
    if (part->at_connect && may_receive(entry) && start_session(entry) == nullptr)
        doom(entry, errno, CC_NONE);
}

// Its session is over before it is complete.
void CommMachine::abandon_announced(Entry *entry) {
    CommSession *session = entry->session;
    tell_interrupted(entry, session, drop_announced(entry), CS_STATE_ERROR, ECANCELED, CC_CANCEL, -1);
}

CommMessageIn *CommMachine::drop_announced(Entry *entry) {
    CommMessageIn *message = entry->session->in;
    message->entry = nullptr;
    entry->session = nullptr;
    entry->announced = entry->paused = false;
    entry->got_bytes = entry->timed = entry->first_wait = false;
    entry->receive_deadline = INT64_MAX;
    entry->read_gap = INT64_MAX;
    if (entry->state == CONN_STATE_RECEIVING)
        entry->state = CONN_STATE_IDLE;
    return message;
}

// The peer's FIN came in the middle of an announced message.
void CommMachine::interrupt(Entry *entry, int error) {
    CommSession *session = entry->session;
    tell_interrupted(entry, session, drop_announced(entry), CS_STATE_ERROR, error, CC_EOF, -1);
}

void CommMachine::tell_interrupted(Entry *entry, CommSession *session, CommMessageIn *message, int state,
                                   int error, int cause, int limit) {
    session->cause = static_cast<int8_t>(cause);
    session->limit_ms = limit;
    if (entry->tls != nullptr)
        tls_report(entry, session);
    message->interrupted(state, error);
}

// With the session that it belongs to, or before it.
void CommMachine::message_destroyed(CommMessageIn *message) noexcept {
    Entry *entry = message->entry;
    if (entry->announced && entry->session != nullptr && entry->session->in == message)
        drop_announced(entry);
}

CommMachine::Entry *CommMachine::open_entry(CommSession *session) {
    Entry *entry = session->entry;
    if (entry == nullptr || entry->loop != Loop::current()) {
        errno = entry == nullptr ? ENOENT : EPERM;
        return nullptr;
    }
    if (entry->sockfd < 0 || entry->state == CONN_STATE_CLOSING || entry->state == CONN_STATE_ERROR ||
        (session->passive ? !answerable(session) : entry->session != session)) {
        errno = ENOENT;
        return nullptr;
    }
    return entry;
}

int CommMachine::resume(CommSession *session) {
    Entry *entry = open_entry(session);
    if (entry == nullptr)
        return -1;
    if (!entry->paused || entry->session != session) {
        errno = ENOENT;
        return -1;
    }
    entry->paused = false;
    entry->read_gap = entry->first_wait || entry->sending
                          ? INT64_MAX
                          : after(entry->loop, session->target->response_timeout);
    rearm(entry);
    schedule(entry);
    return 0;
}

int CommMachine::end_output(CommSession *session) {
    if (session->passive) {
        errno = EINVAL;
        return -1;
    }
    Entry *entry = open_entry(session);
    if (entry == nullptr)
        return -1;
    if (!entry->sending || entry->all_pushed) {
        errno = ENOENT;
        return -1;
    }
    entry->all_pushed = true;
    client_sent(entry); // if all is out
    return 0;
}

int CommMachine::half_close(CommSession *session) {
    Entry *entry = open_entry(session);
    if (entry == nullptr)
        return -1;
    entry->finished = entry->fin_due = true;
    if (entry->outbox == nullptr)
        send_fin(entry);
    return 0;
}

void CommMachine::send_fin(Entry *entry) {
    entry->fin_due = false;
    if (entry->tls != nullptr)
        tls_close(entry);
    entry->loop->world->shutdown(entry->sockfd, SHUT_WR);
}
