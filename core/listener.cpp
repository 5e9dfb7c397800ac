// Accepting. A listener survives every error of accept(): what is about one connection is skipped,
// what is about resources makes it rest for a moment, so that it neither spins nor dies.

#include <errno.h>

#include <algorithm>

#include "machine.h"
#include "owner.h"

namespace {

constexpr int accept_batch = 64; // then the connections get their turn
constexpr int64_t back_off_ns = 100 * INT64_C(1000000);

ServiceLoop *home_of(parley::core::Source *source) {
    return PARLEY_OWNER(static_cast<Listener *>(source), ServiceLoop, listener);
}

uint32_t interest(const ServiceLoop *home) {
    // Level-triggered: an accept batch may leave some in the backlog.
    return home->binding->shared && !home->binding->datagram ? EPOLLIN | EPOLLEXCLUSIVE : EPOLLIN;
}

} // namespace

void CommMachine::listener_events(parley::core::Source *source, uint32_t) {
    ServiceLoop *home = home_of(source);
    CommService *service = home->binding->service;
    service_incref(service); // a callback may unbind it, and `home` would go while we are in here
    if (home->binding->datagram)
        receive_datagrams(home);
    else
        accept_some(home);
    service_decref(service);
}

void CommMachine::accept_some(ServiceLoop *home) {
    Loop *loop = home->loop;
    Listener &listener = home->listener;
    for (int i = 0; i < accept_batch && listener.fd >= 0 && !listener.paused && !home->unbound; i++) {
        struct sockaddr_storage peer;
        socklen_t size = sizeof peer;
        int fd = loop->world->accept(listener.fd, reinterpret_cast<struct sockaddr *>(&peer), &size);
        if (fd >= 0) {
            Loop::count(loop->tally.accepts);
            service_born(home, fd, reinterpret_cast<struct sockaddr *>(&peer),
                         std::min<socklen_t>(size, sizeof peer));
            loop->run_ready();
            continue;
        }
        switch (errno) {
        case EAGAIN:
            return;
        case EBADF:
        case EINVAL:
        case ENOTSOCK:
        case EOPNOTSUPP:
            // The socket is no listener any more: somebody closed it under us.
            close_listener(home, errno, true);
            return;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
        case EPERM:
            // Readable for as long as the connection waits: look away for a while.
            Loop::count(loop->tally.accept_errors);
            listener.backing_off = true;
            listener.retry = loop->now() + back_off_ns;
            loop->set_timer(&listener.timer, std::min(listener.lifetime, listener.retry));
            loop->remove_source(&listener, listener.fd);
            return;
        default:
            // Of this one connection (ECONNABORTED, EPROTO and its like): go on.
            Loop::count(loop->tally.accept_errors);
        }
    }
}

void CommMachine::listener_timer(CommTimer *timer) {
    auto *listener = PARLEY_OWNER(timer, Listener, timer);
    auto *home = PARLEY_OWNER(listener, ServiceLoop, listener);
    Loop *loop = home->loop;
    if (listener->lifetime <= loop->now()) {
        close_listener(home, ETIMEDOUT, true);
        return;
    }
    listener->retry = INT64_MAX;
    listener->backing_off = false;
    update_pause(home);
    loop->set_timer(timer, std::min(listener->lifetime, listener->retry));
}

// Registers the socket, or takes it out, as pausing and backing off want it.
void CommMachine::update_pause(ServiceLoop *home) {
    Listener &listener = home->listener;
    if (listener.fd < 0)
        return;
    listener.paused = home->binding->paused.load(std::memory_order_acquire);
    bool want = !listener.paused && !listener.backing_off;
    bool have = listener.slot != UINT32_MAX;
    if (want && !have) {
        if (home->loop->add_source(&listener, listener.fd, interest(home)) < 0) {
            listener.backing_off = true;
            listener.retry = home->loop->now() + back_off_ns;
            home->loop->set_timer(&listener.timer, std::min(listener.lifetime, listener.retry));
        }
    } else if (!want && have) {
        home->loop->remove_source(&listener, listener.fd);
    }
}

