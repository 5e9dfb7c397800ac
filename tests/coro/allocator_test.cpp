// Coroutine frames from allocators of the user's.

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <memory_resource>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <parley/parley.hpp>

#include "coro_test.hpp"

using namespace std::chrono_literals;
using parley::task;

namespace {

// Counts what is taken from it and checks what it gets back. Fails at allocation number `fails_at`.
class ledger {
public:
    void *take(std::size_t bytes) {
        if (++taken_ == fails_at)
            throw std::bad_alloc();
        void *memory = ::operator new(bytes);
        sizes_[memory] = bytes;
        return memory;
    }
    void give_back(void *memory, std::size_t bytes) {
        auto found = sizes_.find(memory);
        const bool known = found != sizes_.end() && found->second == bytes;
        CHECK(known);
        if (known)
            sizes_.erase(found);
        ::operator delete(memory);
    }
    std::size_t taken() const { return taken_; }
    std::size_t live() const { return sizes_.size(); }

    std::size_t fails_at = 0;

private:
    std::map<void *, std::size_t> sizes_;
    std::size_t taken_ = 0;
};

// Stateful, no default constructor, copies are counted: what is kept with a frame must end with it.
template <class T>
class from_ledger {
public:
    using value_type = T;
    explicit from_ledger(ledger &book) : book_(&book) { ++alive; }
    from_ledger(const from_ledger &other) noexcept : book_(other.book_) { ++alive; }
    template <class U>
    from_ledger(const from_ledger<U> &other) noexcept : book_(other.book()) {
        ++alive;
    }
    from_ledger &operator=(const from_ledger &) = default;
    ~from_ledger() { --alive; }

    T *allocate(std::size_t n) { return static_cast<T *>(book_->take(n * sizeof(T))); }
    void deallocate(T *p, std::size_t n) { book_->give_back(p, n * sizeof(T)); }
    ledger *book() const { return book_; }
    template <class U>
    bool operator==(const from_ledger<U> &other) const {
        return book_ == other.book();
    }

    static inline int alive = 0;

private:
    ledger *book_;
};
using allocator = from_ledger<char>;
// All instances count as one.
int allocators_alive() {
    return from_ledger<char>::alive + from_ledger<parley::detail::frame_unit>::alive;
}

// Without state: nothing is kept with the frame.
ledger of_stateless;
template <class T>
struct stateless {
    using value_type = T;
    stateless() = default;
    template <class U>
    stateless(const stateless<U> &) noexcept {}
    T *allocate(std::size_t n) { return static_cast<T *>(of_stateless.take(n * sizeof(T))); }
    void deallocate(T *p, std::size_t n) { of_stateless.give_back(p, n * sizeof(T)); }
    friend bool operator==(const stateless &, const stateless &) = default;
};

task<int> by_value(std::allocator_arg_t, allocator, int x) {
    co_return x;
}
task<int &> by_reference(std::allocator_arg_t, const allocator &, int &x) {
    co_await parley::yield();
    co_return x;
}
task<> by_rvalue(const std::allocator_arg_t &, allocator &&, std::unique_ptr<int> owned, int &result) {
    co_await parley::yield();
    result = *owned;
}
task<> nothing_else(std::allocator_arg_t, allocator) {
    co_return;
}
task<int> without_state(std::allocator_arg_t, stateless<int>, int x) {
    co_await parley::yield();
    co_return x;
}
template <class A>
task<std::string> any_allocator(std::allocator_arg_t, A, std::string text) {
    co_await parley::yield();
    co_return text + text;
}

struct object {
    int x = 5;
    task<int> member(std::allocator_arg_t, allocator, int y) const { co_return x + y; }
    task<int> changing(std::allocator_arg_t, const allocator &) { co_return ++x; }
    static task<int> none(std::allocator_arg_t, allocator, object &other) { co_return other.x; }
};

task<int> fails(std::allocator_arg_t, allocator) {
    co_await parley::yield();
    throw std::runtime_error("failed");
}

// Three children each.
task<int> tree(std::allocator_arg_t, allocator from, int depth) {
    if (depth == 0)
        co_return 1;
    co_await parley::yield();
    int left = co_await tree(std::allocator_arg, from, depth - 1);
    auto [a, b] = co_await parley::when_all(tree(std::allocator_arg, from, depth - 1),
                                            tree(std::allocator_arg, from, depth - 1));
    co_return left + a + b;
}

// [frames]
using bytes_from = std::pmr::polymorphic_allocator<>;

task<std::size_t> digits(std::allocator_arg_t, bytes_from, unsigned number) {
    co_return std::to_string(number).size();
}

task<std::size_t> all_digits(std::allocator_arg_t, bytes_from from, unsigned limit) {
    std::size_t sum = 0;
    for (unsigned n = 0; n < limit; ++n)
        sum += co_await digits(std::allocator_arg, from, n); // handed on: nothing does that by itself
    co_return sum;
}

std::size_t in_an_arena() {
    std::pmr::unsynchronized_pool_resource arena;
    return parley::run(all_digits(std::allocator_arg, &arena, 11));
}
// [/frames]

} // namespace

