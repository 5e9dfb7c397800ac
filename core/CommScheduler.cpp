// Slots of targets. Taking and freeing one is a single step on the target's load while nobody waits
// and the target is in no group; else it happens under the mutex of the target and then that of the
// group. A freed slot goes to the first waiter without ever being free: that keeps the order.
//
// A target's mutex comes before its group's, because a release starts at the target: as long as it
// holds the target's, the target cannot leave the group, and the group cannot go.

#include "CommScheduler.h"

#include <assert.h>
#include <errno.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <utility>

#include "loop.h"
#include "machine.h"
#include "owner.h"

using parley::sync::lock_guard;
using parley::sync::unique_lock;
using Mutex = parley::sync::mutex;

namespace parley::core {

// Slots that were given away under a lock and are to be delivered without one.
class SlotGrants {
public:
    // To the first of the queue, which is not empty; under the queue's mutex.
    void give(struct list_head *queue, CommSchedTarget *target);
    // Without any.
    void deliver();

    // All three under the mutex of the queue.
    static void enqueue(CommSlotWaiter *waiter, struct list_head *queue);
    static bool dequeue(CommSlotWaiter *waiter);
    static CommSchedTarget *sleep(struct list_head *queue, unique_lock<Mutex> &lock, int timeout);

    // The rest of cancel_wait(), without a mutex.
    static int cancel_grant(CommSlotWaiter *waiter);

private:
    using Phase = CommSlotWaiter::Phase;

    static CommSlotWaiter *first_of(struct list_head *list) {
        return PARLEY_OWNER(list->next, CommSlotWaiter, link_);
    }
    static Loop *loop_of(CommSlotWaiter *waiter) { return static_cast<Loop *>(waiter->loop_); }
    static void deliver_inbox(CommNode *node);
    static void pass_on(SlotInbox *inbox, Loop *loop);
    void deliver_one();

