#include "../../core/timer_queue.h"

#include <doctest/doctest.h>

#include <map>
#include <random>
#include <set>
#include <vector>

using parley::core::never;
using parley::core::TimerQueue;

namespace {

std::vector<CommTimer *> expired(TimerQueue &queue, int64_t now) {
    std::vector<CommTimer *> out;
    while (CommTimer *timer = queue.expire(now))
        out.push_back(timer);
    return out;
}

} // namespace

TEST_CASE("an empty timer queue has no next deadline and expires nothing") {
    TimerQueue queue;
    CHECK(queue.empty());
    CHECK(queue.next() == never);
    CHECK(queue.expire(never) == nullptr);
    CHECK(queue.pop() == nullptr);
}

TEST_CASE("a timer set to never is not queued") {
    TimerQueue queue;
    CommTimer timer;
    queue.set(&timer, never);
    CHECK(queue.empty());
    CHECK_FALSE(timer.queued);
}

TEST_CASE("timers of equal deadlines expire in the order they were queued") {
    TimerQueue queue;
    std::vector<CommTimer> timers(1000);
    std::vector<CommTimer *> order;
    for (auto &timer : timers) {
        queue.set(&timer, 7);
        order.push_back(&timer);
    }
    CHECK(queue.expire(6) == nullptr);
    CHECK(expired(queue, 7) == order);
    CHECK(queue.empty());
}

TEST_CASE("a timer that was moved later does not expire at its first deadline") {
    TimerQueue queue;
    CommTimer timer;
    queue.set(&timer, 10);
    queue.set(&timer, 30);
    CHECK(queue.expire(29) == nullptr);
    CHECK(queue.expire(30) == &timer);
}

TEST_CASE("a timer that was moved earlier expires at its last deadline") {
    TimerQueue queue;
    CommTimer timer, other;
    queue.set(&other, 20);
    queue.set(&timer, 30);
    queue.set(&timer, 10);
    CHECK(queue.next() == 10);
    CHECK(queue.expire(10) == &timer);
    CHECK(queue.expire(10) == nullptr);
}

TEST_CASE("a timer moved to never leaves the queue by itself") {
    TimerQueue queue;
    CommTimer timer;
    queue.set(&timer, 10);
    queue.set(&timer, never);
    CHECK(queue.expire(100) == nullptr);
    CHECK(queue.empty());
    CHECK_FALSE(timer.queued);
}

TEST_CASE("removing a timer from anywhere in the queue leaves the others in order") {
    for (size_t removed = 0; removed < 50; removed++) {
        TimerQueue queue;
        std::vector<CommTimer> timers(50);
        for (size_t i = 0; i < timers.size(); i++)
            queue.set(&timers[i], static_cast<int64_t>(i * 37 % 50));
        queue.remove(&timers[removed]);
        CHECK_FALSE(timers[removed].queued);
        auto out = expired(queue, 100);
        CHECK(out.size() == 49);
        for (size_t i = 1; i < out.size(); i++)
            CHECK(out[i - 1]->deadline < out[i]->deadline);
    }
}

TEST_CASE("whatever is set, moved and removed, a timer expires when and only when its deadline has passed") {
    for (unsigned seed = 1; seed <= 20; seed++) {
        std::mt19937 random(seed);
        TimerQueue queue;
        std::vector<CommTimer> timers(64);
        std::multimap<int64_t, CommTimer *> model;
        auto forget = [&](CommTimer *timer) {
            for (auto it = model.begin(); it != model.end(); ++it)
                if (it->second == timer)
                    return void(model.erase(it));
        };
        int64_t now = 0;
        for (int step = 0; step < 5000; step++) {
            CommTimer *timer = &timers[random() % timers.size()];
            switch (random() % 6) {
            case 0:
            case 1:
            case 2: {
                int64_t deadline = now + static_cast<int64_t>(random() % 50);
                forget(timer);
                model.emplace(deadline, timer);
                queue.set(timer, deadline);
                break;
            }
            case 3:
                forget(timer);
                queue.set(timer, never);
                break;
            case 4:
                forget(timer);
                queue.remove(timer);
                REQUIRE_FALSE(timer->queued);
                break;
            default: {
                now += static_cast<int64_t>(random() % 20);
                std::set<CommTimer *> due;
                while (!model.empty() && model.begin()->first <= now) {
                    due.insert(model.begin()->second);
                    model.erase(model.begin());
                }
                auto out = expired(queue, now);
                REQUIRE(std::set<CommTimer *>(out.begin(), out.end()) == due);
                REQUIRE(out.size() == due.size());
                for (CommTimer *each : out)
                    REQUIRE_FALSE(each->queued);
            }
            }
            // Never later than the truth: the loop may wake too often, not too late.
            REQUIRE(queue.next() <= (model.empty() ? never : model.begin()->first));
        }
    }
}

TEST_CASE("pop empties the queue, each timer once") {
    TimerQueue queue;
    std::vector<CommTimer> timers(100);
    for (size_t i = 0; i < timers.size(); i++)
        queue.set(&timers[i], static_cast<int64_t>(i % 7));
    std::set<CommTimer *> seen;
    while (CommTimer *timer = queue.pop())
        CHECK(seen.insert(timer).second);
    CHECK(seen.size() == timers.size());
}
