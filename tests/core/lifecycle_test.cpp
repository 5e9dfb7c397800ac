#include <doctest/doctest.h>

#include <array>
#include <condition_variable>
#include <memory>

#include "peers.h"

using namespace peers;

namespace {

// One exchange, from this thread.
bool echoes(Communicator &comm, CommTarget &target) {
    Ask ask("hello");
    if (comm.request(&ask, &target) < 0 || !ask.done.wait())
        return false;
    return ask.is(CS_STATE_SUCCESS, 0) && ask.in.text == "hello";
}

// Callbacks that wait for each other: n of them run at once, or the wait fails.
class Meeting {
public:
    explicit Meeting(int n) : missing_(n) {}
    bool wait() {
        std::unique_lock lock(mutex_);
        if (--missing_ == 0)
            all_here_.notify_all();
        return all_here_.wait_for(lock, guard, [&] { return missing_ <= 0; });
    }

private:
    std::mutex mutex_;
    std::condition_variable all_here_;
    int missing_;
};

} // namespace

TEST_CASE("init() without loops is EINVAL and starts nothing") {
    size_t threads = running_threads(), descriptors = open_descriptors();
    Communicator comm;
    errno = 0;
    CHECK(comm.init(0, 4) == -1);
    CHECK(errno == EINVAL);
    CHECK(comm.loops() == 0);
    CHECK(running_threads() == threads);
    CHECK(open_descriptors() == descriptors);
    CHECK(comm.init(1, 0) == 0); // and is no obstacle to a right one
}

TEST_CASE("a second init() is EALREADY and the first goes on") {
    Running comm(2);
    size_t threads = running_threads();
    errno = 0;
    CHECK(comm.init(1, 1) == -1);
    CHECK(errno == EALREADY);
    CHECK(comm.loops() == 2);
    CHECK(running_threads() == threads);
    Nap nap(0ms);
    REQUIRE(comm.sleep(&nap) == 0);
    REQUIRE(nap.done.wait());
}

TEST_CASE("before init() and after deinit() every submission is ESHUTDOWN") {
    Communicator comm;
    Lines service;
    Target target(loopback(1));
    Address at = loopback();
    service.init(at.get(), at.size, -1, -1);
    auto refused = [&] {
        Ask ask("x");
        Nap nap(0ms);
        errno = 0;
        bool all = comm.request(&ask, &target) == -1 && errno == ESHUTDOWN;
        errno = 0;
        all = all && comm.sleep(&nap) == -1 && errno == ESHUTDOWN;
        errno = 0;
        all = all && comm.bind(&service) == -1 && errno == ESHUTDOWN;
        return all && ask.handled == 0 && nap.handled == 0;
    };
    CHECK(refused());
    REQUIRE(comm.init(1, 0) == 0);
    comm.deinit();
    CHECK(refused());
    CHECK(target.released == 0);
}

TEST_CASE("a Communicator that is never used starts and ends two hundred times without a trace") {
    {
        Running warm(1, 1);
    }
    size_t threads = running_threads(), descriptors = open_descriptors();
    for (size_t i = 0; i < 200; i++) {
        Communicator comm;
        REQUIRE(comm.init(1 + i % 4, i % 3) == 0);
        comm.deinit();
    }
    CHECK(eventually([&] { return running_threads() == threads; }));
    CHECK(open_descriptors() == descriptors);
}

TEST_CASE("one Communicator starts, serves and ends two hundred times without a trace") {
    Communicator comm;
    Target *target = nullptr;
    size_t threads = running_threads(), descriptors = open_descriptors();
    for (size_t i = 0; i < 200; i++) {
        REQUIRE(comm.init(1 + i % 4, i % 3) == 0);
        Lines service;
        REQUIRE(service.start(comm) == 0);
        target = new Target(service.address());
        REQUIRE(echoes(comm, *target));
        REQUIRE(echoes(comm, *target));
        REQUIRE(service.finish());
        comm.deinit();
        CHECK(service.alive == 0);
        CHECK(service.sessions == 0);
        CHECK(open_descriptors() == descriptors);
        delete target;
    }
    CHECK(eventually([&] { return running_threads() == threads; }));
    CHECK(open_descriptors() == descriptors);
}

