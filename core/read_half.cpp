// Bytes in: from the socket through append() to whole messages. A visit reads at most one buffer's
// worth, then others get their turn; a short read has emptied the socket and is not followed by
// another. What arrives while no message may be received stays in the kernel, or, if it was read
// already, in the entry.

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <new>

#include "machine.h"

namespace {

constexpr size_t worth_direct = 16384;  // less is copied faster than placed
constexpr int messages_per_visit = 256; // tiny ones; then others get their turn

} // namespace

void CommMachine::read(Entry *entry) {
    Loop *loop = entry->loop;
    size_t budget = Loop::read_size;

    if (entry->leftover != nullptr) {
        // Taken off the entry first: what the parser calls may close it.
        parley::core::Leftover *left = entry->leftover;
        entry->leftover = nullptr;
        size_t taken = consume(entry, left->data + left->offset, left->size, false, false);
        left->offset += taken;
        left->size -= taken;
        if (left->size > 0 && entry->sockfd >= 0) {
            entry->leftover = left;
            if (may_receive(entry))
                schedule(entry);
            return;
        }
        loop->world->deallocate(left);
    }

    while (entry->readable && !entry->eof && budget > 0 && entry->leftover == nullptr && may_receive(entry)) {
        // A message may offer its own memory, worth it only for large pieces. Where they are usual it is
        // asked before its first byte is read: the descriptor is readable, so that byte is here.
        bool early = entry->bulky && !entry->got_bytes && !entry->hangup && entry->tls == nullptr;
        if (early && !start_message(entry))
            break;
        void *place = nullptr;
        size_t offered = 0;
        size_t room = Loop::read_size;
        if (entry->got_bytes && entry->session != nullptr) {
            place = entry->session->in->reserve(&offered);
            if (place == nullptr || offered < worth_direct)
                offered = 0;
        }
        ssize_t n;
        if (entry->tls != nullptr) {
            n = offered != 0 ? tls_read(entry, static_cast<char *>(place), std::min(offered, Loop::read_size))
                             : tls_read(entry, loop->read_buffer, room);
        } else if (offered != 0) {
            // What follows the message in one go, or the end of what is there would need another look.
            struct iovec parts[2] = {{place, offered}, {loop->read_buffer, room}};
            struct msghdr header = {};
            header.msg_iov = parts;
            header.msg_iovlen = 2;
            n = loop->world->recvmsg(entry->sockfd, &header, 0);
            room += offered;
        } else {
            n = loop->world->recv(entry->sockfd, loop->read_buffer, room, 0);
        }
        if (n > 0) {
            size_t size = static_cast<size_t>(n);
            budget -= std::min(budget, size);
            if (size < room && entry->tls == nullptr && !entry->hangup && !entry->datagram)
                entry->readable = false;
            size_t direct = std::min(size, offered);
            if (direct > 0)
                receive(entry, static_cast<char *>(place), direct, true, direct < size);
            if (direct < size)
                receive(entry, loop->read_buffer, size - direct, false, false);
            if (size == room)
                entry->bulky = false; // readable still, but perhaps of nothing: not to be relied on
            continue;
        }
        if (early) {
            // Readable for another reason. The session has begun and waits on.
            receive_progress(entry);
            entry->got_bytes = entry->timed = false;
        }
        if (n == 0) {
            if (entry->datagram)
                continue; // an empty datagram is no end
            entry->eof = true;
            entry->readable = false;
        } else if (errno == EAGAIN) {
            entry->readable = false;
        } else {
            entry->readable = false;
            doom(entry, errno, CC_NONE);
        }
    }

    if (entry->tls != nullptr && entry->sockfd >= 0)
        tls_stash(entry);
    if (entry->leftover != nullptr && may_receive(entry))
        schedule(entry);
    if (entry->eof && entry->leftover == nullptr && entry->sockfd >= 0)
        end_of_stream(entry);
}

// Parses what was read; what may not be parsed yet is kept behind what is kept already. `theirs`: it
// stands in the message's own memory. `more`: other bytes were read behind it.
void CommMachine::receive(Entry *entry, char *data, size_t size, bool theirs, bool more) {
    size_t taken = entry->leftover == nullptr ? consume(entry, data, size, theirs, more) : 0;
    if (taken < size && entry->sockfd >= 0)
        keep_leftover(entry, data + taken, size - taken);
}

size_t CommMachine::consume(Entry *entry, char *data, size_t size, bool theirs, bool more) {
    size_t offset = 0;
    for (int served = 0; offset < size && served < messages_per_visit && may_receive(entry);) {
        if (!entry->got_bytes) {
            if (!start_message(entry))
                return size;
        } else if (entry->first_wait) {
            // The first bytes after renew().
            entry->first_wait = false;
            limit_receive(entry, entry->session->receive_timeout());
        }
        CommSession *session = entry->session;
        size_t n = size - offset;
        entry->renewed = false;
        errno = 0;
        int result = session->in->append(data + offset, &n);
        if (entry->state == CONN_STATE_CLOSING || entry->state == CONN_STATE_ERROR)
            return size;
        if (result < 0) {
            doom(entry, errno != 0 ? errno : EBADMSG, CC_NONE);
            return size;
        }
        n = std::min(n, size - offset);
        offset += n;
        bool announcing = entry->announcing;
        entry->announcing = false;
        if (result > 0) {
            entry->got_bytes = false;
            entry->timed = false;
            entry->paused = false;
            entry->bulky = n >= worth_direct && entry->service != nullptr && !entry->datagram;
            session->in->entry = nullptr;
            if (entry->service == nullptr) {
                client_message(entry, more || offset < size);
                return size;
            }
            if (theirs && offset < size) {
                // The next message's bytes: whoever gets this one may do what he likes with its memory.
                keep_leftover(entry, data + offset, size - offset);
                offset = size;
            }
            if (entry->announced)
                announced_message_complete(entry);
            else
                service_message(entry);
            served++;
            // The reply of a coroutine that was just made ready comes from here.
            entry->loop->run_ready();
        } else if (announcing) {
            message_announced(entry);
            entry->loop->run_ready();
            if (entry->session != session)
                return size; // given up already, and what it read may be gone with it
        } else if (n == 0 && !entry->paused) {
            doom(entry, EBADMSG, CC_NONE); // a parser that takes nothing and wants more
            return size;
        }
    }
    if (entry->got_bytes)
        receive_progress(entry);
    return offset;
}

