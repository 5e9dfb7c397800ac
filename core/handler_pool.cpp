#include "handler_pool.h"

#include <errno.h>

#include <mutex>

namespace parley::core {

namespace {

thread_local const CommCore *this_core = nullptr;

} // namespace

const CommCore *HandlerPool::current() noexcept {
    return this_core;
}

int HandlerPool::start(sys::world &world, const CommCore *owner, size_t n) {
    world_ = &world;
    owner_ = owner;
    for (size_t i = 0; i < n; i++) {
        if (int error = grow()) {
            finish();
            return error;
        }
    }
    return 0;
}

int HandlerPool::grow() {
    std::lock_guard<sync::mutex> lock(mutex_);
    if (closed_)
        return ESHUTDOWN;
    sys::thread_handle thread;
    try {
        threads_.reserve(threads_.size() + 1);
    } catch (...) {
        return ENOMEM;
    }
    if (int error = world_->thread_start(&thread, entry, this))
        return error;
    threads_.push_back(thread);
    return 0;
}

void HandlerPool::shrink() {
    std::lock_guard<sync::mutex> lock(mutex_);
    leaving_++;
    available_.notify_one();
}

bool HandlerPool::put(CommNode *head, CommNode *tail, size_t count) {
    size_t wake;
    {
        std::lock_guard<sync::mutex> lock(mutex_);
        if (finished_)
            return false;
        tail->next = nullptr;
        *tail_ = head;
        tail_ = &tail->next;
        wake = count < idle_ ? count : idle_;
    }
    while (wake-- > 0)
        available_.notify_one();
    return true;
}

void HandlerPool::finish() {
    {
        std::lock_guard<sync::mutex> lock(mutex_);
        closed_ = true;
    }
    available_.notify_all();
    // A thread that left by shrink() is joined here too: its handle is kept until the end.
    for (sys::thread_handle thread : threads_)
        world_->thread_join(thread);
    threads_.clear();
    // Every thread may have been sent away while work was queued, and more may come from threads
    // that are not the Communicator's.
    std::unique_lock<sync::mutex> lock(mutex_);
    while (head_ != nullptr) {
        CommNode *node = head_;
        head_ = node->next;
        if (head_ == nullptr)
            tail_ = &head_;
        lock.unlock();
        node->run(node);
        lock.lock();
    }
    finished_ = true;
}

void HandlerPool::entry(void *self) {
    static_cast<HandlerPool *>(self)->work();
}

void HandlerPool::work() {
    this_core = owner_;
    std::unique_lock<sync::mutex> lock(mutex_);
    for (;;) {
        if (leaving_ > 0 && !closed_) {
            leaving_--;
            break;
        }
        if (head_ != nullptr) {
            CommNode *node = head_;
            head_ = node->next;
            if (head_ == nullptr)
                tail_ = &head_;
            lock.unlock();
            node->run(node);
            lock.lock();
        } else if (closed_) {
            break;
        } else {
            idle_++;
            available_.wait(lock);
            idle_--;
        }
    }
    lock.unlock();
    this_core = nullptr;
}

} // namespace parley::core
