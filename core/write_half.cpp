// Bytes out. A message is encoded once and offered to the socket at once; only what does not fit
// is queued, in order, and written when the socket has room. The read half goes on meanwhile.

#include <errno.h>
#include <limits.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <new>

#include "machine.h"

namespace {

// Leaves out the first n bytes.
void advance(struct iovec *&iov, int &count, size_t n) {
    while (count > 0 && n >= iov->iov_len) {
        n -= iov->iov_len;
        iov++;
        count--;
    }
    if (n > 0) {
        iov->iov_base = static_cast<char *>(iov->iov_base) + n;
        iov->iov_len -= n;
    }
}

} // namespace

// Bytes taken, or -1: errno, EAGAIN when the socket is full, negative for a TLS failure.
ssize_t CommMachine::write_vectors(Entry *entry, struct iovec *iov, int count) {
    if (entry->tls != nullptr)
        return tls_write(entry, iov, count);
    parley::sys::world *world = entry->loop->world;
    if (count == 1)
        return world->send(entry->sockfd, iov->iov_base, iov->iov_len, 0);
    struct msghdr message = {};
    message.msg_iov = iov;
    message.msg_iovlen = static_cast<size_t>(std::min(count, IOV_MAX));
    return world->sendmsg(entry->sockfd, &message, 0);
}

int CommMachine::send_message(Entry *entry, CommMessageOut *message, Output::Kind kind, void *owner,
                              CommSession *session) {
    Loop *loop = entry->loop;
    struct iovec *vectors = loop->borrow_vectors();
    std::unique_ptr<struct iovec[]> own; // for an encode() inside another one
    if (vectors == nullptr) {
        own.reset(new (std::nothrow) struct iovec[Loop::max_vectors]);
        if (own == nullptr) {
            errno = ENOMEM;
            return -1;
        }
        vectors = own.get();
    }
    errno = 0;
    int count = message->encode(vectors, Loop::max_vectors);
    struct iovec *iov = vectors;
    int result = -1;
    if (count < 0) {
        errno = errno != 0 ? errno : EBADMSG;
    } else if (count > Loop::max_vectors) {
        errno = EOVERFLOW;
    } else {
        result = 1;
        advance(iov, count, 0);
        while (result > 0 && count > 0 && entry->outbox == nullptr) {
            ssize_t n = write_vectors(entry, iov, count);
            if (n >= 0) {
                advance(iov, count, static_cast<size_t>(n));
            } else if (errno == EAGAIN) {
                entry->writable = false;
                break;
            } else {
                result = -1;
            }
        }
    }
    if (result > 0 && (count > 0 || entry->outbox != nullptr)) {
        parley::core::Outbox *outbox = outbox_of(entry);
        Output *output = outbox != nullptr ? loop->get_output() : nullptr;
        if (output != nullptr && count > Output::inline_vectors) {
            output->write_iov = new (std::nothrow) struct iovec[static_cast<size_t>(count)];
            if (output->write_iov == nullptr) {
                output->write_iov = output->few;
                loop->put_output(output);
                output = nullptr;
            }
        }
        if (output == nullptr) {
            errno = ENOMEM; // the caller ends the connection
            result = -1;
        } else {
            std::copy_n(iov, count, output->write_iov);
            output->count = count;
            output->position = 0;
            output->kind = kind;
            output->size = 0;
            output->bytes = owner;
            int total = session != nullptr ? session->send_timeout() : -1;
            if (kind != Output::PUSH) {
                outbox->send_limit = nearer(total, limits(entry).send);
                outbox->send_deadline = after(loop, outbox->send_limit);
            }
            append_output(entry, output);
            result = 0;
        }
    }
    if (own == nullptr)
        loop->return_vectors();
    return result;
}

parley::core::Outbox *CommMachine::outbox_of(Entry *entry) {
    if (entry->outbox == nullptr)
        entry->outbox = new (std::nothrow) parley::core::Outbox;
    return entry->outbox;
}

void CommMachine::append_output(Entry *entry, Output *output) {
    parley::core::Outbox *outbox = entry->outbox;
    output->next = nullptr;
    if (outbox->first == nullptr) {
        outbox->first = output;
        outbox->write_gap =
            after(entry->loop, entry->target != nullptr ? entry->target->response_timeout : -1);
    } else {
        outbox->last->next = output;
    }
    outbox->last = output;
    rearm(entry);
    if (entry->writable)
        schedule(entry);
}

