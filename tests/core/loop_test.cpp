#include <doctest/doctest.h>

#include <array>
#include <climits>
#include <memory>

#include "peers.h"

using namespace peers;

TEST_CASE("nodes that one thread posts run in the order they were posted") {
    Running comm;
    struct Item : CommNode {
        std::vector<int> *order;
        int number;
        Signal *last;
    };
    std::vector<int> order;
    Signal last;
    std::vector<Item> items(1000);
    for (int i = 0; i < 1000; i++) {
        items[static_cast<size_t>(i)].run = [](CommNode *node) {
            auto *item = static_cast<Item *>(node);
            item->order->push_back(item->number);
            if (item->number == 999)
                item->last->set();
        };
        items[static_cast<size_t>(i)].order = &order;
        items[static_cast<size_t>(i)].number = i;
        items[static_cast<size_t>(i)].last = &last;
    }
    for (auto &item : items)
        REQUIRE(comm.loop(0)->post(&item) == 0);
    REQUIRE(last.wait());
    REQUIRE(order.size() == 1000);
    for (int i = 0; i < 1000; i++)
        CHECK(order[static_cast<size_t>(i)] == i);
}

TEST_CASE("a node posted on its own loop runs after the callback that posted it has returned") {
    Running comm;
    std::vector<int> order;
    Job second([&] { order.push_back(2); });
    Job first([&] {
        comm.loop(0)->post(&second);
        order.push_back(1);
    });
    REQUIRE(comm.loop(0)->post(&first) == 0);
    REQUIRE(second.done.wait());
    CHECK(order == std::vector<int>{1, 2});
}

TEST_CASE("a loop is busy since its turn began, for whoever looks, and not while it rests") {
    Running comm;
    CommLoop *loop = comm.loop(0);
    std::atomic<bool> go_on{false};
    Signal running;
    int64_t began = 0;
    Job busy([&] {
        began = loop->now();
        running.set();
        while (!go_on)
            std::this_thread::yield();
    });
    REQUIRE(loop->post(&busy) == 0);
    REQUIRE(running.wait());
    CHECK(loop->busy_since() == began);
    CHECK(began > 0);
    go_on = true;
    REQUIRE(busy.done.wait());
    while (loop->busy_since() != 0) // it goes to rest
        std::this_thread::yield();
    comm.deinit();
}

TEST_CASE("a storm of posts from four threads loses none and keeps each thread's order") {
    Running comm(2);
    constexpr int threads = 4, each = 20000;
    struct Item : CommNode {
        std::atomic<int> *total;
        int *last; // of its thread and loop
        int number;
        bool *in_order;
    };
    std::atomic<int> total{0};
    std::vector<Item> items(threads * each);
    std::array<std::array<int, 2>, threads> last{};
    bool in_order[2] = {true, true};
    std::vector<std::thread> posters;
    for (int t = 0; t < threads; t++) {
        posters.emplace_back([&, t] {
            for (int i = 0; i < each; i++) {
                Item &item = items[static_cast<size_t>(t * each + i)];
                size_t loop = static_cast<size_t>(i) % 2;
                item.total = &total;
                item.last = &last[static_cast<size_t>(t)][loop];
                item.number = i + 1;
                item.in_order = &in_order[loop];
                item.run = [](CommNode *node) {
                    auto *self = static_cast<Item *>(node);
                    *self->in_order = *self->in_order && *self->last < self->number;
                    *self->last = self->number;
                    (*self->total)++;
                };
                comm.loop(loop)->post(&item);
            }
        });
    }
    for (auto &poster : posters)
        poster.join();
    REQUIRE(eventually([&] { return total == threads * each; }));
    comm.deinit();
    CHECK(in_order[0]);
    CHECK(in_order[1]);
}

TEST_CASE("post to a loop that has ended is refused with ESHUTDOWN and the node never runs") {
    Running comm;
    comm.deinit();
    Job job([] {});
    errno = 0;
    CHECK(comm.loop(0)->post(&job) == -1);
    CHECK(errno == ESHUTDOWN);
    CHECK(job.done.count() == 0);
}