TEST_CASE("frames come from the allocator that the coroutine was given") {
    no_frames_left check;
    ledger book;
    parley::run([](ledger &b) -> task<> {
        allocator from(b);
        int x = co_await by_value(std::allocator_arg, from, 1);
        CHECK(x == 1);
        CHECK(b.taken() == 1);
        int target = 0;
        int &y = co_await by_reference(std::allocator_arg, from, target);
        CHECK(&y == &target);
        CHECK(b.taken() == 2);
        auto owned = std::make_unique<int>(3);
        co_await by_rvalue(std::allocator_arg, allocator(b), std::move(owned), target);
        CHECK(target == 3);
        co_await nothing_else(std::allocator_arg, from);
        CHECK(b.taken() == 4);
        CHECK(b.live() == 0);
    }(book));
    CHECK(book.live() == 0);
    CHECK(allocators_alive() == 0);
}

TEST_CASE("the coroutine may be a member function or a lambda") {
    no_frames_left check;
    ledger book;
    parley::run([](ledger &b) -> task<> {
        allocator from(b);
        object o;
        int sum = co_await o.member(std::allocator_arg, from, 1);
        sum += co_await o.changing(std::allocator_arg, from);
        sum += co_await object::none(std::allocator_arg, from, o);
        CHECK(sum == 18);
        CHECK(b.taken() == 3);
        auto plain = [](std::allocator_arg_t, const allocator &, int x) -> task<int> { co_return x; };
        auto captures = [&o](std::allocator_arg_t, allocator, auto x) -> task<int> { co_return x + o.x; };
        auto changes = [n = 1](std::allocator_arg_t, allocator) mutable -> task<int> { co_return ++n; };
        sum = co_await plain(std::allocator_arg, from, 1);
        sum += co_await captures(std::allocator_arg, from, 1);
        sum += co_await changes(std::allocator_arg, from);
        CHECK(sum == 10);
        CHECK(b.taken() == 6);
        CHECK(b.live() == 0);
    }(book));
    CHECK(allocators_alive() == 0);
}

TEST_CASE("an allocator without state is not kept, one with state is, behind the frame") {
    no_frames_left check;
    const std::size_t before = of_stateless.taken();
    int x = parley::run(without_state(std::allocator_arg, {}, 4));
    CHECK(x == 4);
    CHECK(of_stateless.taken() == before + 1);
    CHECK(of_stateless.live() == 0);
    CHECK(in_an_arena() == 12);

    std::array<std::byte, 4096> memory;
    std::pmr::monotonic_buffer_resource arena(memory.data(), memory.size(), std::pmr::null_memory_resource());
    std::pmr::polymorphic_allocator<> from(&arena);
    CHECK(parley::run(any_allocator(std::allocator_arg, from, std::string("ab"))) == "abab");
    CHECK(parley::run(any_allocator(std::allocator_arg, std::allocator<int>(), std::string("c"))) == "cc");
}

