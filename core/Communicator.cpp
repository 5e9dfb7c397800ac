// The public entry points: who may call, what is refused at once, and where the rest happens.

#include "Communicator.h"

#include <errno.h>

#include <memory>
#include <new>

#include "machine.h"
#include "owner.h"

using parley::core::HandlerPool;
using parley::core::Loop;

namespace {

constexpr size_t max_threads = 1 << 22; // of one kind; Linux has fewer in all (PID_MAX_LIMIT)

int refuse(int error) {
    errno = error;
    return -1;
}

bool gone(const CommCore *core) {
    return core == nullptr || core->stopping.load(std::memory_order_acquire);
}

void run_loop(void *loop) {
    static_cast<Loop *>(loop)->run();
}

void stop_loops(CommCore *core, size_t running) {
    for (size_t i = 0; i < running; i++) {
        Loop *loop = core->loops[i];
        loop->stop_node.run = [](CommNode *node) {
            CommMachine::stop_loop(PARLEY_OWNER(node, Loop, stop_node));
        };
        loop->post_remote(&loop->stop_node);
    }
    for (size_t i = 0; i < running; i++)
        core->world->thread_join(core->threads[i]);
    for (size_t i = 0; i < running; i++)
        core->loops[i]->wait_for_posters();
}

} // namespace

void CommMachine::release_core(CommCore *core) {
    if (core->ref.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < core->nloops; i++)
        if (core->loops[i] != nullptr)
            core->loops[i]->release();
    delete[] core->loops;
    delete[] core->threads;
    delete core;
}

int Communicator::init(size_t poller_threads, size_t handler_threads) {
    if (poller_threads == 0)
        return refuse(EINVAL);
    if (core != nullptr) {
        if (!core->stopping.load(std::memory_order_acquire))
            return refuse(EALREADY);
        CommMachine::release_core(core);
        core = nullptr;
    }
    if (poller_threads > max_threads || handler_threads > max_threads)
        return refuse(EAGAIN); // as pthread_create says where there can be no more
    auto *fresh = new (std::nothrow) CommCore;
    if (fresh == nullptr)
        return refuse(ENOMEM);
    fresh->world = &parley::sys::current();
    fresh->communicator = this;
    fresh->event_handler = event_handler;
    fresh->deadlines = default_deadlines;
    fresh->push_high_water = push_high_water;
    INIT_LIST_HEAD(&fresh->io_services);
    fresh->loops = new (std::nothrow) Loop *[poller_threads]();
    fresh->threads = new (std::nothrow) parley::sys::thread_handle[poller_threads]();
    int error = fresh->loops != nullptr && fresh->threads != nullptr ? 0 : ENOMEM;
    fresh->nloops = error == 0 ? poller_threads : 0;
    for (size_t i = 0; error == 0 && i < poller_threads; i++) {
        fresh->loops[i] = new (std::nothrow) Loop;
        error = fresh->loops[i] != nullptr ? fresh->loops[i]->open(fresh, this, i) : ENOMEM;
    }
    if (error == 0 && handler_threads > 0) {
        error = fresh->handlers.start(*fresh->world, fresh, handler_threads);
        fresh->has_handlers = error == 0;
    }
    size_t running = 0;
    while (error == 0 && running < poller_threads) {
        error = fresh->world->thread_start(&fresh->threads[running], run_loop, fresh->loops[running]);
        if (error == 0)
            running++;
    }
    if (error != 0) {
        stop_loops(fresh, running);
        if (fresh->has_handlers)
            fresh->handlers.finish();
        CommMachine::release_core(fresh);
        return refuse(error);
    }
    core = fresh;
    return 0;
}

void Communicator::deinit() {
    if (core == nullptr)
        return;
    Loop *here = Loop::current();
    if ((here != nullptr && here->core == core) || HandlerPool::current() == core ||
        CommMachine::in_callback_of(core)) {
        errno = EDEADLK;
        return;
    }
    if (core->stopping.exchange(true, std::memory_order_acq_rel))
        return;
    CommMachine::stop_io(core);
    stop_loops(core, core->nloops);
    if (core->event_handler != nullptr)
        core->event_handler->wait();
    if (core->has_handlers)
        core->handlers.finish();
    core->handlers_gone.store(true, std::memory_order_release);
}

Communicator::~Communicator() {
    deinit();
    // What deinit() has refused to stop goes on: exit() was called in one of its callbacks, and
    // the process ends.
    if (core != nullptr && core->stopping.load(std::memory_order_acquire))
        CommMachine::release_core(core);
}

