// Timers for users. A timer lives on the loop that started it, or is given to one; unsleep() from
// another thread claims it by one word and leaves the rest to the loop.

#include <errno.h>

#include "machine.h"
#include "owner.h"

namespace {

// SleepSession::phase. Whoever moves it from WAITING delivers.
enum : int { RESTING, WAITING, OVER };

} // namespace

int CommMachine::sleep(CommCore *core, SleepSession *session) {
    struct timespec value = {};
    if (session->duration(&value) < 0)
        return -1;
    if (value.tv_nsec < 0 || value.tv_nsec >= 1000000000) {
        errno = EINVAL;
        return -1;
    }
    Loop *loop = loop_for_work(core);
    session->loop = loop;
    int64_t now = core->world->monotonic_ns();
    constexpr int64_t far = INT64_MAX / 1000000000 / 2; // 146 years
    session->timer.deadline = value.tv_sec < 0 || value.tv_sec > far
                                  ? INT64_MAX
                                  : now + value.tv_sec * INT64_C(1000000000) + value.tv_nsec;
    session->phase.store(WAITING, std::memory_order_release);
    if (Loop::current() == loop) {
        sleep_on(loop, session);
        return 0;
    }
    session->node.run = [](CommNode *node) {
        auto *self = PARLEY_OWNER(node, SleepSession, node);
        sleep_on(static_cast<Loop *>(self->loop), self);
    };
    if (!loop->post_remote(&session->node)) {
        session->phase.store(RESTING, std::memory_order_relaxed);
        errno = ESHUTDOWN;
        return -1;
    }
    return 0;
}

void CommMachine::sleep_on(Loop *loop, SleepSession *session) {
    if (session->phase.load(std::memory_order_acquire) == OVER)
        return; // unsleep() was faster; its node follows
    if (loop->stopping()) {
        int expected = WAITING;
        if (session->phase.compare_exchange_strong(expected, OVER, std::memory_order_acq_rel))
            sleep_over(loop, session, SS_STATE_DISRUPTED, 0);
        return;
    }
    session->timer.fire = [](CommTimer *timer) {
        auto *self = PARLEY_OWNER(timer, SleepSession, timer);
        int expected = WAITING;
        if (self->phase.compare_exchange_strong(expected, OVER, std::memory_order_acq_rel))
            sleep_over(static_cast<Loop *>(self->loop), self, SS_STATE_COMPLETE, 0);
    };
    list_add(&session->link, &loop->sleepers);
    loop->set_timer(&session->timer, session->timer.deadline);
}

void CommMachine::sleep_over(Loop *loop, SleepSession *session, int state, int error) {
    loop->remove_timer(&session->timer);
    list_del(&session->link);
    INIT_LIST_HEAD(&session->link);
    if (in_place(loop->core)) {
        session->handle(state, error);
        return;
    }
    session->pending_state = static_cast<int8_t>(state);
    session->pending_error = error;
    session->node.run = [](CommNode *node) {
        auto *self = PARLEY_OWNER(node, SleepSession, node);
        self->handle(self->pending_state, self->pending_error);
    };
    complete(loop, &session->node, session->handle_in_place());
}

int CommMachine::unsleep(SleepSession *session) {
    int expected = WAITING;
    if (!session->phase.compare_exchange_strong(expected, OVER, std::memory_order_acq_rel)) {
        errno = ENOENT;
        return -1;
    }
    // Never inside this call: the caller may hold what handle() takes. And behind `node`: by way of
    // the mailbox, unless the loop has taken it out of there (nothing ever unlinks it but a verdict).
    auto *loop = static_cast<Loop *>(session->loop);
    session->cancel_node.run = [](CommNode *node) {
        auto *self = PARLEY_OWNER(node, SleepSession, cancel_node);
        sleep_over(static_cast<Loop *>(self->loop), self, SS_STATE_ERROR, ECANCELED);
    };
    bool arrived = Loop::current() == loop && !list_empty(&session->link);
    if (arrived) {
        loop->remove_timer(&session->timer);
        loop->post_local(&session->cancel_node);
    } else if (!loop->post_remote(&session->cancel_node)) {
        // The loop has ended, and left this one to us.
        sleep_over(loop, session, SS_STATE_ERROR, ECANCELED);
    }
    return 0;
}

void CommMachine::stop_sleepers(Loop *loop) {
    struct list_head mine;
    INIT_LIST_HEAD(&mine);
    while (!list_empty(&loop->sleepers)) {
        auto *session = PARLEY_OWNER(loop->sleepers.next, SleepSession, link);
        int expected = WAITING;
        if (session->phase.compare_exchange_strong(expected, OVER, std::memory_order_acq_rel)) {
            sleep_over(loop, session, SS_STATE_DISRUPTED, 0);
            loop->run_ready();
        } else {
            list_move(&session->link, &mine); // unsleep() has it: its node is on the way here
        }
    }
    list_splice(&mine, &loop->sleepers);
}
