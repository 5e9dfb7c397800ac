// The state machine: the one class that may call the private hooks of the public ones. Its
// functions stand in the files named below; each runs on the connection's loop unless it says
// otherwise.

#pragma once

#include "Communicator.h"
#include "conn_entry.h"
#include "handler_pool.h"
#include "loop.h"

// A listening socket (or a datagram service's only one) on one loop.
struct Listener : parley::core::Source {
    struct list_head link; // the loop's listeners
    int fd = -1;
    bool paused = false; // by pause_accept()
    bool backing_off = false;
    CommTimer timer; // lifetime of the listener, or end of a back-off
    int64_t lifetime = INT64_MAX;
    int64_t retry = INT64_MAX;
};

// A bound service on one loop.
struct ServiceLoop {
    struct CommBinding *binding = nullptr;
    parley::core::Loop *loop = nullptr;
    Listener listener;
    struct list_head kept;                      // kept alive, most recently used first
    struct list_head connections;               // all of them, through CommConnEntry::all
    struct list_head link;                      // the loop's services, until unbound and without connections
    parley::sync::atomic<size_t> kept_count{0}; // written by the loop
    parley::sync::atomic<size_t> claimed{0};    // of these, promised to drain()
    parley::sync::atomic<bool> drain_posted{false};
    parley::sync::atomic<bool> pause_posted{false};
    bool unbound = false;
    CommTimer force; // unbind's deadline
    CommNode drain_node;
    CommNode start_node;
    CommNode unbind_node;
    CommNode stop_node;
    CommNode pause_node;
};

// What a service is from bind() to handle_unbound().
struct CommBinding {
    CommService *service = nullptr;
    CommCore *core = nullptr;
    size_t loops = 0;
    ServiceLoop *per_loop = nullptr;
    bool datagram = false;
    bool shared = false; // one listening socket for all loops
    parley::sync::atomic<bool> unbinding{false};
    parley::sync::atomic<bool> stop_told{false};
    parley::sync::atomic<bool> paused{false};
    parley::sync::atomic<size_t> listening{0}; // listeners that are open
    parley::sync::atomic<size_t> to_unbind{0}; // loops that have yet to let go
    int unbind_deadline = -1;
    int stop_error = 0;
    int datagram_fd = -1; // stays open for replies
    struct sockaddr_storage local;
    socklen_t local_size = 0;
    CommNode stop_node;
    CommNode unbound_node;
};

// The guts of a Communicator; outlives deinit() until the next init() or the destructor.
struct CommCore {
    parley::sync::atomic<bool> stopping{false};
    parley::sync::atomic<int> ref{1};
    parley::sync::atomic<size_t> next_loop{0};
    parley::sys::world *world = nullptr;
    Communicator *communicator = nullptr;
    size_t nloops = 0;
    parley::core::Loop **loops = nullptr;
    parley::sys::thread_handle *threads = nullptr;
    bool has_handlers = false;
    parley::sync::atomic<bool> handlers_gone{false}; // deinit() is through
    parley::core::HandlerPool handlers;
    CommEventHandler *event_handler = nullptr;
    CommDeadlines deadlines;
    size_t push_high_water = 0;
    parley::sync::mutex io_mutex; // guards io_services
    struct list_head io_services;
};

class CommMachine {
public:
    using Entry = CommConnEntry;
    using Loop = parley::core::Loop;
    using Output = parley::core::Output;

    // completion.cpp: who runs a completion, and where.
    static bool in_place(const CommCore *core) {
        return !core->has_handlers && core->event_handler == nullptr;
    }
    // Runs node->run(node): here and now when the core has no handlers or `stay`, else there.
    static void complete(Loop *loop, CommNode *node, bool stay);
    static void to_handlers(CommCore *core, CommNode *head, CommNode *tail, size_t count); // any thread
    static bool in_callback_of(const CommCore *core); // this thread, by way of a CommEventHandler
    static void deliver(Loop *loop, CommSession *session, int state, int error, int cause, int limit = -1);
    static void deliver_push(CommPush *push, int state, int error);
    static Loop *least_loaded(CommCore *core);  // any thread
    static Loop *loop_for_work(CommCore *core); // any thread: the current one, else by turns
    static Loop *loop_for_request(CommCore *core, CommSession *session,
                                  CommTarget *target); // no loop's thread
    static bool loop_is_empty(Loop *loop);
    static void stop_loop(Loop *loop);
    static void stop_entry(Entry *entry);

