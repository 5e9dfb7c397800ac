// The callback core: a Communicator turns sockets into messages. A CommSession says what to send
// (message_out), how to parse what arrives (message_in) and what to do when it is done (handle);
// a CommTarget is a peer to connect to, a CommService a port to accept on.
//
// The classes, signatures and meanings are the classic Communicator's, so that code written for it
// compiles and runs unchanged. What this core adds is marked "Additive".
//
// Threads. A Communicator runs `poller_threads` loops. A connection lives on one loop, and
// everything that happens to it happens there: new_connection, init_ssl, new_session, message_in,
// append, message_out, encode, release, all the timeouts. With handler_threads == 0 so do handle,
// handle_stop and handle_unbound; with more of them these three run on handler threads, unless the
// session says handle_in_place(). No user code runs under a lock of the core.
//
// Timeouts are in milliseconds, -1 is none and 0 expires at once, except where 0 is said to mean
// something else. Functions that return int return 0, or -1 with errno set. `error` arguments are
// errno values when positive and minus an SSL_get_error() code when negative.

#pragma once

#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include "CommLoop.h"
#include "Sync.h"
#include "Sys.h"
#include "list.h"

class CommConnection;
class CommMessageIn;
class CommMessageOut;
class CommPush;
class CommService;
class CommSession;
class CommTarget;
class CommMachine; // the state machine, in core/
struct CommConnEntry;
struct CommTurn;

// A user's own state for one connection; made by new_connection(), owned by the core. It is
// destroyed when the descriptor is closed and no session that saw it is left, on the thread that
// lets go last.
class CommConnection {
public:
    virtual ~CommConnection() = default;
};

// Additive. Total limits beside the progress timeouts, in ms; -1 is none.
struct CommDeadlines {
    int first_message = -1; // from a service connection's birth (later: first byte) to a whole message
    int handshake = -1;     // TLS, either side
    int send = -1;          // one message, from its first byte offered to its last byte taken
};

// A peer to connect to, and the pool of idle connections to it. It must outlive the sessions that
// are in flight to it; idle connections may outlive it.
class CommTarget {
public:
    // Copies addr. connect_timeout bounds each connect; response_timeout is the longest gap
    // between two steps of progress while reading or while a write is blocked. Forgets set_ssl().
    int init(const struct sockaddr *addr, socklen_t addrlen, int connect_timeout, int response_timeout);

    // Frees what init() made. Idle connections are closed by their loops, later. Legal after the
    // Communicator has gone.
    void deinit();

    // A pointer into the target.
    void get_addr(const struct sockaddr **out_addr, socklen_t *out_addrlen) const {
        *out_addr = addr;
        *out_addrlen = addrlen;
    }

    // A hint, from any thread. For a client target: some connection is pooled. For a session's
    // target on the service side: the request still awaits its reply and the peer is there.
    int has_idle_conn() const;

    // Additive. Closes the idle connections of every loop; returns at once. Any thread.
    void close_idle();

    // Additive. Overrides Communicator::set_default_deadlines() for this target. Before traffic.
    void set_deadlines(const CommDeadlines &limits);

protected:
    // TLS for every connection made from now on; the pointer is not owned. Call it after init().
    void set_ssl(SSL_CTX *ctx, int connect_timeout_ssl) {
        ssl_ctx = ctx;
        ssl_connect_timeout = connect_timeout_ssl;
    }
    SSL_CTX *get_ssl_ctx() const { return ssl_ctx; }

private:
    // A new socket to connect; the core makes it non-blocking. A SOCK_DGRAM socket makes this a
    // UDP client. -1 fails the request with errno. Default: a stream socket of addr's family.
    virtual int create_connect_fd();
    // Called once connect() was issued; nullptr fails the request with errno.
    virtual CommConnection *new_connection(int connect_fd);
    // Before the handshake: SNI, ALPN, verification. -1 fails the request with errno.
    virtual int init_ssl(SSL *ssl);

public:
    // Called once per acquired use, after the session is off the connection and before its
    // handle(). On the loop.
    virtual void release() {}

    CommTarget() = default;
    virtual ~CommTarget();
    CommTarget(const CommTarget &) = delete;
    CommTarget &operator=(const CommTarget &) = delete;

private:
    struct sockaddr *addr = nullptr;
    socklen_t addrlen = 0;
    int connect_timeout = -1;
    int response_timeout = -1;
    int ssl_connect_timeout = -1;
    SSL_CTX *ssl_ctx = nullptr;
    parley::sync::atomic<struct CommPool *> pool{nullptr}; // client side: the idle lists
    CommDeadlines *deadlines = nullptr;                    // own ones, if set
    uint32_t max_sockets = 0; // 0: unbounded; else at this many an idle one of another loop moves here
    bool is_peer = false;     // part of a service's connection

