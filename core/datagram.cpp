// UDP services: one socket on one loop. Each datagram is a connection of one turn with an entry, a
// connection object and a session of its own; replies go to where it came from. A datagram that
// cannot be taken is dropped, the socket lives on.

#include <errno.h>
#include <limits.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <new>

#include "machine.h"
#include "owner.h"

namespace {

constexpr unsigned batch = 4;
constexpr size_t slot_size = parley::core::Loop::read_size / batch;

} // namespace

void CommMachine::receive_datagrams(ServiceLoop *home) {
    Loop *loop = home->loop;
    struct mmsghdr messages[batch];
    struct iovec vectors[batch];
    struct sockaddr_storage from[batch];
    for (int round = 0; round < 16 && home->listener.fd >= 0 && !home->listener.paused; round++) {
        memset(messages, 0, sizeof messages);
        for (unsigned i = 0; i < batch; i++) {
            vectors[i] = {loop->read_buffer + i * slot_size, slot_size};
            messages[i].msg_hdr.msg_iov = &vectors[i];
            messages[i].msg_hdr.msg_iovlen = 1;
            messages[i].msg_hdr.msg_name = &from[i];
            messages[i].msg_hdr.msg_namelen = sizeof from[i];
        }
        int n = loop->world->recvmmsg(home->listener.fd, messages, batch, MSG_DONTWAIT);
        if (n < 0) {
            // Anything but EAGAIN is an ICMP error for an earlier reply: nobody's business here.
            if (errno == EAGAIN || errno == EBADF)
                return;
            continue;
        }
        for (int i = 0; i < n; i++) {
            if (messages[i].msg_hdr.msg_flags & MSG_TRUNC)
                continue;
            take_datagram(home, static_cast<char *>(vectors[i].iov_base), messages[i].msg_len,
                          reinterpret_cast<struct sockaddr *>(&from[i]), messages[i].msg_hdr.msg_namelen);
            loop->run_ready();
            if (home->listener.fd < 0)
                return; // a callback unbound the service
        }
        if (n < static_cast<int>(batch))
            return;
    }
}

void CommMachine::take_datagram(ServiceLoop *home, char *data, size_t size, const struct sockaddr *from,
                                socklen_t from_size) {
    Loop *loop = home->loop;
    CommService *service = home->binding->service;
    ServiceEntry *entry = new_service_entry(loop, from, from_size);
    if (entry == nullptr)
        return;
    entry->service = service;
    service_incref(service);
    entry->datagram = true;
    entry->home = home;
    entry->conn = service->new_connection(home->binding->datagram_fd);
    if (entry->conn == nullptr) {
        discard(entry);
        return;
    }
    entry->sockfd = home->binding->datagram_fd;
    list_add(&entry->all, &loop->datagrams);
    CommSession *session = start_session(entry);
    if (session == nullptr) {
        datagram_over(entry);
        return;
    }
    entry->session = nullptr;
    entry->state = CONN_STATE_RECEIVING;
    errno = 0;
    session->in = session->message_in();
    int result = -1, error = errno != 0 ? errno : ENOMEM;
    if (session->in != nullptr) {
        session->in->entry = entry;
        size_t offset = 0, n;
        errno = 0;
        do {
            n = size - offset;
            result = session->in->append(data + offset, &n);
            offset += std::min(n, size - offset);
        } while (result == 0 && n > 0 && offset < size);
        error = result < 0 && errno != 0 ? errno : EBADMSG;
        session->in->entry = nullptr;
    }
    CommTurn *turn = session->turn;
    if (result > 0) {
        entry->state = CONN_STATE_IDLE;
        turn->in_place = session->handle_in_place();
        turn->state.store(TURN_AWAITING, std::memory_order_release);
        deliver(loop, session, CS_STATE_TOREPLY, 0, CC_NONE);
    } else {
        turn_over(entry, turn);
        datagram_over(entry);
        int cause = CC_RECEIVE;
        if (!ticket_finished(session)) {
            error = ECANCELED;
            cause = CC_CANCEL;
        }
        deliver(loop, session, CS_STATE_ERROR, error, cause);
    }
}

int CommMachine::reply_datagram(CommSession *session, CommTurn *turn) {
    Entry *entry = turn->entry;
    auto vectors = std::unique_ptr<struct iovec[]>();
    struct iovec *iov = entry->loop->borrow_vectors();
    if (iov == nullptr) {
        vectors.reset(new (std::nothrow) struct iovec[Loop::max_vectors]);
        iov = vectors.get();
    }
    int error = 0;
    errno = 0;
    CommMessageOut *message = iov != nullptr ? message_out(session) : nullptr;
    if (message == nullptr) {
        error = errno != 0 ? errno : ENOMEM;
    } else {
        int count = message->encode(iov, Loop::max_vectors);
        if (count < 0)
            error = errno != 0 ? errno : EBADMSG;
        else if (count > Loop::max_vectors)
            error = EOVERFLOW;
        else if (count > 0 && send_datagram(entry, iov, count) < 0)
            error = errno;
    }
    if (iov != nullptr && vectors == nullptr)
        entry->loop->return_vectors();
    if (error != 0) {
        errno = error;
        return -1;
    }
    turn_over(entry, turn);
    datagram_over(entry);
    if (!ticket_finished(session))
        deliver(entry->loop, session, CS_STATE_ERROR, ECANCELED, CC_CANCEL);
    else
        deliver(entry->loop, session, CS_STATE_SUCCESS, 0, CC_NONE);
    return 0;
}

ssize_t CommMachine::send_datagram(Entry *entry, struct iovec *iov, int count) {
    struct msghdr header = {};
    header.msg_name = entry->target->addr;
    header.msg_namelen = entry->target->addrlen;
    header.msg_iov = iov;
    header.msg_iovlen = static_cast<size_t>(std::min(count, IOV_MAX));
    return entry->loop->world->sendmsg(entry->sockfd, &header, MSG_DONTWAIT);
}

// Nothing more is expected of it: the socket is the service's and stays.
void CommMachine::datagram_over(Entry *entry) {
    if (entry->sockfd < 0)
        return;
    ServiceEntry *part = part_of(entry);
    int expected = TURN_AWAITING;
    part->first_turn.state.compare_exchange_strong(expected, TURN_GONE, std::memory_order_acq_rel);
    part->open.store(false, std::memory_order_release);
    entry->sockfd = -1;
    list_del(&entry->all);
    INIT_LIST_HEAD(&entry->all);
    entry->loop->connection_count.fetch_sub(1, std::memory_order_relaxed);
    entry->loop->bury(entry);
}