    // connection.cpp
    static Entry *new_client_entry(Loop *loop);
    static ServiceEntry *new_service_entry(Loop *loop, const struct sockaddr *addr, socklen_t size);
    static int enter_loop(Entry *entry);  // into epoll and the list of connections: 0 or an errno
    static void leave_loop(Entry *entry); // out of them
    static void on_events(parley::core::Source *source, uint32_t events);
    static void on_timer(CommTimer *timer);
    static void schedule(Entry *entry); // drive() it from the top of the loop
    static void drive(Entry *entry);
    static void rearm(Entry *entry); // after a deadline changed
    // The receive_deadline is the nearer of two limits from now.
    static void limit_receive(Entry *entry, int ms, int other = -1);
    static int nearer(int ms, int other) { return ms < 0 || (other >= 0 && other < ms) ? other : ms; }
    static int expired_limit(const Entry *entry) { return entry->expired ? entry->receive_limit : -1; }
    static void close(Entry *entry); // frees the descriptor; the entry lives while pinned
    static void fail(Entry *entry, int state, int error, int cause); // ends everything on it, closes
    static void discard(Entry *entry);                               // one that never entered its loop
    static void pin(Entry *entry) { entry->ref.fetch_add(1, std::memory_order_relaxed); }
    static void unpin(Entry *entry);                      // any thread
    static void doom(Entry *entry, int error, int cause); // fail it from the top of the loop
    static const CommDeadlines &limits(const Entry *entry);
    static int64_t after(const Loop *loop, int ms) {
        return ms < 0 ? INT64_MAX : loop->now() + ms * INT64_C(1000000);
    }

    // read_half.cpp
    static void read(Entry *entry);
    static void receive(Entry *entry, char *data, size_t size, bool theirs, bool more);
    static size_t consume(Entry *entry, char *data, size_t size, bool theirs, bool more); // bytes taken
    static void keep_leftover(Entry *entry, const char *data, size_t size);
    static void drop_leftover(Entry *entry);
    static bool may_receive(const Entry *entry) {
        if (entry->sockfd < 0 || entry->state == CONN_STATE_CLOSING || entry->state == CONN_STATE_ERROR ||
            entry->paused)
            return false;
        if (entry->service == nullptr)
            return entry->state != CONN_STATE_CONNECTING;
        if (entry->dropped || (entry->unbound && !entry->got_bytes))
            return false; // what has begun is finished, nothing begins
        return (entry->announced || entry->turn_count < part_of(entry)->max_turns) && !entry->handshaking;
    }
    static bool start_message(Entry *entry);
    static void receive_progress(Entry *entry);
    static void end_of_stream(Entry *entry);

    // stream.cpp
    static void message_announced(Entry *entry);
    static void announced_message_complete(Entry *entry);
    // The entry lets go of the announced message, which is not complete.
    static CommMessageIn *drop_announced(Entry *entry);
    static void abandon_announced(Entry *entry);
    static void interrupt(Entry *entry, int error);
    static void tell_interrupted(Entry *entry, CommSession *session, CommMessageIn *message, int state,
                                 int error, int cause, int limit);
    static void message_destroyed(CommMessageIn *message) noexcept;
    static void pause(CommMessageIn *message) {
        if (message->entry != nullptr)
            message->entry->paused = true;
    }
    static void announce(CommMessageIn *message) {
        if (message->entry != nullptr)
            message->entry->announcing = message->entry->service != nullptr && !message->entry->announced;
    }
    static Entry *open_entry(CommSession *session); // nullptr and errno
    static int resume(CommSession *session);
    static int end_output(CommSession *session);
    static int half_close(CommSession *session);
    static void send_fin(Entry *entry);

