// TLS on a connection. OpenSSL reads and writes through a BIO of ours over the seam: one large
// recv() feeds many records, an empty socket is not asked again. The SSL object is touched by its
// loop alone; OpenSSL's error queue is cleared before every call and its code kept for the session.

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <string.h>

#include <algorithm>
#include <new>

#include "machine.h"

namespace parley::core {

struct TlsState {
    SSL *ssl = nullptr;
    CommConnEntry *entry = nullptr;
    bool socket_ready = false; // there may be something to recv()
    bool truncated = false;    // FIN without close_notify
    bool closed = false;       // close_notify came
    bool failed = false;       // no close_notify may be sent any more
    bool starved = false;      // OpenSSL has had everything and wants more
    bool read_wants_write = false;
    bool write_wants_read = false;
    const char *in = nullptr; // ciphertext not yet given to OpenSSL ...
    size_t in_size = 0;
    char *stash = nullptr;    // ... in here, or in the loop's buffer
    size_t pending_write = 0; // a write that must be repeated with as many bytes
    int failure = 0;          // what a failed call meant; OpenSSL says it only once
    unsigned long error = 0;
    long verify = X509_V_OK;
};

} // namespace parley::core

namespace {

using parley::core::Loop;
using parley::core::TlsState;

int bio_read(BIO *bio, char *out, int size) {
    auto *tls = static_cast<TlsState *>(BIO_get_data(bio));
    CommConnEntry *entry = tls->entry;
    BIO_clear_retry_flags(bio);
    if (tls->in_size == 0) {
        if (tls->stash != nullptr) {
            entry->loop->world->deallocate(tls->stash);
            tls->stash = nullptr;
        }
        if (!tls->socket_ready) {
            BIO_set_retry_read(bio);
            return -1;
        }
        ssize_t n = entry->loop->world->recv(entry->sockfd, entry->loop->cipher_buffer, Loop::cipher_size, 0);
        if (n <= 0) {
            if (n < 0 && errno == EAGAIN) {
                tls->socket_ready = false;
                BIO_set_retry_read(bio);
            } else if (n == 0) {
                tls->truncated = !tls->closed;
                if (!entry->handshaking) {
                    // OpenSSL would not write any more if it knew; tls_read() tells of the end.
                    BIO_set_retry_read(bio);
                    return -1;
                }
            }
            return static_cast<int>(n);
        }
        if (static_cast<size_t>(n) < Loop::cipher_size && !entry->hangup)
            tls->socket_ready = false;
        tls->in = entry->loop->cipher_buffer;
        tls->in_size = static_cast<size_t>(n);
    }
    size_t n = std::min(tls->in_size, static_cast<size_t>(size));
    memcpy(out, tls->in, n);
    tls->in += n;
    tls->in_size -= n;
    return static_cast<int>(n);
}

int bio_write(BIO *bio, const char *data, int size) {
    auto *tls = static_cast<TlsState *>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    ssize_t n = tls->entry->loop->world->send(tls->entry->sockfd, data, static_cast<size_t>(size), 0);
    if (n < 0 && errno == EAGAIN)
        BIO_set_retry_write(bio);
    return static_cast<int>(n);
}

long bio_ctrl(BIO *bio, int command, long, void *) {
    auto *tls = static_cast<TlsState *>(BIO_get_data(bio));
    switch (command) {
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP:
        return 1;
    case BIO_CTRL_EOF:
        return tls->truncated ? 1 : 0;
    default:
        return 0;
    }
}

const BIO_METHOD *bio_method() {
    // Never freed: connections may be closed by the destructors of statics.
    static BIO_METHOD *method = [] {
        BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "parley");
        if (m != nullptr) {
            BIO_meth_set_read(m, bio_read);
            BIO_meth_set_write(m, bio_write);
            BIO_meth_set_ctrl(m, bio_ctrl);
        }
        return m;
    }();
    return method;
}

bool same(const char *a, const char *b) {
    return a == b || (a != nullptr && b != nullptr && strcmp(a, b) == 0);
}

// What a failed call means: errno, or minus the class of OpenSSL's error.
int explain(TlsState *tls, int reason, int saved_errno) {
    tls->failed = true;
    tls->error = ERR_peek_error();
    tls->verify = SSL_get_verify_result(tls->ssl);
    tls->failure = reason != SSL_ERROR_SYSCALL ? -reason : saved_errno > 0 ? saved_errno : ECONNRESET;
    return tls->failure;
}

} // namespace

