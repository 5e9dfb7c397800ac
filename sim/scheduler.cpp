#include "scheduler.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>

#include "hang.h"

namespace parley::sim::detail {

namespace {

thread_local thread *me = nullptr;

// Set for threads of a world: its destructor is the last of a thread's own code, after those of its
// thread-local variables, which may take locks.
pthread_key_t last_words;

// Both leave errno alone, as what they stand for does.
void sleep_on(std::atomic<std::uint32_t> &word, std::uint32_t seen, const timespec *limit) {
    const int before = errno;
    syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, limit, nullptr, 0);
    errno = before;
}

void wake_one(std::atomic<std::uint32_t> &word) {
    const int before = errno;
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
    errno = before;
}

void take_baton(thread &it) {
    while (it.baton.exchange(0, std::memory_order_acquire) == 0)
        sleep_on(it.baton, 0, nullptr);
}

void give_baton(thread &it) {
    it.baton.store(1, std::memory_order_release);
    wake_one(it.baton);
}

int kernel_thread_id() {
    return static_cast<int>(syscall(SYS_gettid));
}

} // namespace

scheduler::scheduler(listener &world, choices &from) noexcept : world_(world), choices_(from) {}

scheduler::~scheduler() = default;

thread *scheduler::calling() noexcept {
    return me;
}

thread &scheduler::self() {
    if (me == nullptr || me->owner != this) {
        char text[160];
        std::snprintf(text, sizeof text,
                      "thread %d calls into the world but is none of its own: start threads by "
                      "parley::sync::thread or sim::host::start()",
                      kernel_thread_id());
        world_.fail(text);
    }
    return *me;
}

void scheduler::begin(host_state *home) {
    static const int made = pthread_key_create(&last_words, last_word);
    if (made != 0)
        world_.fail("pthread_key_create failed");
    // All on one processor: handing the baton to a thread on another takes twenty times as long.
    CPU_ZERO(&processors_);
    if (sched_getaffinity(0, sizeof processors_, &processors_) == 0) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(sched_getcpu(), &one);
        sched_setaffinity(0, sizeof one, &one);
    }
    auto first = std::make_unique<thread>();
    first->name = "main";
    first->home = home;
    first->owner = this;
    first->now = thread::state::running;
    first->kernel_id = kernel_thread_id();
    me = running_ = first.get();
    alive_ = 1;
    threads_.push_back(std::move(first));
    runner_ = kernel_thread_id();
    runner_thread_ = running_;
    watcher_ = std::make_unique<std::thread>([this] { watch(); });
}

void scheduler::end() {
    // Detached threads and such that were not joined may still have something to do.
    if (alive_ > 1)
        world_.fail("the run has ended but not all of its threads:\n" + describe());
    over_.store(1, std::memory_order_release);
    wake_one(over_);
    watcher_->join();
    if (CPU_COUNT(&processors_) > 0)
        sched_setaffinity(0, sizeof processors_, &processors_);
    me = nullptr;
}

void scheduler::jump(std::int64_t by) {
    now_ += by;
}

// Sees a run that makes no step for a long real time: the thread that has the baton waits for something that
// is none of the world's, or computes without an end.
void scheduler::watch() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    constexpr int patience = 20; // seconds: a loaded machine may well leave a healthy run alone for a few
    std::uint64_t seen = 0;
    int still = 0;
    const timespec second = {1, 0};
    while (over_.load(std::memory_order_acquire) == 0) {
        sleep_on(over_, 0, &second);
        const std::uint64_t steps = steps_.load(std::memory_order_relaxed);
        still = steps == seen ? still + 1 : 0;
        seen = steps;
        if (over_.load(std::memory_order_acquire) == 0 && still >= patience) {
            const thread *stuck = runner_thread_.load();
            world_.fail("thread \"" + stuck->name + "\" has the baton and made no step for " +
                        std::to_string(patience) + " s of real time: " + what_hangs(runner_.load()));
        }
    }
}

void scheduler::step() {
    const std::uint64_t steps = steps_.load(std::memory_order_relaxed) + 1;
    steps_.store(steps, std::memory_order_relaxed);
    if (steps > most_steps_)
        world_.fail("no end after " + std::to_string(most_steps_) + " steps:\n" + describe());
}

void scheduler::hand_over(thread &from, thread &to) {
    to.now = thread::state::running;
    running_ = &to;
    if (&from == &to)
        return;
    runner_.store(to.kernel_id.load(std::memory_order_relaxed), std::memory_order_relaxed);
    runner_thread_.store(&to, std::memory_order_relaxed);
    give_baton(to);
}