// The first bytes of a message: who gets it, and where it goes.
bool CommMachine::start_message(Entry *entry) {
    if (entry->service != nullptr) {
        leave_kept(entry);
        if (entry->session == nullptr && start_session(entry) == nullptr) {
            doom(entry, errno, CC_NONE);
            return false;
        }
        if (entry->greeted)
            entry->receive_deadline = INT64_MAX; // the idle time; what was first_message goes on
        entry->read_gap = INT64_MAX;
        entry->state = CONN_STATE_RECEIVING;
    } else {
        if (entry->session == nullptr) {
            doom(entry, EBADMSG, CC_NONE); // nobody asked
            return false;
        }
        if (entry->first_wait)
            limit_receive(entry, entry->session->receive_timeout());
        entry->first_wait = false; // an answer that begins before all is sent: client_sent() starts the clock
    }
    CommSession *session = entry->session;
    errno = 0;
    session->in = session->message_in();
    if (session->in == nullptr) {
        doom(entry, errno != 0 ? errno : ENOMEM, CC_NONE);
        return false;
    }
    session->in->entry = entry;
    entry->got_bytes = true;
    if (entry->service == nullptr)
        session->receiving.store(true, std::memory_order_release);
    return true;
}

void CommMachine::receive_progress(Entry *entry) {
    CommSession *session = entry->session;
    if (entry->renewed) {
        entry->renewed = false;
        int first = session->first_timeout();
        entry->first_wait = first != 0;
        limit_receive(entry, entry->first_wait ? first : session->receive_timeout());
        entry->timed = true;
    } else if (entry->service != nullptr && !entry->timed) {
        int total = session->receive_timeout();
        if (entry->greeted)
            total = nearer(total, limits(entry).first_message);
        if (after(entry->loop, total) < entry->receive_deadline)
            limit_receive(entry, total);
        entry->timed = true;
    }
    entry->read_gap = entry->first_wait || entry->sending || entry->paused
                          ? INT64_MAX
                          : after(entry->loop, session->target->response_timeout);
    rearm(entry);
}

void CommMachine::keep_leftover(Entry *entry, const char *data, size_t size) {
    parley::core::Leftover *before = entry->leftover;
    size_t kept = before != nullptr ? before->size : 0;
    void *memory = entry->loop->world->allocate(sizeof(parley::core::Leftover) + kept + size);
    if (memory == nullptr) {
        doom(entry, ENOMEM, CC_NONE);
        return;
    }
    auto *left = new (memory) parley::core::Leftover;
    left->size = kept + size;
    if (before != nullptr)
        memcpy(left->data, before->data + before->offset, kept);
    memcpy(left->data + kept, data, size);
    drop_leftover(entry);
    entry->leftover = left;
}

void CommMachine::drop_leftover(Entry *entry) {
    entry->loop->world->deallocate(entry->leftover);
    entry->leftover = nullptr;
}

void CommMachine::end_of_stream(Entry *entry) {
    if (entry->service == nullptr) {
        client_eof(entry);
        return;
    }
    if (entry->state == CONN_STATE_CLOSING || entry->state == CONN_STATE_ERROR)
        return;
    int error = !entry->got_bytes ? 0 : tls_truncated(entry) ? -SSL_ERROR_SSL : ECONNRESET;
    if (entry->announced) {
        interrupt(entry, error);
    } else if (entry->turn_count == 0 && error != 0) {
        doom(entry, error, CC_EOF);
    } else if (entry->turn_count == 0) {
        leave_kept(entry);
        entry->state = CONN_STATE_CLOSING;
        entry->error = 0;
        entry->cause = CC_EOF;
    } else if (CommSession *session = entry->session) {
        // Requests still await their replies; who waits for one more learns that none will come, or
        // not all of it.
        entry->session = nullptr;
        if (entry->got_bytes) {
            entry->got_bytes = entry->timed = entry->first_wait = false;
            entry->receive_deadline = entry->read_gap = INT64_MAX;
            entry->state = CONN_STATE_IDLE;
            session->in->entry = nullptr;
        }
        if (entry->tls != nullptr && error != 0)
            tls_report(entry, session);
        turn_over(entry, session->turn);
        if (!ticket_finished(session))
            deliver(entry->loop, session, CS_STATE_ERROR, ECANCELED, CC_CANCEL);
        else
            deliver(entry->loop, session, CS_STATE_ERROR, error, CC_EOF);
    }
}
