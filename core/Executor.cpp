#include "Executor.h"

#include <assert.h>
#include <errno.h>

#include <new>
#include <system_error>
#include <utility>

using parley::sync::lock_guard;
using parley::sync::unique_lock;

// Marks this thread as one that runs an Executor's sessions: the pool's own, and the one in deinit().
class Executor::Membership {
public:
    explicit Membership(const Executor *executor) : outer(std::exchange(current, executor)) {}
    ~Membership() { current = outer; }

    Membership(const Membership &) = delete;
    Membership &operator=(const Membership &) = delete;

    static bool is_of(const Executor *executor) { return current == executor; }

private:
    static constinit thread_local const Executor *current;

    const Executor *outer;
};

constinit thread_local const Executor *Executor::Membership::current = nullptr;

int ExecQueue::init() {
    INIT_LIST_HEAD(&waiting_);
    INIT_LIST_HEAD(&ticket_);
    return 0;
}

void ExecQueue::deinit() {
    assert(list_empty(&waiting_));
}

int Executor::init(size_t nthreads) {
    if (nthreads == 0) {
        errno = EINVAL;
        return -1;
    }

    unique_lock lock(mutex_);
    if (state_ != State::stopped) {
        errno = EBUSY;
        return -1;
    }

    state_ = State::starting;
    int error = 0;
    while (error == 0 && threads_.size() < nthreads)
        error = start_thread();

    if (error == 0) {
        state_ = State::running;
        return 0;
    }

    state_ = State::stopping;
    lock.unlock();
    join_threads();
    errno = error;
    return -1;
}

void Executor::deinit() {
    if (Membership::is_of(this)) {
        errno = EDEADLK;
        return;
    }

    unique_lock lock(mutex_);
    if (state_ != State::running)
        return;

    state_ = State::stopping;

    // Before the join: a session that runs may be waiting for one that is queued.
    {
        Membership member(this);
        while (ExecSession *session = take_session()) {
            lock.unlock();
            session->handle(ES_STATE_CANCELED, 0);
            lock.lock();
        }
    }

    lock.unlock();
    join_threads();
}

Executor::~Executor() {
    deinit();
}

int Executor::request(ExecSession *session, ExecQueue *queue) {
    lock_guard lock(mutex_);

    if (state_ != State::running) {
        errno = ESHUTDOWN;
        return -1;
    }

    assert(list_empty(&session->link_));
    session->queue_ = queue;
    list_add_tail(&session->link_, &queue->waiting_);
    if (list_empty(&queue->ticket_)) {
        list_add_tail(&queue->ticket_, &tickets_);
        wake_thread();
    }

    return 0;
}

int Executor::cancel(ExecSession *session) {
    {
        lock_guard lock(mutex_);

        if (list_empty(&session->link_)) {
            errno = ENOENT;
            return -1;
        }

        list_del_init(&session->link_);
        if (list_empty(&session->queue_->waiting_))
            list_del_init(&session->queue_->ticket_);
    }

    session->handle(ES_STATE_CANCELED, 0);
    return 0;
}

int Executor::is_executor_thread() const {
    return Membership::is_of(this) ? 1 : 0;
}

int Executor::increase_thread() {
    lock_guard lock(mutex_);

    if (state_ != State::running) {
        errno = ESHUTDOWN;
        return -1;
    }

    if (leaving_ != 0) { // one that was to leave stays
        --leaving_;
        return 0;
    }

    if (int error = start_thread()) {
        errno = error;
        return -1;
    }

    return 0;
}

int Executor::decrease_thread() {
    lock_guard lock(mutex_);

    if (state_ != State::running) {
        errno = ESHUTDOWN;
        return -1;
    }

    if (threads_.size() - leaving_ == 1) {
        errno = EINVAL;
        return -1;
    }

    ++leaving_;
    wake_thread();
    return 0;
}

// Under the lock. 0 or an errno. The thread cannot do anything before the lock is free, so it finds itself in
// `threads_`.
int Executor::start_thread() {
    Threads fresh;

    try {
        fresh.emplace_back();
        fresh.front() = parley::sync::thread(&Executor::serve, this, fresh.begin());
    } catch (const std::system_error &error) {
        return error.code().value();
    } catch (const std::bad_alloc &) {
        return ENOMEM;
    }

    threads_.splice(threads_.end(), fresh);
    return 0;
}

// The end of stopping.
void Executor::join_threads() {
    unique_lock lock(mutex_);
    Threads ending = std::exchange(threads_, {});
    parley::sync::thread left = std::move(departed_);

    work_.notify_all();
    lock.unlock();

    for (parley::sync::thread &thread : ending)
        thread.join();
    if (left.joinable())
        left.join();

    lock.lock();
    leaving_ = 0;
    state_ = State::stopped;
}

// The life of a thread.
void Executor::serve(Threads::iterator self) {
    Membership member(this);
    unique_lock lock(mutex_);

    while (await_ticket(lock)) {
        ExecSession *session = take_session();
        int result = ES_STATE_FINISHED;
        int error = 0;

        lock.unlock();
        try {
            session->execute();
        } catch (...) {
            result = ES_STATE_ERROR;
            error = ENOTRECOVERABLE;
        }
        session->handle(result, error);
        lock.lock();
    }

    if (state_ != State::stopping)
        leave(self, lock);
}

// Sleeps until there is a ticket. False: the thread shall end, because of deinit() or decrease_thread().
bool Executor::await_ticket(unique_lock<parley::sync::mutex> &lock) {
    while (state_ != State::stopping && leaving_ == 0 && list_empty(&tickets_)) {
        ++sleeping_;
        work_.wait(lock);
        --sleeping_;
        if (woken_ != 0)
            --woken_;
    }

    return state_ != State::stopping && leaving_ == 0;
}

// Ends the thread `self` by decrease_thread(). Each one that leaves joins the one before, so that no more
// than one waits to be joined.
void Executor::leave(Threads::iterator self, unique_lock<parley::sync::mutex> &lock) {
    parley::sync::thread before = std::exchange(departed_, std::move(*self));

    --leaving_;
    threads_.erase(self);
    if (leaving_ != 0 || !list_empty(&tickets_))
        wake_thread(); // the wake-up that this thread may have got was not for leaving
    lock.unlock();

    if (before.joinable())
        before.join();
}

// Under the lock. Takes the first session of the queue whose turn it is, and puts the queue last in the row;
// before the session is executed, so that sessions of one queue run beside one another. nullptr: none waits.
ExecSession *Executor::take_session() {
    if (list_empty(&tickets_))
        return nullptr;

    ExecQueue *queue = list_first_entry(&tickets_, ExecQueue, ticket_);
    ExecSession *session = list_first_entry(&queue->waiting_, ExecSession, link_);

    list_del_init(&session->link_);
    if (list_empty(&queue->waiting_))
        list_del_init(&queue->ticket_);
    else
        list_move_tail(&queue->ticket_, &tickets_);

    if (!list_empty(&tickets_))
        wake_thread();
    return session;
}

// Under the lock, to the end: once it is free a session may run, and be the reason why the Executor is
// destroyed. One thread is woken for a batch of tickets; it wakes the next one if it leaves any.
void Executor::wake_thread() {
    if (sleeping_ > woken_) {
        ++woken_;
        work_.notify_one();
    }
}