    struct list_head here_ = {&here_, &here_}; // to waiters that no loop queued
    SlotInbox *inboxes_ = nullptr;             // to be posted; their loops are retained
};

namespace {

class BlockedThread final : public CommSlotWaiter {
    void granted(CommTarget *) override {}
};

// Whose slot CommScheduler::request() acquires on this thread, if it has a ticket.
constinit thread_local CommSession *asking = nullptr;

} // namespace

void SlotGrants::give(struct list_head *queue, CommSchedTarget *target) {
    CommSlotWaiter *waiter = first_of(queue);
    list_del_init(&waiter->link_);
    waiter->target_ = target;
    if (waiter->sleeper_ != nullptr) {
        // Its thread goes on once the mutex is free, and takes waiter and condition with it.
        waiter->phase_.store(Phase::granted, std::memory_order_relaxed);
        waiter->sleeper_->notify_one();
        return;
    }
    Loop *loop = loop_of(waiter);
    if (loop == nullptr) {
        waiter->phase_.store(Phase::granted, std::memory_order_relaxed);
        list_add_tail(&waiter->link_, &here_);
        return;
    }
    SlotInbox *inbox = &loop->slots;
    lock_guard<Mutex> lock(inbox->mutex);
    waiter->phase_.store(Phase::granted, std::memory_order_relaxed);
    list_add_tail(&waiter->link_, &inbox->granted);
    if (!std::exchange(inbox->posted, true)) {
        loop->retain();
        inbox->next = std::exchange(inboxes_, inbox);
    }
}

// granted() may release a slot, and so may passing one on: what this grants is delivered by the
// outermost call on the thread, not by one frame on top of the other.
void SlotGrants::deliver() {
    static constinit thread_local SlotGrants *outermost = nullptr;
    if (outermost != nullptr) {
        list_splice_tail_init(&here_, &outermost->here_);
        while (inboxes_ != nullptr) {
            SlotInbox *inbox = std::exchange(inboxes_, inboxes_->next);
            inbox->next = std::exchange(outermost->inboxes_, inbox);
        }
        return;
    }
    outermost = this;
    while (inboxes_ != nullptr || !list_empty(&here_))
        deliver_one();
    outermost = nullptr;
}

void SlotGrants::deliver_one() {
    if (inboxes_ != nullptr) {
        SlotInbox *inbox = std::exchange(inboxes_, inboxes_->next);
        Loop *loop = PARLEY_OWNER(inbox, Loop, slots);
        inbox->node.run = deliver_inbox;
        if (!loop->post_any(&inbox->node))
            pass_on(inbox, loop);
        loop->release();
        return;
    }
    CommSlotWaiter *waiter = first_of(&here_);
    list_del_init(&waiter->link_);
    waiter->phase_.store(Phase::idle, std::memory_order_relaxed);
    waiter->granted(waiter->target_);
}

// On the loop. What is granted meanwhile comes with the next node, so that the loop gets on.
void SlotGrants::deliver_inbox(CommNode *node) {
    SlotInbox *inbox = PARLEY_OWNER(node, SlotInbox, node);
    struct list_head batch = {&batch, &batch};
    unique_lock<Mutex> lock(inbox->mutex);
    inbox->posted = false;
    list_splice_init(&inbox->granted, &batch);
    while (!list_empty(&batch)) {
        CommSlotWaiter *waiter = first_of(&batch);
        list_del_init(&waiter->link_);
        waiter->phase_.store(Phase::idle, std::memory_order_relaxed);
        lock.unlock();
        loop_of(waiter)->release();
        waiter->granted(waiter->target_);
        lock.lock();
    }
}

// The loop has ended: its waiters are passed over, and the next ones have the slots.
void SlotGrants::pass_on(SlotInbox *inbox, Loop *loop) {
    for (;;) {
        CommSchedTarget *target;
        {
            lock_guard<Mutex> lock(inbox->mutex);
            if (list_empty(&inbox->granted)) {
                inbox->posted = false;
                return;
            }
            CommSlotWaiter *waiter = first_of(&inbox->granted);
            list_del_init(&waiter->link_);
            target = waiter->target_;
            waiter->phase_.store(Phase::lost, std::memory_order_relaxed);
        }
        loop->release();
        target->CommSchedTarget::release();
    }
}

void SlotGrants::enqueue(CommSlotWaiter *waiter, struct list_head *queue) {
    assert(list_empty(&waiter->link_));
    Loop *loop = Loop::current();
    if (loop != nullptr)
        loop->retain();
    waiter->loop_ = loop;
    waiter->phase_.store(Phase::queued, std::memory_order_relaxed);
    list_add_tail(&waiter->link_, queue);
}

bool SlotGrants::dequeue(CommSlotWaiter *waiter) {
    if (waiter->phase_.load(std::memory_order_relaxed) != Phase::queued)
        return false;
    list_del_init(&waiter->link_);
    waiter->phase_.store(Phase::idle, std::memory_order_relaxed);
    if (Loop *loop = loop_of(waiter))
        loop->release();
    return true;
}

int SlotGrants::cancel_grant(CommSlotWaiter *waiter) {
    Loop *loop = loop_of(waiter);
    if (loop != nullptr && loop == Loop::current()) {
        unique_lock<Mutex> lock(loop->slots.mutex);
        if (waiter->phase_.load(std::memory_order_relaxed) == Phase::granted) {
            list_del_init(&waiter->link_);
            waiter->phase_.store(Phase::idle, std::memory_order_relaxed);
            lock.unlock();
            loop->release();
            waiter->target_->CommSchedTarget::release();
            return 0;
        }
    }
    auto phase = Phase::lost;
    if (waiter->phase_.compare_exchange_strong(phase, Phase::idle, std::memory_order_relaxed))
        return 0;
    errno = ENOENT;
    return -1;
}

// A slot's target; or nullptr and ETIMEDOUT or ECANCELED.
CommSchedTarget *SlotGrants::sleep(struct list_head *queue, unique_lock<Mutex> &lock, int timeout) {
    BlockedThread self;
    sync::condition_variable condition;
    self.sleeper_ = &condition;
    self.phase_.store(Phase::queued, std::memory_order_relaxed);
    list_add_tail(&self.link_, queue);

    struct Cancelling : CommMachine::TicketWait {
        CommSlotWaiter *waiter;
        Mutex *mutex;
    } cancelling;
    cancelling.waiter = &self;
    cancelling.mutex = lock.mutex();
    cancelling.leave = [](CommMachine::TicketWait *wait) {
        auto *it = static_cast<Cancelling *>(wait);
        lock_guard<Mutex> guard(*it->mutex);
        if (it->waiter->phase_.load(std::memory_order_relaxed) != Phase::queued)
            return; // it has the slot, or gave up
        list_del_init(&it->waiter->link_);
        it->waiter->phase_.store(Phase::lost, std::memory_order_relaxed);
        it->waiter->sleeper_->notify_one();
    };
    if (asking != nullptr)
        CommMachine::ticket_waits(asking, &cancelling);

    auto over = [&self] { return self.phase_.load(std::memory_order_relaxed) != Phase::queued; };
    if (timeout < 0) {
        condition.wait(lock, over);
    } else if (!condition.wait_for(lock, std::chrono::milliseconds(timeout), over)) {
        list_del_init(&self.link_);
        self.phase_.store(Phase::lost, std::memory_order_relaxed);
    }
    bool granted = self.phase_.load(std::memory_order_relaxed) == Phase::granted;
    errno = ETIMEDOUT;
    if (asking != nullptr) {
        lock.unlock(); // cancel() may want it
        bool cancelled = CommMachine::ticket_waited(asking);
        if (granted && cancelled)
            self.target_->CommSchedTarget::release();
        lock.lock();
        if (cancelled)
            errno = ECANCELED;
        granted = granted && !cancelled;
    }
    return granted ? self.target_ : nullptr;
}

} // namespace parley::core

