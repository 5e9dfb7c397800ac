// Classic mistakes that must not compile. Each block is a program's own code with one mistake in it, and
// `says:` is what the compiler's message has to contain; run.py compiles every block alone. MISTAKE=0 is
// the code around them, which is right.

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include <coroutine>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using parley::task;

struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};

task<int> load(int id) {
    co_await parley::yield();
    co_return id;
}
task<> store(int) {
    co_await parley::yield();
}

#if MISTAKE == 1 // a task awaited by its name
// says: parley: a task is awaited once, by rvalue: write co_await std::move(t)
task<int> twice() {
    auto one = load(1);
    co_return co_await one + co_await one;
}
#endif

#if MISTAKE == 2 // std::suspend_always awaited, to let others run
// says: to let others run, co_await parley::yield()
task<> polite() {
    co_await std::suspend_always();
}
#endif

#if MISTAKE == 3 // a value awaited
// says: parley: this is nothing a task can await
task<int> add(int a, int b) {
    co_return co_await (a + b);
}
#endif

#if MISTAKE == 4 // a function awaited that was not called
// says: parley: this is nothing a task can await
task<> forgot_the_call() {
    co_await load;
}
#endif

#if MISTAKE == 5 // the result of an operation thrown away
// says: unused-result
// only: clang++
task<> push_blindly(parley::connection<lines> &peer) {
    co_await peer.push(parley::line_message("news"));
}
#endif

#if MISTAKE == 6 // a task made and thrown away, instead of awaited
// says: unused-result
// only: g++
task<> save() {
    store(1);
    co_return;
}
#endif

#if MISTAKE == 7 // a task made and thrown away, instead of awaited
// says: nodiscard
// only: clang++
task<> save() {
    store(1);
    co_return;
}
#endif

#if MISTAKE == 8 // a sleep that is not awaited
// says: nodiscard
task<> wait_a_little() {
    parley::sleep_for(1s);
    co_return;
}
#endif

#if MISTAKE == 9 // a task with a value given to spawn
// says: parley: spawn takes a task<>: nobody would see the value of this one
task<> start_all() {
    co_await parley::with_scope([](parley::scope &s) -> task<> {
        s.spawn(load(1));
        co_return;
    });
}
#endif

#if MISTAKE == 10 // a function that makes a task with a value given to spawn
// says: parley: spawn takes a task<>: nobody would see the value of this one
task<> start_all() {
    co_await parley::with_scope([](parley::scope &s) -> task<> {
        s.spawn([] { return load(1); });
        co_return;
    });
}
#endif

#if MISTAKE == 11 // something that is neither a task nor makes one given to spawn
// says: parley: spawn takes a task<>, or a function without parameters that makes one
task<> start_all(parley::connection<lines> &peer) {
    co_await parley::with_scope([&](parley::scope &s) -> task<> {
        s.spawn(peer.recv());
        co_return;
    });
}
#endif

#if MISTAKE == 12 // a task given to spawn by its name
// says: parley: a task is given by rvalue: write std::move(t)
task<> start_all() {
    co_await parley::with_scope([](parley::scope &s) -> task<> {
        auto child = store(1);
        s.spawn(child);
        co_return;
    });
}
#endif

#if MISTAKE == 13 // a task copied
// says: deleted
void keep_both(task<> &original) {
    task<> copy = original;
}
#endif

#if MISTAKE == 14 // a scope made by hand, without with_scope
// says: private
task<> on_my_own() {
    parley::scope children;
    children.spawn(store(1));
    co_return;
}
#endif

#if MISTAKE == 15 // a scope copied, to be used after its end
// says: deleted
task<> keep_the_scope() {
    co_await parley::with_scope([](parley::scope &s) -> task<> {
        auto mine = s;
        mine.spawn(store(1));
        co_return;
    });
}
#endif

#if MISTAKE == 16 // a body of with_scope that takes its scope by value
// says: parley: the body of with_scope takes a parley::scope&
task<> by_value() {
    co_await parley::with_scope([](parley::scope s) -> task<> {
        s.spawn(store(1));
        co_return;
    });
}
#endif