int CommMachine::tls_start(Entry *entry, SSL_CTX *ctx, bool client) {
    Loop *loop = entry->loop;
    if (loop->cipher_buffer == nullptr) {
        loop->cipher_buffer = static_cast<char *>(loop->world->allocate(Loop::cipher_size));
        loop->merge_buffer = static_cast<char *>(loop->world->allocate(Loop::merge_size));
    }
    auto *tls = new (std::nothrow) TlsState;
    const BIO_METHOD *method = bio_method();
    if (loop->merge_buffer == nullptr || loop->cipher_buffer == nullptr || tls == nullptr ||
        method == nullptr) {
        delete tls;
        entry->error = ENOMEM;
        return -1;
    }
    entry->tls = tls;
    entry->handshaking = true;
    tls->entry = entry;
    tls->socket_ready = true;
    ERR_clear_error();
    tls->ssl = SSL_new(ctx);
    BIO *bio = tls->ssl != nullptr ? BIO_new(method) : nullptr;
    if (bio == nullptr) {
        tls->error = ERR_peek_error();
        tls->failed = true;
        entry->error = ENOMEM;
        return -1;
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_mode(tls->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                               SSL_MODE_RELEASE_BUFFERS);
    if (client)
        SSL_set_connect_state(tls->ssl);
    else
        SSL_set_accept_state(tls->ssl);
    errno = 0;
    if ((client ? entry->target->init_ssl(tls->ssl) : entry->service->init_ssl(tls->ssl)) < 0) {
        entry->error = errno != 0 ? errno : EINVAL;
        tls->error = ERR_peek_error();
        tls->failed = true;
        return -1;
    }
    if (client) {
        // Resumption skips the certificate: only for the name that the session was made for.
        SSL_SESSION *session = entry->pool->per_loop[loop->index()].tls_session;
        if (session != nullptr &&
            same(SSL_SESSION_get0_hostname(session), SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name)))
            SSL_set_session(tls->ssl, session);
    }
    return 0;
}

int CommMachine::tls_handshake(Entry *entry) {
    TlsState *tls = entry->tls;
    ERR_clear_error();
    errno = 0;
    int result = SSL_do_handshake(tls->ssl);
    int saved = errno;
    tls_stash(entry);
    if (result == 1) {
        entry->handshaking = false;
        entry->readable = true; // records may have come with the last flight
        return 1;
    }
    int reason = SSL_get_error(tls->ssl, result);
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE)
        return 0;
    entry->error = explain(tls, reason, saved);
    return -1;
}

ssize_t CommMachine::tls_read(Entry *entry, char *buffer, size_t size) {
    TlsState *tls = entry->tls;
    size_t got = 0;
    tls->starved = false;
    while (got < size && !tls->failed) {
        size_t n = 0;
        ERR_clear_error();
        errno = 0;
        int result = SSL_read_ex(tls->ssl, buffer + got, size - got, &n);
        int saved = errno;
        if (result == 1) {
            got += n;
            continue;
        }
        int reason = SSL_get_error(tls->ssl, result);
        if (reason == SSL_ERROR_WANT_READ && tls->truncated) {
            tls->error = ERR_PACK(ERR_LIB_SSL, 0, SSL_R_UNEXPECTED_EOF_WHILE_READING);
            break;
        }
        if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE) {
            tls->read_wants_write = reason == SSL_ERROR_WANT_WRITE;
            tls->starved = true;
            entry->readable = false;
            if (got > 0)
                return static_cast<ssize_t>(got);
            errno = EAGAIN;
            return -1;
        }
        if (reason != SSL_ERROR_ZERO_RETURN) {
            explain(tls, reason, saved);
            break;
        }
        tls->closed = true;
        if (got > 0)
            break; // the next call says it again
        if (entry->hangup && entry->service != nullptr)
            entry->broken = true; // close_notify and FIN: nobody is there
        return 0;
    }
    // What came before a failure is good; the next call tells of it.
    if (got > 0 || size == 0)
        return static_cast<ssize_t>(got);
    if (tls->truncated)
        return 0;
    errno = tls->failure;
    return -1;
}

// A FIN has come, and nothing is read before a reply: is it a close_notify that stands before it? Then
// nobody waits for the reply. A bare FIN is not that.
bool CommMachine::tls_said_goodbye(Entry *entry) {
    TlsState *tls = entry->tls;
    char byte;
    size_t n = 0;
    ERR_clear_error();
    errno = 0;
    int result = SSL_peek_ex(tls->ssl, &byte, 1, &n);
    int saved = errno;
    int reason = SSL_get_error(tls->ssl, result);
    if (reason == SSL_ERROR_ZERO_RETURN)
        tls->closed = true;
    else if (result != 1 && reason != SSL_ERROR_WANT_READ && reason != SSL_ERROR_WANT_WRITE)
        explain(tls, reason, saved);
    tls_stash(entry);
    return tls->closed;
}