bool CommMachine::flush(Entry *entry) {
    while (entry->outbox != nullptr && entry->writable) {
        parley::core::Outbox *outbox = entry->outbox;
        Output *output = outbox->first;
        if (output == nullptr) {
            // Made for a message that then could not be kept.
            delete outbox;
            entry->outbox = nullptr;
            break;
        }
        struct iovec *iov = output->write_iov + output->position;
        while (output->count > 0) {
            ssize_t n = write_vectors(entry, iov, output->count);
            if (n < 0) {
                entry->writable = false;
                if (errno == EAGAIN)
                    break;
                if (entry->service == nullptr && entry->readable)
                    entry->broken = true; // its answer may be here already
                else
                    doom(entry, errno, CC_NONE);
                return false;
            }
            advance(iov, output->count, static_cast<size_t>(n));
            output->position = static_cast<int>(iov - output->write_iov);
            outbox->write_gap =
                after(entry->loop, entry->target != nullptr ? entry->target->response_timeout : -1);
        }
        if (output->count > 0) {
            rearm(entry);
            return true;
        }
        outbox->first = output->next;
        if (output->kind == Output::REQUEST || output->kind == Output::REPLY)
            outbox->send_deadline = INT64_MAX;
        if (outbox->first == nullptr) {
            delete outbox;
            entry->outbox = nullptr;
            if (entry->fin_due)
                send_fin(entry);
        }
        output_done(entry, output);
        if (entry->sockfd < 0 || entry->state == CONN_STATE_CLOSING || entry->state == CONN_STATE_ERROR)
            return false;
    }
    return true;
}

void CommMachine::output_done(Entry *entry, Output *output) {
    Loop *loop = entry->loop;
    Output::Kind kind = output->kind;
    CommTurn *turn = output->turn;
    CommPush *push = output->push;
    if (kind == Output::BYTES || kind == Output::PUSH)
        entry->queued.fetch_sub(static_cast<uint32_t>(output->size), std::memory_order_relaxed);
    if (kind == Output::BYTES)
        loop->world->deallocate(output->bytes);
    if (output->write_iov != output->few) {
        delete[] output->write_iov;
        output->write_iov = output->few;
    }
    loop->put_output(output);
    if (kind == Output::REQUEST) {
        client_sent(entry);
    } else if (kind == Output::REPLY) {
        turn_written(entry, turn);
        next_reply(entry);
    } else if (kind == Output::PUSH) {
        push->entry = nullptr;
        if (entry->all_pushed && entry->outbox == nullptr)
            client_sent(entry);
        deliver_push(push, CS_STATE_SUCCESS, 0);
    }
}

void CommMachine::drop_output(Entry *entry, int state, int error) {
    parley::core::Outbox *outbox = entry->outbox;
    if (outbox == nullptr)
        return;
    entry->outbox = nullptr;
    while (Output *output = outbox->first) {
        outbox->first = output->next;
        CommPush *push = output->kind == Output::PUSH ? output->push : nullptr;
        if (output->kind == Output::BYTES)
            entry->loop->world->deallocate(output->bytes);
        if (output->write_iov != output->few) {
            delete[] output->write_iov;
            output->write_iov = output->few;
        }
        entry->loop->put_output(output);
        if (push != nullptr) {
            push->entry = nullptr;
            deliver_push(push, state, error);
        }
    }
    delete outbox;
}

int CommMachine::send_bytes(Entry *entry, const void *data, size_t size) {
    Loop *loop = entry->loop;
    size_t written = 0;
    while (entry->outbox == nullptr && written < size) {
        struct iovec iov = {static_cast<char *>(const_cast<void *>(data)) + written, size - written};
        ssize_t n = write_vectors(entry, &iov, 1);
        if (n >= 0) {
            written += static_cast<size_t>(n);
        } else if (errno == EAGAIN) {
            entry->writable = false;
            break;
        } else {
            int error = errno;
            doom(entry, error, CC_NONE);
            errno = error;
            return -1;
        }
    }
    if (written < size) {
        size_t rest = size - written;
        Output *output = outbox_of(entry) != nullptr ? loop->get_output() : nullptr;
        void *copy = output != nullptr ? loop->world->allocate(rest) : nullptr;
        if (copy == nullptr) {
            if (output != nullptr)
                loop->put_output(output);
            doom(entry, ENOMEM, CC_NONE); // part of it may be out: the stream is broken
            errno = ENOMEM;
            return -1;
        }
        memcpy(copy, static_cast<const char *>(data) + written, rest);
        output->kind = Output::BYTES;
        output->bytes = copy;
        output->write_iov[0] = {copy, rest};
        output->count = 1;
        output->position = 0;
        output->size = rest;
        entry->queued.fetch_add(static_cast<uint32_t>(rest), std::memory_order_relaxed);
        append_output(entry, output);
    }
    return static_cast<int>(std::min<size_t>(size, INT_MAX));
}

CommMachine::Output *CommMachine::new_output() {
    return new (std::nothrow) Output;
}

void CommMachine::free_output(Output *output) {
    delete output;
}
