#include <parley/detail/excursion.hpp>

#include <new>
#include <stdexcept>

#include <parley/cancelled.hpp>
#include <parley/detail/frame_pool.hpp>
#include <parley/detail/promise.hpp>
#include <parley/resume_on.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

excursion::excursion(record &task, parley::loop &there) noexcept
    : home_(task.chain()), task_(task), there_(there, *this) {}

void excursion::leave(record &task, std::coroutine_handle<> self, parley::loop &there) {
    void *memory = allocate_frame(sizeof(excursion));
    auto *e = ::new (memory) excursion(task, there);
    e->home_.begin(*e);
    task.life_ = life::suspended;
    task.context_ = &e->there_;
    task.away_ = true;
    e->home_.waiter_ = task.is_first_ ? std::coroutine_handle<>() : task.parent_->frame();
#if PARLEY_SIGHT
    e->there_.CommNode::run = &excursion::begin_there;
#endif
    e->there_.repost(self);
}

void excursion::come_back(record &task, std::coroutine_handle<> self, parley::loop *onward) noexcept {
    excursion &e = of(task);
    e.over_ = true;
    e.onward_ = onward;
    task.life_ = life::suspended;
    task.context_ = &e.home_;
    task.away_ = false;
    e.self_ = self;
    e.end_there();
    e.home_.post_other(e.end_);
}

void excursion::finish(record &task) noexcept {
    excursion &e = of(task);
    e.over_ = true;
    task.context_ = &e.home_;
    e.end_there();
    e.home_.post_other(e.end_);
}

void excursion::begin_there(CommNode *node) noexcept {
    auto &there = static_cast<context_there &>(*static_cast<context *>(node));
    there.CommNode::run = &context::run;
    excursion *&first = loop_access::guests(there.loop());
    there.of.next_guest_ = first;
    if (first)
        first->previous_guest_ = &there.of;
    first = &there.of;
    context::run(node);
}

void excursion::end_there() noexcept {
#if PARLEY_SIGHT
    (previous_guest_ ? previous_guest_->next_guest_ : loop_access::guests(there_.loop())) = next_guest_;
    if (next_guest_)
        next_guest_->previous_guest_ = previous_guest_;
#endif
}

// At home. task.away_ still set says that the task has ended over there.
void excursion::arrive(CommNode *node) noexcept {
    excursion &e = static_cast<notice *>(node)->of;
    context &home = e.home_;
    record &task = e.task_;
    parley::loop *onward = e.onward_;
    const std::coroutine_handle<> self = e.self_;
    home.awaiting_ = nullptr;
    e.release();
    if (onward && !home.stopping_)
        return leave(task, self, *onward);
    if (task.away_ && task.is_first_)
        return task.owner_->chain_done(task);
    if (task.away_)
        task.parent_->life_ = life::running;
    else
        home.waiter_ = self;
    context::run(&home);
}

void excursion::cancel() noexcept {
    references_.fetch_add(1, sync::memory_order_relaxed);
    there_.post_other(cancel_);
}

void excursion::cancel_there(CommNode *node) noexcept {
    excursion &e = static_cast<notice *>(node)->of;
    if (!e.over_)
        e.there_.cancel();
    e.release();
}

void excursion::release() noexcept {
    if (references_.fetch_sub(1, sync::memory_order_acq_rel) != 1)
        return;
    this->~excursion();
    free_frame(this, sizeof(excursion));
}

void hop_await::await_suspend(std::coroutine_handle<> self) {
    if (!task_.away_)
        excursion::leave(task_, self, target_);
    else
        excursion::come_back(task_, self, &excursion::home_of(task_) == &target_ ? nullptr : &target_);
}

void hop_await::await_resume() {
    task_.life_ = life::running;
    if (task_.chain().stopping())
        throw cancelled();
}

hop_await promise_base::await_transform(resume_on &&hop, std::source_location site) {
    enter(site);
    if (&hop.target_.runtime() != &chain().loop().runtime())
        throw std::invalid_argument("parley: resume_on another runtime's loop");
    return {*this, hop.target_};
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
