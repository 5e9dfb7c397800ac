// What somebody else's library could have, for 25_other_libraries.cpp: a timer and a type of coroutine.

#pragma once

#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <exception>
#include <mutex>
#include <stop_token>
#include <thread>

// [theirs]
// Somebody else's timer: resumes on a thread of its own. It takes a std::stop_token, so parley gives it one.
class their_timer {
public:
    explicit their_timer(std::chrono::milliseconds time) : time_(time) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> awaiting, std::stop_token stop) {
        thread_ = std::jthread([awaiting, stop, time = time_] {
            std::mutex mutex;
            std::unique_lock lock(mutex);
            std::condition_variable_any().wait_for(lock, stop, time, [] { return false; });
            awaiting.resume(); // parley brings the task home to its loop
        });
    }
    void await_resume() const noexcept {}

private:
    std::chrono::milliseconds time_;
    std::jthread thread_;
};
// [/theirs]

// Somebody else's coroutine. On a loop it awaits what is parley's like its own.
struct their_job {
    struct promise_type {
        their_job get_return_object() const noexcept { return {}; }
        std::suspend_never initial_suspend() const noexcept { return {}; }
        std::suspend_never final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::terminate(); }
    };
};