using parley::core::SlotGrants;

namespace {

bool may_sleep(int wait_timeout) {
    if (wait_timeout != 0 && CommLoop::current() == nullptr)
        return true;
    errno = wait_timeout == 0 ? EAGAIN : EDEADLK;
    return false;
}

} // namespace

CommTarget *CommSlotWaiter::get_target() const {
    return target_;
}

int CommSchedTarget::init(const struct sockaddr *peer, socklen_t size, int connect_ms, int response_ms,
                          size_t max_connections) {
    if (max_connections == 0) {
        errno = EINVAL;
        return -1;
    }
    if (CommTarget::init(peer, size, connect_ms, response_ms) < 0)
        return -1;
    max_sockets = static_cast<uint32_t>(std::min<size_t>(max_connections, UINT32_MAX));
    max_load.store(std::min(max_connections, load_locked - 1), std::memory_order_relaxed);
    cur_load.store(0, std::memory_order_relaxed);
    return 0;
}

int CommSchedTarget::init(const struct sockaddr *peer, socklen_t size, SSL_CTX *ctx, int connect_ms,
                          int ssl_connect_ms, int response_ms, size_t max_connections) {
    if (init(peer, size, connect_ms, response_ms, max_connections) < 0)
        return -1;
    set_ssl(ctx, ssl_connect_ms);
    return 0;
}

void CommSchedTarget::deinit() {
    leave_group();
    assert(list_empty(&waiters_));
    CommTarget::deinit();
}

CommSchedTarget::~CommSchedTarget() {
    leave_group();
}

void CommSchedTarget::leave_group() {
    lock_guard<Mutex> lock(mutex_);
    if (group_ != nullptr) {
        lock_guard<Mutex> group_lock(group_->mutex_);
        group_->forget(this);
    }
}

// Under the mutex. Whatever the result, nobody passes the mutex by until unlock_load().
bool CommSchedTarget::take_slot() {
    size_t max = max_load.load(std::memory_order_relaxed);
    unique_lock<Mutex> group_lock;
    if (group_ != nullptr)
        group_lock = unique_lock<Mutex>(group_->mutex_);
    size_t load = cur_load.fetch_or(load_locked, std::memory_order_acq_rel) & ~load_locked;
    if (load >= max)
        return false;
    cur_load.fetch_add(1, std::memory_order_relaxed);
    if (group_ != nullptr)
        group_->cur_load.fetch_add(1, std::memory_order_relaxed);
    return true;
}

// Under the mutex.
void CommSchedTarget::unlock_load() {
    if (group_ == nullptr && list_empty(&waiters_))
        cur_load.fetch_and(~load_locked, std::memory_order_release);
}

CommTarget *CommSchedTarget::acquire(int wait_timeout) {
    if (try_slot())
        return this;
    unique_lock<Mutex> lock(mutex_);
    bool taken = take_slot() || (may_sleep(wait_timeout) && SlotGrants::sleep(&waiters_, lock, wait_timeout));
    unlock_load();
    return taken ? this : nullptr;
}

