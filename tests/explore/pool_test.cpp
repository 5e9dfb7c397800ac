// The handler threads (core/handler_pool.cpp): what is put runs once or is refused, no wake-up is lost
// between threads that come and go, and finish() leaves nobody and nothing behind.

#include <doctest/doctest.h>

#include <errno.h>

#include "explored.h"
#include "handler_pool.h"

using namespace explored;

namespace {

class Pool : public parley::core::HandlerPool {
public:
    Pool(sim::world &world, size_t threads) {
        world.expect(start(parley::sys::current(), nullptr, threads) == 0, "the threads start");
        settle(world);
    }
    bool put_one(CommNode *node) { return put(node, node, 1); }
    bool put_two(CommNode *head, CommNode *tail) {
        head->next = tail;
        return put(head, tail, 2);
    }
};

} // namespace

TEST_CASE("a batch and a node from two threads run once each, on a thread that slept") {
    in_every_order("pool: two puts", 2, 1000, [](sim::world &world) {
        Pool pool(world, 1);
        Count all;
        Note first(&all);
        Note second(&all);
        Note third(&all);
        sync::thread putting([&] { world.expect(pool.put_two(&first, &second), "taken"); });
        world.expect(pool.put_one(&third), "taken");
        all.wait_for(3); // a wake-up that is lost is a deadlock
        putting.join();
        pool.finish();
        world.expect(first.runs == 1 && second.runs == 1 && third.runs == 1, "each runs once");
    });
}

TEST_CASE("a node that waits for the one behind it in the batch finds a second thread awake") {
    in_every_order("pool: one waits for the other", 2, 1000, [](sim::world &world) {
        struct Waiting : CommNode {
            Count behind;
            Note other{&behind};
            Count done;
        } it;
        it.run = [](CommNode *node) {
            auto *self = static_cast<Waiting *>(node);
            self->behind.wait_for(1);
            self->done.add();
        };
        Pool pool(world, 2);
        world.expect(pool.put_two(&it, &it.other), "taken");
        it.done.wait_for(1);
        pool.finish();
    });
}

TEST_CASE("two puts wake two threads, also when the first has not gone to work yet") {
    in_every_order("pool: two wake-ups", 2, 1000, [](sim::world &world) {
        struct Waiting : CommNode {
            Count behind;
            Note other{&behind};
            Count done;
        } it;
        it.run = [](CommNode *node) {
            auto *self = static_cast<Waiting *>(node);
            self->behind.wait_for(1);
            self->done.add();
        };
        Pool pool(world, 2);
        sync::thread putting([&] { world.expect(pool.put_one(&it.other), "taken"); });
        world.expect(pool.put_one(&it), "taken");
        it.done.wait_for(1);
        putting.join();
        pool.finish();
        world.expect(it.other.runs == 1, "the other ran");
    });
}

TEST_CASE("a put against finish() is refused, or has run when finish() returns or by the thread that ends") {
    in_every_order("pool: put and finish", 3, 1000, [](sim::world &world) {
        Pool pool(world, 1);
        Note first;
        Note second;
        sync::thread putting([&] {
            first.owed = pool.put_one(&first);
            second.owed = pool.put_one(&second);
            world.expect(first.owed >= second.owed, "what refused once refuses for good");
        });
        pool.finish();
        const int ran = first.runs + second.runs;
        putting.join();
        world.expect(first.runs == first.owed && second.runs == second.owed, "what is taken runs, once");
        world.expect(ran == first.runs + second.runs, "and nothing runs after finish()");
    });
}

TEST_CASE("what a node puts while the pool finishes still runs") {
    in_every_order("pool: put by a node", 3, 200, [](sim::world &world) {
        struct Parent : CommNode {
            Pool *pool;
            Note child;
        } parent;
        parent.run = [](CommNode *node) {
            auto *self = static_cast<Parent *>(node);
            self->child.owed = self->pool->put_one(&self->child);
        };
        Pool pool(world, 2);
        parent.pool = &pool;
        world.expect(pool.put_one(&parent), "taken");
        pool.finish();
        world.expect(parent.child.owed == 1, "the pool takes what its own threads bring");
        world.expect(parent.child.runs == 1, "and runs it");
    });
}

TEST_CASE("a thread that is sent away takes no wake-up with it that was meant for work") {
    in_every_order("pool: shrink and put", 2, 1000, [](sim::world &world) {
        Pool pool(world, 2);
        Count ran;
        Note work(&ran);
        sync::thread shrinking([&] { pool.shrink(); });
        world.expect(pool.put_one(&work), "taken");
        ran.wait_for(1);
        shrinking.join();
        pool.finish();
        world.expect(work.runs == 1, "it runs once");
    });
}

TEST_CASE("when the last thread is sent away, finish() runs what nobody took") {
    in_every_order("pool: nobody left", 3, 500, [](sim::world &world) {
        Pool pool(world, 1);
        Note work;
        sync::thread shrinking([&] { pool.shrink(); });
        world.expect(pool.put_one(&work), "taken");
        shrinking.join();
        pool.finish();
        world.expect(work.runs == 1, "it runs once");
    });
}

TEST_CASE("a thread that is added works, or is refused by a pool that finishes") {
    in_every_order("pool: grow, put and finish", 3, 1000, [](sim::world &world) {
        Pool pool(world, 1);
        Note work;
        sync::thread growing([&] {
            const int error = pool.grow();
            world.expect(error == 0 || error == ESHUTDOWN, "grown, or too late");
        });
        world.expect(pool.put_one(&work), "taken");
        pool.finish(); // joins whom grow() started
        world.expect(work.runs == 1, "it runs once");
        growing.join();
    });
}
