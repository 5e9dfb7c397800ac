#include "SubTask.h"

#include <doctest/doctest.h>

#include <stdint.h>

#include <algorithm>
#include <functional>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

// A step that ends inside dispatch(), unless told otherwise.
class Step : public SubTask {
public:
    using Next = std::function<SubTask *(Step *)>;

    explicit Step(Next next = nullptr) : next_(std::move(next)) {}

    void dispatch() override { subtask_done(); }

    // The end of a step that began before.
    void end() { subtask_done(); }

private:
    SubTask *done() override {
        Next next = next_; // which may delete this
        return next ? next(this) : nullptr;
    }

    Next next_;
};

// A step that ends when the test says so, by end().
class Pending : public Step {
public:
    using Step::Step;

    void dispatch() override {}
};

class Parallel : public ParallelTask {
public:
    Parallel(std::vector<SubTask *> tasks, std::function<SubTask *(Parallel *)> next)
        : ParallelTask(nullptr, tasks.size()), tasks_(std::move(tasks)), next_(std::move(next)) {
        subtasks = tasks_.data();
    }

private:
    SubTask *done() override {
        auto next = next_; // which may delete this
        return next(this);
    }

    std::vector<SubTask *> tasks_;
    std::function<SubTask *(Parallel *)> next_;
};

// How far the stack has grown between calls of mark().
class Stack {
public:
    void mark() {
        // Not the address of a variable: ASan may put that elsewhere.
        auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
        low_ = std::min(low_, here);
        high_ = std::max(high_, here);
    }

    bool is_flat() const { return high_ - low_ < 256 * 1024; }

private:
    uintptr_t low_ = UINTPTR_MAX;
    uintptr_t high_ = 0;
};

} // namespace

TEST_CASE("done names the task that follows, and a series ends with nullptr") {
    std::string trace;
    Step third([&](Step *) { return trace += "3", nullptr; });
    Step second([&](Step *) { return trace += "2", &third; });
    Step first([&](Step *) { return trace += "1", &second; });

    first.dispatch();

    CHECK(trace == "123");
}

TEST_CASE("a task may follow itself") {
    int rounds = 0;
    Step step([&](Step *self) { return ++rounds < 5 ? self : nullptr; });

    step.dispatch();

    CHECK(rounds == 5);
}

TEST_CASE("a task keeps a pointer for its user, nullptr at first") {
    int value = 0;
    Step step;

    CHECK(step.get_pointer() == nullptr);
    step.set_pointer(&value);
    CHECK(step.get_pointer() == &value);
}

TEST_CASE("a task may be deleted in its done") {
    int alive = 0;
    auto token = [&] { return std::shared_ptr<int>(&++alive, [](int *count) { --*count; }); };
    std::function<Step *(int)> make = [&](int left) {
        return new Step([&, left, kept = token()](Step *self) {
            SubTask *next = left > 0 ? make(left - 1) : nullptr;
            delete self;
            return next;
        });
    };

    make(100)->dispatch();

    CHECK(alive == 0);
}

TEST_CASE("a million tasks that end inside dispatch run in a constant stack") {
    Stack stack;
    int left = 1'000'000;
    Step odd, even([&](Step *) -> SubTask * { return stack.mark(), --left > 0 ? &odd : nullptr; });
    odd = Step([&](Step *) -> SubTask * { return stack.mark(), --left > 0 ? &even : nullptr; });

    even.dispatch();

    CHECK(left == 0);
    CHECK(stack.is_flat());
}

TEST_CASE("a long chain of parallels in one another's place runs in a constant stack") {
    Stack stack;
    int left = 100'000;
    std::function<SubTask *()> make = [&]() -> SubTask * {
        auto leaf = [&](Step *self) -> SubTask * { return stack.mark(), delete self, nullptr; };
        auto next = [&](Parallel *self) { return delete self, --left > 0 ? make() : nullptr; };
        return new Parallel({new Step(leaf), new Step(leaf)}, next);
    };

    make()->dispatch();

    CHECK(left == 0);
    CHECK(stack.is_flat());
}

TEST_CASE("a parallel ends once, after all its series, and what follows it is dispatched") {
    std::string trace;
    Step after([&](Step *) { return trace += ".", nullptr; });
    Pending a, c;
    Step b2([&](Step *) { return trace += "B", nullptr; });
    Step b([&](Step *) { return trace += "b", &b2; });
    Parallel parallel({&a, &b, &c}, [&](Parallel *) { return trace += "p", &after; });

    parallel.dispatch();
    CHECK(trace == "bB");
    a.end();
    CHECK(trace == "bB");
    c.end();
    CHECK(trace == "bBp.");
}

