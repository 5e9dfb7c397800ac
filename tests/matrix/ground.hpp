// Where the matrix is run, on the real kernel and in a simulated world alike: a runtime with two loops, two
// threads that belong to no loop, and one place for what goes wrong.

#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>

#include <parley/parley.hpp>

#include "../coro/coro_test.hpp"

namespace matrix {

using namespace std::chrono_literals;
using parley::task;

// Lets that much time pass on a thread that is no loop's.
void nap(std::chrono::nanoseconds time);
// A moment that does not need the clock to move: n nanoseconds, or some turns of other threads.
void linger(unsigned n);

// A thread that is no loop's, and does one thing after another.
class lane {
public:
    lane();
    lane(const lane &) = delete;
    ~lane();
    void give(std::function<void()> job);

private:
    void work();

    parley::sync::mutex mutex_;
    parley::sync::condition_variable given_;
    std::function<void()> job_; // the next one
    bool ends_ = false;
    parley::sync::thread thread_;
};

class ground {
public:
    ground();
    ground(const ground &) = delete;

    // Runs it on the first loop and waits for its end; a hang ends the process and says in which cell.
    void run(task<> work);

    // What must hold, from any thread. The first that does not is told with the cell's name; in a simulated
    // world it ends the run.
    void expect(bool holds, const char *otherwise) noexcept;
    [[nodiscard]] std::string fault();
    // What is being done, for those messages.
    void now_in(std::string cell);

    // Both lanes have done what they were given.
    [[nodiscard]] task<> quiet();
    // Both at once, each on a lane.
    void race(std::function<void()> one, std::function<void()> other);

    // Waits until it holds, which it does within moments.
    [[nodiscard]] task<> until(std::function<bool()> holds, const char *otherwise);

    // Descriptors that are open, here or in the world.
    [[nodiscard]] static std::size_t descriptors();

    parley::runtime rt;
    lane first, second;

private:
    parley::sync::mutex mutex_;
    std::string fault_;
    std::string cell_;
    parley::sync::atomic<int> at_the_line_{0};
};

} // namespace matrix
