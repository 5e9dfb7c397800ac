#include "ExecRequest.h"
#include "Executor.h"

#include <doctest/doctest.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <latch>
#include <memory>
#include <mutex>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

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

} // namespace

TEST_CASE("a session is executed and then handled on the same thread of the pool") {
    Queue queue;
    Pool pool(2);
    Work work;

    REQUIRE(pool.request(&work, &queue) == 0);

    CHECK(work.wait().is(ES_STATE_FINISHED, 0));
    CHECK(work.thread() == work.wait().thread);
    CHECK(work.thread() != std::this_thread::get_id());
    CHECK(work.queue() == &queue);
}

TEST_CASE("request keeps errno when it succeeds") {
    Queue queue;
    Pool pool(1);
    Work work;

    errno = ENOTTY;
    REQUIRE(pool.request(&work, &queue) == 0);

    CHECK(errno == ENOTTY);
    work.wait();
}

TEST_CASE("sessions of one queue begin in the order of their requests") {
    Queue queue;
    Pool pool(1);
    Trace trace;
    std::vector<std::unique_ptr<Work>> works;
    Blocker blocker(pool);

    for (char c = 'a'; c <= 'z'; ++c) {
        works.push_back(std::make_unique<Work>([&trace, c] { trace.add(c); }));
        REQUIRE(pool.request(works.back().get(), &queue) == 0);
    }
    blocker.release();
    for (auto &work : works)
        work->wait();

    CHECK(trace.text() == "abcdefghijklmnopqrstuvwxyz");
}

TEST_CASE("sessions of one queue run beside one another") {
    Queue queue;
    Pool pool(2);
    std::latch both(2);
    Work one([&] { both.arrive_and_wait(); });
    Work two([&] { both.arrive_and_wait(); });

    REQUIRE(pool.request(&one, &queue) == 0);
    REQUIRE(pool.request(&two, &queue) == 0);

    CHECK(one.wait().is(ES_STATE_FINISHED, 0));
    CHECK(two.wait().is(ES_STATE_FINISHED, 0));
}

TEST_CASE("queues take turns, however long one of them is") {
    Queue letters, digits, marks;
    Pool pool(1);
    Trace trace;
    std::vector<std::unique_ptr<Work>> works;
    Blocker blocker(pool);
    auto request = [&](char c, Queue &queue) {
        works.push_back(std::make_unique<Work>([&trace, c] { trace.add(c); }));
        REQUIRE(pool.request(works.back().get(), &queue) == 0);
    };

    for (char c : std::string("abcde"))
        request(c, letters);
    for (char c : std::string("12"))
        request(c, digits);
    request('!', marks);
    blocker.release();
    for (auto &work : works)
        work->wait();

    CHECK(trace.text() == "a1!b2cde");
}

TEST_CASE("a session that leaves execute by an exception ends in error") {
    Queue queue;
    Pool pool(1);
    Work bad([] { throw std::runtime_error("lost"); });
    Work good;

    REQUIRE(pool.request(&bad, &queue) == 0);
    REQUIRE(pool.request(&good, &queue) == 0);

    CHECK(bad.wait().is(ES_STATE_ERROR, ENOTRECOVERABLE));
    CHECK(bad.wait().thread == bad.thread());
    CHECK(good.wait().is(ES_STATE_FINISHED, 0));
}

TEST_CASE("execute and handle may request further sessions") {
    Queue queue;
    Pool pool(1);
    Work third;
    Work second(nullptr, [&] { pool.request(&third, &queue); });
    Work first([&] { pool.request(&second, &queue); });

    REQUIRE(pool.request(&first, &queue) == 0);

    CHECK(third.wait().is(ES_STATE_FINISHED, 0));
    first.wait();
    second.wait();
}

TEST_CASE("a session may be requested again, or deleted, in its handle") {
    class Again : public ExecSession {
    public:
        Again(Executor &executor, ExecQueue &queue, std::latch &end)
            : executor_(executor), queue_(queue), end_(end) {}

    private:
        void execute() override { ++rounds_; }

        void handle(int, int) override {
            if (rounds_ < 10) {
                executor_.request(this, &queue_);
                return;
            }
            std::latch &end = end_;
            delete this;
            end.count_down();
        }

        Executor &executor_;
        ExecQueue &queue_;
        std::latch &end_;
        int rounds_ = 0;
    };
    Queue queue;
    Pool pool(2);
    std::latch end(1);

    REQUIRE(pool.request(new Again(pool, queue, end), &queue) == 0);

    end.wait();
}

TEST_CASE("a queue may be destroyed once its last session has begun") {
    Pool pool(1);
    auto queue = std::make_unique<Queue>();
    Work work([&] { queue.reset(); });

    REQUIRE(pool.request(&work, queue.get()) == 0);

    CHECK(work.wait().is(ES_STATE_FINISHED, 0));
    CHECK(queue == nullptr);
}

