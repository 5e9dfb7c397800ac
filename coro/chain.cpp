// Chains and the tasks in them: contexts, records, cancellation. The comments are in the headers.

#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <stdexcept>
#include <typeinfo>
#include <utility>

#include <cxxabi.h>

#include <parley/detail/excursion.hpp>
#include <parley/detail/promise.hpp>
#include <parley/detail/root.hpp>
#include <parley/loop.hpp>
#include <parley/task.hpp>
#include <parley/task_local.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

context::context(parley::loop &home, std::coroutine_handle<> first, const detail::inherited *from) noexcept
    : home_(&home), waiter_(first), inherited_(from) {
    CommNode::run = &context::run;
}

context::context(parley::loop &home, const context &other) noexcept
    : home_(&home), inherited_(other.inherited_), stopping_(other.stopping_) {
    CommNode::run = &context::run;
}

namespace {

// Never inlined: a fiber's code must not keep the address of a thread-local variable in a register.
[[gnu::noinline]] const context *&running_here() noexcept {
    static thread_local const context *running = nullptr;
    return running;
}

} // namespace

const context *running_chain() noexcept {
    return running_here();
}

void context::run(CommNode *node) noexcept {
    auto &chain = *static_cast<context *>(node);
    chain.awaiting_ = nullptr;
    chain.ready_ = 0;
    running_here() = &chain;
    chain.home_->resume(chain.waiter_); // the chain may have ended, or be on another thread
    running_here() = nullptr;
}

bool context::start() noexcept {
    return home_->core().post(this) == 0;
}

// A chain exists only while its runtime does, which keeps the loops: a loop that is gone means that a
// borrowed scheduler was deinitialised under its runtime, and the task could never end.
void context::post_other(CommNode &node) noexcept {
    if (home_->core().post(&node) == 0) [[likely]]
        return;
    std::fputs("parley: a loop ended before its tasks; destroy the runtime before the CommScheduler that it "
               "borrows is deinitialised\n",
               stderr);
    std::abort();
}

void context::begin(operation &op) noexcept {
    awaiting_ = &op;
    since_ = home_->core().now();
}

record &context::task() const noexcept {
    return std::coroutine_handle<promise_base>::from_address(waiter_.address()).promise();
}

void context::complete() noexcept {
#ifndef NDEBUG
    if (!awaiting_)
        task().fail("resumed twice: its operation was completed before, or never begun");
#endif
    awaiting_ = nullptr;
    post();
}

void context::complete_stopped() noexcept {
    stopped_ = true;
    complete();
}

void context::complete_elsewhere(bool stopped) noexcept {
    if (stopped)
        stopped_ = true;
    post();
}

void context::cancel() noexcept {
    if (stopping_)
        return;
    stopping_ = true;
    parley::loop &home = *home_;
    const bool outermost = !std::exchange(home.cancelling_, true);
    if (awaiting_)
        awaiting_->cancel();
    if (!outermost)
        return;
    while (branch *listed = home.cancelled_) {
        home.cancelled_ = std::exchange(listed->next_cancelled_, nullptr);
        listed->cancel_children();
    }
    home.cancelling_ = false;
}

void branch::cancel() noexcept {
    parley::loop &there = home();
    assert(there.cancelling_);
    next_cancelled_ = std::exchange(there.cancelled_, this);
}

record *chain_list::next(const record &chain) noexcept {
    return chain.next_;
}

void chain_list::push_back(record &chain) noexcept {
    chain.previous_ = last_;
    chain.next_ = nullptr;
    (last_ ? last_->next_ : first_) = &chain;
    last_ = &chain;
}

void chain_list::remove(record &chain) noexcept {
    (chain.previous_ ? chain.previous_->next_ : first_) = chain.next_;
    (chain.next_ ? chain.next_->previous_ : last_) = chain.previous_;
}

void record::begin_chain(parley::loop &home, chain_owner &owner, const inherited *from) noexcept {
    expect(detail::life::created, "started twice");
    is_first_ = true;
    owner_ = &owner;
    context_ = std::construct_at(&own_, home, frame(), from);
    life_ = detail::life::running;
}

transfer record::finish_apart() noexcept {
    if (away_)
        excursion::finish(*this);
    else
        loop_access::finished(own_.loop(), *this);
    return loop_access::rest();
}

void record::destroy() noexcept {
    assert(is_first_);
    frame().destroy();
}

void record::fail(const char *what) const noexcept {
    static const char *const states[] = {"created", "running", "suspended", "done", "destroyed"};
    const std::source_location at = site();
    std::fprintf(stderr, "parley: a task was %s. It is %s; its last co_await: %s:%u in %s\n", what,
                 states[static_cast<int>(life_) % 5], at.file_name(), static_cast<unsigned>(at.line()),
                 at.function_name());
    std::abort();
}

namespace {

// Frames whose destruction waits for that of the frame they were in.
struct graveyard {
    record *first = nullptr;
    bool open = false;
};

[[gnu::noinline]] graveyard &my_graveyard() noexcept {
    static thread_local graveyard here;
    return here;
}

} // namespace

void destroy_unstarted(record &task) noexcept {
    graveyard &here = my_graveyard();
    if (here.open) {
        task.bury(here.first);
        here.first = &task;
        return;
    }
    here.open = true;
    task.frame().destroy();
    while (record *next = here.first) {
        here.first = next->buried_next();
        next->frame().destroy();
    }
    here.open = false;
}

bool promise_base::unwinding() noexcept {
    const std::type_info *type = abi::__cxa_current_exception_type();
    return type && *type == typeid(cancelled);
}

void throw_empty_task() {
    throw std::invalid_argument("parley: an empty task was awaited; it was moved from, or awaited before");
}

void throw_stopped() {
    throw exception(errc::stopping);
}

namespace {

struct homecoming {
    struct promise_type {
        homecoming get_return_object() noexcept {
            return {std::coroutine_handle<promise_type>::from_promise(*this)};
        }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        std::suspend_never final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::terminate(); }
        static void *operator new(std::size_t size) { return allocate_frame(size); }
        static void operator delete(void *frame, std::size_t size) noexcept { free_frame(frame, size); }
    };
    std::coroutine_handle<> handle;
};

homecoming come_home(context &chain) {
    chain.complete_elsewhere();
    co_return;
}

} // namespace

std::coroutine_handle<> bring_home(context &chain) {
    return come_home(chain).handle;
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