// Without the mutex. Fails also when it cannot be told without.
bool CommSchedTarget::try_slot() {
    size_t max = max_load.load(std::memory_order_relaxed);
    size_t load = cur_load.load(std::memory_order_relaxed);
    while (load < max) // and not locked
        if (cur_load.compare_exchange_weak(load, load + 1, std::memory_order_acq_rel,
                                           std::memory_order_relaxed))
            return true;
    return false;
}

void CommSchedTarget::release() {
    size_t load = cur_load.load(std::memory_order_relaxed);
    assert((load & ~load_locked) > 0);
    while ((load & load_locked) == 0)
        if (cur_load.compare_exchange_weak(load, load - 1, std::memory_order_acq_rel,
                                           std::memory_order_relaxed))
            return;
    SlotGrants grants;
    {
        lock_guard<Mutex> lock(mutex_);
        unique_lock<Mutex> group_lock;
        if (group_ != nullptr)
            group_lock = unique_lock<Mutex>(group_->mutex_);
        if (!list_empty(&waiters_)) {
            grants.give(&waiters_, this);
        } else if (group_ != nullptr && !list_empty(&group_->waiters_)) {
            grants.give(&group_->waiters_, this);
        } else {
            cur_load.fetch_sub(1, std::memory_order_release);
            if (group_ != nullptr)
                group_->cur_load.fetch_sub(1, std::memory_order_relaxed);
        }
        unlock_load();
    }
    grants.deliver();
}

int CommSchedTarget::wait_slot(CommSlotWaiter *waiter) {
    waiter->target_ = this;
    if (try_slot())
        return 1;
    lock_guard<Mutex> lock(mutex_);
    bool taken = take_slot();
    if (!taken)
        SlotGrants::enqueue(waiter, &waiters_);
    unlock_load();
    return taken ? 1 : 0;
}

int CommSchedTarget::cancel_wait(CommSlotWaiter *waiter) {
    {
        lock_guard<Mutex> lock(mutex_);
        if (SlotGrants::dequeue(waiter)) {
            unlock_load();
            return 0;
        }
    }
    return SlotGrants::cancel_grant(waiter);
}

int CommSchedGroup::init() {
    max_load.store(0, std::memory_order_relaxed);
    cur_load.store(0, std::memory_order_relaxed);
    return 0;
}

void CommSchedGroup::deinit() {
    assert(list_empty(&waiters_));
    while (count_ > 0)
        targets_[count_ - 1]->leave_group();
    delete[] targets_;
    targets_ = nullptr;
    capacity_ = 0;
}

CommSchedGroup::~CommSchedGroup() {
    deinit();
}

// Under the mutex. Room for one more target: 0 or an errno.
int CommSchedGroup::grow() {
    if (count_ < capacity_)
        return 0;
    size_t more = std::max<size_t>(4, capacity_ * 2);
    auto **bigger = new (std::nothrow) CommSchedTarget *[more];
    if (bigger == nullptr)
        return ENOMEM;
    std::copy_n(targets_, count_, bigger);
    delete[] targets_;
    targets_ = bigger;
    capacity_ = more;
    return 0;
}

int CommSchedGroup::add(CommSchedTarget *target) {
    SlotGrants grants;
    {
        lock_guard<Mutex> target_lock(target->mutex_);
        lock_guard<Mutex> lock(mutex_);
        int error = target->group_ == this           ? EEXIST
                    : target->group_ != nullptr      ? EINVAL
                    : !list_empty(&target->waiters_) ? EBUSY
                                                     : grow();
        if (error != 0) {
            errno = error;
            return -1;
        }
        targets_[count_++] = target;
        target->group_ = this;
        size_t max = target->get_max_load();
        size_t load = target->cur_load.fetch_or(load_locked, std::memory_order_acq_rel) & ~load_locked;
        max_load.fetch_add(max, std::memory_order_relaxed);
        cur_load.fetch_add(load, std::memory_order_relaxed);
        // Whoever waits, waits for any target of the group: also for a new one.
        for (; load < max && !list_empty(&waiters_); load++) {
            target->cur_load.fetch_add(1, std::memory_order_relaxed);
            cur_load.fetch_add(1, std::memory_order_relaxed);
            grants.give(&waiters_, target);
        }
    }
    grants.deliver();
    return 0;
}