    friend class CommMachine;
    friend class CommSchedTarget;
};

// What is sent.
class CommMessageOut {
private:
    // Fills at most `max` (2048) vectors and returns how many; 0 sends nothing. The bytes stay
    // valid until handle(). More than max fails with EOVERFLOW, -1 with errno. Once per message.
    virtual int encode(struct iovec vectors[], int max) = 0;

public:
    virtual ~CommMessageOut() = default;

    friend class CommMachine;
};

// What arrives, and its parser.
//
// Additive: stream mode, for messages that need not fit into memory, with TLS and without, both
// directions at once. In: append() hands on what it parses, says pause() when its reader has
// enough, and a service's says announce() as soon as the session can reply. Out: CommPush, behind
// sends_more() for a client and ahead of reply() for a service.
class CommMessageIn {
private:
    // In: bytes at hand; out: bytes consumed. Returns 0: more is needed (all must be consumed);
    // > 0: the message is complete, the rest belongs to the next one; < 0: errno fails the
    // session. Copy what you keep.
    virtual int append(const void *buf, size_t *size) = 0;

    // Additive. Where the next bytes may be read directly, and room for how many: append() is then
    // called with exactly that address. Asked while a message is under way, and at its start on a
    // connection whose last message was large; bytes of the next message may come with it, as
    // ever. Worth having for bodies of 16 KiB and more; less is not used. The memory must stay
    // valid until the next append(). nullptr: none.
    virtual void *reserve(size_t *size) {
        *size = 0;
        return nullptr;
    }

protected:
    // Sends from inside append() (or a push()): everything is taken and kept in order with other
    // output, or -1 with EAGAIN when too much is queued already. Returns size.
    virtual int feedback(const void *buf, size_t size);

    // From inside append(): account time as if the message began now.
    virtual void renew();

    // Additive. From inside append(), which then returns 0 and may leave bytes: they and all that
    // follows wait, in the end at the peer, until Communicator::resume(). No time runs meanwhile
    // but receive_timeout().
    void pause();

    // Additive. From inside append(), once, of a service: handle(CS_STATE_TOREPLY) follows when it
    // has returned 0, and the message goes on until append() returns > 0; receive_timeout() is
    // asked anew. Nothing happens when the same append() returns > 0. Only for sessions that
    // handle_in_place(): others fail with ENOTSUP. A reply that is written before the message is
    // complete closes the connection. The session may be deleted, and the message with it, at any
    // time, which closes as ever.
    void announce();

    // The innermost of wrapped messages, whose feedback() push() uses.
    virtual CommMessageIn *inner() { return this; }

private:
    // Additive. After announce(): the rest will not come. State and error are what handle() of a
    // session that is being received would say; its get_cause() and the like say more. On the
    // loop, the last call of the message, before handle_peer_closed(). Its session can still be
    // replied to when the peer has sent a FIN (ECONNRESET and CC_EOF). Also with ECANCELED, when
    // the session is deleted or its reply is written before the message is complete.
    virtual void interrupted(int /*state*/, int /*error*/) {}
    void unbind() noexcept;

public:
    CommMessageIn() = default;
    virtual ~CommMessageIn() {
        if (entry != nullptr)
            unbind();
    }
    // A copy or a moved-to message is not bound to a connection.
    CommMessageIn(const CommMessageIn &) noexcept {}
    CommMessageIn &operator=(const CommMessageIn &) noexcept { return *this; }

private:
    CommConnEntry *entry = nullptr;

    friend class CommMachine;
};

#define CS_STATE_SUCCESS 0
#define CS_STATE_ERROR 1
#define CS_STATE_STOPPED 2
#define CS_STATE_TOREPLY 3

// Additive. What ended a session, or which wait timed out.
enum CommCause {
    CC_NONE,       // nothing special: success, or an error that `error` explains
    CC_WAIT,       // for a slot of a target
    CC_CONNECT,    // TCP connect
    CC_TLS,        // handshake
    CC_SEND,       // sending
    CC_FIRST_BYTE, // for the first byte of the answer
    CC_RECEIVE,    // for the whole message
    CC_GAP,        // between two steps of progress
    CC_IDLE,       // for the next request
    CC_STOP,       // the Communicator or the service stops
    CC_CANCEL,     // cancel()
    CC_EOF         // the peer closed; with error 0: cleanly, between two messages
};

