// The state of one connection. Everything in it belongs to its loop's thread, but what is marked
// atomic. docs/core.md has the table of its transitions; the code of each row is in
//
//   client.cpp    rows of a client connection         read_half.cpp   bytes in
//   service.cpp   rows of a service connection        write_half.cpp  bytes out
//   datagram.cpp  UDP services                        connection.cpp  birth, events, timers, death
//   tls.cpp       handshake and records               listener.cpp    accepting
//   stream.cpp    messages that are used while they come, output in pieces
//
// Of the classic fields `poller` is `loop` here, and `mutex` is gone: nobody but the loop touches
// a connection, other threads post to it.

#pragma once

#include <openssl/ssl.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "Communicator.h"
#include "loop.h"

enum ConnState : int8_t {
    CONN_STATE_CONNECTING, // client: TCP connect, then TLS; until the request is on its way
    CONN_STATE_CONNECTED,  // service: accepted (TLS handshake included), nothing received yet
    CONN_STATE_RECEIVING,  // a session is bound; client: sending or awaiting, service: a message came in part
    CONN_STATE_SUCCESS,    // a whole message: on its way to handle()
    CONN_STATE_IDLE,       // client: pooled; service: requests await their replies
    CONN_STATE_KEEPALIVE,  // service: replied, awaiting the next request
    CONN_STATE_CLOSING,    // to be closed from the top of the loop
    CONN_STATE_ERROR       // to be failed with `error` from the top of the loop
};

// Where a turn of a service connection stands. The one word that other threads read and change:
// whoever moves it from AWAITING owns what happens next.
//
//   RECEIVING --whole message--> AWAITING --reply()--> REPLYING --written or failed--> RECEIVING
//                                   |--shutdown(), ~CommSession()--> DROPPED (the loop closes)
//                                   `--peer gone, stop------------> GONE
enum TurnState : int { TURN_RECEIVING, TURN_AWAITING, TURN_REPLYING, TURN_DROPPED, TURN_GONE };

struct CommTurn {
    parley::sync::atomic<int> state{TURN_RECEIVING};
    bool in_place = false; // the session says handle_in_place()
    bool ready = false;    // REPLYING, and the loop knows
    bool writing = false;  // its message was encoded
    bool told = false;     // handle_half_closed() was called
    CommSession *session = nullptr;
    CommConnEntry *entry = nullptr;
    CommTurn *next = nullptr; // the one after it on the connection, or the next spare one
    CommNode node;            // DROPPED on another thread
};

namespace parley::core {

// What is left of a message that the socket did not take at once.
struct Output {
    enum Kind : int8_t { REQUEST, REPLY, PUSH, BYTES };
    static constexpr int inline_vectors = 16;

    Output *next = nullptr;
    Kind kind = BYTES;
    union {
        CommTurn *turn; // REPLY
        CommPush *push; // PUSH
        void *bytes;    // BYTES: a copy that is ours
    };
    struct iovec *write_iov = few;
    int count = 0;    // vectors left
    int position = 0; // first of them
    size_t size = 0;  // bytes counted against the high-water mark
    struct iovec few[inline_vectors];
};

// What waits for the socket to take it, first to last; exists only while something does.
struct Outbox {
    Output *first = nullptr;
    Output *last = nullptr;
    int64_t send_deadline = INT64_MAX; // total
    int64_t write_gap = INT64_MAX;
    int send_limit = -1; // ms that led to send_deadline
};

// Read but not yet parsed: `size` bytes at data + offset.
struct Leftover {
    size_t offset = 0;
    size_t size = 0;
    char data[1];
};

struct TlsState;

} // namespace parley::core

// A client target's idle connections. Kept alive by the target and by every connection.
struct CommPool {
    struct PerLoop {
        struct list_head idle;                     // newest first; the loop's
        parley::sync::atomic<size_t> count{0};     // of them; any thread reads
        parley::core::Loop *loop = nullptr;        // retained
        SSL_SESSION *tls_session = nullptr;        // to resume with; the loop's
        parley::sync::atomic<bool> closing{false}; // `node` is posted
        CommPool *pool = nullptr;
        CommNode node;
    };