ssize_t CommMachine::tls_write(Entry *entry, struct iovec *iov, int count) {
    TlsState *tls = entry->tls;
    if (entry->handshaking) {
        errno = EAGAIN;
        return -1;
    }
    // Small vectors go together in one record; a repeated write offers what it offered before.
    const void *data = iov->iov_base;
    size_t size = std::min(iov->iov_len, Loop::merge_size);
    if (count > 1 && size < Loop::merge_size) {
        size = 0;
        for (int i = 0; i < count && size < Loop::merge_size; i++) {
            size_t n = std::min(iov[i].iov_len, Loop::merge_size - size);
            memcpy(entry->loop->merge_buffer + size, iov[i].iov_base, n);
            size += n;
        }
        data = entry->loop->merge_buffer;
    }
    if (tls->pending_write != 0)
        size = tls->pending_write;
    size_t n = 0;
    ERR_clear_error();
    errno = 0;
    int result = SSL_write_ex(tls->ssl, data, size, &n);
    int saved = errno;
    if (result == 1) {
        tls->pending_write = 0;
        return static_cast<ssize_t>(n);
    }
    int reason = SSL_get_error(tls->ssl, result);
    if (reason == SSL_ERROR_WANT_READ && tls->truncated)
        reason = SSL_ERROR_SSL; // what it wants will never come
    if (reason == SSL_ERROR_WANT_WRITE || reason == SSL_ERROR_WANT_READ) {
        tls->pending_write = size;
        tls->write_wants_read = reason == SSL_ERROR_WANT_READ;
        errno = EAGAIN;
        return -1;
    }
    errno = explain(tls, reason, saved);
    return -1;
}

void CommMachine::tls_events(Entry *entry) {
    TlsState *tls = entry->tls;
    if (entry->readable) {
        tls->socket_ready = true;
        if (tls->write_wants_read) {
            tls->write_wants_read = false;
            entry->writable = true;
        }
    }
    if (entry->writable && tls->read_wants_write) {
        tls->read_wants_write = false;
        entry->readable = true;
    }
    if (tls->closed && entry->hangup && entry->service != nullptr)
        entry->broken = true;
}

void CommMachine::tls_stash(Entry *entry) {
    TlsState *tls = entry->tls;
    if (tls->in_size > 0 && tls->stash == nullptr) {
        auto *copy = static_cast<char *>(entry->loop->world->allocate(tls->in_size));
        if (copy == nullptr) {
            tls->in_size = 0;
            doom(entry, ENOMEM, CC_NONE);
            return;
        }
        memcpy(copy, tls->in, tls->in_size);
        tls->stash = copy;
        tls->in = copy;
    }
    // Left early, with a message's turn to come: records wait in OpenSSL or here, and no event will tell.
    if (!entry->handshaking && !tls->starved && !entry->eof)
        entry->readable = true;
}

void CommMachine::tls_close(Entry *entry) {
    TlsState *tls = entry->tls;
    if (entry->handshaking || tls->failed || tls->pending_write != 0 ||
        (SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN))
        return;
    ERR_clear_error();
    SSL_shutdown(tls->ssl); // close_notify, if the socket takes it
    ERR_clear_error();
}

void CommMachine::tls_free(Entry *entry) {
    TlsState *tls = entry->tls;
    if (tls == nullptr)
        return;
    SSL_free(tls->ssl);
    entry->loop->world->deallocate(tls->stash);
    delete tls;
    entry->tls = nullptr;
}

// After the first answer: tickets of TLS 1.3 have come by then.
void CommMachine::tls_remember(Entry *entry) {
    SSL_SESSION *session = SSL_get1_session(entry->tls->ssl);
    if (session == nullptr)
        return;
    // OpenSSL notes the name itself only when the server confirms it, which most do not.
    const char *name = SSL_get_servername(entry->tls->ssl, TLSEXT_NAMETYPE_host_name);
    bool named =
        same(SSL_SESSION_get0_hostname(session), name) || SSL_SESSION_set1_hostname(session, name) == 1;
    if (named && SSL_SESSION_is_resumable(session)) {
        SSL_SESSION *&place = entry->pool->per_loop[entry->loop->index()].tls_session;
        std::swap(place, session);
    }
    SSL_SESSION_free(session);
}

void CommMachine::tls_report(Entry *entry, CommSession *session) {
    session->ssl_error = entry->tls->error;
    session->verify_result = static_cast<int>(entry->tls->verify);
    if (entry->tls->ssl != nullptr && (entry->tls->error != 0 || entry->tls->verify != X509_V_OK))
        session->handle_tls_failure(entry->tls->ssl);
}

const SSL *CommSession::get_ssl() const {
    return entry != nullptr && entry->tls != nullptr && !entry->handshaking ? entry->tls->ssl : nullptr;
}

bool CommMachine::tls_truncated(const Entry *entry) {
    return entry->tls != nullptr && entry->tls->truncated;
}
