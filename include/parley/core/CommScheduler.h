// Limits and choice above the Communicator: a CommSchedTarget is a peer with a maximum of requests
// in flight, a CommSchedGroup picks the least loaded of several, a CommScheduler is a Communicator
// that acquires a slot before it sends.

#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "Communicator.h"

class CommSchedGroup;
class CommSchedTarget;

namespace parley::core {
class SlotGrants;
}

// What requests can be scheduled to. Its load is the number of requests in flight.
class CommSchedObject {
public:
    size_t get_max_load() const { return max_load.load(std::memory_order_relaxed); }
    size_t get_cur_load() const { return cur_load.load(std::memory_order_relaxed) & ~load_locked; }

private:
    // A slot's target, or nullptr with EAGAIN (wait_timeout 0 and full, or an empty group),
    // ETIMEDOUT, or EDEADLK (would wait on a loop).
    virtual CommTarget *acquire(int wait_timeout) = 0;

protected:
    // This bit of a target's cur_load says that the rest of it changes under a mutex only: somebody
    // waits, or the target is in a group. While it is clear, one atomic step takes or frees a slot.
    static constexpr size_t load_locked = ~(SIZE_MAX >> 1);

    parley::sync::atomic<size_t> max_load{0};
    parley::sync::atomic<size_t> cur_load{0};

public:
    CommSchedObject() = default;
    virtual ~CommSchedObject() = default;

    friend class CommScheduler;
};

// Additive. One place in the queue for a slot, which no thread waits for. First in, first out;
// waiters of a target come before waiters of its group.
class CommSlotWaiter {
private:
    // The slot is taken in this waiter's name: send a request to `target` or release() it. On the
    // loop that called wait_slot(), or, called elsewhere, on the thread that freed the slot; never
    // inside wait_slot(). It must not block; it may destroy the waiter or queue it again. A waiter
    // whose loop has ended is passed over.
    virtual void granted(CommTarget *target) = 0;

public:
    // Whose slot was taken; once wait_slot() has returned 1.
    CommTarget *get_target() const;

    CommSlotWaiter() = default;
    virtual ~CommSlotWaiter() = default;
    CommSlotWaiter(const CommSlotWaiter &) = delete;
    CommSlotWaiter &operator=(const CommSlotWaiter &) = delete;

private:
    // idle --wait_slot()--> queued --a slot is free--> granted --granted() is entered--> idle
    //                         `--cancel_wait()--> idle   `--the loop has ended--> lost
    enum class Phase : int8_t { idle, queued, granted, lost };

    struct list_head link_ = {&link_, &link_}; // queue, inbox of the loop, or grants on a thread's stack
    parley::sync::atomic<Phase> phase_{Phase::idle};
    CommSchedTarget *target_ = nullptr;                   // from `granted` on
    CommLoop *loop_ = nullptr;                            // retained while queued or granted
    parley::sync::condition_variable *sleeper_ = nullptr; // of a thread that is blocked

    friend class CommSchedTarget;
    friend class CommSchedGroup;
    friend class parley::core::SlotGrants;
};

class CommSchedTarget : public CommSchedObject, public CommTarget {
public:
    // EINVAL when max_connections is 0. It bounds requests in flight and open sockets.
    int init(const struct sockaddr *addr, socklen_t addrlen, int connect_timeout, int response_timeout,
             size_t max_connections);
    int init(const struct sockaddr *addr, socklen_t addrlen, SSL_CTX *ssl_ctx, int connect_timeout,
             int ssl_connect_timeout, int response_timeout, size_t max_connections);
    void deinit();

    // Additive. Takes a slot at once: returns 1 and granted() is not called. Or joins the queue:
    // returns 0. Any thread. The waiter stays the caller's and must live until granted() or a
    // successful cancel_wait().
    int wait_slot(CommSlotWaiter *waiter);
    // Additive. 0: it left the queue and granted() will not run. -1/ENOENT: granted() has been
    // decided; it ran or will. From the loop that queued it: also takes back a grant that is on
    // its way (the slot goes to the next), so there it fails only when granted() was entered.
    // Always 0 for a waiter that was passed over because its loop has ended.
    int cancel_wait(CommSlotWaiter *waiter);

