#include "work.h"

#include <doctest/doctest.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <memory>
#include <semaphore>
#include <thread>
#include <vector>

using namespace executors;

namespace {

struct Guest {
    ~Guest() {
        if (gone)
            gone->release();
    }

    std::counting_semaphore<> *gone = nullptr;
};

thread_local Guest guest; // destroyed as its thread ends

} // namespace

TEST_CASE("decrease_thread ends a thread at once if one is free") {
    std::counting_semaphore<> gone(0);
    std::latch both(2);
    std::atomic<int> here{0}, most{0};
    {
        Queue queue;
        Pool pool(2);
        auto visit = [&] { both.arrive_and_wait(), guest.gone = &gone; };
        Work one(visit), two(visit);
        REQUIRE(pool.request(&one, &queue) == 0);
        REQUIRE(pool.request(&two, &queue) == 0);
        one.wait();
        two.wait();

        REQUIRE(pool.decrease_thread() == 0);
        std::vector<std::unique_ptr<Work>> works;
        for (int i = 0; i < 100; ++i) {
            works.push_back(std::make_unique<Work>([&] {
                int now = ++here;
                most = std::max(most.load(), now);
                --here;
            }));
            REQUIRE(pool.request(works.back().get(), &queue) == 0);
        }
        for (auto &work : works)
            work->wait();
        gone.acquire(); // the pool lives, and one of its threads does not
        CHECK_FALSE(gone.try_acquire());
    }

    CHECK(most == 1);
    CHECK(gone.try_acquire());
}

TEST_CASE("decrease_thread waits for a busy thread, refuses the last, and is undone by increase_thread") {
    Queue queue;
    Pool pool(2);
    std::latch both(2);
    Work one([&] { both.arrive_and_wait(); }), two([&] { both.arrive_and_wait(); });

    {
        Blocker first(pool), second(pool);
        CHECK(pool.decrease_thread() == 0);
        CHECK(pool.decrease_thread() == -1);
        CHECK(errno == EINVAL);
        CHECK(pool.increase_thread() == 0);
    }
    REQUIRE(pool.request(&one, &queue) == 0);
    REQUIRE(pool.request(&two, &queue) == 0);

    CHECK(one.wait().is(ES_STATE_FINISHED, 0));
    CHECK(two.wait().is(ES_STATE_FINISHED, 0));
}

TEST_CASE("threads may come and go while sessions run") {
    Queue queue;
    Pool pool(2);
    std::vector<std::unique_ptr<Work>> works;

    for (int i = 0; i < 200; ++i) {
        works.push_back(std::make_unique<Work>());
        REQUIRE(pool.request(works.back().get(), &queue) == 0);
        REQUIRE(pool.increase_thread() == 0);
        REQUIRE(pool.decrease_thread() == 0);
    }

    for (auto &work : works)
        CHECK(work->wait().is(ES_STATE_FINISHED, 0));
}

TEST_CASE("increase_thread and decrease_thread of a stopped executor are ESHUTDOWN") {
    Executor executor;

    CHECK(executor.increase_thread() == -1);
    CHECK(errno == ESHUTDOWN);
    CHECK(executor.decrease_thread() == -1);
    CHECK(errno == ESHUTDOWN);
}

TEST_CASE("threads of the pool block signals but not faults, and init leaves the caller's mask alone") {
    sigset_t before, after, inside;
    pthread_sigmask(SIG_SETMASK, nullptr, &before);
    Queue queue;
    Pool pool(1);
    Work work([&] { pthread_sigmask(SIG_SETMASK, nullptr, &inside); });

    pthread_sigmask(SIG_SETMASK, nullptr, &after);
    REQUIRE(pool.request(&work, &queue) == 0);
    work.wait();

    for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD, SIGALRM, SIGPIPE}) {
        CAPTURE(signal);
        CHECK(sigismember(&inside, signal) == 1);
        CHECK(sigismember(&after, signal) == sigismember(&before, signal));
    }
    for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL})
        CHECK(sigismember(&inside, signal) == 0);
}

namespace {

// In a process of its own, for the limit cannot be raised again. The first thing that is not as it should be,
// or 0.
int run_out_of_threads() {
    Queue queue;
    Executor small, large;
    Work work;
    if (small.init(1) != 0)
        return 1;

    // Root is above the limit. Three processes and threads, or none more if this user has others.
    if (geteuid() == 0 && setresuid(61234, 61234, 61234) != 0)
        return 0;
    rlimit limit{3, 3};
    if (setrlimit(RLIMIT_NPROC, &limit) != 0)
        return 0;

    errno = 0;
    if (large.init(16) != -1 || errno != EAGAIN)
        return 2;
    errno = 0;
    if (large.request(&work, &queue) != -1 || errno != ESHUTDOWN)
        return 3;
    errno = 0;
    if (large.init(16) != -1 || errno != EAGAIN) // not EBUSY: the first failure left nothing behind
        return 4;

    int added = 0;
    errno = 0;
    while (added < 16 && small.increase_thread() == 0)
        ++added;
    if (added == 16 || errno != EAGAIN)
        return 5;
    if (small.request(&work, &queue) != 0 || !work.wait().is(ES_STATE_FINISHED, 0))
        return 6;

    small.deinit();
    return 0;
}

} // namespace

TEST_CASE("when no more threads are to be had, init leaves none behind and increase_thread leaves the pool "
          "as it was") {
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0)
        _exit(run_out_of_threads());

    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE(
    "every request that succeeds is handled exactly once, whoever cancels and whenever the pool stops") {
    constexpr int count = 2000;
    struct Counted : ExecSession {
        explicit Counted(std::atomic<int> *states) : by_state(states) {}
        void execute() override { executed = true; }
        void handle(int state, int) override {
            ++by_state[state];
            ++handled;
        }
        std::atomic<int> *by_state;
        bool executed = false;
        std::atomic<int> handled{0};
    };
    std::atomic<int> by_state[3]{};
    std::atomic<int> accepted{0}, cancelled{0};
    std::vector<std::unique_ptr<Counted>> sessions;
    for (int i = 0; i < 3 * count; ++i)
        sessions.push_back(std::make_unique<Counted>(by_state));
    Queue queues[3];
    Executor executor;
    REQUIRE(executor.init(3) == 0);

    std::latch started(4);
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t)
        threads.emplace_back([&, t] {
            started.arrive_and_wait();
            for (int i = 0; i < count; ++i) {
                auto index = static_cast<size_t>(t * count + i);
                if (executor.request(sessions[index].get(), &queues[i % 3]) == 0)
                    ++accepted;
                // Sessions outlive the test's threads, so to cancel one that was handled is harmless here.
                if (i % 5 == 0 && executor.cancel(sessions[index].get()) == 0)
                    ++cancelled;
            }
        });
    started.arrive_and_wait();
    while (by_state[ES_STATE_FINISHED] < count / 2)
        std::this_thread::yield();
    executor.deinit();
    for (std::thread &thread : threads)
        thread.join();

    CHECK(by_state[ES_STATE_FINISHED] + by_state[ES_STATE_CANCELED] == accepted);
    CHECK(by_state[ES_STATE_CANCELED] >= cancelled);
    CHECK(std::ranges::all_of(sessions, [](auto &session) { return session->handled <= 1; }));
}