TEST_CASE("every post that was accepted while the loop ended has run") {
    for (int round = 0; round < 25; round++) {
        Running comm;
        struct Item : CommNode {
            std::atomic<int> *ran;
        };
        std::atomic<int> ran{0};
        int accepted = 0;
        std::vector<Item> items(20000);
        Signal going;
        std::thread poster([&] {
            for (auto &item : items) {
                item.ran = &ran;
                item.run = [](CommNode *node) { ++*static_cast<Item *>(node)->ran; };
                if (comm.loop(0)->post(&item) < 0)
                    break;
                if (++accepted == 100)
                    going.set();
            }
        });
        REQUIRE(going.wait());
        comm.deinit();
        poster.join();
        CHECK(ran == accepted);
    }
}

TEST_CASE("current() is the loop on its own thread and nothing elsewhere") {
    Running comm(3);
    REQUIRE(comm.loops() == 3);
    CHECK(CommLoop::current() == nullptr);
    for (size_t i = 0; i < 3; i++) {
        CommLoop *seen = nullptr;
        REQUIRE(run_on(comm.loop(i), [&] { seen = CommLoop::current(); }));
        CHECK(seen == comm.loop(i));
        CHECK(seen->index() == i);
        CHECK(seen->communicator() == &comm);
    }
    CHECK(comm.loop(3) == nullptr);
}

TEST_CASE("the counters tell accepts, connects, reuse, posts and timers") {
    Running comm;
    Lines service;
    REQUIRE(service.start(comm) == 0);
    Target target(service.address());
    CommLoopCounters before = comm.loop(0)->counters();
    for (int i = 0; i < 3; i++) {
        Ask ask("x");
        REQUIRE(comm.request(&ask, &target) == 0);
        REQUIRE(ask.done.wait());
        REQUIRE(ask.is(CS_STATE_SUCCESS, 0));
    }
    Nap nap(1ms);
    REQUIRE(comm.sleep(&nap) == 0);
    REQUIRE(nap.done.wait());
    CommLoopCounters after = comm.loop(0)->counters();
    CHECK(after.accepts - before.accepts == 1);
    CHECK(after.connects - before.connects == 1);
    CHECK(after.reuse_hits - before.reuse_hits == 2);
    CHECK(after.stale_hits == 0);
    CHECK(after.timers - before.timers == 1);
    CHECK(after.posts - before.posts >= 4);
    CHECK(after.turns > before.turns);
    CHECK(after.max_lateness_ns >= 0);
    CHECK(comm.loop(0)->connections() == 2);
    REQUIRE(service.finish());
}

TEST_CASE("timers fire in the order of their deadlines, whatever the order of sleep()") {
    Running comm;
    Nap naps[] = {Nap(30ms), Nap(10ms), Nap(20ms)};
    std::vector<int> order;
    Signal all;
    REQUIRE(run_on(comm.loop(0), [&] {
        for (int i = 0; i < 3; i++) {
            naps[i].then = [&, i](Nap &) {
                order.push_back(i);
                all.set();
            };
            CHECK(comm.sleep(&naps[i]) == 0);
        }
    }));
    REQUIRE(all.wait(3));
    comm.deinit();
    CHECK(order == std::vector<int>{1, 2, 0});
    for (auto &nap : naps)
        CHECK(nap.is(SS_STATE_COMPLETE, 0));
}

TEST_CASE("timers of one length fire in the order they were started") {
    Running comm;
    std::vector<std::unique_ptr<Nap>> naps;
    std::vector<int> order;
    Signal all;
    for (int i = 0; i < 500; i++) {
        naps.push_back(std::make_unique<Nap>(2ms));
        naps.back()->then = [&, i](Nap &) {
            order.push_back(i);
            all.set();
        };
    }
    REQUIRE(run_on(comm.loop(0), [&] {
        for (auto &nap : naps)
            comm.sleep(nap.get());
    }));
    REQUIRE(all.wait(500));
    comm.deinit();
    for (int i = 0; i < 500; i++)
        CHECK(order[static_cast<size_t>(i)] == i);
}

