// The slots of a target and of a group (core/CommScheduler.cpp): whoever waits gets exactly one of a slot, a
// cancel and a timeout, slots that are on their way are not lost, and when all is over the load is 0.

#include <doctest/doctest.h>

#include <errno.h>
#include <netinet/in.h>

#include <functional>
#include <memory>
#include <utility>

#include "CommScheduler.h"
#include "bare_loop.h"

using namespace explored;

namespace {

// A target that nothing is sent to: its slots are all that matters.
class Slots : public CommSchedTarget {
public:
    Slots(sim::world &world, size_t max) : world_(world) {
        struct sockaddr_in nowhere = {};
        nowhere.sin_family = AF_INET;
        auto *address = reinterpret_cast<struct sockaddr *>(&nowhere);
        world.expect(init(address, sizeof nowhere, -1, -1, max) == 0, "init");
    }
    ~Slots() override {
        world_.expect(get_cur_load() == 0, "nobody holds a slot any more");
        deinit();
    }

private:
    sim::world &world_;
};

// A place in the queue. What it is granted it gives back, unless told otherwise.
class Waiter : public CommSlotWaiter {
public:
    explicit Waiter(Count *told = nullptr, int *clock = nullptr) : told_(told), clock_(clock) {}

    bool keeps = false;
    int grants = 0;
    int time = 0; // of the clock, when it was granted
    CommTarget *granted_by = nullptr;
    CommLoop *on = nullptr;

private:
    void granted(CommTarget *target) override {
        grants++;
        granted_by = target;
        on = CommLoop::current();
        if (clock_ != nullptr)
            time = ++*clock_;
        if (!keeps)
            target->release();
        if (told_ != nullptr)
            told_->add();
    }

    Count *told_;
    int *clock_;
};

// Runs `work` on a loop.
class Errand : public CommNode {
public:
    explicit Errand(std::function<void()> work) : work_(std::move(work)) {
        run = [](CommNode *node) { static_cast<Errand *>(node)->work_(); };
    }

private:
    std::function<void()> work_;
};

// A thread that blocks for a slot, by way of a scheduler that was never initialised: having acquired a slot
// it refuses the request with ESHUTDOWN, and gives the slot back.
class Blocked : public CommSession {
public:
    // What became of it: ESHUTDOWN (it had a slot), ECANCELED, ETIMEDOUT or EAGAIN.
    int acquire(CommSchedObject &object, int timeout_ms) {
        CommTarget *acquired = nullptr;
        CommScheduler none;
        return none.request(this, &object, timeout_ms, &acquired) == 0 ? 0 : errno;
    }

private:
    CommMessageOut *message_out() override { return nullptr; }
    CommMessageIn *message_in() override { return nullptr; }
    void handle(int, int) override {}
};

constexpr int had_a_slot = ESHUTDOWN;

} // namespace

TEST_CASE("two threads that want the only slot get it once each, and give it back") {
    in_every_order("slots: two waiters", 5, 500, [](sim::world &world) {
        Slots target(world, 1);
        Waiter one;
        Waiter two;
        const auto use = [&](Waiter &waiter) {
            if (target.wait_slot(&waiter) == 1) {
                world.expect(target.get_cur_load() == 1, "one at a time");
                waiter.grants++;
                target.release();
            }
        };
        sync::thread other([&] { use(two); });
        use(one);
        other.join();
        world.expect(one.grants == 1 && two.grants == 1, "each had it once");
    });
}

TEST_CASE("a waiter that is cancelled while its slot is freed is granted it or leaves the queue, not both") {
    in_every_order("slots: cancel and release", 5, 300, [](sim::world &world) {
        Slots target(world, 1);
        Waiter holder;
        Waiter waiter;
        world.expect(target.wait_slot(&holder) == 1 && target.wait_slot(&waiter) == 0, "it queues");
        int cancelled = 0;
        sync::thread other([&] {
            cancelled = target.cancel_wait(&waiter) == 0;
            world.expect(cancelled == 1 || errno == ENOENT, "cancelled or ENOENT");
        });
        target.release();
        other.join();
        world.expect(waiter.grants + cancelled == 1, "granted or cancelled");
    });
}

TEST_CASE("the fast ways past the mutex and the slow ones through it never give a slot twice or lose it") {
    in_every_order("slots: fast and slow", 4, 1000, [](sim::world &world) {
        Slots target(world, 1);
        Waiter holder;
        Waiter waiter;
        Blocked session;
        world.expect(target.wait_slot(&holder) == 1, "free at first");
        sync::thread queueing([&] {
            if (target.wait_slot(&waiter) == 1) {
                waiter.grants++;
                target.release();
            }
        });
        sync::thread trying([&] {
            const int what = session.acquire(target, 0);
            world.expect(what == had_a_slot || what == EAGAIN, "a slot, or at once none");
        });
        target.release();
        queueing.join();
        trying.join();
        world.expect(waiter.grants == 1, "who waits has it in the end");
        world.expect(target.wait_slot(&holder) == 1, "and then it is free");
        target.release();
    });
}