#if MISTAKE == 17 // a body of with_scope that is no coroutine
// says: parley: the body of with_scope makes a task
task<> no_body() {
    co_await parley::with_scope([](parley::scope &s) { s.spawn(store(1)); });
}
#endif

#if MISTAKE == 18 // a task already made given to with_scope
// says: parley: the body of with_scope takes a parley::scope&
task<> wrong_thing() {
    co_await parley::with_scope(store(1));
}
#endif

#if MISTAKE == 19 // an over-aligned value returned by a task
// says: parley: nothing in a coroutine may be over-aligned
struct alignas(64) row {
    float columns[16];
};
task<row> next_row() {
    co_return row();
}
#endif

#if MISTAKE == 20 // co_yield in a task
// says: parley: a task has one value, given by co_return
task<int> count() {
    for (int i = 0; i < 10; ++i)
        co_yield i;
    co_return 10;
}
#endif

#if MISTAKE == 21 // a combinator named first and awaited later
// says: write co_await in front of it, without naming it first
task<> named() {
    auto both = parley::when_all(load(1), parley::sleep_for(1s));
    co_await both;
}
#endif

#if MISTAKE == 22 // when_all of a task by its name
// says: parley: a task is awaited once, by rvalue: give std::move(t)
task<> all_of_them() {
    auto first = load(1);
    auto [a, b] = co_await parley::when_all(first, load(2));
}
#endif

#if MISTAKE == 23 // when_all of something that cannot be awaited
// says: parley: a combinator takes tasks, functions without parameters that make one
task<> nonsense() {
    co_await parley::when_all(load(1), 2);
}
#endif

#if MISTAKE == 24 // when_all of a vector of tasks by its name
// says: parley: tasks are awaited once: give std::move(tasks)
task<> all_of_a_vector() {
    std::vector<task<int>> loads;
    loads.push_back(load(1));
    auto values = co_await parley::when_all(loads);
}
#endif

#if MISTAKE == 25 // when_any of a vector of tasks by its name
// says: parley: tasks are awaited once: give std::move(tasks)
task<> first_of_a_vector() {
    std::vector<task<int>> loads;
    loads.push_back(load(1));
    auto first = co_await parley::when_any(loads);
}
#endif

#if MISTAKE == 26 // a temporary lambda that owns a capture, given to with_scope: destroyed twice by g++ 12
// says: Capture by reference, or name the lambda first and pass the name
// only: g++
task<> owning(std::string name) {
    co_await parley::with_scope([name](parley::scope &s) -> task<> {
        s.spawn(store(static_cast<int>(name.size())));
        co_return;
    });
}
#endif

#if MISTAKE == 27 // the same given to compute
// says: Capture by reference, or name the lambda first and pass the name
// only: g++
task<std::size_t> owning(std::string text) {
    co_return co_await parley::compute([text] { return text.size(); });
}
#endif

#if MISTAKE == 28 // awaiters kept in a container
// says: deleted
void keep_for_later() {
    auto sleep = parley::sleep_for(1s);
    std::vector<decltype(sleep)> kept;
    auto moved = std::move(sleep);
}
#endif

#if MISTAKE == 29 // a connection copied, to be used by two tasks
// says: deleted
task<> two_of_us(parley::connection<lines> peer) {
    auto reader = peer;
    auto line = co_await reader.recv();
}
#endif

#if MISTAKE == 30 // options written as a braced aggregate, which g++ 12 would destroy twice
// says: acceptor_options
task<> configured() {
    parley::acceptor<lines> door(parley::endpoint("127.0.0.1", 0), {.max_pipeline = 4});
    auto peer = co_await door.accept();
}
#endif

#if MISTAKE == 31 // with_timeout around a task of a reference
// says: parley: a result has no reference; return a pointer
task<int &> counter(int &of) {
    co_return of;
}
task<> limited(int &n) {
    auto r = co_await parley::with_timeout(1s, counter(n));
}
#endif