// Additive. Names one submission of one session, for ever: a stale ticket is refused, never
// mistaken for another session's.
struct CommTicket {
    uint32_t slot = 0; // 0: none
    uint32_t generation = 0;
};

// One exchange. A client's is made by the user and given to Communicator::request(); a service's
// is made by new_session() and answered by Communicator::reply(). After its last handle() is
// entered the core does not touch it: `delete this` there is the normal pattern.
class CommSession {
private:
    // What to send; called when the connection is ready, TLS included. nullptr fails with errno.
    virtual CommMessageOut *message_out() = 0;
    // Where to put what arrives; called at its first byte. nullptr fails with errno.
    virtual CommMessageIn *message_in() = 0;
    virtual int send_timeout() { return -1; }      // whole message; asked when a write blocks
    virtual int receive_timeout() { return -1; }   // whole message
    virtual int keep_alive_timeout() { return 0; } // 0: close; asked once per turn, before handle()
    virtual int first_timeout() { return 0; }      // 0: off; else the longest wait for the first byte
    // Completion. Client: once, SUCCESS, ERROR or STOPPED. Service: TOREPLY and then, if reply()
    // returned 0, once more; or once ERROR or STOPPED when no whole message came.
    virtual void handle(int state, int error) = 0;

    // Additive. True: completions of this session run on its loop and never pass through handler
    // threads or a CommEventHandler. Asked once per completion.
    virtual bool handle_in_place() { return false; }
    // Additive. The peer of a session that awaits its reply is gone (RST, hang-up, write error,
    // TLS close and FIN); a bare FIN is not that. On the loop, and only for sessions that
    // handle_in_place(): those are destroyed on their loop, whoever replies; others may be deleted by
    // another thread at any time.
    virtual void handle_peer_closed() {}
    // Additive. The peer of a session that awaits its reply has sent a FIN: nothing follows what it has sent,
    // but it may still read the reply. Once, and under the same conditions; a session that begins to await its
    // reply after the FIN is told as well. handle_peer_closed() may follow.
    virtual void handle_half_closed() {}
    // Additive. True: a request that found its kept-alive connection closed by the peer, before
    // any byte of an answer, is sent once more on a fresh one; message_out() is called again.
    virtual bool retriable() { return false; }
    // Additive. Of a client, when its message_out() was taken by the kernel: true, CommPush sends
    // more of the request until Communicator::end_output(). Only then do the times for the answer
    // run; an answer that is complete before that ends the session, and the connection is closed.
    virtual bool sends_more() { return false; }
    // Additive. TLS failed, in the handshake or later; get_ssl_error() and get_verify_result() say so already,
    // handle() follows. The last chance to look at what `ssl` knows of the peer; delete nothing here. On the
    // connection's loop, whatever thread handle() runs on. Not for turns that await their reply.
    virtual void handle_tls_failure(const SSL * /*ssl*/) {}

protected:
    CommTarget *get_target() const { return target; }
    CommConnection *get_connection() const;
    // Additive. The address at our end of its connection. -1/ENOTCONN before there is one and after it was
    // closed. On the session's loop.
    int get_local_addr(struct sockaddr *addr, socklen_t *addrlen) const;
    // Additive. The descriptor of its connection, to be named in logs and left alone; -1 as above. On its loop.
    int get_fd() const;
    // Additive. TLS of its connection, to be looked at (the peer's certificate, version, cipher): nullptr
    // without TLS, until the handshake is through, and after the connection was closed. On its loop, and
    // valid until the caller returns to that.
    const SSL *get_ssl() const;
    CommMessageOut *get_message_out() const { return out; }
    CommMessageIn *get_message_in() const { return in; }
    long long get_seq() const { return seq; } // turns of this connection, from 0
    // Additive. What it waits for at this moment, in the words of CommCause: CC_CONNECT (also: for its loop),
    // CC_TLS, CC_SEND, CC_FIRST_BYTE, CC_RECEIVE; of a service CC_IDLE until a request begins. CC_NONE before
    // the submission, after the end, and while a request awaits its reply. On the session's loop.
    int get_wait() const;

public:
    // Additive. Why it ended or which wait timed out: a CommCause. Valid from handle() on.
    int get_cause() const { return cause; }
    // Additive. When a timeout ended it: the limit that ran out, in ms; else -1. Valid from handle() on.
    int get_limit() const { return limit_ms; }
    // Additive. OpenSSL's error code (ERR_get_error) and X509 verification result behind a
    // failure of TLS; 0 when there is none.
    unsigned long get_ssl_error() const { return ssl_error; }
    long get_verify_result() const { return verify_result; }
    // Additive. A ticket for Communicator::cancel(), for the submission in flight or the next one.
    // By the session's owner, before submission or inside a callback of the session.
    CommTicket ticket();