TEST_CASE("a timer never fires before its time") {
    Running comm;
    for (int i = 0; i < 10; i++) {
        Nap nap(3ms);
        auto begin = std::chrono::steady_clock::now();
        REQUIRE(comm.sleep(&nap) == 0);
        REQUIRE(nap.done.wait());
        CHECK(std::chrono::steady_clock::now() - begin >= 3ms);
    }
}

TEST_CASE("a hundred thousand timers fire once each") {
    Running comm(2);
    constexpr size_t count = 100000;
    struct Tick : SleepSession {
        std::atomic<size_t> *fired = nullptr;
        long ns = 0;
        int times = 0;
        int duration(struct timespec *value) override {
            *value = {0, ns};
            return 0;
        }
        void handle(int state, int) override {
            times += state == SS_STATE_COMPLETE ? 1 : 100;
            (*fired)++;
        }
    };
    std::atomic<size_t> fired{0};
    std::vector<Tick> ticks(count);
    for (size_t i = 0; i < count; i++) {
        ticks[i].fired = &fired;
        ticks[i].ns = static_cast<long>(i * 7919 % 50) * 1000000;
        REQUIRE(comm.sleep(&ticks[i]) == 0);
    }
    REQUIRE(eventually([&] { return fired == count; }));
    comm.deinit();
    bool once = true;
    for (auto &tick : ticks)
        once = once && tick.times == 1;
    CHECK(once);
}

TEST_CASE("sleep() never calls handle() before it has returned") {
    Running comm;
    bool inside = false, seen = false;
    Nap nap(0ms);
    nap.then = [&](Nap &) { seen = inside; };
    REQUIRE(run_on(comm.loop(0), [&] {
        inside = true;
        CHECK(comm.sleep(&nap) == 0);
        inside = false;
    }));
    REQUIRE(nap.done.wait());
    CHECK_FALSE(seen);
    CHECK(nap.is(SS_STATE_COMPLETE, 0));
}

TEST_CASE("a duration that fails or is malformed fails sleep() and handle() is not called") {
    Running comm;
    struct Failing : SleepSession {
        int handled = 0;
        int duration(struct timespec *) override {
            errno = EDOM;
            return -1;
        }
        void handle(int, int) override { handled++; }
    } failing;
    CHECK(comm.sleep(&failing) == -1);
    CHECK(errno == EDOM);
    for (long ns : {-1L, 1000000000L, LONG_MAX, LONG_MIN}) {
        Nap nap(0ms);
        nap.length = {0, ns};
        errno = 0;
        CHECK(comm.sleep(&nap) == -1);
        CHECK(errno == EINVAL);
        CHECK(nap.handled == 0);
    }
    comm.deinit();
    CHECK(failing.handled == 0);
}

TEST_CASE("a timer of negative or immense length never fires and can be cancelled") {
    Running comm;
    for (time_t seconds :
         {time_t(-1), time_t(INT64_MIN), time_t(INT64_MAX), time_t(INT64_MAX / 1000000000)}) {
        Nap nap(0ms);
        nap.length = {seconds, 999999999};
        REQUIRE(comm.sleep(&nap) == 0);
        Nap other(2ms); // a whole timer's life passes
        REQUIRE(comm.sleep(&other) == 0);
        REQUIRE(other.done.wait());
        CHECK(nap.handled == 0);
        REQUIRE(comm.unsleep(&nap) == 0);
        REQUIRE(nap.done.wait());
        CHECK(nap.is(SS_STATE_ERROR, ECANCELED));
    }
}