TEST_CASE("a task that is not awaited gives its frame back, with what it holds") {
    no_frames_left check;
    ledger book;
    int result = 0;
    {
        allocator from(book);
        task<> first = by_rvalue(std::allocator_arg, allocator(book), std::make_unique<int>(1), result);
        task<int> second = by_value(std::allocator_arg, from, 1);
        CHECK(book.live() == 2);
        task<int> moved = std::move(second);
        moved = by_value(std::allocator_arg, from, 2);
        CHECK(book.live() == 2);
    }
    CHECK(book.live() == 0);
    CHECK(allocators_alive() == 0);
}

TEST_CASE("an exception and a cancel in the middle of a task give its frame back") {
    no_frames_left check;
    ledger book;
    parley::run([](ledger &b) -> task<> {
        allocator from(b);
        auto thrown = co_await parley::stop_as_error([&from]() -> task<bool> {
            try {
                int x = co_await fails(std::allocator_arg, from);
                static_cast<void>(x);
            } catch (const std::runtime_error &) {
                co_return true;
            }
            co_return false;
        });
        CHECK(thrown.value());
        auto late = co_await parley::with_timeout(1ms, [&from]() -> task<> {
            auto asleep = [](std::allocator_arg_t, allocator) -> task<> { co_await parley::sleep_for(1h); };
            co_await asleep(std::allocator_arg, from);
        });
        CHECK(late.error() == parley::errc::timed_out);
        CHECK(b.taken() == 2);
        CHECK(b.live() == 0);
    }(book));
    CHECK(allocators_alive() == 0);
}

TEST_CASE("an allocator that fails at any frame of a tree: bad_alloc arrives, everything is given back") {
    ledger counting;
    CHECK(parley::run(tree(std::allocator_arg, allocator(counting), 3)) == 27);
    const std::size_t frames = counting.taken();
    CHECK(frames == 1 + 3 + 9 + 27);
    for (std::size_t n = 1; n <= frames; ++n) {
        no_frames_left check;
        ledger book;
        book.fails_at = n;
        bool failed = false;
        parley::runtime rt;
        try {
            int sum = rt.sync_wait(tree(std::allocator_arg, allocator(book), 3));
            static_cast<void>(sum);
        } catch (const std::bad_alloc &) {
            failed = true;
        }
        CHECK(failed);
        CHECK(book.live() == 0);
        CHECK(allocators_alive() == 0);
    }
}

TEST_CASE("such tasks are tasks: in scopes, started from outside, on other loops") {
    no_frames_left check;
    std::pmr::synchronized_pool_resource pool;
    std::pmr::polymorphic_allocator<> from(&pool);
    auto work = [](std::allocator_arg_t, std::pmr::polymorphic_allocator<>, int &sum) -> task<> {
        co_await parley::yield();
        ++sum;
    };
    int sum = 0;
    parley::runtime_options two;
    two.loops = 2;
    parley::runtime rt(two);
    rt.sync_wait([](auto &make, auto &given, int &count) -> task<> {
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            for (int i = 0; i < 10; ++i)
                s.spawn(make(std::allocator_arg, given, count));
            co_return;
        });
    }(work, from, sum));
    CHECK(sum == 10);
    auto elsewhere = [](std::allocator_arg_t, std::pmr::polymorphic_allocator<>,
                        parley::loop &other) -> task<int> {
        co_await parley::resume_on(other);
        co_return 7;
    };
    CHECK(rt.sync_wait(rt.loop(0), elsewhere(std::allocator_arg, from, rt.loop(1))) == 7);
}

TEST_CASE("the allocator costs other tasks nothing, and is found at the same promise") {
    using plain = std::coroutine_traits<task<int>, int>::promise_type;
    using allocated = std::coroutine_traits<task<int>, std::allocator_arg_t, allocator>::promise_type;
    CHECK(std::is_same_v<plain, parley::detail::promise<int>>);
    CHECK(std::is_base_of_v<plain, allocated>);
    CHECK(sizeof(allocated) == sizeof(plain));
    CHECK(alignof(allocated) == alignof(plain));
}