#if MISTAKE == 32 // when_all of a vector of tasks of references
// says: parley: a vector has no references; return pointers
task<int &> counter(int &of) {
    co_return of;
}
task<> several(int &n) {
    std::vector<task<int &>> counters;
    counters.push_back(counter(n));
    co_await parley::when_all(std::move(counters));
}
#endif

#if MISTAKE == 33 // a protocol that does not name its messages
// says: parley: a protocol is a struct with two message classes in it
struct half {
    using response = parley::line_message;
};
task<> serve_half(parley::connection<half> peer) {
    auto line = co_await peer.recv();
}
#endif

#if MISTAKE == 34 // a message that cannot be parsed: no CommMessageIn
// says: parley: a server parses requests: P::request derives from CommMessageIn, publicly
struct texts {
    using request = std::string;
    using response = parley::line_message;
};
task<> serve_texts(parley::connection<texts> peer) {
    auto text = co_await peer.recv();
}
#endif

#if MISTAKE == 35 // a message that cannot be made without arguments
// says: parley: a message of a protocol is default-constructible
struct numbered_line : parley::line_message {
    explicit numbered_line(int n) : number(n) {}
    int number;
};
struct numbered {
    using request = numbered_line;
    using response = parley::line_message;
};
task<> serve_numbered(parley::connection<numbered> peer) {
    auto line = co_await peer.recv();
}
#endif

#if MISTAKE == 36 // a handler that takes its connection by reference: gone at the first suspension
// says: parley: a server's handler takes a parley::connection<P>
task<> by_reference(parley::connection<lines> &peer) {
    auto line = co_await peer.recv();
}
task<> serve_lines() {
    auto served = co_await parley::serve<lines>(parley::endpoint("127.0.0.1", 0), by_reference);
}
#endif

#if MISTAKE == 37 // the callback of from_callback asked for other values than it is called with
// says: parley: from_callback<T...>(initiate) calls initiate(done)
task<int> ask() {
    co_return co_await parley::from_callback<int>([] { return 1; });
}
#endif

#if MISTAKE == 38 // a task detached without saying what becomes of its exception
// says: parley: detach_on takes a function that is called with the std::exception_ptr
void fire_and_forget(parley::loop &where) {
    parley::detach_on(where, store(1), [] {});
}
#endif

#if MISTAKE == 39 // start without a callback that takes the outcome
// says: parley: on_end is called with the outcome<T> of the task<T>
void start_it(parley::runtime &rt) {
    rt.start(load(1), [](int) {});
}
#endif

#if MISTAKE == 40 // compute of a coroutine: its body would run on the loop after all
// says: parley: compute runs an ordinary function on a thread of the Executor
task<int> hash_slowly() {
    co_return co_await co_await parley::compute([] { return load(1); });
}
#endif

#if MISTAKE == 41 // for_each_concurrently with a function that makes no task
// says: parley: for_each_concurrently awaits each(element), a task<>
task<> everything(std::vector<int> &ids) {
    co_await parley::for_each_concurrently(ids, 4, [](int) {});
}
#endif

#if MISTAKE == 42 // a coroutine with std::allocator_arg and no allocator after it
// says: parley: std::allocator_arg is followed by an allocator
task<int> counted(std::allocator_arg_t, int bytes) {
    co_return bytes;
}
#endif

#if MISTAKE == 43 // a task awaited by its name, in a coroutine of another library
// says: parley: a task is awaited once, by rvalue: write co_await std::move(t)
struct theirs {
    struct promise_type {
        theirs get_return_object() { return {}; }
        std::suspend_never initial_suspend() { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() {}
    };
};
theirs use_named() {
    auto one = load(1);
    int x = co_await one;
    static_cast<void>(x);
}
#endif

#if MISTAKE == 44 // a combinator that was named first, in a coroutine of another library
// says: write co_await in front of it, without naming it first
struct theirs {
    struct promise_type {
        theirs get_return_object() { return {}; }
        std::suspend_never initial_suspend() { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() {}
    };
};
theirs use_named_combinator() {
    auto both = parley::when_all(load(1), load(2));
    auto [a, b] = co_await both;
    static_cast<void>(a + b);
}
#endif
