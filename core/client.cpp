// A client's connections. CONNECTING (TCP, then TLS) -> RECEIVING (sending and awaiting the answer)
// -> SUCCESS -> IDLE in the pool, or closed. Pooling and release() come before handle(), so that
// whoever is called there finds the connection and the slot free.

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <new>

#include "machine.h"
#include "owner.h"

namespace {

constexpr int max_borrow_attempts = 100;

} // namespace

CommPool *CommMachine::pool_of(CommTarget *target, CommCore *core) {
    CommPool *pool = target->pool.load(std::memory_order_acquire);
    if (pool != nullptr && pool->core == core)
        return pool;
    auto *fresh = new (std::nothrow) CommPool;
    auto *lists = fresh != nullptr ? new (std::nothrow) CommPool::PerLoop[core->nloops] : nullptr;
    if (lists == nullptr) {
        delete fresh;
        errno = ENOMEM;
        return nullptr;
    }
    // Retained: a later Communicator's core must not come to lie at the address compared above.
    fresh->core = core;
    core->ref.fetch_add(1, std::memory_order_relaxed);
    fresh->loops = core->nloops;
    fresh->per_loop = lists;
    for (size_t i = 0; i < core->nloops; i++) {
        INIT_LIST_HEAD(&lists[i].idle);
        lists[i].loop = core->loops[i];
        lists[i].loop->retain();
        lists[i].pool = fresh;
    }
    // Two loops may be here at once; and a Communicator that has gone leaves its pool behind.
    if (target->pool.compare_exchange_strong(pool, fresh, std::memory_order_acq_rel)) {
        if (pool != nullptr) {
            pool->orphaned.store(true, std::memory_order_relaxed);
            close_idle(pool);
            release_pool(pool);
        }
        return fresh;
    }
    release_pool(fresh);
    return pool;
}

void CommMachine::release_pool(CommPool *pool) {
    if (pool->ref.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < pool->loops; i++) {
        SSL_SESSION_free(pool->per_loop[i].tls_session);
        pool->per_loop[i].loop->release();
    }
    release_core(pool->core);
    delete[] pool->per_loop;
    delete pool;
}