int CommSchedGroup::remove(CommSchedTarget *target) {
    lock_guard<Mutex> target_lock(target->mutex_);
    lock_guard<Mutex> lock(mutex_);
    int error = target->group_ != this ? ENOENT : !list_empty(&target->waiters_) ? EBUSY : 0;
    if (error != 0) {
        errno = error;
        return -1;
    }
    forget(target);
    return 0;
}

// Under both mutexes.
void CommSchedGroup::forget(CommSchedTarget *target) {
    *std::find(targets_, targets_ + count_, target) = targets_[count_ - 1];
    count_--;
    max_load.fetch_sub(target->get_max_load(), std::memory_order_relaxed);
    cur_load.fetch_sub(target->get_cur_load(), std::memory_order_relaxed);
    target->group_ = nullptr;
    target->unlock_load();
}

namespace {

struct Choice {
    CommSchedTarget *target = nullptr;
    size_t load = 1;
    size_t max = 1;
    bool idle = false; // has an idle connection

    bool better_than(const Choice &other) const {
        __extension__ using wide = unsigned __int128;
        wide mine = static_cast<wide>(load) * other.max;
        wide its = static_cast<wide>(other.load) * max;
        return mine < its || (mine == its && idle && !other.idle);
    }
};

} // namespace

// Under the mutex. A slot of the best target, or nullptr.
CommSchedTarget *CommSchedGroup::take_slot() {
    Choice best; // full, so that any choice is better
    size_t next = 0;
    for (size_t i = 0; i < count_; i++) {
        size_t index = (turn_ + i) % count_;
        CommSchedTarget *target = targets_[index];
        if (target->get_cur_load() >= target->get_max_load())
            continue;
        Choice choice{target, target->get_cur_load(), target->get_max_load(), target->has_idle_conn() != 0};
        if (choice.better_than(best)) {
            best = choice;
            next = index + 1;
            if (best.load == 0 && best.idle)
                break;
        }
    }
    if (best.target != nullptr) {
        turn_ = next;
        best.target->cur_load.fetch_add(1, std::memory_order_relaxed);
        cur_load.fetch_add(1, std::memory_order_relaxed);
    }
    return best.target;
}

CommTarget *CommSchedGroup::acquire(int wait_timeout) {
    unique_lock<Mutex> lock(mutex_);
    if (CommSchedTarget *target = take_slot())
        return target;
    if (!may_sleep(count_ == 0 ? 0 : wait_timeout))
        return nullptr;
    return SlotGrants::sleep(&waiters_, lock, wait_timeout);
}

int CommSchedGroup::wait_slot(CommSlotWaiter *waiter) {
    lock_guard<Mutex> lock(mutex_);
    waiter->target_ = take_slot();
    if (waiter->target_ != nullptr)
        return 1;
    if (count_ == 0) {
        errno = EAGAIN;
        return -1;
    }
    SlotGrants::enqueue(waiter, &waiters_);
    return 0;
}

int CommSchedGroup::cancel_wait(CommSlotWaiter *waiter) {
    {
        lock_guard<Mutex> lock(mutex_);
        if (SlotGrants::dequeue(waiter))
            return 0;
    }
    return SlotGrants::cancel_grant(waiter);
}

int CommScheduler::request(CommSession *session, CommSchedObject *object, int wait_timeout,
                           CommTarget **target) {
    int saved = errno;
    parley::core::asking = CommMachine::has_ticket(session) ? session : nullptr;
    CommTarget *acquired = object->acquire(wait_timeout);
    parley::core::asking = nullptr;
    if (acquired == nullptr) {
        CommMachine::set_cause(session, errno == ECANCELED ? CC_CANCEL : CC_WAIT,
                               errno == ETIMEDOUT ? wait_timeout : -1);
        return -1;
    }
    *target = acquired; // the session may be gone when request() returns
    if (comm.request(session, acquired) < 0) {
        int error = errno;
        acquired->release();
        errno = error;
        return -1;
    }
    errno = saved;
    return 0;
}