int Communicator::request(CommSession *session, CommTarget *target) {
    if (session->passive)
        return refuse(EINVAL);
    if (gone(core))
        return refuse(ESHUTDOWN);
    int saved = errno;
    if (session->entry != nullptr) {
        CommMachine::unpin(session->entry);
        session->entry = nullptr;
    }
    session->target = target;
    session->out = nullptr;
    session->in = nullptr;
    session->seq = 0;
    session->ssl_error = 0;
    session->verify_result = 0;
    session->cause = CC_NONE;
    session->limit_ms = -1;
    session->retried = false;
    session->pending_state = 0;
    Loop *loop = Loop::current();
    if (loop != nullptr && loop->core == core) {
        CommMachine::ticket_submitted(session, loop);
        if (CommMachine::request(loop, session, target) < 0) {
            CommMachine::ticket_recalled(session);
            return -1;
        }
    } else {
        loop = CommMachine::loop_for_request(core, session, target);
        CommMachine::ticket_submitted(session, loop);
        session->node.run = CommMachine::posted_request;
        if (!loop->post_remote(&session->node)) {
            CommMachine::ticket_recalled(session);
            return refuse(ESHUTDOWN);
        }
    }
    errno = saved;
    return 0;
}

int Communicator::reply(CommSession *session) {
    if (!session->passive)
        return refuse(EINVAL);
    CommTurn *turn = session->turn;
    int expected = TURN_AWAITING;
    if (turn == nullptr ||
        !turn->state.compare_exchange_strong(expected, TURN_REPLYING, std::memory_order_acq_rel))
        return refuse(ENOENT);
    int saved = errno;
    if (CommMachine::reply(session, turn) < 0)
        return -1;
    errno = saved;
    return 0;
}

int Communicator::shutdown(CommSession *session) {
    if (!session->passive)
        return refuse(EINVAL);
    CommTurn *turn = session->turn;
    int expected = TURN_AWAITING;
    if (turn == nullptr ||
        !turn->state.compare_exchange_strong(expected, TURN_DROPPED, std::memory_order_acq_rel))
        return refuse(ENOENT);
    CommMachine::ticket_finished(session);
    CommMachine::pin(turn->entry);
    CommMachine::turn_dropped(turn);
    return 0;
}

int Communicator::push(const void *buf, size_t size, CommSession *session) {
    return CommMachine::push(session, buf, size, push_high_water);
}

int Communicator::push(CommPush *push) {
    if (gone(core))
        return refuse(ESHUTDOWN);
    return CommMachine::push(push, push_high_water);
}

int Communicator::resume(CommSession *session) {
    return CommMachine::resume(session);
}

int Communicator::end_output(CommSession *session) {
    return CommMachine::end_output(session);
}

int Communicator::half_close(CommSession *session) {
    return CommMachine::half_close(session);
}

void Communicator::set_push_high_water(size_t bytes) {
    push_high_water = bytes;
    if (core != nullptr)
        core->push_high_water = bytes;
}

int Communicator::cancel(CommTicket ticket) {
    return CommMachine::cancel(ticket);
}

int Communicator::cancel(CommSession *session) {
    return CommMachine::cancel(session->ticket());
}

int Communicator::bind(CommService *service) {
    return bind(service, nullptr);
}

int Communicator::bind(CommService *service, CommLoop *loop) {
    if (gone(core))
        return refuse(ESHUTDOWN);
    int saved = errno;
    if (CommMachine::bind(this, service, loop) < 0)
        return -1;
    errno = saved;
    return 0;
}

void Communicator::unbind(CommService *service) {
    unbind(service, -1);
}

void Communicator::unbind(CommService *service, int deadline_ms) {
    int saved = errno;
    if (CommMachine::service_hold(service)) {
        if (service->binding != nullptr)
            CommMachine::unbind(service->binding, deadline_ms);
        CommMachine::service_decref(service);
    }
    errno = saved;
}

int Communicator::sleep(SleepSession *session) {
    if (gone(core))
        return refuse(ESHUTDOWN);
    return CommMachine::sleep(core, session);
}

int Communicator::unsleep(SleepSession *session) {
    return CommMachine::unsleep(session);
}

int Communicator::watch(CommWatch *watch, int fd, bool writing) {
    Loop *loop = Loop::current();
    if (loop == nullptr || loop->core != core)
        return refuse(EPERM);
    if (gone(core))
        return refuse(ESHUTDOWN);
    return CommMachine::watch(loop, watch, fd, writing);
}

int Communicator::unwatch(CommWatch *watch) {
    return CommMachine::unwatch(watch);
}

int Communicator::is_handler_thread() const {
    return core != nullptr && HandlerPool::current() == core ? 1 : 0;
}

int Communicator::increase_handler_thread() {
    if (core == nullptr || !core->has_handlers)
        return refuse(ENOTSUP);
    int error = core->handlers.grow();
    return error == 0 ? 0 : refuse(error);
}

int Communicator::decrease_handler_thread() {
    if (core == nullptr || !core->has_handlers)
        return refuse(ENOTSUP);
    core->handlers.shrink();
    return 0;
}

void Communicator::customize_event_handler(CommEventHandler *handler) {
    event_handler = handler;
    if (core != nullptr)
        core->event_handler = handler;
}

void Communicator::set_default_deadlines(const CommDeadlines &limits) {
    default_deadlines = limits;
    if (core != nullptr)
        core->deadlines = limits;
}

size_t Communicator::loops() const {
    return core != nullptr ? core->nloops : 0;
}

CommLoop *Communicator::loop(size_t index) const {
    return core != nullptr && index < core->nloops ? core->loops[index] : nullptr;
}
