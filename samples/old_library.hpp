// A library as they were: it does one job at a time on a thread of its own, and calls back there. For
// 13_callbacks_to_co_await.cpp.

#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <thread>

class old_library {
public:
    // Calls done(0, user) after that time, or done(-1, user) soon after abort(). One job at a time. Both may be
    // called on any thread, but not in done().
    void start(int milliseconds, void (*done)(int status, void *user), void *user) {
        const std::lock_guard<std::mutex> hold(mutex_);
        thread_ = std::jthread([=](const std::stop_token &aborted) {
            std::mutex mutex;
            std::condition_variable_any never;
            std::unique_lock<std::mutex> lock(mutex);
            never.wait_for(lock, aborted, std::chrono::milliseconds(milliseconds), [] { return false; });
            done(aborted.stop_requested() ? -1 : 0, user);
        });
    }
    void abort() {
        const std::lock_guard<std::mutex> hold(mutex_);
        thread_.request_stop();
    }

private:
    std::mutex mutex_;
    std::jthread thread_;
};
