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
    e->there_.repost(self);
}

void excursion::come_back(record &task, std::coroutine_handle<> self, parley::loop *onward) noexcept {
    excursion &e = of(task);
    e.over_ = true;
    e.onward_ = onward;
    task.life_ = life::suspended;
    task.context_ = &e.home_;
    task.away_ = false;
    e.home_.waiter_ = self;
    e.home_.post_other(e.end_);
}

void excursion::finish(record &task) noexcept {
    excursion &e = of(task);
    e.over_ = true;
    task.context_ = &e.home_;
    if (!task.is_first_)
        e.home_.waiter_ = task.parent_->frame();
    e.home_.post_other(e.end_);
}

// At home. task.away_ still set says that the task has ended over there.
void excursion::arrive(CommNode *node) noexcept {
    excursion &e = static_cast<notice *>(node)->of;
    context &home = e.home_;
    record &task = e.task_;
    parley::loop *onward = e.onward_;
    home.awaiting_ = nullptr;
    home.ready_ = 0;
    e.release();
    if (onward && !home.stopping_)
        return leave(task, home.waiter_, *onward);
    if (task.away_ && task.is_first_)
        return task.owner_->chain_done(task);
    if (task.away_)
        task.parent_->life_ = life::running;
    loop_access::resume(home.loop(), home.waiter_);
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