TEST_CASE("cancel takes back a session that waits, and handles it on the caller's thread") {
    Queue queue;
    Pool pool(1);
    Work one, two, three;
    Blocker blocker(pool);

    for (Work *work : {&one, &two, &three})
        REQUIRE(pool.request(work, &queue) == 0);
    CHECK(pool.cancel(&two) == 0);
    REQUIRE(two.is_handled());
    blocker.release();

    CHECK(one.wait().is(ES_STATE_FINISHED, 0));
    CHECK(three.wait().is(ES_STATE_FINISHED, 0));
    CHECK(two.wait().is(ES_STATE_CANCELED, 0));
    CHECK(two.wait().thread == std::this_thread::get_id());
    CHECK_FALSE(two.is_executed());
}

TEST_CASE("cancel of a queue's only session leaves the queue free to go") {
    Pool pool(1);
    Blocker blocker(pool);
    Queue other;
    Work after;

    {
        Queue queue;
        Work work;
        REQUIRE(pool.request(&work, &queue) == 0);
        CHECK(pool.cancel(&work) == 0);
        CHECK(work.wait().is(ES_STATE_CANCELED, 0));
    }
    REQUIRE(pool.request(&after, &other) == 0);
    blocker.release();

    CHECK(after.wait().is(ES_STATE_FINISHED, 0));
}

TEST_CASE("cancel of a session that runs, or was never requested, is ENOENT") {
    Pool pool(1);
    Blocker blocker(pool);
    Work idle;

    errno = 0;
    CHECK(pool.cancel(blocker.session()) == -1);
    CHECK(errno == ENOENT);
    errno = 0;
    CHECK(pool.cancel(&idle) == -1);
    CHECK(errno == ENOENT);
    CHECK_FALSE(idle.is_handled());
}

TEST_CASE("a cancelled session may be requested again from its handle") {
    Queue queue;
    Pool pool(1);
    Work successor;
    Work work(nullptr, [&] { pool.request(&successor, &queue); });
    Blocker blocker(pool);

    REQUIRE(pool.request(&work, &queue) == 0);
    CHECK(pool.cancel(&work) == 0);
    blocker.release();

    CHECK(successor.wait().is(ES_STATE_FINISHED, 0));
}

TEST_CASE("deinit lets running sessions finish and cancels the others on its own thread") {
    Queue queue;
    Pool pool(1);
    Trace trace;
    std::latch begun(1), cancelled(1);
    Work running([&] { begun.count_down(), cancelled.wait(); }, [&] { trace.add('r'); });
    Work first(nullptr, [&] { trace.add('1'); });
    Work second(nullptr, [&] { trace.add('2'), cancelled.count_down(); });

    for (Work *work : {&running, &first, &second})
        REQUIRE(pool.request(work, &queue) == 0);
    begun.wait();
    pool.deinit();

    REQUIRE(running.is_handled());
    REQUIRE(first.is_handled());
    REQUIRE(second.is_handled());
    CHECK(running.wait().is(ES_STATE_FINISHED, 0));
    CHECK(first.wait().is(ES_STATE_CANCELED, 0));
    CHECK(first.wait().thread == std::this_thread::get_id());
    CHECK(second.wait().is(ES_STATE_CANCELED, 0));
    CHECK_FALSE(first.is_executed());
    CHECK(trace.text() == "12r");
}

TEST_CASE("a request before init, during deinit and after it is ESHUTDOWN") {
    Queue queue;
    Executor executor;
    Work work;
    auto is_refused = [&] {
        errno = 0;
        return executor.request(&work, &queue) == -1 && errno == ESHUTDOWN;
    };

    CHECK(is_refused());
    REQUIRE(executor.init(1) == 0);
    bool refused_meanwhile = false;
    Work queued(nullptr, [&] { refused_meanwhile = is_refused(); });
    std::latch begun(1), cancelled(1);
    Work running([&] { begun.count_down(), cancelled.wait(); });
    Work last(nullptr, [&] { cancelled.count_down(); });
    for (Work *session : {&running, &queued, &last})
        REQUIRE(executor.request(session, &queue) == 0);
    begun.wait();
    executor.deinit();

    CHECK(refused_meanwhile);
    CHECK(is_refused());
    CHECK_FALSE(work.is_handled());
}

TEST_CASE("deinit called by a session of the pool is EDEADLK and does nothing") {
    Queue queue;
    Pool pool(1);
    std::vector<int> errors;
    auto stop = [&] { errno = 0, pool.deinit(), errors.push_back(errno); };
    Work work(stop, stop);
    Work after;

    REQUIRE(pool.request(&work, &queue) == 0);
    work.wait();
    REQUIRE(pool.request(&after, &queue) == 0);

    CHECK(errors == std::vector<int>{EDEADLK, EDEADLK});
    CHECK(after.wait().is(ES_STATE_FINISHED, 0));
}