    parley::sync::atomic<int> ref{1};
    parley::sync::atomic<size_t> sockets{0};
    parley::sync::atomic<bool> orphaned{false}; // the target has gone: idle connections close
    CommCore *core = nullptr;                   // retained
    size_t loops = 0;
    PerLoop *per_loop = nullptr;
};

struct CommConnEntry : parley::core::Source {
    struct list_head list; // client: idle list; service: keep-alive list
    struct list_head all;  // client: the loop's; service: its binding's on this loop; closed: the graveyard
    CommConnection *conn = nullptr;
    long long seq = 0;
    int sockfd = -1;
    int error = 0;
    parley::sync::atomic<int> ref{1};         // 1 while open, and 1 per session that saw it
    parley::sync::atomic<uint32_t> queued{0}; // bytes pushed and not yet written
    parley::core::TlsState *tls = nullptr;
    CommSession *session = nullptr; // client: in flight; service: being received
    CommTarget *target = nullptr;   // client: while in flight; service: its own peer
    CommService *service = nullptr; // service only
    parley::core::Loop *loop = nullptr;
    union {
        CommPool *pool = nullptr; // client
        struct ServiceLoop *home; // service: what its service has on this loop
    };

    uint16_t turn_count = 0; // service: requests that await their replies

    ConnState state = CONN_STATE_CONNECTING;
    int8_t cause = CC_NONE;

    // What never changes, and push() reads on any thread.
    bool datagram = false;
    bool serves = false; // it is a ServiceEntry

    // Readiness as the kernel told it, and what may be done with it.
    bool readable = false;
    bool writable = false;
    bool driving = false;    // on the stack
    bool scheduled = false;  // `node` is linked
    bool sending = false;    // client: the request is not yet all sent
    bool first_wait = false; // first_timeout() runs
    bool got_bytes = false;  // of the message in flight
    bool timed = false;      // service: the total time of this message runs

    // What is rarely asked for, in bits: there may be a million connections.
    bool hangup : 1 = false;      // RDHUP: a FIN waits behind what is still to be read
    bool eof : 1 = false;         // the FIN was read
    bool broken : 1 = false;      // ERR or HUP
    bool handshaking : 1 = false; // TLS is not through
    bool greeted : 1 = false;     // service: a whole message came
    bool unbound : 1 = false;     // close when what is in flight is done
    bool dropped : 1 = false;     // service: close when the outbox is empty
    bool renewed : 1 = false;     // renew() was called in this append()
    bool replying : 1 = false;    // next_reply() is on the stack
    bool expired : 1 = false;     // `receive_limit` says which limit ran out
    bool bulky : 1 = false;       // the last message took large pieces into memory of its own
    bool paused : 1 = false;      // the message in flight said pause()
    bool announcing : 1 = false;  // announce() was called in this append()
    bool announced : 1 = false;   // service: `session` awaits its reply while its message still comes
    bool all_pushed : 1 = false;  // client: end_output() was called
    bool finished : 1 = false;    // half_close() was called: no further exchange
    bool fin_due : 1 = false;     // its FIN goes out when the outbox is empty

    // Deadlines, monotonic ns. The timer holds the nearest.
    CommTimer timer;
    int64_t receive_deadline = INT64_MAX; // total; or idle; or, before that, of connect and handshake
    int64_t read_gap = INT64_MAX;
    int receive_limit = -1; // ms that led to receive_deadline

    parley::core::Leftover *leftover = nullptr;
    parley::core::Outbox *outbox = nullptr;
    CommTurn *turns = nullptr; // service: those that await their replies, oldest first
    CommNode node;
};

// A service connection: the entry, its peer as a CommTarget, and its first turn, in one block.
struct ServicePeer final : CommTarget {};

struct ServiceEntry : CommConnEntry {
    ServicePeer peer;
    CommTurn first_turn;
    CommTurn *spare_turns = nullptr;
    char address[28];       // as much as IPv6 needs; a longer one is allocated
    uint16_t max_turns = 1; // how many requests may await their replies
    bool at_connect = false;
    parley::sync::atomic<bool> open{true}; // the peer is there, as far as we know
};

inline ServiceEntry *part_of(CommConnEntry *entry) {
    return static_cast<ServiceEntry *>(entry);
}
inline const ServiceEntry *part_of(const CommConnEntry *entry) {
    return static_cast<const ServiceEntry *>(entry);
}