void scheduler::point(const char *doing, const void *object) {
    thread &it = self();
    step();
    it.doing = doing;
    it.object = object;
    if (world_.tracing_points())
        world_.trace(doing, "");
    const double stalls = world_.stall_chance();
    if (stalls > 0 && choices_.seldom(stream::fault, stalls) != 0) {
        const std::int64_t time = 1 + choices_.draw(stream::fault, 1000) * (world_.longest_stall() / 1000);
        world_.trace("stall", "for " + std::to_string(time / 1000) + " us");
        block("stalls", nullptr, now_ + time);
        it.doing = doing;
        it.object = object;
        return;
    }
    if (ready_.empty())
        return;
    const std::uint32_t k = choices_.who(static_cast<std::uint32_t>(ready_.size() + 1), false, preemption_);
    if (k == 0)
        return;
    thread &next = *ready_[k - 1];
    ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(k - 1));
    it.now = thread::state::ready;
    ready_.push_back(&it);
    hand_over(it, next);
    take_baton(it);
}

thread *scheduler::next_ready() {
    while (ready_.empty())
        if (!let_time_pass())
            return nullptr;
    const std::uint32_t k = choices_.who(static_cast<std::uint32_t>(ready_.size()), true, 0);
    thread *next = ready_[k];
    ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(k));
    return next;
}

// To the next moment at which something is due. False: nothing ever is.
bool scheduler::let_time_pass() {
    std::int64_t next = events_.empty() ? never : events_.top().when;
    for (const auto &one : threads_)
        if (one->now == thread::state::blocked)
            next = std::min(next, one->deadline);
    if (next == never)
        return false;
    now_ = std::max(now_, next);
    while (!events_.empty() && events_.top().when <= now_) {
        // The action may plan further ones.
        std::function<void()> what = std::move(const_cast<event &>(events_.top()).what);
        events_.pop();
        what();
    }
    for (const auto &one : threads_) {
        if (one->now == thread::state::blocked && one->deadline <= now_) {
            one->now = thread::state::ready;
            one->woken = false;
            ready_.push_back(one.get());
        }
    }
    return true;
}

bool scheduler::block(const char *doing, const void *object, std::int64_t deadline) {
    thread &it = self();
    step();
    it.doing = doing;
    it.object = object;
    it.deadline = deadline;
    it.woken = false;
    it.now = thread::state::blocked;
    thread *next = next_ready();
    if (next == nullptr)
        world_.fail("deadlock: nobody can go on and nothing is due\n" + describe());
    hand_over(it, *next);
    if (next != &it)
        take_baton(it);
    it.deadline = never;
    return it.woken;
}

void scheduler::wake(thread &one) {
    if (one.now != thread::state::blocked)
        return;
    one.now = thread::state::ready;
    one.woken = true;
    ready_.push_back(&one);
}

void scheduler::at(std::int64_t when, std::function<void()> what) {
    events_.push({std::max(when, now_), events_made_++, std::move(what)});
}

void scheduler::yield() noexcept {
    thread &it = self();
    step();
    it.doing = "yields";
    it.object = nullptr;
    // Who is waited for may need time, not the processor.
    if (ready_.empty() && !let_time_pass())
        return;
    if (ready_.empty())
        return;
    // The one that waits longest: two that yield to each other must not keep a third from what they wait for.
    thread &next = *ready_.front();
    ready_.pop_front();
    it.now = thread::state::ready;
    ready_.push_back(&it);
    hand_over(it, next);
    take_baton(it);
}

int scheduler::start(void (*run)(void *), void *argument, host_state *home, sys::thread_handle *handle) {
    thread &parent = self();
    auto fresh = std::make_unique<thread>();
    fresh->index = threads_.size();
    fresh->name = "thread " + std::to_string(fresh->index);
    fresh->home = home != nullptr ? home : parent.home;
    fresh->owner = this;
    fresh->run = run;
    fresh->argument = argument;
    // The kernel's, not the world's in force, which would come back to here.
    if (const int error = sys::kernel().thread_start(&fresh->real, main_of, fresh.get()))
        return error;
    *handle = fresh.get();
    ready_.push_back(fresh.get());
    threads_.push_back(std::move(fresh));
    alive_++;
    return 0;
}

void scheduler::main_of(void *it) {
    auto &fresh = *static_cast<thread *>(it);
    fresh.kernel_id.store(kernel_thread_id(), std::memory_order_relaxed);
    pthread_setspecific(last_words, &fresh);
    take_baton(fresh);
    me = &fresh;
    fresh.owner->runner_.store(fresh.kernel_id.load(), std::memory_order_relaxed);
    fresh.run(fresh.argument);
}

