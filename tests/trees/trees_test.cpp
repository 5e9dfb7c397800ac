// Trees of a thousand tasks that wait, fail, stop and cancel one another as drawn from a seed. What must hold
// of every one: no child outlives its parent, each clean-up runs once, one exception at most comes out, and
// nothing is left.

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <parley/detail/frame_pool.hpp>
#include <parley/parley.hpp>
#include <parley/sim/search.hpp>

namespace sim = parley::sim;
using namespace std::chrono_literals;
using parley::task;

namespace {

struct failed : std::runtime_error {
    failed() : std::runtime_error("a node failed") {}
};

// Something that happens once, waited for by the thread outside.
class happening {
public:
    void set() {
        parley::sync::lock_guard<parley::sync::mutex> lock(mutex_);
        happened_ = true;
        changed_.notify_all();
    }
    void wait() {
        parley::sync::unique_lock<parley::sync::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return happened_; });
    }

private:
    parley::sync::mutex mutex_;
    parley::sync::condition_variable changed_;
    bool happened_ = false;
};

class tree {
public:
    tree(sim::world &world, int nodes) : world_(world), left_(nodes) {}

    // One tree after another until there were so many nodes.
    task<int> grow() {
        int trees = 0;
        while (left_ > 0) {
            int roots = 0;
            co_await caught(0, roots);
            expect(roots == 0, "the root outlives its caller");
            ++trees;
        }
        co_return trees;
    }
    void at_the_end() {
        expect(cleanups_ == 0, "a clean-up did not run");
        expect(parley::detail::live_frames() == 0, "frames are left");
    }

private:
    // One life of a node, as its parent counts it.
    class life {
    public:
        life(tree &of, int &siblings) : of_(of), siblings_(siblings) { ++siblings_; }
        life(life &&) = delete;
        ~life() {
            --siblings_;
            of_.expect(children == 0, "a child outlives its parent");
        }
        int children = 0;

    private:
        tree &of_;
        int &siblings_;
    };

    void expect(bool truth, const char *otherwise) {
        if (!truth)
            world_.fail(otherwise);
    }
    std::uint32_t draw(std::uint32_t n) { return world_.draw(n); }
    std::chrono::nanoseconds some_time() { return std::chrono::milliseconds(draw(50)); }

    // Moves with the depth from branches to leaves; leaves only when the tree is large enough.
    task<int> node(int depth, int &siblings) {
        --left_;
        const std::uint32_t shape = left_ <= 0 || depth > 12 ? draw(6) : draw(20);
        switch (shape) {
        case 0:
            return sleeps(siblings);
        case 1:
            return yields(siblings);
        case 2:
            return fails(siblings);
        case 3:
            return stops(siblings);
        case 4:
            return answers(siblings);
        case 5:
            return hops(siblings);
        case 6:
        case 7:
            return all_of_few(depth, siblings);
        case 8:
        case 9:
            return all_of_many(depth, siblings);
        case 10:
            return any_of_few(depth, siblings);
        case 11:
            return any_of_many(depth, siblings);
        case 12:
            return in_time(depth, siblings);
        case 13:
            return shielded(depth, siblings);
        case 14:
            return cleaned(depth, siblings);
        case 15:
            return told(depth, siblings);
        case 16:
            return caught(depth, siblings);
        case 17:
            return one_by_one(depth, siblings);
        default:
            return scoped(depth, siblings);
        }
    }

    // --- Leaves ---

    task<int> sleeps(int &siblings) {
        life mine(*this, siblings);
        co_await parley::sleep_for(some_time());
        co_return 1;
    }
    task<int> yields(int &siblings) {
        life mine(*this, siblings);
        for (std::uint32_t n = draw(100); n > 0; --n)
            co_await parley::yield();
        co_return 1;
    }
    task<int> fails(int &siblings) {
        life mine(*this, siblings);
        if (draw(2) == 0)
            co_await parley::sleep_for(some_time());
        if (draw(3) == 0)
            throw failed();
        co_return 0;
    }
    task<int> stops(int &siblings) {
        life mine(*this, siblings);
        co_await parley::sleep_for(some_time());
        if (draw(4) == 0)
            throw parley::cancelled();
        co_return 0;
    }
    task<int> answers(int &siblings) {
        life mine(*this, siblings);
        co_return 1;
    }
    task<int> hops(int &siblings) {
        life mine(*this, siblings);
        parley::runtime &all = parley::this_loop().runtime();
        co_await parley::resume_on(all.loop(draw(static_cast<std::uint32_t>(all.loops()))));
        co_await parley::yield();
        co_return 1;
    }

    // --- Branches ---