    CommSession() = default;
    // Of a service session that was never answered: closes the connection.
    virtual ~CommSession();
    CommSession(const CommSession &) = delete;
    CommSession &operator=(const CommSession &) = delete;

private:
    CommTarget *target = nullptr;
    CommConnEntry *entry = nullptr; // pinned while not null
    CommMessageOut *out = nullptr;
    CommMessageIn *in = nullptr;
    union {
        CommTurn *turn = nullptr; // service side, until the final completion
        CommLoop *home;           // client side: the loop of the submission
    };
    long long seq = 0;
    unsigned long ssl_error = 0;
    int verify_result = 0;
    int limit_ms = -1;
    uint32_t ticket_slot = 0;
    int8_t cause = CC_NONE;
    bool passive = false;
    bool retried = false;
    bool flying = false;
    int8_t pending_state = 0;                    // what the node below delivers
    parley::sync::atomic<bool> receiving{false}; // client: from the first byte of the answer to the end
    int pending_error = 0;
    CommNode node; // submission from, or completion on, another thread

    friend class CommMachine;
    friend class Communicator;
};

// A port to accept on, or a datagram socket. It must outlive handle_unbound().
class CommService {
public:
    // Copies bind_addr. listen_timeout is the absolute lifetime of the listener; response_timeout
    // the longest gap between two steps of progress, also before the first request.
    int init(const struct sockaddr *bind_addr, socklen_t addrlen, int listen_timeout, int response_timeout);
    void deinit(); // after handle_unbound() only

    // Closes up to max (-1: all) of the connections that are kept alive, least recently used
    // first; returns how many were marked. Any thread; the closing itself is the loops'.
    int drain(int max);

    void get_addr(const struct sockaddr **out_addr, socklen_t *out_addrlen) const {
        *out_addr = bind_addr;
        *out_addrlen = addrlen;
    }

    // Additive. The address of the socket while bound: the port that 0 became. -1/ENOTCONN.
    int get_local_addr(struct sockaddr *addr, socklen_t *addrlen) const;

    // Additive. Stops and resumes accepting; connections wait in the kernel's backlog. Any thread.
    void pause_accept();
    void resume_accept();

    // Additive. Overrides Communicator::set_default_deadlines(). Before bind().
    void set_deadlines(const CommDeadlines &limits);

protected:
    void set_ssl(SSL_CTX *ctx, int ssl_accept_timeout_ms) {
        ssl_ctx = ctx;
        ssl_accept_timeout = ssl_accept_timeout_ms;
    }
    SSL_CTX *get_ssl_ctx() const { return ssl_ctx; }

    // Keeps the service from becoming unbound, and lets go. Any thread.
    void incref();
    void decref();

private:
    // At the first byte of each message. nullptr closes the connection.
    virtual CommSession *new_session(long long seq, CommConnection *conn) = 0;
    // Listening ended by itself: errno, ETIMEDOUT, or 0 when the Communicator stops. unbind() is
    // still due.
    virtual void handle_stop(int /*error*/) {}
    // Nothing of the service is left. The last callback.
    virtual void handle_unbound() = 0;
    // The socket to listen on; bound by the core unless it is already. A SOCK_DGRAM socket makes
    // this a UDP service. Called once, by bind().
    virtual int create_listen_fd();
    // Per accepted connection, before any I/O on it; per datagram for UDP (there accept_fd is the
    // service's own socket). nullptr drops this one and the listener goes on.
    virtual CommConnection *new_connection(int accept_fd);
    virtual int init_ssl(SSL *ssl);