TEST_CASE("unsleep() right after sleep() on the same thread yields ECANCELED exactly once") {
    for (size_t handlers : {0U, 2U}) {
        Running comm(2, handlers);
        for (int i = 0; i < 200; i++) {
            Nap nap(60s);
            REQUIRE(comm.sleep(&nap) == 0);
            REQUIRE(comm.unsleep(&nap) == 0);
            REQUIRE(nap.done.wait());
            CHECK(nap.is(SS_STATE_ERROR, ECANCELED));
        }
        Nap nap(60s);
        bool inside = false, inline_handle = false;
        nap.then = [&](Nap &) { inline_handle = inside; };
        REQUIRE(run_on(comm.loop(0), [&] {
            CHECK(comm.sleep(&nap) == 0);
            inside = true;
            CHECK(comm.unsleep(&nap) == 0);
            inside = false;
        }));
        REQUIRE(nap.done.wait());
        CHECK(nap.is(SS_STATE_ERROR, ECANCELED));
        CHECK_FALSE(inline_handle);
    }
}

TEST_CASE("unsleep() on the loop does not overtake the sleep() that another thread has just posted to it") {
    for (int i = 0; i < 200; i++) {
        Running comm;
        struct Passing : SleepSession {
            Signal *gone;
            int duration(struct timespec *value) override {
                *value = {60, 0};
                return 0;
            }
            void handle(int, int) override {
                Signal *told = gone;
                delete this; // and nothing of it may be linked anywhere
                told->set();
            }
        };
        Signal gone, ready, slept;
        auto *nap = new Passing;
        nap->gone = &gone;
        Job job([&] {
            ready.set();
            CHECK(slept.wait());
            CHECK(comm.unsleep(nap) == 0); // its node is still in the mailbox
        });
        REQUIRE(comm.loop(0)->post(&job) == 0);
        REQUIRE(ready.wait());
        REQUIRE(comm.sleep(nap) == 0);
        slept.set();
        REQUIRE(gone.wait());
        REQUIRE(job.done.wait());
    }
}

TEST_CASE("unsleep() of a timer that has fired returns ENOENT") {
    Running comm;
    Nap nap(0ms);
    REQUIRE(comm.sleep(&nap) == 0);
    REQUIRE(nap.done.wait());
    CHECK(comm.unsleep(&nap) == -1);
    CHECK(errno == ENOENT);
    CHECK(nap.handled == 1);
}

TEST_CASE("when unsleep() races with expiry exactly one of them wins") {
    for (size_t handlers : {0U, 2U}) {
        Running comm(2, handlers);
        int cancelled = 0;
        for (int i = 0; i < 1000; i++) {
            std::mutex mutex; // held around unsleep() and taken in handle(), as named timers do
            bool over = false;
            auto length = std::chrono::microseconds(i % 200);
            Nap nap(length);
            nap.then = [&](Nap &) {
                std::lock_guard lock(mutex);
                over = true;
            };
            auto meet = std::chrono::steady_clock::now() + length;
            REQUIRE(comm.sleep(&nap) == 0);
            while (std::chrono::steady_clock::now() < meet) {
            }
            int result = -1;
            {
                std::lock_guard lock(mutex);
                if (!over)
                    result = comm.unsleep(&nap);
            }
            REQUIRE(nap.done.wait());
            bool right = result == 0 ? nap.is(SS_STATE_ERROR, ECANCELED) : nap.is(SS_STATE_COMPLETE, 0);
            REQUIRE(right);
            cancelled += result == 0;
        }
        MESSAGE("cancelled: ", cancelled);
    }
}

TEST_CASE("a timer may be started again from its own handle()") {
    for (size_t handlers : {0U, 2U}) {
        Running comm(1, handlers);
        Signal third;
        Nap nap(1ms);
        nap.then = [&](Nap &self) {
            if (self.handled < 3)
                CHECK(comm.sleep(&self) == 0);
            else
                third.set();
        };
        REQUIRE(comm.sleep(&nap) == 0);
        REQUIRE(third.wait());
        comm.deinit();
        CHECK(nap.handled == 3);
        CHECK(nap.state == SS_STATE_COMPLETE);
    }
}
