// A service from bind() to handle_unbound(): its sockets, one per loop where the kernel can spread
// connections by itself, and who still holds it. Each connection and each datagram in flight holds
// the service once, bind() once; the last to let go calls handle_unbound().

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <new>

#include "machine.h"
#include "owner.h"

namespace {

using parley::sys::world;

struct Sockets {
    world &w;
    int *fd;
    size_t count = 0;
    bool keep = false;

    ~Sockets() {
        int error = errno;
        for (size_t i = 0; !keep && i < count; i++)
            w.close(fd[i]);
        errno = error;
    }
};

bool is_bound(world &w, int fd, int family) {
    struct sockaddr_storage addr = {};
    socklen_t size = sizeof addr;
    if (w.getsockname(fd, reinterpret_cast<struct sockaddr *>(&addr), &size) < 0)
        return false;
    if (family == AF_INET)
        return reinterpret_cast<struct sockaddr_in *>(&addr)->sin_port != 0;
    if (family == AF_INET6)
        return reinterpret_cast<struct sockaddr_in6 *>(&addr)->sin6_port != 0;
    return size > sizeof(sa_family_t);
}

int option(world &w, int fd, int level, int name) {
    int value = 0;
    socklen_t size = sizeof value;
    return w.getsockopt(fd, level, name, &value, &size) < 0 ? 0 : value;
}

int set_option(world &w, int fd, int level, int name, int value) {
    return w.setsockopt(fd, level, name, &value, sizeof value);
}

// One more socket with the first one's address and options.
int twin(world &w, int first, int family, const struct sockaddr *addr, socklen_t size) {
    int fd = w.socket(family, SOCK_STREAM, 0);
    if (fd < 0)
        return -1;
    bool ok = w.set_nonblocking(fd) == 0 && set_option(w, fd, SOL_SOCKET, SO_REUSEPORT, 1) == 0 &&
              set_option(w, fd, SOL_SOCKET, SO_REUSEADDR, option(w, first, SOL_SOCKET, SO_REUSEADDR)) == 0;
    if (ok && family == AF_INET6)
        ok = set_option(w, fd, IPPROTO_IPV6, IPV6_V6ONLY, option(w, first, IPPROTO_IPV6, IPV6_V6ONLY)) == 0;
    if (ok) {
        set_option(w, fd, IPPROTO_TCP, TCP_NODELAY, 1);
        set_option(w, fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, option(w, first, IPPROTO_TCP, TCP_DEFER_ACCEPT));
        ok = w.bind(fd, addr, size) == 0 && w.listen(fd, SOMAXCONN) == 0;
    }
    if (!ok) {
        int error = errno;
        w.close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

} // namespace

int CommMachine::bind(Communicator *communicator, CommService *service, CommLoop *only) {
    CommCore *core = communicator->core;
    world &w = *core->world;
    if (service->binding != nullptr) {
        errno = EEXIST;
        return -1;
    }
    size_t n = only != nullptr ? 1 : core->nloops;
    auto fds = std::unique_ptr<int[]>(new (std::nothrow) int[n]);
    auto binding = std::unique_ptr<CommBinding>(new (std::nothrow) CommBinding);
    auto homes = std::unique_ptr<ServiceLoop[]>(new (std::nothrow) ServiceLoop[n]);
    if (!fds || !binding || !homes) {
        errno = ENOMEM;
        return -1;
    }
    int first = service->create_listen_fd();
    if (first < 0)
        return -1;
    Sockets sockets{w, fds.get()};
    fds[sockets.count++] = first;
    int family = service->bind_addr->sa_family;
    bool internet = family == AF_INET || family == AF_INET6;
    int type = option(w, first, SOL_SOCKET, SO_TYPE);
    if (w.set_nonblocking(first) < 0)
        return -1;
    bool bound = is_bound(w, first, family);
    bool spread =
        n > 1 && internet && type == SOCK_STREAM && !bound && option(w, first, SOL_SOCKET, SO_REUSEPORT) == 0;
    if (!bound) {
        if (internet && type == SOCK_STREAM)
            set_option(w, first, SOL_SOCKET, SO_REUSEADDR, 1); // a restart does not wait for TIME_WAIT
        if (w.bind(first, service->bind_addr, service->addrlen) < 0)
            return -1;
    }
    // Only now, so that a port somebody else listens on has been refused.
    if (spread && set_option(w, first, SOL_SOCKET, SO_REUSEPORT, 1) < 0)
        spread = false;
    if (internet && type == SOCK_STREAM)
        set_option(w, first, IPPROTO_TCP, TCP_NODELAY, 1); // inherited by what is accepted
    binding->datagram = false;
    if (w.listen(first, SOMAXCONN) < 0) {
        if (errno != EOPNOTSUPP)
            return -1;
        binding->datagram = true;
    }
    if (binding->datagram) {
        n = 1;
        binding->datagram_fd = first;
    }
    binding->local_size = sizeof binding->local;
    if (w.getsockname(first, reinterpret_cast<struct sockaddr *>(&binding->local), &binding->local_size) < 0)
        return -1;
    binding->shared = n > 1 && !spread;
    while (spread && sockets.count < n) {
        int fd =
            twin(w, first, family, reinterpret_cast<struct sockaddr *>(&binding->local), binding->local_size);
        if (fd < 0)
            return -1;
        fds[sockets.count++] = fd;
    }

    binding->service = service;
    binding->core = core;
    binding->loops = n;
    size_t offset = binding->datagram ? core->next_loop.fetch_add(1, std::memory_order_relaxed) : 0;
    for (size_t i = 0; i < n; i++) {
        ServiceLoop &home = homes[i];
        home.binding = binding.get();
        home.loop = only != nullptr ? static_cast<Loop *>(only) : core->loops[(i + offset) % core->nloops];
        INIT_LIST_HEAD(&home.kept);
        INIT_LIST_HEAD(&home.connections);
        INIT_LIST_HEAD(&home.link);
        INIT_LIST_HEAD(&home.listener.link);
        home.listener.on_events = listener_events;
        home.listener.timer.fire = listener_timer;
        home.listener.fd = binding->shared ? first : fds[i];
    }
    binding->listening.store(n, std::memory_order_relaxed);
    binding->per_loop = homes.get();
    // bind() holds the service once, each loop until its listener stands once more.
    service->ref.fetch_add(1 + static_cast<int>(n),
                           std::memory_order_relaxed); // incref() may have been before
    service->binding = binding.release();
    homes.release();
    sockets.keep = true;
    core->ref.fetch_add(1, std::memory_order_relaxed);
    for (size_t i = 0; i < n; i++) {
        ServiceLoop *home = &service->binding->per_loop[i];
        home->start_node.run = [](CommNode *node) {
            auto *self = PARLEY_OWNER(node, ServiceLoop, start_node);
            CommService *owner = self->binding->service;
            Loop *loop = self->loop;
            // unbind() on this very loop may have been faster than the mailbox, and another loop's
            // connections too.
            if (!self->unbound || !list_empty(&self->connections))
                list_add(&self->link, &loop->services);
            if (self->listener.fd >= 0)
                list_add(&self->listener.link, &loop->listeners);
            if (loop->stopping()) {
                close_listener(self, 0, true);
            } else if (!self->unbound) {
                self->listener.lifetime = after(loop, owner->listen_timeout);
                loop->set_timer(&self->listener.timer, self->listener.lifetime);
                update_pause(self);
            }
            service_decref(owner);
        };
        if (Loop::current() == home->loop) {
            home->start_node.run(&home->start_node);
        } else if (!home->loop->post_remote(&home->start_node)) {
            // The Communicator was stopped meanwhile: as if it had been a moment later.
            list_add(&home->listener.link, &home->loop->listeners);
            close_listener(home, 0, true);
            service_decref(service);
        }
    }
    return 0;
}

void CommMachine::unbind(CommBinding *binding, int deadline_ms) {
    if (binding->unbinding.exchange(true, std::memory_order_acq_rel))
        return;
    binding->unbind_deadline = deadline_ms;
    binding->to_unbind.store(binding->loops, std::memory_order_release);
    size_t loops = binding->loops;
    for (size_t i = 0; i < loops; i++) {
        ServiceLoop *home = &binding->per_loop[i];
        home->unbind_node.run = [](CommNode *node) {
            unbind_on_loop(PARLEY_OWNER(node, ServiceLoop, unbind_node));
        };
        if (!home->loop->post_any(&home->unbind_node))
            unbind_on_loop(home); // the loop has ended: nobody else touches this any more
    }
}

void CommMachine::unbind_on_loop(ServiceLoop *home) {
    CommBinding *binding = home->binding;
    Loop *loop = home->loop;
    home->unbound = true;
    close_listener(home, 0, false);
    struct list_head *position, *next;
    list_for_each_safe(position, next, &home->connections) {
        Entry *entry = PARLEY_OWNER(position, Entry, all);
        entry->unbound = true;
        // Idle and silent ones go at once; a request that has begun is finished.
        if (entry->turn_count == 0 && !entry->got_bytes && entry->state != CONN_STATE_ERROR) {
            leave_kept(entry);
            entry->state = CONN_STATE_CLOSING;
            entry->error = 0;
            entry->cause = CC_STOP;
            schedule(entry);
        }
    }
    if (binding->unbind_deadline >= 0 && !list_empty(&home->connections)) {
        home->force.fire = [](CommTimer *timer) {
            auto *self = PARLEY_OWNER(timer, ServiceLoop, force);
            CommService *service = self->binding->service;
            service_incref(service);
            while (!list_empty(&self->connections)) {
                Entry *entry = PARLEY_OWNER(self->connections.next, Entry, all);
                entry->driving = true;
                fail(entry, CS_STATE_STOPPED, 0, CC_STOP);
            }
            service_decref(service);
        };
        loop->set_timer(&home->force, after(loop, binding->unbind_deadline));
    }
    leave_service(home);
    if (binding->to_unbind.fetch_sub(1, std::memory_order_acq_rel) == 1)
        service_decref(binding->service); // what bind() held
}

void CommMachine::leave_service(ServiceLoop *home) {
    if (!home->unbound || !list_empty(&home->connections))
        return;
    home->loop->remove_timer(&home->force); // unbind's deadline has nothing left to do
    list_del(&home->link);
    INIT_LIST_HEAD(&home->link);
}

void CommMachine::service_decref(CommService *service) {
    if (service->ref.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    CommBinding *binding = service->binding;
    if (binding == nullptr)
        return; // incref() and decref() of a service that is not bound
    CommCore *core = binding->core;
    binding->unbound_node.run = [](CommNode *node) {
        CommBinding *self = PARLEY_OWNER(node, CommBinding, unbound_node);
        CommService *owner = self->service;
        CommCore *its_core = self->core;
        delete[] self->per_loop;
        delete self;
        owner->binding = nullptr;
        owner->handle_unbound();
        release_core(its_core);
    };
    // The node may have run, and the Communicator be gone, before the call that sends it returns.
    core->ref.fetch_add(1, std::memory_order_relaxed);
    if (binding->datagram)
        core->world->close(binding->datagram_fd);
    Loop *loop = binding->per_loop[0].loop;
    if (!in_place(core) && !core->handlers_gone.load(std::memory_order_acquire))
        to_handlers(core, &binding->unbound_node, &binding->unbound_node, 1);
    else if (!loop->post_any(&binding->unbound_node))
        binding->unbound_node.run(&binding->unbound_node);
    release_core(core);
}

// For calls that may come while the service becomes unbound: false if it is, or is about to be.
bool CommMachine::service_hold(CommService *service) {
    int n = service->ref.load(std::memory_order_relaxed);
    while (n > 0 && !service->ref.compare_exchange_weak(n, n + 1, std::memory_order_acq_rel)) {
    }
    return n > 0;
}

int CommService::init(const struct sockaddr *address, socklen_t size, int listen_ms, int response_ms) {
    auto *copy = static_cast<char *>(parley::sys::current().allocate(size));
    if (copy == nullptr) {
        errno = ENOMEM;
        return -1;
    }
    std::copy_n(reinterpret_cast<const char *>(address), size, copy);
    bind_addr = reinterpret_cast<struct sockaddr *>(copy);
    addrlen = size;
    listen_timeout = listen_ms;
    response_timeout = response_ms;
    ssl_ctx = nullptr;
    ssl_accept_timeout = -1;
    return 0;
}

void CommService::deinit() {
    parley::sys::current().deallocate(bind_addr);
    bind_addr = nullptr;
    addrlen = 0;
    delete deadlines;
    deadlines = nullptr;
}

CommService::~CommService() {
    deinit();
}

int CommService::create_listen_fd() {
    return parley::sys::socket(bind_addr->sa_family, SOCK_STREAM, 0);
}

CommConnection *CommService::new_connection(int) {
    auto *conn = new (std::nothrow) CommConnection;
    if (conn == nullptr)
        errno = ENOMEM;
    return conn;
}

int CommService::init_ssl(SSL *) {
    return 0;
}

int CommService::drain(int max) {
    return CommMachine::drain(this, max);
}

int CommService::get_local_addr(struct sockaddr *addr, socklen_t *size) const {
    auto *self = const_cast<CommService *>(this); // to count, no more
    bool held = CommMachine::service_hold(self);
    bool bound = held && binding != nullptr;
    if (bound) {
        memcpy(addr, &binding->local, std::min(*size, binding->local_size));
        *size = binding->local_size;
    }
    if (held)
        CommMachine::service_decref(self);
    if (!bound)
        errno = ENOTCONN;
    return bound ? 0 : -1;
}

void CommService::pause_accept() {
    CommMachine::set_paused(this, true);
}

void CommService::resume_accept() {
    CommMachine::set_paused(this, false);
}

void CommMachine::set_paused(CommService *service, bool paused) {
    if (!service_hold(service))
        return;
    CommBinding *binding = service->binding;
    bool news = binding != nullptr && binding->paused.exchange(paused, std::memory_order_acq_rel) != paused;
    for (size_t i = 0; news && i < binding->loops; i++) {
        ServiceLoop *home = &binding->per_loop[i];
        if (home->pause_posted.exchange(true))
            continue;
        service_incref(service);
        home->pause_node.run = [](CommNode *node) {
            auto *self = PARLEY_OWNER(node, ServiceLoop, pause_node);
            CommService *owner = self->binding->service;
            self->pause_posted.store(false);
            update_pause(self);
            service_decref(owner);
        };
        if (!home->loop->post_any(&home->pause_node))
            service_decref(service);
    }
    service_decref(service);
}

void CommService::set_deadlines(const CommDeadlines &limits) {
    if (deadlines == nullptr)
        deadlines = new CommDeadlines(limits);
    else
        *deadlines = limits;
}

void CommService::incref() {
    CommMachine::service_incref(this);
}

void CommService::decref() {
    CommMachine::service_decref(this);
}