    // Additive. True: new_session() is called as soon as the connection is accepted, before any
    // TLS handshake, and again after each finished turn; so end of stream, failed handshake,
    // timeout and cancel reach a session's handle(). Clean end: CS_STATE_ERROR, 0 and CC_EOF.
    virtual bool session_at_connect() { return false; }
    // Additive. How many requests of one connection may await their replies at once. Replies are
    // sent in the order of the requests, whatever the order of reply().
    virtual int max_pipeline() { return 1; }

public:
    CommService() = default;
    virtual ~CommService();
    CommService(const CommService &) = delete;
    CommService &operator=(const CommService &) = delete;

private:
    struct sockaddr *bind_addr = nullptr;
    socklen_t addrlen = 0;
    int listen_timeout = -1;
    int response_timeout = -1;
    int ssl_accept_timeout = -1;
    SSL_CTX *ssl_ctx = nullptr;
    parley::sync::atomic<int> ref{0};
    struct CommBinding *binding = nullptr; // from bind() to handle_unbound()
    CommDeadlines *deadlines = nullptr;    // own ones, if set

    friend class CommMachine;
    friend class Communicator;
};

#define SS_STATE_COMPLETE 0
#define SS_STATE_ERROR 1
#define SS_STATE_DISRUPTED 2

// A timer. duration() is asked inside sleep(): -1 fails it with errno; tv_nsec outside [0, 1e9) is
// EINVAL; tv_sec < 0 never fires and can only be cancelled.
class SleepSession {
private:
    virtual int duration(struct timespec *value) = 0;
    // COMPLETE, 0; or ERROR, ECANCELED by unsleep(); or DISRUPTED, 0 by deinit().
    virtual void handle(int state, int error) = 0;
    // Additive. As CommSession::handle_in_place().
    virtual bool handle_in_place() { return false; }

public:
    SleepSession() = default;
    virtual ~SleepSession() = default;
    SleepSession(const SleepSession &) = delete;
    SleepSession &operator=(const SleepSession &) = delete;

private:
    CommTimer timer;
    CommLoop *loop = nullptr; // the loop it sleeps on
    struct list_head link = {&link, &link};
    parley::sync::atomic<int> phase{0};
    int8_t pending_state = 0;
    int pending_error = 0;
    CommNode node;
    CommNode cancel_node;

    friend class CommMachine;
    friend class Communicator;
};

// Where completions run, instead of the handler threads. schedule() must cause routine(context)
// exactly once, on any thread, inline allowed; wait() returns when all scheduled routines are done.
class CommEventHandler {
private:
    virtual void schedule(void (*routine)(void *), void *context) = 0;
    virtual void wait() = 0;

public:
    virtual ~CommEventHandler() = default;

    friend class CommMachine;
    friend class Communicator;
};

// Additive. Output of a service session outside its reply, or of a client's from sends_more() on:
// queued in order with replies, completed by handle(). Owned by the user until handle() is entered,
// which runs on the connection's loop.
class CommPush {
private:
    virtual CommMessageOut *message_out() = 0;
    // SUCCESS when all bytes were taken by the kernel; ERROR or STOPPED when they never will be.
    virtual void handle(int state, int error) = 0;

public:
    // The session whose connection is written to. It must be alive when push() is called, not
    // later.
    explicit CommPush(CommSession *on) : session(on) {}
    virtual ~CommPush() = default;
    CommPush(const CommPush &) = delete;
    CommPush &operator=(const CommPush &) = delete;

private:
    CommSession *session;
    CommConnEntry *entry = nullptr;
    int8_t pending_state = 0; // what the node delivers
    int pending_error = 0;
    CommNode node;

    friend class CommMachine;
    friend class Communicator;
};

// Additive. One-shot readiness of a descriptor that is not the core's: a C library's socket, a
// pipe. One waiter for reading and one for writing per descriptor and loop.
class CommWatch {
private:
    // SUCCESS when ready (or hung up: the next call on fd tells), ERROR/ECANCELED by unwatch(),
    // STOPPED by deinit(). On the loop.
    virtual void handle(int state, int error) = 0;

public:
    CommWatch() = default;
    virtual ~CommWatch() = default;
    CommWatch(const CommWatch &) = delete;
    CommWatch &operator=(const CommWatch &) = delete;

private:
    struct CommWatchSlot *slot = nullptr; // while armed
    CommLoop *loop = nullptr;
    CommNode node; // ERROR, ECANCELED on its way

    friend class CommMachine;
    friend class Communicator;
};

#include "IOService_linux.h"

// The loops, the handler threads and every operation on them. Several may live in one process.
class Communicator {
public:
    // Starts the threads. EINVAL when poller_threads == 0; handler_threads may be 0: then every
    // callback runs on the loop that owns the connection. EALREADY when already initialised; EAGAIN
    // for more threads than there can be; ENOMEM; what epoll_create1() and eventfd() say. On failure
    // nothing is left running.
    int init(size_t poller_threads, size_t handler_threads);