TEST_CASE("deinit() closes every connection, pooled ones included") {
    size_t descriptors = 0;
    auto target = std::unique_ptr<Target>();
    {
        Communicator comm;
        descriptors = open_descriptors();
        REQUIRE(comm.init(2, 0) == 0);
        Lines service;
        REQUIRE(service.start(comm) == 0);
        target = std::make_unique<Target>(service.address());
        REQUIRE(echoes(comm, *target));
        CHECK(target->has_idle_conn() == 1);
        service.on_stop = [&](int) { comm.unbind(&service); };
        comm.deinit();
        CHECK(service.unbound.count() == 1);
        CHECK(service.alive == 0);
        CHECK(target->has_idle_conn() == 0);
        CHECK(open_descriptors() == descriptors);
    }
    target->deinit(); // legal after the Communicator has gone
}

TEST_CASE("deinit() is idempotent, and needs no init()") {
    Communicator comm;
    comm.deinit();
    REQUIRE(comm.init(1, 1) == 0);
    comm.deinit();
    errno = 0;
    comm.deinit();
    CHECK(errno == 0);
    REQUIRE(comm.init(2, 0) == 0); // and may be followed by another life
    Nap nap(0ms);
    REQUIRE(comm.sleep(&nap) == 0);
    REQUIRE(nap.done.wait());
}

TEST_CASE("a target serves several lives of a Communicator, whatever their numbers of loops") {
    Running server(1);
    Lines service;
    REQUIRE(service.start(server) == 0);
    Target target(service.address());
    Communicator comm;
    for (size_t loops : {1U, 8U, 2U, 16U, 1U, 4U}) {
        REQUIRE(comm.init(loops, 0) == 0);
        for (size_t i = 0; i < loops; i++) {
            Ask ask("x");
            REQUIRE(run_on(comm.loop(i), [&] { CHECK(comm.request(&ask, &target) == 0); }));
            REQUIRE(ask.done.wait());
            CHECK(ask.is(CS_STATE_SUCCESS, 0));
            CHECK(ask.seq == 0);
        }
        CHECK(target.has_idle_conn() == 1);
        comm.deinit();
        CHECK(target.has_idle_conn() == 0);
    }
    REQUIRE(service.finish());
}

TEST_CASE("deinit() on a loop is EDEADLK and nothing happens") {
    Running comm(2);
    Nap nap(0ms);
    int error = 0;
    nap.then = [&](Nap &) {
        errno = 0;
        comm.deinit();
        error = errno;
    };
    REQUIRE(comm.sleep(&nap) == 0);
    REQUIRE(nap.done.wait());
    CHECK(error == EDEADLK);
    Nap again(0ms);
    REQUIRE(comm.sleep(&again) == 0);
    REQUIRE(again.done.wait());
    CHECK(again.is(SS_STATE_COMPLETE, 0));
}

TEST_CASE("deinit() on a handler thread is EDEADLK and nothing happens") {
    Running comm(1, 2);
    Nap nap(0ms);
    int error = 0;
    nap.then = [&](Nap &) {
        errno = 0;
        comm.deinit();
        error = errno;
    };
    REQUIRE(comm.sleep(&nap) == 0);
    REQUIRE(nap.done.wait());
    CHECK(error == EDEADLK);
    Nap again(0ms);
    REQUIRE(comm.sleep(&again) == 0);
    REQUIRE(again.done.wait());
    CHECK(again.is(SS_STATE_COMPLETE, 0));
}

TEST_CASE("deinit() of one Communicator from a callback of another is allowed") {
    Running outer(1, 1);
    auto inner = std::make_unique<Running>(2u, 1u);
    Nap nap(0ms);
    nap.then = [&](Nap &) { inner.reset(); };
    REQUIRE(outer.sleep(&nap) == 0);
    REQUIRE(nap.done.wait());
    CHECK(inner == nullptr);
}