void scheduler::last_word(void *it) {
    auto &gone = *static_cast<thread *>(it);
    scheduler &owner = *gone.owner;
    gone.now = thread::state::ended;
    gone.doing = "has ended";
    owner.alive_--;
    for (thread *one : gone.joining)
        owner.wake(*one);
    me = nullptr;
    thread *next = owner.next_ready();
    if (next == nullptr)
        owner.world_.fail("deadlock: nobody can go on and nothing is due\n" + owner.describe());
    owner.hand_over(gone, *next);
}

void scheduler::join(sys::thread_handle handle) {
    thread &it = self();
    auto &other = *static_cast<thread *>(handle);
    while (other.now != thread::state::ended) {
        other.joining.push_back(&it);
        block("joins", &other);
    }
    sys::kernel().thread_join(other.real);
}

std::string scheduler::describe() const {
    std::string text;
    for (const auto &one : threads_) {
        if (one->now == thread::state::ended)
            continue;
        text += "  " + one->name + ": ";
        text += one->doing;
        if (std::string_view(one->doing) == "joins")
            text += " " + static_cast<const thread *>(one->object)->name;
        if (auto held = locks_.find(one->object); held != locks_.end() && held->second.owner != nullptr)
            text += ", held by " + held->second.owner->name;
        if (one->now == thread::state::blocked && one->deadline != never)
            text += ", for at most " + std::to_string((one->deadline - now_) / 1000000) + " ms more";
        if (one->now == thread::state::ready)
            text += " (could go on)";
        if (one->now == thread::state::running)
            text += " (runs)";
        text += "\n";
    }
    return text;
}

// --- mutexes and condition variables ---

// The mutex beneath is taken too. It is free then, so this costs little; it keeps what a mutex means when the
// world ends while one is held, and tells TSan who met whom.
void scheduler::take_lock(sync::mutex &m, thread &it) {
    // Looked up anew each time: whoever had it meanwhile may have taken the entry away.
    while (locks_[&m].owner != nullptr) {
        if (locks_[&m].owner == &it)
            world_.fail("thread \"" + it.name + "\" locks a mutex that it holds");
        locks_[&m].waiting.push_back(&it);
        block("waits for a mutex", &m);
    }
    locks_[&m].owner = &it;
    m.native().lock();
}

void scheduler::free_lock(sync::mutex &m) {
    auto place = locks_.find(&m);
    if (place == locks_.end() || place->second.owner != &self())
        world_.fail("thread \"" + self().name + "\" unlocks a mutex that it does not hold");
    m.native().unlock();
    place->second.owner = nullptr;
    if (place->second.waiting.empty()) {
        locks_.erase(place);
        return;
    }
    // Who waited longest is tried first, but whoever comes before it has it.
    thread *next = place->second.waiting.front();
    place->second.waiting.pop_front();
    wake(*next);
}

void scheduler::lock(sync::mutex &m) {
    point("locks a mutex", &m);
    take_lock(m, self());
}

bool scheduler::try_lock(sync::mutex &m) {
    point("tries to lock a mutex", &m);
    if (auto place = locks_.find(&m); place != locks_.end() && place->second.owner != nullptr)
        return false;
    take_lock(m, self());
    return true;
}

void scheduler::unlock(sync::mutex &m) {
    free_lock(m);
    point("has unlocked a mutex", nullptr);
}

bool scheduler::wait(sync::condition_variable &c, sync::mutex &m, std::int64_t deadline) {
    thread &it = self();
    conditions_[&c].push_back(&it);
    free_lock(m);
    const bool told = block("waits for a condition", &c, deadline < 0 ? never : deadline);
    if (!told) {
        auto place = conditions_.find(&c);
        if (place != conditions_.end()) {
            std::erase(place->second, &it);
            if (place->second.empty())
                conditions_.erase(place);
        }
    }
    take_lock(m, it);
    return told;
}

void scheduler::notify(sync::condition_variable &c, bool all) noexcept {
    point("notifies a condition", &c);
    auto place = conditions_.find(&c);
    if (place == conditions_.end())
        return;
    std::deque<thread *> &waiting = place->second;
    do {
        // Which one is not promised.
        const std::uint32_t k = all ? 0 : choices_.who(static_cast<std::uint32_t>(waiting.size()), true, 0);
        wake(*waiting[k]);
        waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(k));
    } while (all && !waiting.empty());
    if (waiting.empty())
        conditions_.erase(place);
}

} // namespace parley::sim::detail
