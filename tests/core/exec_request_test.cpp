#include "work.h"

#include <doctest/doctest.h>

#include <errno.h>

#include <algorithm>
#include <functional>
#include <latch>
#include <thread>

using namespace executors;

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