TEST_CASE("two Communicators live side by side, and the end of one leaves the other alone") {
    Running server(2, 1);
    Lines service;
    REQUIRE(service.start(server) == 0);
    {
        Running first(1), second(2, 2);
        Target one(service.address()), two(service.address());
        CHECK(echoes(first, one));
        CHECK(echoes(second, two));
        first.deinit();
        CHECK(echoes(second, two));
        CHECK(two.has_idle_conn() == 1);
    }
    CHECK(eventually([&] { return service.alive == 0; }));
    Running third;
    Target target(service.address());
    CHECK(echoes(third, target));
    REQUIRE(service.finish());
}

TEST_CASE("handle() runs on the loop without handler threads, on a handler thread with some, on the loop in "
          "place") {
    Running plain(1, 0), pooled(1, 3);
    Lines service;
    REQUIRE(service.start(plain) == 0);
    Target first(service.address()), second(service.address());
    auto thread_of = [](CommLoop *loop) {
        std::thread::id id;
        REQUIRE(run_on(loop, [&] { id = std::this_thread::get_id(); }));
        return id;
    };
    Ask ask("x");
    REQUIRE(plain.request(&ask, &first) == 0);
    REQUIRE(ask.done.wait());
    CHECK(ask.thread == thread_of(plain.loop(0)));

    Ask handed("x");
    int on_handler = -1;
    handed.then = [&](Ask &) { on_handler = pooled.is_handler_thread(); };
    REQUIRE(pooled.request(&handed, &second) == 0);
    REQUIRE(handed.done.wait());
    CHECK(handed.thread != thread_of(pooled.loop(0)));
    CHECK(on_handler == 1);

    Ask stays("x");
    stays.stay = true;
    stays.then = [&](Ask &) { on_handler = pooled.is_handler_thread(); };
    REQUIRE(pooled.request(&stays, &second) == 0);
    REQUIRE(stays.done.wait());
    CHECK(stays.thread == thread_of(pooled.loop(0)));
    CHECK(on_handler == 0);
    REQUIRE(service.finish());
}

TEST_CASE("is_handler_thread() knows its own Communicator's handler threads only") {
    Running comm(1, 1), other(1, 1);
    CHECK(comm.is_handler_thread() == 0);
    int own = -1, others = -1;
    Nap nap(0ms);
    nap.then = [&](Nap &) {
        own = comm.is_handler_thread();
        others = other.is_handler_thread();
    };
    REQUIRE(comm.sleep(&nap) == 0);
    REQUIRE(nap.done.wait());
    CHECK(own == 1);
    CHECK(others == 0);
    int on_loop = -1;
    REQUIRE(run_on(comm.loop(0), [&] { on_loop = comm.is_handler_thread(); }));
    CHECK(on_loop == 0);
}

TEST_CASE("three handler threads run three callbacks at once") {
    Running comm(1, 3);
    Meeting meeting(3);
    std::array<bool, 3> met{};
    std::vector<std::unique_ptr<Nap>> naps;
    for (size_t i = 0; i < 3; i++) {
        naps.push_back(std::make_unique<Nap>(0ms));
        naps.back()->then = [&, i](Nap &) { met[i] = meeting.wait(); };
        REQUIRE(comm.sleep(naps.back().get()) == 0);
    }
    for (auto &nap : naps)
        REQUIRE(nap->done.wait());
    CHECK((met[0] && met[1] && met[2]));
}

TEST_CASE(
    "a callback that blocks may add a handler thread for the one it waits for, and take it away again") {
    Running comm(1, 1);
    size_t threads = running_threads();
    Nap waited(0ms), waits(0ms);
    bool ok = false;
    waits.then = [&](Nap &) {
        ok = comm.increase_handler_thread() == 0 && comm.sleep(&waited) == 0 && waited.done.wait() &&
             comm.decrease_handler_thread() == 0;
    };
    REQUIRE(comm.sleep(&waits) == 0);
    REQUIRE(waits.done.wait());
    CHECK(ok);
    CHECK(eventually([&] { return running_threads() == threads; }));
    Nap after(0ms);
    REQUIRE(comm.sleep(&after) == 0);
    REQUIRE(after.done.wait());
}