TEST_CASE("a loop's waiters are granted on their loop, first come first served") {
    in_every_order("slots: order on a loop", 2, 1000, [](sim::world &world) {
        Slots target(world, 2);
        BareLoop loop;
        settle(world);
        Waiter holders[2];
        Count all;
        int clock = 0;
        Waiter first(&all, &clock);
        Waiter second(&all, &clock);
        for (Waiter &holder : holders)
            world.expect(target.wait_slot(&holder) == 1, "free at first");
        Errand queue([&] {
            world.expect(target.wait_slot(&first) == 0 && target.wait_slot(&second) == 0, "both queue");
        });
        loop->post(&queue);
        settle(world);
        sync::thread other([&] { target.release(); });
        target.release();
        all.wait_for(2);
        other.join();
        world.expect(first.time == 1 && second.time == 2, "in the order of the queue");
        world.expect(first.on == loop.get() && second.on == loop.get(), "on the loop");
    });
}

TEST_CASE(
    "on its loop a waiter is taken back also when the grant is on its way, and the next one has the slot") {
    in_every_order("slots: taken back", 2, 500, [](sim::world &world) {
        Slots target(world, 1);
        BareLoop loop;
        settle(world);
        Waiter holder;
        Count next_served;
        Waiter next(&next_served);
        auto waiter = std::make_unique<Waiter>();
        world.expect(target.wait_slot(&holder) == 1, "free at first");
        Errand queue([&] {
            world.expect(target.wait_slot(waiter.get()) == 0 && target.wait_slot(&next) == 0, "both queue");
        });
        loop->post(&queue);
        settle(world);
        int granted = 0;
        int cancelled = 0;
        Errand cancel([&] {
            cancelled = target.cancel_wait(waiter.get()) == 0;
            granted = waiter->grants;
            waiter.reset(); // its memory may go: nobody comes for it any more
        });
        sync::thread other([&] { loop->post(&cancel); });
        target.release();
        next_served.wait_for(1);
        other.join();
        loop.end();
        world.expect(granted + cancelled == 1, "granted or cancelled, and the loop knows which");
        world.expect(next.grants == 1, "the next one had it, once");
    });
}

TEST_CASE("a waiter whose loop ends is passed over, wherever its grant is, and the next one has the slot") {
    in_every_order("slots: the loop ends", 3, 500, [](sim::world &world) {
        Slots target(world, 1);
        BareLoop loop;
        settle(world);
        Waiter holder;
        Waiter waiter;
        Waiter next;
        world.expect(target.wait_slot(&holder) == 1, "free at first");
        Errand queue([&] { world.expect(target.wait_slot(&waiter) == 0, "it queues"); });
        loop->post(&queue);
        settle(world);
        world.expect(target.wait_slot(&next) == 0, "so does the next one, for no loop");
        sync::thread other([&] { target.release(); });
        loop.end();
        other.join();
        world.expect(next.grants == 1, "the next one had it, once");
        if (waiter.grants == 0)
            world.expect(target.cancel_wait(&waiter) == 0, "a waiter that was passed over can be cancelled");
    });
}

TEST_CASE("waiters of two loops and a cancel on one of them: every slot ends with one of them or free") {
    in_every_order("slots: two loops", 2, 1000, [](sim::world &world) {
        Slots target(world, 1);
        BareLoop one;
        BareLoop two;
        settle(world);
        Waiter holder;
        Waiter cancelled_one;
        Count served;
        Waiter other(&served);
        world.expect(target.wait_slot(&holder) == 1, "free at first");
        Errand queue_one([&] { target.wait_slot(&cancelled_one); });
        Errand queue_two([&] { target.wait_slot(&other); });
        one->post(&queue_one);
        settle(world);
        two->post(&queue_two);
        settle(world);
        int cancelled = 0;
        Errand cancel([&] { cancelled = target.cancel_wait(&cancelled_one) == 0; });
        one->post(&cancel);
        target.release();
        served.wait_for(1);
        settle(world);
        world.expect(cancelled_one.grants + cancelled == 1, "granted or cancelled");
        world.expect(other.grants == 1 && other.on == two.get(), "the other one had it, on its loop");
    });
}

