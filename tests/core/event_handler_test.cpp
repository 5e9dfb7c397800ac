#include <doctest/doctest.h>

#include <deque>

#include "peers.h"

using namespace peers;

namespace {

// Runs every completion inside schedule().
class Inline : public CommEventHandler {
public:
    std::atomic<int> scheduled{0}, waited{0};

private:
    void schedule(void (*routine)(void *), void *context) override {
        scheduled++;
        routine(context);
    }
    void wait() override { waited++; }
};

// Runs them on a thread of its own, in order.
class Queued : public CommEventHandler {
public:
    std::atomic<int> scheduled{0}, ran{0}, waited{0};
    std::thread::id id() const { return thread_.get_id(); }

    Queued() : thread_([this] { work(); }) {}
    ~Queued() override {
        {
            std::lock_guard lock(mutex_);
            closed_ = true;
            changed_.notify_all();
        }
        thread_.join();
    }

private:
    void schedule(void (*routine)(void *), void *context) override {
        std::lock_guard lock(mutex_);
        scheduled++;
        queue_.emplace_back(routine, context);
        changed_.notify_all();
    }
    void wait() override {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return queue_.empty() && !busy_; });
        waited++;
    }
    void work() {
        std::unique_lock lock(mutex_);
        for (;;) {
            changed_.wait(lock, [&] { return closed_ || !queue_.empty(); });
            if (queue_.empty())
                return;
            auto [routine, context] = queue_.front();
            queue_.pop_front();
            busy_ = true;
            lock.unlock();
            routine(context);
            ran++;
            lock.lock();
            busy_ = false;
            changed_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::pair<void (*)(void *), void *>> queue_;
    bool busy_ = false, closed_ = false;
    std::thread thread_;
};

// A few exchanges, a timer, a service from bind to unbound.
void work_with(Communicator &comm) {
    Lines service;
    REQUIRE(service.start(comm) == 0);
    Target target(service.address());
    for (int i = 0; i < 20; i++) {
        Ask ask("line " + std::to_string(i));
        REQUIRE(comm.request(&ask, &target) == 0);
        REQUIRE(ask.done.wait());
        CHECK(ask.is(CS_STATE_SUCCESS, 0));
        CHECK(ask.in.text == ask.out.text);
    }
    Nap nap(1ms);
    REQUIRE(comm.sleep(&nap) == 0);
    REQUIRE(nap.done.wait());
    CHECK(nap.is(SS_STATE_COMPLETE, 0));
    REQUIRE(service.finish());
    CHECK(service.sessions == 0);
}

} // namespace

TEST_CASE("an event handler that runs completions inline replaces the handler threads") {
    for (size_t handlers : {0U, 2U}) {
        Inline handler;
        Communicator comm;
        comm.customize_event_handler(&handler);
        REQUIRE(comm.init(2, handlers) == 0);
        work_with(comm);
        CHECK(handler.waited == 0);
        comm.deinit();
        CHECK(handler.waited == 1);
        CHECK(handler.scheduled >= 20 * 3 + 2); // TOREPLY and two SUCCESS an exchange, a timer, unbound
        comm.deinit();
        CHECK(handler.waited == 1);
    }
}

TEST_CASE("an event handler with a queue runs each completion once, and wait() once, after all") {
    Queued handler;
    Communicator comm;
    comm.customize_event_handler(&handler);
    REQUIRE(comm.init(1, 0) == 0);
    work_with(comm);
    // Some are under way when it ends.
    std::vector<std::unique_ptr<Nap>> naps;
    for (int i = 0; i < 100; i++) {
        naps.push_back(std::make_unique<Nap>(60s));
        REQUIRE(comm.sleep(naps.back().get()) == 0);
    }
    comm.deinit();
    CHECK(handler.waited == 1);
    for (auto &nap : naps)
        CHECK(nap->is(SS_STATE_DISRUPTED, 0));
    CHECK(handler.ran == handler.scheduled);
}

TEST_CASE("completions run on the event handler's thread, those in place on the loop") {
    Queued handler;
    Communicator comm;
    comm.customize_event_handler(&handler);
    REQUIRE(comm.init(1, 2) == 0);
    Lines service;
    REQUIRE(service.start(comm) == 0);
    Target target(service.address());
    Ask ask("x"), stays("x");
    int on_handler = -1;
    ask.then = [&](Ask &) { on_handler = comm.is_handler_thread(); };
    stays.stay = true;
    REQUIRE(comm.request(&ask, &target) == 0);
    REQUIRE(comm.request(&stays, &target) == 0);
    REQUIRE(ask.done.wait());
    REQUIRE(stays.done.wait());
    CHECK(ask.thread == handler.id());
    CHECK(on_handler == 0);
    std::thread::id loop_thread;
    REQUIRE(run_on(comm.loop(0), [&] { loop_thread = std::this_thread::get_id(); }));
    CHECK(stays.thread == loop_thread);
    REQUIRE(service.finish());
    comm.deinit();
}

TEST_CASE("nullptr restores the handler threads") {
    Inline handler;
    Communicator comm;
    comm.customize_event_handler(&handler);
    comm.customize_event_handler(nullptr);
    REQUIRE(comm.init(1, 1) == 0);
    Nap nap(0ms);
    int on_handler = 0;
    nap.then = [&](Nap &) { on_handler = comm.is_handler_thread(); };
    REQUIRE(comm.sleep(&nap) == 0);
    REQUIRE(nap.done.wait());
    CHECK(on_handler == 1);
    comm.deinit();
    CHECK(handler.scheduled == 0);
    CHECK(handler.waited == 0);
}

TEST_CASE("an event handler may be installed between init() and the first traffic") {
    Queued handler;
    Communicator comm;
    REQUIRE(comm.init(1, 1) == 0);
    comm.customize_event_handler(&handler);
    work_with(comm);
    comm.deinit();
    CHECK(handler.waited == 1);
    CHECK(handler.scheduled > 0);
}

TEST_CASE("deinit() from a callback that an event handler runs is EDEADLK, inline or on its thread") {
    auto refused = [](Communicator &comm) {
        Nap nap(0ms);
        int error = 0;
        nap.then = [&](Nap &) {
            errno = 0;
            comm.deinit();
            error = errno;
        };
        REQUIRE(comm.sleep(&nap) == 0);
        REQUIRE(nap.done.wait());
        Nap again(0ms);
        REQUIRE(comm.sleep(&again) == 0);
        REQUIRE(again.done.wait());
        return error == EDEADLK;
    };
    Inline straight;
    Queued queued;
    for (CommEventHandler *handler :
         {static_cast<CommEventHandler *>(&straight), static_cast<CommEventHandler *>(&queued)}) {
        Communicator comm;
        comm.customize_event_handler(handler);
        REQUIRE(comm.init(1, 0) == 0);
        CHECK(refused(comm));
        comm.deinit();
    }
}

TEST_CASE("with an inline event handler an unsleep() does not call handle() before it returns") {
    Inline handler;
    Communicator comm;
    comm.customize_event_handler(&handler);
    REQUIRE(comm.init(1, 0) == 0);
    for (int i = 0; i < 100; i++) {
        std::mutex mutex; // as named timers: held here, taken in handle()
        Nap nap(60s);
        nap.then = [&](Nap &) { std::lock_guard lock(mutex); };
        {
            std::lock_guard lock(mutex);
            REQUIRE(comm.sleep(&nap) == 0);
            REQUIRE(comm.unsleep(&nap) == 0);
        }
        REQUIRE(nap.done.wait());
        CHECK(nap.is(SS_STATE_ERROR, ECANCELED));
    }
    comm.deinit();
}