// By unbind(), or `by_itself`: then handle_stop() tells, once per service.
void CommMachine::close_listener(ServiceLoop *home, int error, bool by_itself) {
    CommBinding *binding = home->binding;
    Listener &listener = home->listener;
    if (listener.fd < 0)
        return;
    Loop *loop = home->loop;
    loop->remove_source(&listener, listener.fd);
    loop->remove_timer(&listener.timer);
    list_del(&listener.link);
    INIT_LIST_HEAD(&listener.link);
    int fd = listener.fd;
    listener.fd = -1;
    // A shared socket goes with its last user, a datagram socket with the last reply on it.
    bool last = binding->listening.fetch_sub(1, std::memory_order_acq_rel) == 1;
    if (!binding->datagram && (!binding->shared || last))
        loop->world->close(fd);
    if (!by_itself || binding->unbinding.load(std::memory_order_acquire))
        return;
    if (error == 0 && !last)
        return; // the Communicator stops: the last loop tells
    if (binding->stop_told.exchange(true))
        return;
    if (error != 0) {
        // The other loops' listeners end with it.
        for (size_t i = 0; i < binding->loops; i++) {
            ServiceLoop *other = &binding->per_loop[i];
            if (other == home)
                continue;
            service_incref(binding->service);
            other->stop_node.run = [](CommNode *node) {
                auto *self = PARLEY_OWNER(node, ServiceLoop, stop_node);
                CommService *service = self->binding->service;
                close_listener(self, 0, false);
                service_decref(service);
            };
            if (!other->loop->post_any(&other->stop_node))
                service_decref(binding->service);
        }
    }
    binding->stop_error = error;
    service_incref(binding->service);
    binding->stop_node.run = [](CommNode *node) {
        CommBinding *self = PARLEY_OWNER(node, CommBinding, stop_node);
        CommService *service = self->service;
        service->handle_stop(self->stop_error);
        service_decref(service);
    };
    complete(loop, &binding->stop_node, false);
}

int CommMachine::drain(CommService *service, int max) {
    if (!service_hold(service))
        return 0;
    CommBinding *binding = service->binding;
    size_t loops = binding != nullptr ? binding->loops : 0;
    size_t wanted = max < 0 ? SIZE_MAX : static_cast<size_t>(max);
    size_t marked = 0;
    // The caller's own loop first: its connections are the ones that count there.
    size_t start = 0;
    for (size_t i = 0; i < loops; i++)
        if (binding->per_loop[i].loop == Loop::current())
            start = i;
    for (size_t i = 0; i < loops && marked < wanted; i++) {
        ServiceLoop *home = &binding->per_loop[(start + i) % loops];
        size_t claimed = home->claimed.load(std::memory_order_relaxed), n;
        do {
            size_t kept = home->kept_count.load(std::memory_order_acquire);
            n = std::min(kept > claimed ? kept - claimed : 0, wanted - marked);
        } while (n > 0 && !home->claimed.compare_exchange_weak(claimed, claimed + n));
        if (n == 0)
            continue;
        marked += n;
        if (home->drain_posted.exchange(true))
            continue;
        service_incref(service);
        home->drain_node.run = [](CommNode *node) {
            auto *self = PARLEY_OWNER(node, ServiceLoop, drain_node);
            CommService *owner = self->binding->service;
            drain_on_loop(self);
            service_decref(owner);
        };
        if (!home->loop->post_any(&home->drain_node))
            service_decref(service);
    }
    service_decref(service);
    return marked > INT32_MAX ? INT32_MAX : static_cast<int>(marked);
}

void CommMachine::drain_on_loop(ServiceLoop *home) {
    home->drain_posted.store(false);
    size_t claimed = home->claimed.load(std::memory_order_acquire);
    for (size_t n = claimed; n > 0 && !list_empty(&home->kept); n--) {
        Entry *entry = PARLEY_OWNER(home->kept.prev, Entry, list);
        leave_kept(entry);
        entry->state = CONN_STATE_CLOSING;
        entry->error = 0;
        entry->cause = CC_STOP;
        schedule(entry);
    }
    // Only now: until they had left the list they were counted there.
    home->claimed.fetch_sub(claimed, std::memory_order_acq_rel);
}