TEST_CASE("handler threads may come and go a hundred times, and none is left behind") {
    size_t threads = running_threads();
    {
        Running comm(1, 1);
        for (int i = 0; i < 100; i++) {
            REQUIRE(comm.increase_handler_thread() == 0);
            REQUIRE(comm.decrease_handler_thread() == 0);
        }
        Nap nap(0ms);
        REQUIRE(comm.sleep(&nap) == 0);
        REQUIRE(nap.done.wait());
    }
    CHECK(eventually([&] { return running_threads() == threads; }));
}

TEST_CASE("without handler threads there are none to increase: ENOTSUP") {
    Running comm(1, 0);
    errno = 0;
    CHECK(comm.increase_handler_thread() == -1);
    CHECK(errno == ENOTSUP);
    errno = 0;
    CHECK(comm.decrease_handler_thread() == -1);
    CHECK(errno == ENOTSUP);
}

TEST_CASE("every thread of a Communicator blocks all signals but its own faults' and a profiler's") {
    Running comm(2, 2);
    // From /proc: what pthread_sigmask() of each thread says. SIGKILL (9), SIGSTOP (19) and glibc's own 32,
    // 33 cannot be blocked.
    uint64_t all = ~uint64_t{0} & ~(uint64_t{1} << 8) & ~(uint64_t{1} << 18) & ~(uint64_t{3} << 31);
    for (int signal : {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, SIGPROF})
        all &= ~(uint64_t{1} << (signal - 1));
    auto mask_of_this_thread = [] {
        FILE *file = fopen("/proc/thread-self/status", "r");
        char line[256];
        unsigned long long mask = 0;
        while (file != nullptr && fgets(line, sizeof line, file) != nullptr)
            if (sscanf(line, "SigBlk: %llx", &mask) == 1)
                break;
        if (file != nullptr)
            fclose(file);
        return static_cast<uint64_t>(mask);
    };
    for (size_t i = 0; i < 2; i++) {
        uint64_t mask = 0;
        REQUIRE(run_on(comm.loop(i), [&] { mask = mask_of_this_thread(); }));
        CHECK((mask & all) == all);
    }
    Nap nap(0ms);
    uint64_t mask = 0;
    nap.then = [&](Nap &) { mask = mask_of_this_thread(); };
    REQUIRE(comm.sleep(&nap) == 0);
    REQUIRE(nap.done.wait());
    CHECK((mask & all) == all);
    CHECK((mask_of_this_thread() & all) == 0); // and the caller's own mask is as it was
}

TEST_CASE("init() and submissions leave errno alone when they succeed") {
    Communicator comm;
    REQUIRE(comm.init(1, 0) == 0);
    Lines service;
    Address at = loopback();
    service.communicator = &comm;
    service.init(at.get(), at.size, -1, -1);
    errno = ERANGE;
    REQUIRE(comm.bind(&service) == 0);
    CHECK(errno == ERANGE);
    Target target(service.address());
    int inside = 0;
    Ask ask("x"), again("x");
    REQUIRE(comm.request(&ask, &target) == 0);
    CHECK(errno == ERANGE);
    REQUIRE(ask.done.wait());
    REQUIRE(run_on(comm.loop(0), [&] {
        errno = ERANGE;
        CHECK(comm.request(&again, &target) == 0);
        inside = errno;
    }));
    CHECK(inside == ERANGE);
    REQUIRE(again.done.wait());
    errno = ERANGE;
    CHECK(service.drain(-1) == 1);
    CHECK(errno == ERANGE);
    comm.unbind(&service);
    CHECK(errno == ERANGE);
    REQUIRE(service.unbound.wait());
}
