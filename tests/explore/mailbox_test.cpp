// The mailbox of a loop (core/loop.cpp: post_remote(), poll(), take_mail(), the end of run(),
// wait_for_posters()): whatever the order in which posters and loop meet, what is taken runs once and what is
// refused never does.

#include <doctest/doctest.h>

#include <errno.h>

#include <memory>

#include "bare_loop.h"

using namespace explored;

TEST_CASE("a loop that sleeps without a deadline is woken by the posts of two threads") {
    in_every_order("mailbox: two posters", 3, 5000, [](sim::world &world) {
        BareLoop loop;
        settle(world);
        Count both;
        Note mine(&both);
        Note other(&both);
        sync::thread poster([&] { world.expect(loop->post(&other) == 0, "it is taken"); });
        world.expect(loop->post(&mine) == 0, "it is taken");
        both.wait_for(2); // a wake-up that is lost is a deadlock
        poster.join();
        world.expect(mine.runs == 1 && other.runs == 1, "each runs once");
        world.expect(loop->counters().posts == 2, "two were posted");
    });
}

TEST_CASE("a loop that is busy, falls asleep or is woken misses no post, and keeps their order") {
    in_every_order("mailbox: one poster", 3, 1000, [](sim::world &world) {
        BareLoop loop; // it begins, so it has yet to go to sleep
        Count all;
        int clock = 0;
        Note notes[3] = {{&all, &clock}, {&all, &clock}, {&all, &clock}};
        for (Note &one : notes)
            world.expect(loop->post(&one) == 0, "it is taken");
        all.wait_for(3);
        for (int i = 0; i < 3; i++)
            world.expect(notes[i].runs == 1 && notes[i].time == i + 1,
                         "each runs once, in the order of posting");
    });
}

TEST_CASE("the posts of one thread keep their order whatever another one posts between them") {
    in_every_order("mailbox: the order of each", 3, 1000, [](sim::world &world) {
        BareLoop loop;
        settle(world);
        int clock = 0;
        Note first(nullptr, &clock);
        Note second(nullptr, &clock);
        Note between(nullptr, &clock);
        sync::thread poster([&] {
            world.expect(loop->post(&first) == 0, "it is taken");
            world.expect(loop->post(&second) == 0, "it is taken");
        });
        world.expect(loop->post(&between) == 0, "it is taken");
        poster.join();
        loop.end(); // which lets what came before it run
        world.expect(first.runs == 1 && second.runs == 1 && between.runs == 1, "each runs once");
        world.expect(first.time < second.time, "in the order of the poster");
    });
}

TEST_CASE("a post to a loop that ends is refused or runs, never both and never neither") {
    in_every_order("mailbox: the end", 3, 5000, [](sim::world &world) {
        BareLoop loop;
        settle(world);
        Note first;
        Note second;
        sync::thread poster([&] {
            const bool taken = loop->post(&first) == 0;
            world.expect(taken || errno == ESHUTDOWN, "refused with ESHUTDOWN");
            const bool again = loop->post(&second) == 0;
            world.expect(taken || !again, "what refused once refuses for good");
            first.owed = taken;
            second.owed = again;
        });
        loop.end();
        poster.join();
        world.expect(first.runs == first.owed && second.runs == second.owed, "what is taken runs, once");
        Note late;
        world.expect(loop->post(&late) < 0 && errno == ESHUTDOWN, "a loop that has ended takes nothing");
        world.expect(late.runs == 0, "and runs nothing");
    });
}

TEST_CASE("what a node posts to its own loop while that ends still runs") {
    in_every_order("mailbox: the end, and more work", 3, 500, [](sim::world &world) {
        struct Parent : CommNode {
            Note child;
        } parent;
        parent.run = [](CommNode *node) { CommLoop::current()->post(&static_cast<Parent *>(node)->child); };
        BareLoop loop;
        settle(world);
        int taken = 0;
        sync::thread poster([&] { taken = loop->post(&parent) == 0; });
        loop.end();
        poster.join();
        world.expect(parent.child.runs == taken, "the child runs if its parent did");
    });
}

TEST_CASE("two loops that post to each other wake each other") {
    in_every_order("mailbox: loop to loop", 2, 1000, [](sim::world &world) {
        struct Ball : CommNode {
            CommLoop *loops[2];
            int hits = 0;
            Count done;
        } ball;
        ball.run = [](CommNode *node) {
            auto *self = static_cast<Ball *>(node);
            if (++self->hits == 4)
                self->done.add();
            else
                self->loops[self->hits % 2]->post(node);
        };
        BareLoop one;
        BareLoop two;
        settle(world);
        ball.loops[0] = one.get();
        ball.loops[1] = two.get();
        one->post(&ball);
        ball.done.wait_for(1);
        world.expect(ball.hits == 4, "it came back");
    });
}

TEST_CASE("a loop is not freed while whoever posted to it has not returned, though its node has run") {
    in_every_order("mailbox: wait_for_posters", 3, 1000, [](sim::world &world) {
        // The loop wakes by itself at the moment of the post, so it may run the node before it is written to.
        struct SetTimer : CommNode {
            CommTimer timer;
        } alarm;
        alarm.run = [](CommNode *node) {
            CommTimer *timer = &static_cast<SetTimer *>(node)->timer;
            timer->fire = [](CommTimer *) {};
            auto *here = parley::core::Loop::current();
            here->set_timer(timer, here->now() + 10'000'000);
        };
        Count ran;
        Note last(&ran);
        auto loop = std::make_unique<BareLoop>();
        settle(world);
        loop->get()->post(&alarm);
        // The pointer, as for somebody who was told of the loop: it is freed below when the node has run.
        CommLoop *named = loop->get();
        sync::thread poster([&] {
            world.sleep(std::chrono::milliseconds(10));
            world.expect(named->post(&last) == 0, "it is taken");
        });
        ran.wait_for(1);
        loop.reset(); // a write to a descriptor that is closed ends the run
        poster.join();
        world.expect(last.runs == 1, "it ran once");
    });
}