    // write_half.cpp
    // Encodes and writes. 1: all written; 0: the rest is queued; -1: errno (or minus an SSL code in
    // entry->error), nothing queued.
    static int send_message(Entry *entry, CommMessageOut *message, Output::Kind kind, void *owner,
                            CommSession *session);
    static void append_output(Entry *entry, Output *output);
    static bool flush(Entry *entry); // false: the connection failed
    static ssize_t write_vectors(Entry *entry, struct iovec *iov, int count);
    // -1 and errno, or size: written, or kept for later.
    static int send_bytes(Entry *entry, const void *data, size_t size);
    static void output_done(Entry *entry, Output *output);
    static void drop_output(Entry *entry, int state, int error);
    static parley::core::Outbox *outbox_of(Entry *entry);
    static Output *new_output();
    static void free_output(Output *output);
    static int feedback(CommMessageIn *message, const void *data, size_t size); // any thread

    // client.cpp
    static int request(Loop *loop, CommSession *session, CommTarget *target);
    static bool take_socket(CommTarget *target, CommPool *pool);
    static int open_connection(Loop *loop, CommSession *session, CommTarget *target, CommPool *pool);
    static int open_socket(Loop *loop, CommTarget *target, bool *datagram);
    static bool borrow_idle(Loop *loop, CommSession *session, CommPool *pool);
    static void lend_idle(CommNode *node);
    static void adopt_idle(CommNode *node);
    static void posted_request(CommNode *node);
    static void send_request(Entry *entry);
    static void client_step(Entry *entry);
    static void client_sent(Entry *entry);
    static void client_message(Entry *entry, bool more);
    static void client_failed(Entry *entry, int state, int error, int cause);
    static void client_eof(Entry *entry);
    static void finish_client(Loop *loop, CommSession *session, int state, int error, int cause,
                              int limit = -1);
    static CommPool *pool_of(CommTarget *target, CommCore *core);
    static void release_pool(CommPool *pool); // any thread
    static void close_idle(CommPool *pool);   // any thread

    // service.cpp
    static void service_born(ServiceLoop *home, int fd, const struct sockaddr *addr, socklen_t size);
    static void service_adopt(ServiceEntry *entry);
    static void service_ready(Entry *entry); // TLS done
    static CommSession *start_session(Entry *entry);
    static void service_message(Entry *entry);
    static int reply(CommSession *session, CommTurn *turn);
    static void posted_reply(CommNode *node);
    static void reply_given(Entry *entry, CommTurn *turn);
    static void write_reply(Entry *entry, CommTurn *turn);
    static void turn_written(Entry *entry, CommTurn *turn);
    static void turn_over(Entry *entry, CommTurn *turn);
    static void next_reply(Entry *entry);
    static void service_failed(Entry *entry, int state, int error, int cause);
    static void tell_half_closed(Entry *entry);
    // shutdown() or ~CommSession() took it from AWAITING.
    static void turn_dropped(CommTurn *turn, bool at_once = false);
    static void posted_drop(CommNode *node);
    static void posted_cancel(CommNode *node);
    static void close_dropped(Entry *entry);
    static void leave_kept(Entry *entry);
    static void enter_kept(Entry *entry);

    // listener.cpp, binding.cpp
    static int bind(Communicator *communicator, CommService *service, CommLoop *only);
    static void unbind(CommBinding *binding, int deadline_ms);
    static void unbind_on_loop(ServiceLoop *home);
    static void leave_service(ServiceLoop *home); // after a connection went: maybe it was the last
    static void close_listener(ServiceLoop *home, int error, bool by_itself);
    static void accept_some(ServiceLoop *home);
    static void listener_events(parley::core::Source *source, uint32_t events);
    static void listener_timer(CommTimer *timer);
    static void update_pause(ServiceLoop *home);
    static int drain(CommService *service, int max);
    static void drain_on_loop(ServiceLoop *home);
    static void service_incref(CommService *service) { service->ref.fetch_add(1, std::memory_order_relaxed); }
    static bool service_hold(CommService *service);            // any thread
    static void service_decref(CommService *service);          // any thread
    static void set_paused(CommService *service, bool paused); // any thread
    static void release_core(CommCore *core);                  // any thread

