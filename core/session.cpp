// What CommSession and the messages do themselves; all of it may run on any thread.

#include <errno.h>

#include "machine.h"

int CommSession::get_local_addr(struct sockaddr *addr, socklen_t *addrlen) const {
    if (entry == nullptr || entry->sockfd < 0) {
        errno = ENOTCONN;
        return -1;
    }
    return entry->loop->world->getsockname(entry->sockfd, addr, addrlen);
}

int CommSession::get_fd() const {
    return entry != nullptr ? entry->sockfd : -1;
}

int CommSession::get_wait() const {
    return CommMachine::wait_of(this);
}

int CommMachine::wait_of(const CommSession *session) {
    const Entry *entry = session->entry;
    if (session->passive) {
        const CommTurn *turn = session->turn;
        if (entry == nullptr || turn == nullptr || entry->sockfd < 0)
            return CC_NONE;
        if (turn->ready)
            return CC_SEND;
        if (entry->session != session || entry->paused)
            return CC_NONE;
        return entry->handshaking ? CC_TLS : entry->got_bytes ? CC_RECEIVE : CC_IDLE;
    }
    if (!session->flying)
        return CC_NONE;
    if (entry == nullptr || entry->session != session || entry->state == CONN_STATE_CONNECTING)
        return entry != nullptr && entry->session == session && entry->tls != nullptr ? CC_TLS : CC_CONNECT;
    if (entry->sending)
        return CC_SEND;
    return entry->first_wait || !entry->got_bytes ? CC_FIRST_BYTE : CC_RECEIVE;
}

CommConnection *CommSession::get_connection() const {
    return entry != nullptr ? entry->conn : nullptr;
}

CommTicket CommSession::ticket() {
    return CommMachine::ticket_of(this);
}

CommSession::~CommSession() {
    CommMachine::session_destroyed(this);
}

void CommMachine::session_destroyed(CommSession *session) {
    const bool cancelled = ticket_cancelled(session);
    ticket_release(session);
    Entry *entry = session->entry;
    if (entry == nullptr)
        return;
    if (CommTurn *turn = session->passive ? session->turn : nullptr) {
        if (turn->in_place && Loop::current() == entry->loop && entry->announced && entry->session == session)
            abandon_announced(entry);
        int expected = TURN_AWAITING;
        if (turn->state.compare_exchange_strong(expected, TURN_DROPPED, std::memory_order_acq_rel)) {
            turn_dropped(turn, cancelled); // with our hold on the entry
            return;
        }
        if (Loop::current() == entry->loop)
            turn->session = nullptr;
    }
    unpin(entry);
}

void CommMessageIn::pause() {
    CommMachine::pause(this);
}

void CommMessageIn::announce() {
    CommMachine::announce(this);
}

void CommMessageIn::unbind() noexcept {
    CommMachine::message_destroyed(this);
}

int CommMessageIn::feedback(const void *buf, size_t size) {
    return CommMachine::feedback(this, buf, size);
}

void CommMessageIn::renew() {
    if (entry != nullptr)
        entry->renewed = true;
}

int CommMachine::feedback(CommMessageIn *message, const void *data, size_t size) {
    Entry *entry = message->entry;
    if (entry == nullptr || entry->sockfd < 0) {
        errno = ENOENT;
        return -1;
    }
    if (entry->datagram && entry->service != nullptr) {
        struct iovec iov = {const_cast<void *>(data), size};
        return static_cast<int>(send_datagram(entry, &iov, 1));
    }
    if (entry->queued.load(std::memory_order_relaxed) >= entry->loop->core->push_high_water) {
        errno = EAGAIN;
        return -1;
    }
    return send_bytes(entry, data, size);
}