TEST_CASE("a parallel without subtasks ends at once") {
    bool done = false;
    Parallel parallel({}, [&](Parallel *) { return done = true, nullptr; });

    parallel.dispatch();

    CHECK(done);
}

TEST_CASE("parallels nest, and stand in the middle of a series") {
    std::string trace;
    Step last([&](Step *) { return trace += "l", nullptr; });
    Pending x([&](Step *) { return trace += "x", nullptr; });
    Pending y([&](Step *) { return trace += "y", nullptr; });
    Pending z([&](Step *) { return trace += "z", nullptr; });
    Parallel inner({&x, &y}, [&](Parallel *) { return trace += "i", nullptr; });
    Step before([&](Step *) { return trace += "b", &inner; });
    Parallel outer({&before, &z}, [&](Parallel *) { return trace += "o", &last; });
    Step first([&](Step *) { return trace += "f", &outer; });

    first.dispatch();
    y.end();
    z.end();
    CHECK(trace == "fbyz");
    x.end();
    CHECK(trace == "fbyzxiol");
}

TEST_CASE("a parallel of more synchronous subtasks than may nest ends after the last") {
    int ended = 0;
    std::vector<std::unique_ptr<Step>> steps;
    std::vector<SubTask *> tasks;
    for (int i = 0; i < 10'000; ++i) {
        steps.push_back(std::make_unique<Step>([&](Step *) { return ++ended, nullptr; }));
        tasks.push_back(steps.back().get());
    }
    int seen = 0;
    Parallel parallel(tasks, [&](Parallel *) { return seen = ended, nullptr; });
    int left = 100; // reached at the limit of nesting, where the children have to queue
    Step lead([&](Step *self) -> SubTask * { return --left > 0 ? static_cast<SubTask *>(self) : &parallel; });

    lead.dispatch();

    CHECK(seen == 10'000);
}

TEST_CASE("a parallel and its subtasks may be deleted as they end") {
    int ended = 0;
    auto leaf = [&](Step *self) -> SubTask * { return delete self, ++ended, nullptr; };
    auto end = [&](Parallel *self) -> SubTask * { return delete self, ++ended, nullptr; };
    auto pair = [&]() -> SubTask * { return new Parallel({new Step(leaf), new Step(leaf)}, end); };

    (new Parallel({pair(), new Step(leaf), pair()}, end))->dispatch();

    CHECK(ended == 8);
}

TEST_CASE("a task that ran in a parallel may run alone afterwards") {
    int parallels = 0;
    int steps = 0;
    Step step([&](Step *) { return ++steps, nullptr; });
    auto parallel = std::make_unique<Parallel>(std::vector<SubTask *>{&step},
                                               [&](Parallel *) { return ++parallels, nullptr; });

    parallel->dispatch();
    parallel.reset();
    step.dispatch();

    CHECK(steps == 2);
    CHECK(parallels == 1);
}

TEST_CASE("a done that starts a long series finds it ended when dispatch returns") {
    bool found_ended = false;
    int depth = 5;
    Step last([&](Step *) {
        int left = 1000;
        Step inner([&](Step *self) { return --left > 0 ? self : nullptr; });
        inner.dispatch();
        found_ended = left == 0;
        return nullptr;
    });
    Step lead([&](Step *self) -> SubTask * { return --depth > 0 ? static_cast<SubTask *>(self) : &last; });

    lead.dispatch();

    CHECK(found_ended);
}

TEST_CASE("a done may block for what another thread runs") {
    bool ended = false;
    Step first([&](Step *) {
        std::latch latch(1);
        Step inner([&](Step *) { return ended = true, latch.count_down(), nullptr; });
        std::thread thread([&] { inner.dispatch(); });
        latch.wait();
        thread.join();
        return nullptr;
    });

    first.dispatch();

    CHECK(ended);
}

TEST_CASE("the end of a parallel sees what its series wrote on their threads") {
    constexpr size_t count = 4;
    for (int round = 0; round < 200; ++round) {
        std::vector<int> written(count, 0);
        std::vector<std::unique_ptr<Pending>> pending;
        std::vector<SubTask *> tasks;
        for (size_t i = 0; i < count; ++i) {
            pending.push_back(
                std::make_unique<Pending>([&written, i](Step *) { return written[i] = 1, nullptr; }));
            tasks.push_back(pending.back().get());
        }
        std::latch ended(1);
        size_t seen = 0;
        Parallel parallel(tasks, [&](Parallel *) {
            seen = static_cast<size_t>(std::count(written.begin(), written.end(), 1));
            ended.count_down();
            return nullptr;
        });

        parallel.dispatch();
        std::vector<std::thread> threads;
        for (auto &task : pending)
            threads.emplace_back([&task] { task->end(); });
        ended.wait();
        for (std::thread &thread : threads)
            thread.join();

        REQUIRE(seen == count);
    }
}