    // Gives the slot back; called by the Communicator before handle().
    virtual void release();

private:
    virtual CommTarget *acquire(int wait_timeout);

public:
    CommSchedTarget() = default;
    virtual ~CommSchedTarget();

private:
    bool try_slot();
    bool take_slot();
    void unlock_load();
    void leave_group();

    parley::sync::mutex mutex_; // guards what follows; comes before the group's
    CommSchedGroup *group_ = nullptr;
    struct list_head waiters_ = {&waiters_, &waiters_}; // if there is one, every slot is taken

    friend class CommSchedGroup;
};

// Targets that stand for each other. A request always counts against the group of its target.
// The least loaded one is chosen, by the ratio of its load to its maximum; among equals one with an
// idle connection, else by turns. A target leaves its group when either of the two is
// deinitialised.
class CommSchedGroup : public CommSchedObject {
public:
    int init();
    void deinit(); // nobody may be waiting
    // EEXIST (here already), EINVAL (in another group), EBUSY (the target has waiters), ENOMEM.
    int add(CommSchedTarget *target);
    // ENOENT, EBUSY (the target has waiters). What is in flight to it counts here no more.
    int remove(CommSchedTarget *target);
    // Additive. As CommSchedTarget::wait_slot(), for whichever target frees a slot first;
    // -1/EAGAIN when the group is empty.
    int wait_slot(CommSlotWaiter *waiter);
    int cancel_wait(CommSlotWaiter *waiter);

private:
    virtual CommTarget *acquire(int wait_timeout);

public:
    CommSchedGroup() = default;
    virtual ~CommSchedGroup();

private:
    CommSchedTarget *take_slot();
    int grow();
    void forget(CommSchedTarget *target);

    parley::sync::mutex mutex_; // guards what follows, and the loads of the targets
    CommSchedTarget **targets_ = nullptr;
    size_t count_ = 0;
    size_t capacity_ = 0;
    size_t turn_ = 0;                                   // where to look first
    struct list_head waiters_ = {&waiters_, &waiters_}; // if there is one, every slot is taken

    friend class CommSchedTarget;
};

class CommScheduler {
public:
    int init(size_t poller_threads, size_t handler_threads) {
        return comm.init(poller_threads, handler_threads);
    }
    void deinit() { comm.deinit(); }

    // Acquires a slot of `object` (waiting at most wait_timeout ms; 0 does not wait; on a loop a
    // wait is EDEADLK), stores its target in *target, then submits. On failure the slot is
    // released.
    int request(CommSession *session, CommSchedObject *object, int wait_timeout, CommTarget **target);

    int reply(CommSession *session) { return comm.reply(session); }
    int shutdown(CommSession *session) { return comm.shutdown(session); }
    int push(const void *buf, size_t size, CommSession *session) { return comm.push(buf, size, session); }
    int bind(CommService *service) { return comm.bind(service); }
    void unbind(CommService *service) { comm.unbind(service); }
    int sleep(SleepSession *session) { return comm.sleep(session); }
    int unsleep(SleepSession *session) { return comm.unsleep(session); }
    int io_bind(IOService *service) { return comm.io_bind(service); }
    void io_unbind(IOService *service) { comm.io_unbind(service); }
    int is_handler_thread() const { return comm.is_handler_thread(); }
    int increase_handler_thread() { return comm.increase_handler_thread(); }
    int decrease_handler_thread() { return comm.decrease_handler_thread(); }
    void customize_event_handler(CommEventHandler *handler) { comm.customize_event_handler(handler); }

    // Additive. The Communicator itself, for what is not forwarded.
    Communicator &communicator() { return comm; }

    CommScheduler() = default;
    virtual ~CommScheduler() = default;

private:
    Communicator comm;
};