TEST_CASE("a thread that is blocked for a slot is granted it, is cancelled or times out, and its ticket "
          "tells which") {
    in_every_order("slots: blocked", 2, 1000, [](sim::world &world) {
        Slots target(world, 1);
        Waiter holder;
        Blocked session;
        const CommTicket ticket = session.ticket();
        world.expect(target.wait_slot(&holder) == 1, "free at first");
        int what = 0;
        sync::thread blocked([&] { what = session.acquire(target, 10); });
        int cancelled = 0;
        sync::thread cancelling([&] {
            world.sleep(std::chrono::milliseconds(10));
            Communicator none;
            cancelled = none.cancel(ticket) == 0;
            world.expect(cancelled == 1 || errno == ENOENT, "cancelled or ENOENT");
        });
        world.sleep(std::chrono::milliseconds(10)); // all three at the same moment
        target.release();
        blocked.join();
        cancelling.join();
        world.expect(what == had_a_slot || what == ETIMEDOUT || what == ECANCELED, "one of the three");
        world.expect((what == ECANCELED) == (cancelled == 1), "cancel() returned 0 if it was cancelled");
    });
}

TEST_CASE("a cancel that comes before, while or after a thread blocks wakes it or finds nothing to cancel") {
    in_every_order("slots: blocked and cancelled", 5, 500, [](sim::world &world) {
        Slots target(world, 1);
        Waiter holder;
        Blocked session;
        const CommTicket ticket = session.ticket();
        world.expect(target.wait_slot(&holder) == 1, "free at first");
        int what = 0;
        sync::thread blocked([&] { what = session.acquire(target, -1); });
        Communicator none;
        const bool cancelled = none.cancel(ticket) == 0;
        if (!cancelled)
            target.release();
        blocked.join(); // it has one of the two
        world.expect(what == (cancelled ? ECANCELED : had_a_slot), "the cancel or the slot");
        if (cancelled)
            target.release();
    });
}

TEST_CASE("two blocked threads and two slots that are freed at once: both have one") {
    in_every_order("slots: two blocked", 3, 1000, [](sim::world &world) {
        Slots target(world, 1);
        Waiter holder;
        Blocked one;
        Blocked two;
        world.expect(target.wait_slot(&holder) == 1, "free at first");
        int first = 0;
        int second = 0;
        sync::thread blocked([&] { first = one.acquire(target, -1); });
        sync::thread other([&] { second = two.acquire(target, -1); });
        target.release();
        blocked.join();
        other.join();
        world.expect(first == had_a_slot && second == had_a_slot, "both had it");
    });
}

TEST_CASE("a group's waiter comes after the target's own, and a slot freed while one of them leaves goes to "
          "the other") {
    in_every_order("slots: group", 5, 200, [](sim::world &world) {
        Slots target(world, 1);
        CommSchedGroup group;
        group.init();
        world.expect(group.add(&target) == 0, "it joins");
        Waiter holder;
        Waiter own;
        Waiter groups;
        world.expect(target.wait_slot(&holder) == 1, "free at first");
        world.expect(group.wait_slot(&groups) == 0 && target.wait_slot(&own) == 0, "both queue");
        int cancelled = 0;
        sync::thread other([&] { cancelled = target.cancel_wait(&own) == 0; });
        target.release();
        other.join();
        world.expect(own.grants + cancelled == 1, "granted or cancelled");
        world.expect(groups.grants == 1, "the group's had it, once");
        world.expect(group.get_cur_load() == 0, "the group's load is 0");
        group.deinit();
    });
}

TEST_CASE("a slot that is freed while its target leaves or joins a group is counted once") {
    in_every_order("slots: in and out of a group", 3, 200, [](sim::world &world) {
        Slots target(world, 2);
        CommSchedGroup group;
        group.init();
        Waiter first;
        Waiter second;
        world.expect(target.wait_slot(&first) == 1, "free at first");
        sync::thread releasing([&] { target.release(); });
        sync::thread using_it([&] {
            if (target.wait_slot(&second) == 1)
                target.release();
        });
        world.expect(group.add(&target) == 0, "it joins");
        world.expect(group.remove(&target) == 0, "it leaves");
        releasing.join();
        using_it.join();
        world.expect(group.get_cur_load() == 0 && group.get_max_load() == 0, "the group is empty");
        group.deinit();
    });
}

TEST_CASE("who waits for a group is served by a target that joins it while another one's slot is freed") {
    in_every_order("slots: a target joins", 4, 200, [](sim::world &world) {
        Slots busy(world, 1);
        Slots fresh(world, 1);
        CommSchedGroup group;
        group.init();
        world.expect(group.add(&busy) == 0, "it joins");
        Waiter holder;
        Waiter waiters[2];
        world.expect(busy.wait_slot(&holder) == 1, "free at first");
        for (Waiter &waiter : waiters)
            world.expect(group.wait_slot(&waiter) == 0, "it queues");
        sync::thread joining([&] { world.expect(group.add(&fresh) == 0, "it joins"); });
        busy.release();
        joining.join();
        for (Waiter &waiter : waiters)
            world.expect(waiter.grants == 1, "each had one");
        world.expect(group.get_cur_load() == 0, "the group's load is 0");
        group.deinit();
    });
}