    // datagram.cpp
    static void receive_datagrams(ServiceLoop *home);
    static void take_datagram(ServiceLoop *home, char *data, size_t size, const struct sockaddr *from,
                              socklen_t from_size);
    static int reply_datagram(CommSession *session, CommTurn *turn);
    static void datagram_over(Entry *entry);
    static ssize_t send_datagram(Entry *entry, struct iovec *iov, int count);

    // tls.cpp
    static int tls_start(Entry *entry, SSL_CTX *ctx, bool client);
    static int tls_handshake(Entry *entry); // 1 done, 0 later, -1 failed (entry->error)
    static ssize_t tls_read(Entry *entry, char *buffer, size_t size);
    static bool tls_said_goodbye(Entry *entry);
    static ssize_t tls_write(Entry *entry, struct iovec *iov, int count);
    static void tls_close(Entry *entry);
    static void tls_free(Entry *entry);
    static void tls_remember(Entry *entry);
    static void tls_report(Entry *entry, CommSession *session);
    static bool tls_truncated(const Entry *entry);
    static void tls_events(Entry *entry);
    static void tls_stash(Entry *entry); // before the loop's buffer serves another connection

    // ticket.cpp. Sessions without a ticket, nearly all, pay a comparison.
    static void ticket_submitted(CommSession *session, Loop *loop) {
        session->flying = true;
        if (!session->passive)
            session->home = loop;
        if (session->ticket_slot != 0)
            slot_submitted(session, loop);
    }
    static void ticket_recalled(CommSession *session); // the submission failed after all
    // Claims the completion: false when cancel() was faster, and then it is a cancelled one.
    static bool ticket_finished(CommSession *session) {
        session->flying = false;
        return session->ticket_slot == 0 || slot_finished(session);
    }
    static bool ticket_cancelled(const CommSession *session) {
        return session != nullptr && session->ticket_slot != 0 && slot_cancelled(session);
    }
    static void ticket_release(CommSession *session) { // any thread
        if (session->ticket_slot != 0)
            slot_release(session);
    }
    static void slot_submitted(CommSession *session, Loop *loop);
    static bool slot_finished(CommSession *session);
    static bool slot_cancelled(const CommSession *session);
    static void slot_release(CommSession *session);
    static CommTicket ticket_of(CommSession *session);
    static int cancel(CommTicket ticket); // any thread
    // A thread that is blocked for the session's slot. leave() is called on the thread of cancel() and wakes
    // it.
    struct TicketWait {
        void (*leave)(TicketWait *);
    };
    static bool has_ticket(const CommSession *session) { return session->ticket_slot != 0; }
    static void ticket_waits(CommSession *session, TicketWait *wait);
    static bool ticket_waited(CommSession *session); // true: it was cancelled
    static bool cancel_wait(CommTicket ticket);
    static void cancel_session(CommSession *session);

    // push.cpp
    static bool answerable(const CommSession *session);
    static int push(CommSession *session, const void *data, size_t size, size_t high_water);
    static int push(CommPush *push, size_t high_water);
    static int offer_push(CommPush *push);

    // sleep.cpp, watch.cpp
    static int sleep(CommCore *core, SleepSession *session);
    static int unsleep(SleepSession *session);
    static void sleep_on(Loop *loop, SleepSession *session);
    static void sleep_over(Loop *loop, SleepSession *session, int state, int error);
    static void stop_sleepers(Loop *loop);
    static int watch(Loop *loop, CommWatch *watch, int fd, bool writing);
    static int unwatch(CommWatch *watch);
    static void stop_watches(Loop *loop);

    // IOService.cpp
    static void stop_io(CommCore *core); // by deinit(), before the loops stop

    // session.cpp
    static void session_destroyed(CommSession *session);
    static void bind_session(Entry *entry, CommSession *session);
    static int wait_of(const CommSession *session);
    static void set_cause(CommSession *session, int cause, int limit) {
        session->cause = static_cast<int8_t>(cause);
        session->limit_ms = limit;
    }

    // The private hooks, by name.
    static CommMessageOut *message_out(CommSession *s) { return s->out = s->message_out(); }
    static CommCore *core_of(Communicator *communicator) { return communicator->core; }

    friend class Communicator;
};