    // Ends everything in flight (STOPPED, DISRUPTED, handle_stop(0)), waits for the callbacks and
    // joins the threads. From the moment it begins submissions fail with ESHUTDOWN. Idempotent.
    // From a loop, a handler thread or a callback: sets errno to EDEADLK and does nothing.
    void deinit();

    // Sends the session's message to target and awaits the answer. EINVAL for a service's session;
    // ESHUTDOWN; on a loop also what create_connect_fd(), connect() and new_connection() say.
    // After 0 the session is the core's until handle(), which may come before the call returns.
    int request(CommSession *session, CommTarget *target);

    // Answers. EINVAL (not a service's), ENOENT (answered before, or the peer is gone): the caller
    // keeps the session. On the loop a reply that is written at once has run handle(SUCCESS)
    // before this returns.
    int reply(CommSession *session);

    // Bytes outside the protocol's turns; taken whole (returns size) or not at all: ENOENT when the
    // connection is gone or the session is done, EAGAIN above the high-water mark. For a client
    // session from its first received byte until completion.
    int push(const void *buf, size_t size, CommSession *session);

    // Additive. See CommPush. ENOENT, EAGAIN above the high-water mark, ESHUTDOWN. For a client
    // session on its loop only: EPERM elsewhere.
    int push(CommPush *push);

    // Additive, stream mode; all three on the session's loop only: EPERM elsewhere.
    // The paused message goes on, from the top of the loop. ENOENT: none is paused.
    int resume(CommSession *session);
    // After sends_more(): what was pushed is all of the request. EINVAL for a service's session;
    // ENOENT when the session is over or it was said before.
    int end_output(CommSession *session);
    // Sends a FIN (TLS: close_notify first) when all output is out. What is sent after that fails
    // the connection, and the present exchange is its last. ENOENT when it is gone.
    int half_close(CommSession *session);

    // Additive. Bytes that may be queued by push() and feedback() per connection; 1 MiB at first.
    void set_push_high_water(size_t bytes);

    // Closes without a reply. EINVAL (not a service's), ENOENT (replied to or gone).
    int shutdown(CommSession *session);

    // Additive. See CommTicket. Any thread, any time. 0: handle(CS_STATE_ERROR, ECANCELED) runs
    // exactly once, later (for a service session that awaits its reply: as shutdown()); the
    // connection is closed. While a thread is blocked for the session's slot, request() there fails
    // with ECANCELED instead. ENOENT: nothing to cancel.
    int cancel(CommTicket ticket);
    // The same while handle() has not been entered, by the session's owner.
    int cancel(CommSession *session);

    int bind(CommService *service);
    // Additive. Listens on that loop alone; the connections stay there.
    int bind(CommService *service, CommLoop *loop);
    // Stops listening, closes idle and silent connections at once and lets requests in flight
    // finish; then handle_unbound(). Once per bind(). Any thread, also after deinit().
    void unbind(CommService *service);
    // Additive. After deadline_ms what is still busy is closed as well.
    void unbind(CommService *service, int deadline_ms);

    // On a loop the timer is that loop's; elsewhere it is given to one.
    int sleep(SleepSession *session);
    // ENOENT when it has fired. The caller makes sure that handle() has not returned yet.
    int unsleep(SleepSession *session);

    int io_bind(IOService *service);
    void io_unbind(IOService *service);

    // Additive. On a loop only (EPERM elsewhere). EBUSY when that side of fd is watched already.
    int watch(CommWatch *watch, int fd, bool writing);
    int unwatch(CommWatch *watch);

    // 1 on a handler thread; 0 elsewhere, loops included.
    int is_handler_thread() const;
    // ENOTSUP with handler_threads == 0.
    int increase_handler_thread();
    int decrease_handler_thread();

    // Before traffic; nullptr restores the handler threads.
    void customize_event_handler(CommEventHandler *handler);

    // Additive. Limits for services and targets that set none themselves. Before traffic.
    void set_default_deadlines(const CommDeadlines &limits);

    // Additive. The loops, valid from init() to deinit().
    size_t loops() const;
    CommLoop *loop(size_t index) const;

    Communicator() = default;
    virtual ~Communicator();
    Communicator(const Communicator &) = delete;
    Communicator &operator=(const Communicator &) = delete;

private:
    struct CommCore *core = nullptr;
    CommEventHandler *event_handler = nullptr;
    CommDeadlines default_deadlines;
    size_t push_high_water = size_t{1} << 20;

    friend class CommMachine;
};
