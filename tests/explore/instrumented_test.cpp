// That this room tries what it says: its atomics, and the core's, ask the scheduler at every operation.
// Without that the other tests here would pass on the few orders that locks and system calls leave.

#include <doctest/doctest.h>

#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <new>
#include <type_traits>

#include "bare_loop.h"

using namespace explored;

static_assert(PARLEY_INSTRUMENTED_ATOMICS, "this room is compiled with instrumented atomics");
static_assert(!std::is_same_v<sync::atomic<int>, std::atomic<int>>,
              "sync::atomic is the one that asks the scheduler");

namespace {

// Which orders have come, across the process that runs them: one flag for each, and what is none of them.
class Orders {
public:
    static constexpr unsigned steps = 3; // of each of the two threads

    Orders()
        : memory_(mmap(nullptr, sizeof(Seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
          seen_(new(memory_) Seen{}) {}
    ~Orders() { munmap(memory_, sizeof(Seen)); }
    Orders(const Orders &) = delete;
    Orders &operator=(const Orders &) = delete;

    // A bit for each step: which of the two took it.
    void came(unsigned order) { seen_->flags[order] = true; }
    int count() const {
        int sum = 0;
        for (const bool one : seen_->flags)
            sum += one;
        return sum;
    }

private:
    struct Seen {
        bool flags[1 << 2 * steps];
    };
    void *memory_;
    Seen *seen_;
};

// Two threads that look, do that to an atomic, and write what they saw plus one: an addition is lost if
// another thread may come in between.
bool others_may_come(const std::function<void(sync::atomic<int> &)> &operation) {
    const sim::exploration all = sim::explore("one operation", {.preemptions = 1}, [&](sim::world &world) {
        world.run([&] {
            sync::atomic<int> value{0};
            int sum = 0;
            const auto add = [&] {
                const int seen = sum;
                operation(value);
                sum = seen + 1;
            };
            sync::thread other(add);
            add();
            other.join();
            world.expect(sum == 2, "none is lost");
        });
    });
    return all.failed.has_value();
}

} // namespace

TEST_CASE("two threads of three operations each on an atomic meet in all of their twenty orders") {
    Orders orders;
    const sim::exploration all = sim::explore("twenty orders", {.preemptions = 5}, [&](sim::world &world) {
        world.run([&] {
            sync::atomic<int> value{0};
            unsigned order = 0;
            unsigned taken = 0;
            const auto walk = [&](unsigned me) {
                for (unsigned i = 0; i < Orders::steps; i++) {
                    value.fetch_add(1);
                    order |= me << taken++;
                }
            };
            sync::thread other([&] { walk(1); });
            walk(0);
            other.join();
            orders.came(order);
        });
    });
    CHECK_MESSAGE(!all.failed, all);
    CHECK(all.complete);
    CHECK(orders.count() == 20); // 6! / (3! 3!)
}

TEST_CASE("before every operation on an atomic another thread may come, and without one none does") {
    using Int = sync::atomic<int>;
    CHECK_FALSE(others_may_come([](Int &) {}));
    CHECK(others_may_come([](Int &value) { (void)value.load(); }));
    CHECK(others_may_come([](Int &value) { (void)static_cast<int>(value); }));
    CHECK(others_may_come([](Int &value) { value.store(1); }));
    CHECK(others_may_come([](Int &value) { value = 1; }));
    CHECK(others_may_come([](Int &value) { value.exchange(1); }));
    CHECK(others_may_come([](Int &value) {
        int expected = 0;
        value.compare_exchange_strong(expected, 1);
    }));
    CHECK(others_may_come([](Int &value) {
        int expected = 0;
        value.compare_exchange_strong(expected, 1, sync::memory_order_acq_rel, sync::memory_order_relaxed);
    }));
    CHECK(others_may_come([](Int &value) {
        int expected = 0;
        value.compare_exchange_weak(expected, 1);
    }));
    CHECK(others_may_come([](Int &value) { value.fetch_add(1); }));
    CHECK(others_may_come([](Int &value) { value.fetch_sub(1); }));
    CHECK(others_may_come([](Int &value) { value.fetch_or(1); }));
    CHECK(others_may_come([](Int &value) { value.fetch_and(1); }));
    CHECK(others_may_come([](Int &value) { ++value; }));
    CHECK(others_may_come([](Int &value) { value--; }));
}

TEST_CASE("the core that is linked here is compiled alike: a post to a loop asks at every operation") {
    sim::world world{1};
    world.run([&] {
        // On this thread alone, so that every step is its own.
        auto *loop = new parley::core::Loop;
        REQUIRE(loop->open(nullptr, nullptr, 0) == 0);
        Note note;
        const std::uint64_t before = world.steps();
        loop->post_remote(&note);           // the loop is awake: no call of the kernel
        CHECK(world.steps() - before == 4); // one more poster, the box, what is in it, one poster less
        loop->stop_node.run = [](CommNode *) { CommMachine::stop_loop(parley::core::Loop::current()); };
        loop->post_remote(&loop->stop_node);
        loop->run();
        loop->wait_for_posters();
        loop->release();
        CHECK(note.runs == 1);
    });
}
