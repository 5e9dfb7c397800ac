// Threads for work that computes or blocks, so that loops do neither: an ExecSession is one piece of work, an
// ExecQueue a share of the threads, an Executor the threads. Like the sessions of the network, a piece of
// work runs (execute) and is then told how it ended (handle).
//
//     class Sum : public ExecSession {
//         void execute() override { result = sum(numbers); }
//         void handle(int state, int error) override { ...; delete this; }
//     };
//
//     executor.init(4);
//     queue.init();
//     executor.request(new Sum, &queue);
//
// ExecRequest.h makes such a session a step of a series.

#pragma once

#include <stddef.h>

#include <list>

#include "list.h"
#include "Sync.h"

// How a session ended: the first argument of ExecSession::handle().
#define ES_STATE_FINISHED 0
#define ES_STATE_ERROR 1
#define ES_STATE_CANCELED 2

class Executor;

// A class of fairness. Sessions of one queue begin in the order of their requests, but the next begins before
// the last has ended, so it is no lock: they run beside one another. Queues that hold sessions take turns,
// one session each, however many wait in the one or the other.
//
// A queue must live as long as a session waits in it, and while it holds sessions it serves one Executor.
class ExecQueue {
public:
    // Makes the queue empty. 0.
    int init();

    // The queue must be empty.
    void deinit();

    ExecQueue() = default;
    virtual ~ExecQueue() = default;

    ExecQueue(const ExecQueue &) = delete;
    ExecQueue &operator=(const ExecQueue &) = delete;

private:
    list_head waiting_ = LIST_HEAD_INIT(waiting_); // ExecSession::link_
    list_head ticket_ = LIST_HEAD_INIT(ticket_);   // in Executor::tickets_, exactly as long as sessions wait

    friend class Executor;
};

// A piece of work. It belongs to the user: from Executor::request() until handle() is entered it must stay
// where it is; in handle() it may be deleted or requested again.
class ExecSession {
private:
    // The work. On a thread of the Executor, with no lock held. It may throw, block, and request further
    // sessions.
    virtual void execute() = 0;

    // How it ended, once for each successful request(), and the last that the Executor has to do with the
    // session:
    //
    // - ES_STATE_FINISHED, 0: execute() returned. Same thread.
    // - ES_STATE_ERROR, ENOTRECOVERABLE: an exception left execute() and is lost. Same thread.
    // - ES_STATE_CANCELED, 0: execute() was not called. The thread in Executor::cancel() or in deinit().
    //
    // No lock is held. It must not throw.
    virtual void handle(int state, int error) = 0;

protected:
    // The queue of the latest successful request().
    ExecQueue *get_queue() const { return queue_; }

public:
    ExecSession() = default;
    virtual ~ExecSession() = default;

    ExecSession(const ExecSession &) = delete;
    ExecSession &operator=(const ExecSession &) = delete;

private:
    ExecQueue *queue_ = nullptr;
    list_head link_ = LIST_HEAD_INIT(link_); // in ExecQueue::waiting_, or alone

    friend class Executor;
};

// A pool of threads. All of them block signals, so that signals reach the program's own threads; but for the
// faults of the thread itself (SIGSEGV and its like) and the profiler's SIGPROF.
//
// Functions that return int return 0, or -1 with errno set. Unless said otherwise, any thread may call them,
// the pool's own included.
class Executor {
public:
    // Starts the pool. It may be stopped by deinit() and started again. EINVAL: no threads asked for. EBUSY:
    // it is started. EAGAIN, ENOMEM, whatever the creation of a thread says: none is left behind.
    int init(size_t nthreads);

    // Stops the pool: requests fail from now on, sessions that wait get handle(ES_STATE_CANCELED, 0) on this
    // thread, in the order of their queues, sessions that run come to their end, and the threads are joined.
    // Does nothing if the pool is not started or is being stopped already. Called by a session of its own, in
    // execute() or handle(), it sets errno to EDEADLK and does nothing.
    void deinit();

    // Has the session executed in its turn. handle() may run before this returns. Nothing is allocated.
    // ESHUTDOWN: the pool is not started, or deinit() has begun; the session then remains untouched.
    int request(ExecSession *session, ExecQueue *queue);

    // Additive. Takes back a session that was requested here and has not begun: handle(ES_STATE_CANCELED, 0)
    // runs on this thread before this returns. ENOENT: it runs already, or is being cancelled, and its
    // handle() comes from there. As `session` must be alive, this is for callers who know that its handle()
    // was not entered.
    int cancel(ExecSession *session);

    // Adds a thread. ESHUTDOWN as in request(); EAGAIN, ENOMEM, as in init(): the pool works on as it was.
    int increase_thread();

    // Has one thread leave, as soon as one is between two sessions. EINVAL: it would be the last. ESHUTDOWN
    // as in request().
    int decrease_thread();

    // Additive. 1 on a thread that runs its sessions; 0 elsewhere.
    int is_executor_thread() const;

    Executor() = default;

    // As deinit(), if that was forgotten.
    virtual ~Executor();

    Executor(const Executor &) = delete;
    Executor &operator=(const Executor &) = delete;

private:
    // | state    | requests | threads            | next                              |
    // |----------|----------|--------------------|-----------------------------------|
    // | stopped  | refused  | none               | starting, by init()               |
    // | starting | refused  | are being created  | running; if one fails, stopping   |
    // | running  | taken    | take tickets       | stopping, by deinit()             |
    // | stopping | refused  | end and are joined | stopped                           |
    enum class State { stopped, starting, running, stopping };

    using Threads = std::list<parley::sync::thread>;

    class Membership;

    int start_thread();
    void join_threads();
    void serve(Threads::iterator self);
    bool await_ticket(parley::sync::unique_lock<parley::sync::mutex> &lock);
    void leave(Threads::iterator self, parley::sync::unique_lock<parley::sync::mutex> &lock);
    ExecSession *take_session();
    void wake_thread();

    parley::sync::mutex mutex_; // of everything below, and of the queues and sessions that wait
    parley::sync::condition_variable work_;
    State state_ = State::stopped;
    list_head tickets_ = LIST_HEAD_INIT(tickets_); // ExecQueue::ticket_
    Threads threads_;
    parley::sync::thread departed_; // the latest to leave by decrease_thread(), not joined yet
    size_t leaving_ = 0;            // threads that have yet to leave
    size_t sleeping_ = 0;           // threads that wait for work
    size_t woken_ = 0;              // of these, the ones that were told there is some
};