    std::vector<task<int>> some(int depth, life &mine) {
        std::vector<task<int>> children;
        for (std::uint32_t n = 1 + draw(8); n > 0; --n)
            children.push_back(node(depth + 1, mine.children));
        return children;
    }
    task<int> all_of_few(int depth, int &siblings) {
        life mine(*this, siblings);
        auto [a, b, c] = co_await parley::when_all(
            node(depth + 1, mine.children), parley::sleep_for(some_time()), node(depth + 1, mine.children));
        static_cast<void>(b);
        co_return a + c;
    }
    task<int> all_of_many(int depth, int &siblings) {
        life mine(*this, siblings);
        auto values = co_await parley::when_all(some(depth, mine));
        int sum = 0;
        for (int v : values)
            sum += v;
        co_return sum;
    }
    task<int> any_of_few(int depth, int &siblings) {
        life mine(*this, siblings);
        auto first = co_await parley::when_any(node(depth + 1, mine.children), parley::sleep_for(some_time()),
                                               node(depth + 1, mine.children), parley::yield());
        co_return static_cast<int>(first.index());
    }
    task<int> any_of_many(int depth, int &siblings) {
        life mine(*this, siblings);
        auto first = co_await parley::when_any(some(depth, mine));
        expect(mine.children == 0, "a loser outlives when_any");
        co_return first.value;
    }
    task<int> in_time(int depth, int &siblings) {
        life mine(*this, siblings);
        auto value = co_await parley::with_timeout(some_time(), node(depth + 1, mine.children));
        expect(value || value.error() == parley::errc::timed_out, "an error that is none");
        co_return value.value_or(-1);
    }
    task<int> shielded(int depth, int &siblings) {
        life mine(*this, siblings);
        const int value = co_await parley::shield(node(depth + 1, mine.children));
        co_return value;
    }
    task<int> cleaned(int depth, int &siblings) {
        life mine(*this, siblings);
        auto clean = [&]() -> task<> {
            co_await parley::sleep_for(some_time());
            --cleanups_;
        };
        auto work = [](tree &of, int below, int &children) -> task<int> {
            ++of.cleanups_; // the clean-up is owed from here on
            co_return co_await of.node(below, children);
        };
        co_return co_await parley::finally(work(*this, depth + 1, mine.children), clean);
    }
    task<int> told(int depth, int &siblings) {
        life mine(*this, siblings);
        auto value = co_await parley::stop_as_error(node(depth + 1, mine.children));
        expect(value || value.error() == parley::errc::stopping, "an error that is none");
        co_return value.value_or(-1);
    }
    task<int> caught(int depth, int &siblings) {
        life mine(*this, siblings);
        int value = 0;
        try {
            co_await parley::with_scope([&](parley::scope &) -> task<> { // where one that stops itself ends
                value = co_await node(depth + 1, mine.children);
            });
        } catch (const failed &) {
            value = -1;
        }
        expect(mine.children == 0, "a child outlives its await");
        co_return value;
    }
    task<int> one_by_one(int depth, int &siblings) {
        life mine(*this, siblings);
        std::vector<task<int>> children = some(depth, mine);
        auto take = [](task<int> &child) -> task<> { static_cast<void>(co_await std::move(child)); };
        co_await parley::for_each_concurrently(children, 1 + draw(4), take);
        co_return 1;
    }
    task<int> scoped(int depth, int &siblings) {
        life mine(*this, siblings);
        auto spawned = [](tree &of, int below, int &children) -> task<> {
            static_cast<void>(co_await of.node(below, children));
        };
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            for (std::uint32_t n = draw(30); n > 0; --n) {
                s.spawn(spawned(*this, depth + 1, mine.children));
                if (draw(8) == 0)
                    co_await parley::sleep_for(some_time());
            }
            if (draw(6) == 0)
                s.cancel();
        });
        expect(mine.children == 0, "a child outlives its scope");
        co_return 1;
    }

    sim::world &world_;
    int left_;
    int cleanups_ = 0;
};

void grow_one(sim::world &world, std::size_t loops) {
    world.run([&] {
        tree one(world, 1000);
        const bool cut = world.draw(3) == 0;
        const auto when = std::chrono::milliseconds(world.draw(60));
        {
            parley::runtime_options options;
            options.loops = loops;
            parley::runtime ground(options);
            happening end;
            int ends = 0;
            auto ended = [&](parley::outcome<int>) {
                ++ends;
                end.set();
            };
            if (cut) {
                auto limited = [](tree &of, std::chrono::nanoseconds limit) -> task<int> {
                    auto value = co_await parley::with_timeout(limit, of.grow());
                    co_return value.value_or(-1);
                };
                ground.start(limited(one, when), ended);
            } else {
                ground.start(one.grow(), ended);
            }
            if (world.draw(4) == 0) {
                world.sleep(when);
                ground.stop();
            }
            end.wait();
            world.expect(ends == 1, "the root ends once");
        }
        one.at_the_end();
    });
}

void no_failure(const std::optional<sim::failure> &it) {
    if (it)
        FAIL(*it);
}

} // namespace

TEST_CASE("random trees of a thousand tasks end whole") {
    no_failure(sim::search("random trees of a thousand tasks end whole", 200,
                           [](sim::world &world) { grow_one(world, 1); }));
}

TEST_CASE("random trees with tasks that move between loops end whole") {
    no_failure(sim::search("random trees with tasks that move between loops end whole", 200,
                           [](sim::world &world) { grow_one(world, 3); }));
}
