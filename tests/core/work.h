// What the tests of executors have in common: sessions made of functions, pools that end themselves.

#pragma once

#include "ExecRequest.h"
#include "Executor.h"

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <latch>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

namespace executors {

struct Outcome {
    int state = -1;
    int error = -1;
    std::thread::id thread;

    bool is(int expected_state, int expected_error) const {
        return state == expected_state && error == expected_error;
    }
};

// A session made of functions. What handle() was given can be read once wait() has returned.
class Work : public ExecSession {
public:
    explicit Work(std::function<void()> work = nullptr, std::function<void()> end = nullptr)
        : work_(std::move(work)), end_(std::move(end)) {}

    const Outcome &wait() {
        handled_.wait();
        return outcome_;
    }

    bool is_handled() const { return handled_.try_wait(); }
    bool is_executed() const { return executed_.load(); }
    std::thread::id thread() const { return thread_; }
    ExecQueue *queue() const { return get_queue(); }

private:
    void execute() override {
        executed_ = true;
        thread_ = std::this_thread::get_id();
        if (work_)
            work_();
    }

    void handle(int state, int error) override {
        outcome_ = {state, error, std::this_thread::get_id()};
        if (end_)
            end_();
        handled_.count_down();
    }

    std::function<void()> work_;
    std::function<void()> end_;
    std::atomic<bool> executed_{false};
    std::thread::id thread_;
    Outcome outcome_;
    std::latch handled_{1};
};

class Queue : public ExecQueue {
public:
    Queue() { init(); }
    ~Queue() override { deinit(); }
};

class Pool : public Executor {
public:
    explicit Pool(size_t threads) { REQUIRE(init(threads) == 0); }
    ~Pool() override { deinit(); }
};

// Keeps a thread of the pool busy, from the constructor's return until release().
class Blocker {
public:
    explicit Blocker(Executor &executor) : work_([this] { begun_.count_down(), released_.wait(); }) {
        REQUIRE(executor.request(&work_, &queue_) == 0);
        begun_.wait();
    }

    ~Blocker() { release(); }

    void release() {
        if (!std::exchange(is_released_, true))
            released_.count_down();
        work_.wait();
    }

    ExecSession *session() { return &work_; }

private:
    std::latch begun_{1};
    std::latch released_{1};
    bool is_released_ = false;
    Queue queue_;
    Work work_;
};

class Trace {
public:
    void add(char c) {
        std::lock_guard lock(mutex_);
        text_ += c;
    }

    std::string text() {
        std::lock_guard lock(mutex_);
        return text_;
    }

private:
    std::mutex mutex_;
    std::string text_;
};

} // namespace executors