void CommMachine::close_idle(CommPool *pool) {
    for (size_t i = 0; i < pool->loops; i++) {
        CommPool::PerLoop &list = pool->per_loop[i];
        if (list.count.load(std::memory_order_relaxed) == 0 || list.closing.exchange(true))
            continue;
        list.node.run = [](CommNode *node) {
            auto *self = PARLEY_OWNER(node, CommPool::PerLoop, node);
            self->closing.store(false);
            struct list_head *position, *next;
            list_for_each_safe(position, next, &self->idle) {
                Entry *entry = PARLEY_OWNER(position, Entry, list);
                self->count.store(self->count.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
                list_del(&entry->list);
                INIT_LIST_HEAD(&entry->list);
                doom(entry, 0, CC_STOP);
            }
            release_pool(self->pool);
        };
        pool->ref.fetch_add(1, std::memory_order_relaxed);
        if (!list.loop->post_any(&list.node)) {
            list.closing.store(false);
            release_pool(pool); // the loop has closed them all
        }
    }
}

void CommMachine::bind_session(Entry *entry, CommSession *session) {
    if (session->entry != entry) {
        if (session->entry != nullptr)
            unpin(session->entry);
        pin(entry);
        session->entry = entry;
    }
    session->seq = entry->seq++;
    entry->session = session;
    entry->receive_deadline = INT64_MAX; // what was left of the idle time
    entry->read_gap = INT64_MAX;
    entry->got_bytes = false;
    entry->timed = false;
    entry->first_wait = false;
    entry->paused = false;
    entry->all_pushed = false;
}

// Takes one of the target's sockets to open: false at its limit.
bool CommMachine::take_socket(CommTarget *target, CommPool *pool) {
    if (target->max_sockets == 0) {
        pool->sockets.fetch_add(1, std::memory_order_relaxed);
        return true;
    }
    size_t n = pool->sockets.load(std::memory_order_relaxed);
    do {
        if (n >= target->max_sockets)
            return false;
    } while (!pool->sockets.compare_exchange_weak(n, n + 1, std::memory_order_relaxed));
    return true;
}

int CommMachine::request(Loop *loop, CommSession *session, CommTarget *target) {
    CommPool *pool = pool_of(target, loop->core);
    if (pool == nullptr)
        return -1;
    CommPool::PerLoop &mine = pool->per_loop[loop->index()];
    if (!list_empty(&mine.idle)) {
        Entry *entry = PARLEY_OWNER(mine.idle.next, Entry, list);
        list_del(&entry->list);
        INIT_LIST_HEAD(&entry->list);
        mine.count.store(mine.count.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
        Loop::count(loop->tally.reuse_hits);
        entry->target = target;
        bind_session(entry, session);
        entry->state = CONN_STATE_RECEIVING;
        send_request(entry);
        return 0;
    }
    if (take_socket(target, pool))
        return open_connection(loop, session, target, pool);
    // All are open and fewer than that in use, or there would be no slot: one is idle elsewhere, or
    // was a moment ago. A user of Communicator::request() alone may be beyond the limit, though.
    if (++session->pending_state <= max_borrow_attempts && borrow_idle(loop, session, pool))
        return 0;
    pool->sockets.fetch_add(1, std::memory_order_relaxed);
    return open_connection(loop, session, target, pool);
}

// At the limit of sockets: the newest idle connection of another loop moves here.
bool CommMachine::borrow_idle(Loop *loop, CommSession *session, CommPool *pool) {
    for (size_t i = 0; i < pool->loops; i++) {
        CommPool::PerLoop &other = pool->per_loop[i];
        if (other.loop == loop || other.count.load(std::memory_order_relaxed) == 0)
            continue;
        session->home = loop;
        session->node.run = lend_idle;
        session->pending_error = static_cast<int>(i);
        if (other.loop->post_remote(&session->node))
            return true;
    }
    session->home = loop;
    session->node.run = posted_request;
    return loop->post_remote(&session->node); // look again, once the others have moved on
}

void CommMachine::lend_idle(CommNode *node) {
    CommSession *session = PARLEY_OWNER(node, CommSession, node);
    auto *borrower = static_cast<Loop *>(session->home);
    CommPool *pool = session->target->pool.load(std::memory_order_acquire);
    CommPool::PerLoop &mine = pool->per_loop[session->pending_error];
    Entry *entry = nullptr; // the newest; one that this loop still has to visit stays
    struct list_head *position;
    list_for_each(position, &mine.idle) {
        entry = PARLEY_OWNER(position, Entry, list);
        if (!entry->scheduled)
            break;
        entry = nullptr;
    }
    if (entry == nullptr) {
        session->node.run = posted_request;
        if (!borrower->post_remote(&session->node))
            finish_client(mine.loop, session, CS_STATE_STOPPED, 0, CC_STOP);
        return;
    }
    list_del(&entry->list);
    INIT_LIST_HEAD(&entry->list);
    mine.count.store(mine.count.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
    leave_loop(entry);
    Loop *lender = entry->loop;
    lender->connection_count.fetch_sub(1, std::memory_order_relaxed);
    Loop::count(lender->tally.migrations);
    entry->readable = entry->writable = false;
    entry->loop = borrower;
    borrower->retain();
    borrower->connection_count.fetch_add(1, std::memory_order_relaxed);
    entry->target = session->target;
    entry->session = session; // bound on its own loop, where cancel() looks
    entry->node.run = adopt_idle;
    if (!borrower->post_remote(&entry->node)) {
        entry->session = nullptr;
        discard(entry);
        finish_client(lender, session, CS_STATE_STOPPED, 0, CC_STOP);
    }
    lender->release();
}

void CommMachine::adopt_idle(CommNode *node) {
    Entry *entry = PARLEY_OWNER(node, Entry, node);
    Loop *loop = entry->loop;
    CommSession *session = entry->session;
    if (loop->stopping()) {
        entry->session = nullptr;
        discard(entry);
        finish_client(loop, session, CS_STATE_STOPPED, 0, CC_STOP);
    } else if (ticket_cancelled(session)) {
        entry->session = nullptr;
        discard(entry);
        finish_client(loop, session, CS_STATE_ERROR, ECANCELED, CC_CANCEL);
    } else if (int error = enter_loop(entry)) {
        entry->session = nullptr;
        discard(entry);
        finish_client(loop, session, CS_STATE_ERROR, error, CC_NONE);
    } else {
        Loop::count(loop->tally.reuse_hits);
        bind_session(entry, session);
        entry->state = CONN_STATE_RECEIVING;
        send_request(entry);
    }
}

void CommMachine::posted_request(CommNode *node) {
    CommSession *session = PARLEY_OWNER(node, CommSession, node);
    auto *loop = static_cast<Loop *>(session->home);
    if (loop->stopping())
        finish_client(loop, session, CS_STATE_STOPPED, 0, CC_STOP);
    else if (ticket_cancelled(session))
        finish_client(loop, session, CS_STATE_ERROR, ECANCELED, CC_CANCEL);
    else if (request(loop, session, session->target) < 0)
        finish_client(loop, session, CS_STATE_ERROR, errno, CC_CONNECT);
}

// A non-blocking socket whose connection is under way, or -1.
int CommMachine::open_socket(Loop *loop, CommTarget *target, bool *datagram) {
    parley::sys::world *world = loop->world;
    int fd = target->create_connect_fd();
    if (fd < 0)
        return -1;
    int type = SOCK_STREAM, one = 1;
    socklen_t length = sizeof type;
    if (world->set_nonblocking(fd) < 0 || world->getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0) {
        int error = errno;
        world->close(fd);
        errno = error;
        return -1;
    }
    *datagram = type != SOCK_STREAM;
    int family = target->addr->sa_family;
    if (type == SOCK_STREAM && (family == AF_INET || family == AF_INET6))
        world->setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (world->connect(fd, target->addr, target->addrlen) < 0 && errno != EINPROGRESS && errno != EINTR) {
        int error = errno;
        world->close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

// The socket has been taken from the limit; given back on failure.
int CommMachine::open_connection(Loop *loop, CommSession *session, CommTarget *target, CommPool *pool) {
    bool datagram;
    int fd = open_socket(loop, target, &datagram);
    if (fd < 0) {
        pool->sockets.fetch_sub(1, std::memory_order_relaxed);
        return -1;
    }
    CommConnection *conn = target->new_connection(fd);
    if (conn == nullptr) {
        int error = errno;
        loop->world->close(fd);
        pool->sockets.fetch_sub(1, std::memory_order_relaxed);
        errno = error;
        return -1;
    }
    Entry *entry = new_client_entry(loop);
    if (entry == nullptr) {
        delete conn;
        loop->world->close(fd);
        pool->sockets.fetch_sub(1, std::memory_order_relaxed);
        errno = ENOMEM;
        return -1;
    }
    entry->conn = conn;
    entry->sockfd = fd;
    entry->datagram = datagram;
    entry->pool = pool;
    pool->ref.fetch_add(1, std::memory_order_relaxed);
    if (int error = enter_loop(entry)) {
        discard(entry);
        errno = error;
        return -1;
    }
    Loop::count(loop->tally.connects);
    entry->target = target;
    bind_session(entry, session);
    limit_receive(entry, target->connect_timeout);
    rearm(entry);
    return 0;
}

// CONNECTING: the socket has news, or the handshake does.
void CommMachine::client_step(Entry *entry) {
    if (ticket_cancelled(entry->session)) {
        fail(entry, CS_STATE_ERROR, ECANCELED, CC_CANCEL);
        return;
    }
    if (entry->tls == nullptr) {
        if (!entry->writable)
            return;
        int error = 0;
        socklen_t length = sizeof error;
        if (entry->loop->world->getsockopt(entry->sockfd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
            error = errno;
        if (error != 0) {
            fail(entry, CS_STATE_ERROR, error, CC_CONNECT);
            return;
        }
        entry->receive_deadline = INT64_MAX;
        if (entry->target->ssl_ctx != nullptr) {
            limit_receive(entry, entry->target->ssl_connect_timeout, limits(entry).handshake);
            rearm(entry);
            if (tls_start(entry, entry->target->ssl_ctx, true) < 0) {
                fail(entry, CS_STATE_ERROR, entry->error, CC_TLS);
                return;
            }
        }
    }
    if (entry->tls != nullptr) {
        int done = tls_handshake(entry);
        if (done < 0)
            fail(entry, CS_STATE_ERROR, entry->error, CC_TLS);
        if (done <= 0)
            return;
        entry->receive_deadline = INT64_MAX;
    }
    entry->state = CONN_STATE_RECEIVING;
    send_request(entry);
}

// Also inside request(): then failures wait for the top of the loop.
void CommMachine::send_request(Entry *entry) {
    CommSession *session = entry->session;
    entry->sending = true;
    errno = 0;
    CommMessageOut *message = message_out(session);
    if (message == nullptr) {
        doom(entry, errno != 0 ? errno : ENOMEM, CC_NONE);
        return;
    }
    int sent = send_message(entry, message, Output::REQUEST, nullptr, session);
    if (sent > 0)
        client_sent(entry);
    else if (sent < 0)
        doom(entry, errno, CC_NONE);
}

void CommMachine::client_sent(Entry *entry) {
    CommSession *session = entry->session;
    if (!entry->sending || (entry->all_pushed ? entry->outbox != nullptr : session->sends_more()))
        return;
    entry->sending = false;
    if (!entry->got_bytes) {
        int first = session->first_timeout();
        entry->first_wait = first != 0;
        limit_receive(entry, entry->first_wait ? first : session->receive_timeout());
    } else if (!entry->first_wait) {
        limit_receive(entry, session->receive_timeout()); // the answer began before
    }
    entry->read_gap = entry->first_wait ? INT64_MAX : after(entry->loop, entry->target->response_timeout);
    rearm(entry);
}

// The whole answer is here. Bytes behind it, or a request that is still being sent, end the
// connection but not the exchange.
void CommMachine::client_message(Entry *entry, bool more) {
    Loop *loop = entry->loop;
    CommSession *session = entry->session;
    session->receiving.store(false, std::memory_order_relaxed);
    entry->session = nullptr;
    entry->state = CONN_STATE_SUCCESS;
    int keep = session->keep_alive_timeout();
    if (entry->tls != nullptr && session->seq == 0)
        tls_remember(entry);
    bool usable = !more && !entry->sending && entry->outbox == nullptr && !entry->finished &&
                  !entry->hangup && !entry->broken && !loop->stopping() &&
                  !entry->pool->orphaned.load(std::memory_order_relaxed);
    entry->target = nullptr;
    if (keep != 0 && usable) {
        CommPool::PerLoop &mine = entry->pool->per_loop[loop->index()];
        entry->state = CONN_STATE_IDLE;
        list_add(&entry->list, &mine.idle);
        mine.count.store(mine.count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        limit_receive(entry, keep);
        entry->read_gap = INT64_MAX;
        rearm(entry);
    } else {
        close(entry);
    }
    finish_client(loop, session, CS_STATE_SUCCESS, 0, CC_NONE);
}

void CommMachine::client_eof(Entry *entry) {
    doom(entry, entry->session == nullptr ? 0 : tls_truncated(entry) ? -SSL_ERROR_SSL : ECONNRESET, CC_EOF);
}

void CommMachine::client_failed(Entry *entry, int state, int error, int cause) {
    Loop *loop = entry->loop;
    CommSession *session = entry->session;
    if (session == nullptr) {
        if (!list_empty(&entry->list)) {
            CommPool::PerLoop &mine = entry->pool->per_loop[loop->index()];
            mine.count.store(mine.count.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
        }
        close(entry);
        return;
    }
    CommTarget *target = entry->target;
    CommPool *pool = entry->pool;
    int limit = expired_limit(entry);
    // Also under TLS without close_notify: many servers do not say goodbye to an idle connection.
    bool gone = error == ECONNRESET || error == EPIPE || (error == -SSL_ERROR_SSL && tls_truncated(entry));
    bool stale = state == CS_STATE_ERROR && session->seq > 0 && !entry->got_bytes && gone &&
                 !session->retried && !loop->stopping() && !ticket_cancelled(session);
    if (stale)
        Loop::count(loop->tally.stale_hits);
    if (cause == CC_NONE)
        cause = entry->state == CONN_STATE_CONNECTING                       ? CC_CONNECT
                : session->out == nullptr                                   ? CC_NONE
                : entry->sending                                            ? CC_SEND
                : error == EBADMSG || error == EMSGSIZE || entry->got_bytes ? CC_RECEIVE
                                                                            : CC_FIRST_BYTE;
    if (session->in != nullptr)
        session->in->entry = nullptr;
    session->receiving.store(false, std::memory_order_relaxed);
    if (entry->tls != nullptr)
        tls_report(entry, session);
    entry->session = nullptr;
    entry->target = nullptr;
    pool->ref.fetch_add(1, std::memory_order_relaxed);
    close(entry);
    bool again = stale && session->retriable();
    if (again) {
        session->retried = true;
        session->out = nullptr;
        session->in = nullptr;
        pool->sockets.fetch_add(1, std::memory_order_relaxed); // the one just closed
        again = open_connection(loop, session, target, pool) == 0;
        if (!again)
            error = errno;
    }
    release_pool(pool);
    if (!again)
        finish_client(loop, session, state, error, cause, limit);
}

void CommMachine::finish_client(Loop *loop, CommSession *session, int state, int error, int cause,
                                int limit) {
    if (!ticket_finished(session)) {
        state = CS_STATE_ERROR;
        error = ECANCELED;
        cause = CC_CANCEL;
        limit = -1;
    }
    session->target->release();
    deliver(loop, session, state, error, cause, limit);
}

int CommTarget::create_connect_fd() {
    return parley::sys::socket(addr->sa_family, SOCK_STREAM, 0);
}

CommConnection *CommTarget::new_connection(int) {
    auto *conn = new (std::nothrow) CommConnection;
    if (conn == nullptr)
        errno = ENOMEM;
    return conn;
}

int CommTarget::init_ssl(SSL *) {
    return 0;
}

int CommTarget::init(const struct sockaddr *peer, socklen_t size, int connect_ms, int response_ms) {
    auto *copy = static_cast<char *>(parley::sys::current().allocate(size));
    if (copy == nullptr) {
        errno = ENOMEM;
        return -1;
    }
    std::copy_n(reinterpret_cast<const char *>(peer), size, copy);
    addr = reinterpret_cast<struct sockaddr *>(copy);
    addrlen = size;
    connect_timeout = connect_ms;
    response_timeout = response_ms;
    ssl_ctx = nullptr;
    ssl_connect_timeout = -1;
    return 0;
}

void CommTarget::deinit() {
    if (CommPool *left = pool.exchange(nullptr, std::memory_order_acq_rel)) {
        left->orphaned.store(true, std::memory_order_relaxed);
        CommMachine::close_idle(left);
        CommMachine::release_pool(left);
    }
    parley::sys::current().deallocate(addr);
    addr = nullptr;
    addrlen = 0;
    delete deadlines;
    deadlines = nullptr;
}

CommTarget::~CommTarget() {
    deinit();
}

void CommTarget::close_idle() {
    if (CommPool *current = pool.load(std::memory_order_acquire))
        CommMachine::close_idle(current);
}

void CommTarget::set_deadlines(const CommDeadlines &limits) {
    if (deadlines == nullptr)
        deadlines = new CommDeadlines(limits);
    else
        *deadlines = limits;
}

int CommTarget::has_idle_conn() const {
    if (is_peer) {
        const auto *peer = static_cast<const ServicePeer *>(this);
        const ServiceEntry *part = PARLEY_OWNER(const_cast<ServicePeer *>(peer), ServiceEntry, peer);
        return part->open.load(std::memory_order_acquire) &&
               (part->max_turns > 1 ||
                part->first_turn.state.load(std::memory_order_acquire) == TURN_AWAITING);
    }
    CommPool *current = pool.load(std::memory_order_acquire);
    if (current == nullptr)
        return 0;
    for (size_t i = 0; i < current->loops; i++)
        if (current->per_loop[i].count.load(std::memory_order_relaxed) > 0)
            return 1;
    return 0;
}