TEST_CASE("deinit called by a session that deinit cancels is EDEADLK") {
    Queue queue;
    Pool pool(1);
    int error = 0;
    std::latch begun(1), cancelled(1);
    Work running([&] { begun.count_down(), cancelled.wait(); });
    Work queued(nullptr, [&] { pool.deinit(), error = errno, cancelled.count_down(); });

    REQUIRE(pool.request(&running, &queue) == 0);
    REQUIRE(pool.request(&queued, &queue) == 0);
    begun.wait();
    pool.deinit();

    CHECK(error == EDEADLK);
}

TEST_CASE("a session may stop another executor") {
    Queue queue;
    Pool pool(1), other(1);
    Work work([&] { other.deinit(); }), late;

    REQUIRE(pool.request(&work, &queue) == 0);
    work.wait();

    CHECK(other.request(&late, &queue) == -1);
    CHECK(errno == ESHUTDOWN);
}

TEST_CASE("an executor may be stopped twice, and started again") {
    Queue queue;
    Executor executor;

    executor.deinit();
    for (int round = 0; round < 3; ++round) {
        Work work;
        REQUIRE(executor.init(2) == 0);
        REQUIRE(executor.request(&work, &queue) == 0);
        CHECK(work.wait().is(ES_STATE_FINISHED, 0));
        executor.deinit();
        executor.deinit();
    }
}

TEST_CASE("init wants at least one thread, and a stopped executor") {
    Executor executor;

    CHECK(executor.init(0) == -1);
    CHECK(errno == EINVAL);
    REQUIRE(executor.init(1) == 0);
    CHECK(executor.init(1) == -1);
    CHECK(errno == EBUSY);
    executor.deinit();
}

TEST_CASE("the destructor stops what was not stopped") {
    Queue queue;
    Work work;

    {
        Executor executor;
        REQUIRE(executor.init(2) == 0);
        REQUIRE(executor.request(&work, &queue) == 0);
    }

    CHECK(work.is_handled());
}

TEST_CASE("increase_thread adds a thread to a pool whose threads are busy") {
    Queue queue;
    Pool pool(1);
    Work work;
    Blocker blocker(pool);

    REQUIRE(pool.request(&work, &queue) == 0);
    REQUIRE(pool.increase_thread() == 0);

    CHECK(work.wait().is(ES_STATE_FINISHED, 0));
}

TEST_CASE("a session may add the thread that it waits for") {
    Queue queue;
    Pool pool(1);
    Work inner;
    Work outer([&] {
        pool.request(&inner, &queue);
        if (pool.increase_thread() == 0) {
            inner.wait();
            pool.decrease_thread();
        }
    });

    REQUIRE(pool.request(&outer, &queue) == 0);

    CHECK(outer.wait().is(ES_STATE_FINISHED, 0));
    CHECK(inner.is_handled());
}

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

namespace {

class Request : public ExecRequest {
public:
    using ExecRequest::ExecRequest;

    std::function<void()> work;
    std::function<SubTask *(Request *)> next;
    Outcome outcome;

private:
    void execute() override {
        if (work)
            work();
    }

    SubTask *done() override {
        outcome = {state, error, std::this_thread::get_id()};
        return next ? next(this) : nullptr;
    }
};

} // namespace

TEST_CASE("exec requests follow one another in a series") {
    Queue queue, other;
    Pool pool(2);
    Trace trace;
    std::latch ended(1);
    Request first(&queue, &pool), second(&queue, &pool);
    first.work = [&] { trace.add('1'); };
    first.next = [&](Request *) { return &second; };
    second.work = [&] { trace.add('2'); };
    second.next = [&](Request *) { return ended.count_down(), nullptr; };

    second.set_request_queue(&other);
    first.dispatch();
    ended.wait();

    CHECK(second.get_request_queue() == &other);
    CHECK(first.outcome.is(ES_STATE_FINISHED, 0));
    CHECK(second.outcome.is(ES_STATE_FINISHED, 0));
    CHECK(trace.text() == "12");
}

TEST_CASE("an exec request that is refused ends in error inside dispatch, a hundred thousand in a row") {
    Queue queue;
    Executor stopped;
    Request request(&queue, &stopped);
    int left = 100'000;
    uintptr_t low = UINTPTR_MAX, high = 0;
    request.next = [&](Request *self) -> SubTask * {
        auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
        low = std::min(low, here);
        high = std::max(high, here);
        return --left > 0 ? self : nullptr;
    };

    request.dispatch();

    CHECK(left == 0);
    CHECK(request.outcome.is(ES_STATE_ERROR, ESHUTDOWN));
    CHECK(request.outcome.thread == std::this_thread::get_id());
    CHECK(high - low < 256 * 1024);
}
