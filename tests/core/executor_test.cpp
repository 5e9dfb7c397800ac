#include "work.h"

#include <doctest/doctest.h>

#include <errno.h>

#include <latch>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace executors;

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
