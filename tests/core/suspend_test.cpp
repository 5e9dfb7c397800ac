// A process that is stopped for a while and goes on: what became due meanwhile happens once, and what arrived
// meanwhile is not called late.

#include <doctest/doctest.h>

#include <sys/mman.h>
#include <sys/syscall.h>

#include <deque>

#include "blocked.h"
#include "child.h"
#include "forwarding_world.h"
#include "peers.h"

using namespace peers;

namespace {

// A clock that two processes share: the one that is stopped finds that time has passed.
class SharedClock : public fixture::ForwardingWorld {
public:
    SharedClock()
        : ahead_(new(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))
                     std::atomic<int64_t>(0)) {}
    ~SharedClock() override { munmap(ahead_, 4096); }
    int64_t monotonic_ns() override { return real.monotonic_ns() + *ahead_; }
    void pass(int64_t seconds) { *ahead_ += seconds * 1000000000; }

private:
    std::atomic<int64_t> *ahead_;
};

} // namespace

TEST_CASE(
    "after SIGSTOP and SIGCONT each timer has fired once, and an answer that came meanwhile is in time") {
    SharedClock clock;
    Socket listener = Socket::listening();
    Address to = listener.address();
    process::Child child([&](process::Child &self) {
        fixture::InstalledWorld installed(clock);
        Running comm(1);
        Lines service;
        if (service.start(comm) < 0)
            self.end(1);
        Target remote(to, -1, 30000), own(service.address());
        Ask slow("question");
        slow.receive = 30000;
        if (comm.request(&slow, &remote) < 0)
            self.end(2);
        std::deque<Nap> naps;
        for (int i = 0; i < 100; i++) {
            naps.emplace_back(std::chrono::milliseconds(10000 + i * 100));
            if (comm.sleep(&naps.back()) < 0)
                self.end(3);
        }
        pid_t loop = 0;
        Nap later(std::chrono::seconds(200)); // not due when the process goes on
        if (comm.sleep(&later) < 0 || !run_on(comm.loop(0), [&] { loop = gettid(); }))
            self.end(4);
        uint64_t turns = comm.loop(0)->counters().turns;
        self.say(std::to_string(loop));
        for (Nap &nap : naps)
            if (!nap.done.wait() || !nap.is(SS_STATE_COMPLETE, 0))
                self.end(5);
        if (!slow.done.wait())
            self.end(6);
        if (!slow.is(CS_STATE_SUCCESS, 0))
            self.end(7);
        CommLoopCounters counters = comm.loop(0)->counters();
        if (counters.timers != naps.size() || counters.turns - turns > 20)
            self.end(8); // a storm
        if (later.handled != 0)
            self.end(9);
        Ask alive("x"); // and all goes on
        if (comm.request(&alive, &own) < 0 || !alive.done.wait() || !alive.is(CS_STATE_SUCCESS, 0))
            self.end(10);
        comm.unsleep(&later);
        self.end(later.done.wait() && service.finish() ? 0 : 11);
    });
    Socket peer = listener.accepted();
    CHECK(peer.receive(9) == "question\n");
    // It computes how long to sleep, and then it sleeps: stopped in between, it would sleep for
    // that long again.
    pid_t loop = static_cast<pid_t>(atoi(child.line().c_str()));
    REQUIRE(eventually([&] {
        long call = process::blocked_in(child.id(), loop);
        return call == SYS_epoll_pwait2 || call == SYS_epoll_wait || call == SYS_epoll_pwait;
    }));
    REQUIRE(child.stop());
    CHECK(peer.send("answer\n"));
    clock.pass(100);
    child.go_on();
    CHECK(child.status() == 0);
}
