// File operations. Each is tried at once, without waiting, on the thread that submits it; what
// would wait is queued for a few threads of the service's own. Either way it completes on a loop,
// by its node.

#include "IOService_linux.h"

#include <assert.h>
#include <errno.h>

#include <algorithm>
#include <new>
#include <utility>

#include "machine.h"
#include "owner.h"

using parley::core::Loop;
using parley::sync::lock_guard;
using parley::sync::unique_lock;
using parley::sys::world;

namespace {

// More than this is copied by a thread of the service even if all of it is cached: a loop has
// other things to do.
constexpr size_t at_once_limit = 256 * 1024;

// Communicator::deinit(), as long as it waits for the services.
class Stop {
public:
    void expect() { unfinished_++; } // before wait() and any done()

    void done() {
        lock_guard<parley::sync::mutex> lock(mutex_);
        if (--unfinished_ == 0)
            finished_.notify_one(); // under the lock: afterwards this may be gone
    }

    void wait() {
        unique_lock<parley::sync::mutex> lock(mutex_);
        finished_.wait(lock, [this] { return unfinished_ == 0; });
    }

private:
    parley::sync::mutex mutex_;
    parley::sync::condition_variable finished_;
    size_t unfinished_ = 0;
};

} // namespace

// What an IOService is made of.
//
//   unbound --io_bind()--> bound --io_unbind()--> leaving --nothing in flight--> unbound, handle_unbound()
//
// A stop of the Communicator lets only those requests pass that were there before.
struct IOCore {
    static constexpr size_t max_threads = 4;
    enum class Phase { unbound, bound, leaving };

    IOCore(IOService *owner, size_t limit) : service(owner), max_events(limit) {}

    int submit(IOSession *session);
    int bind(CommCore *to);
    void unbind();
    CommNode *tell_stop(Stop *waiting);
    void join();

private:
    int admit(IOSession *session);
    static int prepare(IOSession *session);
    int enqueue(IOSession *session);
    IOSession *dequeue();
    void give_place();
    void finish();

    static bool try_at_once(IOSession *session, world &w);
    static void carry_out(IOSession *session, world &w);
    static ssize_t transfer(const IOSession *session, world &w, int flags, size_t *size);
    static size_t length(const IOSession *session);
    static bool is_sync(const IOSession *session) {
        return session->operation_ == IOSession::FSYNC || session->operation_ == IOSession::FDATASYNC;
    }
    static void complete(IOSession *session);
    static void run_on_loop(CommNode *node);
    static void run_handle(CommNode *node);
    static void run_stop(CommNode *node);
    static void run_unbound(CommNode *node);
    static void deliver(CommCore *to, CommNode *node);
    static void work(void *self);

    IOService *const service;
    const size_t max_events;
    world &w = parley::sys::current();

    parley::sync::mutex mutex; // after CommCore::io_mutex; guards what follows
    Phase phase = Phase::unbound;
    CommCore *core = nullptr; // retained while not unbound
    Stop *stop = nullptr;
    size_t in_flight = 0;                   // bounded by max_events; until handle() is entered
    size_t unfinished = 0;                  // until handle() has returned; a handle_stop() counts as well
    struct list_head link = {&link, &link}; // CommCore::io_services; guarded by its io_mutex
    CommNode stop_node;
    CommNode unbound_node;

    parley::core::NodeList queue;
    size_t queued = 0;
    size_t idle = 0;
    bool ending = false;
    parley::sync::condition_variable available;
    parley::sys::thread_handle threads[max_threads];
    size_t nthreads = 0;

    friend class CommMachine;
};

// Takes a place for the operation: 0 or an errno.
int IOCore::admit(IOSession *session) {
    lock_guard<parley::sync::mutex> lock(mutex);
    if (phase != Phase::bound)
        return ENOENT;
    if (core->stopping.load(std::memory_order_acquire))
        return ESHUTDOWN;
    if (in_flight == max_events)
        return EAGAIN;
    in_flight++;
    unfinished++;
    session->io_ = this;
    session->loop_ = CommMachine::loop_for_work(core);
    return 0;
}

int IOCore::prepare(IOSession *session) {
    session->operation_ = IOSession::NONE;
    session->res_ = 0;
    errno = 0;
    bool refused = session->prepare() < 0;
    if (refused && errno != 0)
        return errno;
    return refused || session->operation_ == IOSession::NONE ? EINVAL : 0;
}

int IOCore::submit(IOSession *session) {
    int error = admit(session);
    if (error != 0)
        return error;
    error = prepare(session);
    if (error == 0 && !try_at_once(session, w)) {
        error = enqueue(session);
        if (error == 0)
            return 0;
        if (session->res_ > 0)
            error = 0; // no thread for the rest, but some of it is done
    }
    if (error == 0) {
        complete(session);
        return 0;
    }
    give_place();
    finish();
    return error;
}

// For a thread of the service; starts one more, as far as there may be, when none is free.
int IOCore::enqueue(IOSession *session) {
    lock_guard<parley::sync::mutex> lock(mutex);
    if (queued >= idle && nthreads < max_threads) {
        int error = w.thread_start(&threads[nthreads], work, this);
        if (error == 0)
            nthreads++;
        else if (nthreads == 0)
            return error;
    }
    queue.append(&session->node_);
    queued++;
    available.notify_one();
    return 0;
}

// Under the mutex. The oldest operation, or nullptr.
IOSession *IOCore::dequeue() {
    if (queue.empty())
        return nullptr;
    CommNode *node = queue.head;
    queue.head = node->next;
    if (queue.head == nullptr)
        queue.tail = &queue.head;
    queued--;
    return PARLEY_OWNER(node, IOSession, node_);
}

void IOCore::work(void *self) {
    auto *io = static_cast<IOCore *>(self);
    unique_lock<parley::sync::mutex> lock(io->mutex);
    for (;;) {
        if (IOSession *session = io->dequeue()) {
            lock.unlock();
            carry_out(session, io->w);
            complete(session);
            lock.lock();
        } else if (io->ending) {
            return;
        } else {
            io->idle++;
            io->available.wait(lock);
            io->idle--;
        }
    }
}

void IOCore::join() {
    {
        lock_guard<parley::sync::mutex> lock(mutex);
        assert(phase == Phase::unbound);
        ending = true;
    }
    available.notify_all();
    for (size_t i = 0; i < nthreads; i++)
        w.thread_join(threads[i]);
}

size_t IOCore::length(const IOSession *session) {
    size_t size = 0;
    for (int i = 0; i < session->iovcnt_; i++)
        size += session->iov_[i].iov_len;
    return size;
}

// One call for what is left, or the beginning of it. Bytes, and how many there could have been; or
// -1 and errno.
ssize_t IOCore::transfer(const IOSession *session, world &w, int flags, size_t *size) {
    const struct iovec *iov = session->iov_;
    int count = session->iovcnt_;
    struct iovec part[16];
    if (session->res_ > 0) {
        size_t skip = static_cast<size_t>(session->res_);
        for (; skip >= iov->iov_len; iov++, count--)
            skip -= iov->iov_len;
        count = std::min(count, 16);
        std::copy_n(iov, count, part);
        part[0].iov_base = static_cast<char *>(part[0].iov_base) + skip;
        part[0].iov_len -= skip;
        iov = part;
    }
    *size = 0;
    for (int i = 0; i < count; i++)
        *size += iov[i].iov_len;
    off_t offset = session->offset_ + session->res_;
    return session->operation_ == IOSession::READ ? w.preadv(session->fd_, iov, count, offset, flags)
                                                  : w.pwritev(session->fd_, iov, count, offset, flags);
}

// False: it has to wait for something, or may have to. What was done until then counts.
bool IOCore::try_at_once(IOSession *session, world &w) {
    if (is_sync(session))
        return false;
    if (session->offset_ < 0) { // to preadv2() -1 is the descriptor's own position
        session->res_ = -EINVAL;
        return true;
    }
    size_t total = length(session);
    if (total > at_once_limit)
        return false;
    for (;;) {
        size_t size;
        ssize_t n = transfer(session, w, RWF_NOWAIT, &size);
        if (n < 0) {
            if (errno == EAGAIN || errno == EOPNOTSUPP || errno == ENOSYS)
                return false;
            if (session->res_ == 0)
                session->res_ = -errno;
            return true;
        }
        // A short read may mean the end of the file or the end of what is cached: the next tells.
        session->res_ += n;
        if (n == 0 || static_cast<size_t>(session->res_) == total)
            return true;
    }
}

void IOCore::carry_out(IOSession *session, world &w) {
    if (is_sync(session)) {
        bool data_only = session->operation_ == IOSession::FDATASYNC;
        if ((data_only ? w.fdatasync(session->fd_) : w.fsync(session->fd_)) < 0)
            session->res_ = -errno;
        return;
    }
    size_t total = length(session);
    for (;;) {
        size_t size;
        ssize_t n = transfer(session, w, 0, &size);
        if (n < 0) {
            if (session->res_ == 0)
                session->res_ = -errno;
            return;
        }
        session->res_ += n;
        // Short, although it was free to wait: the file has no more to give, or to take.
        if (static_cast<size_t>(n) < size || static_cast<size_t>(session->res_) == total)
            return;
    }
}

// Any thread. The loop has not ended, since deinit() waits for what is in flight; but it may end
// before post_any() returns.
void IOCore::complete(IOSession *session) {
    auto *loop = static_cast<Loop *>(session->loop_);
    loop->retain();
    session->node_.run = run_on_loop;
    [[maybe_unused]] bool posted = loop->post_any(&session->node_);
    assert(posted);
    loop->release();
}

void IOCore::run_on_loop(CommNode *node) {
    IOSession *session = PARLEY_OWNER(node, IOSession, node_);
    node->run = run_handle;
    CommMachine::complete(static_cast<Loop *>(session->loop_), node, session->handle_in_place());
}

void IOCore::run_handle(CommNode *node) {
    IOSession *session = PARLEY_OWNER(node, IOSession, node_);
    IOCore *io = session->io_;
    io->give_place();
    if (session->res_ < 0)
        session->handle(IOS_STATE_ERROR, static_cast<int>(-session->res_));
    else
        session->handle(IOS_STATE_SUCCESS, 0);
    io->finish();
}

void IOCore::give_place() {
    lock_guard<parley::sync::mutex> lock(mutex);
    in_flight--;
}

// An operation is over, or a handle_stop(). Behind the last one somebody may be waiting.
void IOCore::finish() {
    unique_lock<parley::sync::mutex> lock(mutex);
    if (--unfinished > 0)
        return;
    CommCore *from = core;
    if (phase == Phase::leaving) {
        lock.unlock();
        deliver(from, &unbound_node);
    } else if (Stop *waiting = std::exchange(stop, nullptr)) {
        lock.unlock();
        waiting->done();
    }
}

// Where completions run: on a handler thread or a loop; here when the Communicator has gone, which
// it may do while this runs.
void IOCore::deliver(CommCore *to, CommNode *node) {
    to->ref.fetch_add(1, std::memory_order_relaxed);
    if (to->handlers_gone.load(std::memory_order_acquire))
        node->run(node);
    else if (!CommMachine::in_place(to))
        CommMachine::to_handlers(to, node, node, 1);
    else if (!CommMachine::loop_for_work(to)->post_any(node))
        node->run(node);
    CommMachine::release_core(to);
}

int IOCore::bind(CommCore *to) {
    lock_guard<parley::sync::mutex> list_lock(to->io_mutex);
    lock_guard<parley::sync::mutex> lock(mutex);
    if (to->stopping.load(std::memory_order_acquire))
        return ESHUTDOWN;
    if (phase != Phase::unbound)
        return EEXIST;
    to->ref.fetch_add(1, std::memory_order_relaxed);
    list_add_tail(&link, &to->io_services);
    core = to;
    phase = Phase::bound;
    return 0;
}

void IOCore::unbind() {
    unique_lock<parley::sync::mutex> lock(mutex);
    if (phase != Phase::bound)
        return;
    phase = Phase::leaving;
    unbound_node.run = run_unbound;
    if (unfinished > 0)
        return;
    CommCore *from = core;
    lock.unlock();
    deliver(from, &unbound_node);
}

void IOCore::run_unbound(CommNode *node) {
    IOCore *io = PARLEY_OWNER(node, IOCore, unbound_node);
    IOService *service = io->service;
    CommCore *from = io->core;
    Stop *waiting;
    {
        lock_guard<parley::sync::mutex> list_lock(from->io_mutex);
        lock_guard<parley::sync::mutex> lock(io->mutex);
        list_del_init(&io->link);
        io->phase = Phase::unbound;
        io->core = nullptr;
        waiting = std::exchange(io->stop, nullptr);
    }
    service->handle_unbound(); // may be the end of both
    if (waiting != nullptr)
        waiting->done();
    CommMachine::release_core(from);
}

// Under CommCore::io_mutex. What is to be delivered so that handle_stop() runs; nullptr for a
// service that is on its way out: its handle_unbound() is waited for.
CommNode *IOCore::tell_stop(Stop *waiting) {
    lock_guard<parley::sync::mutex> lock(mutex);
    waiting->expect();
    stop = waiting;
    if (phase != Phase::bound)
        return nullptr;
    unfinished++;
    stop_node.run = run_stop;
    return &stop_node;
}

void IOCore::run_stop(CommNode *node) {
    IOCore *io = PARLEY_OWNER(node, IOCore, stop_node);
    io->service->handle_stop(0);
    io->finish();
}

// Returns when no operation is in flight, every handle_stop() has returned, and every
// handle_unbound() that an io_unbind() called for.
void CommMachine::stop_io(CommCore *core) {
    Stop stop;
    parley::core::NodeList told;
    {
        lock_guard<parley::sync::mutex> lock(core->io_mutex);
        IOCore *io;
        list_for_each_entry(io, &core->io_services, link) {
            if (CommNode *node = io->tell_stop(&stop))
                told.append(node);
        }
    }
    for (CommNode *node = told.take(); node != nullptr;) {
        CommNode *next = node->next;
        IOCore::deliver(core, node);
        node = next;
    }
    stop.wait();
}

int Communicator::io_bind(IOService *service) {
    int error = core == nullptr ? ESHUTDOWN : service->core == nullptr ? EINVAL : service->core->bind(core);
    if (error == 0)
        return 0;
    errno = error;
    return -1;
}

void Communicator::io_unbind(IOService *service) {
    int saved = errno;
    if (service->core != nullptr)
        service->core->unbind();
    errno = saved;
}

int IOService::init(int maxevents) {
    int error = maxevents <= 0 ? EINVAL : core != nullptr ? EALREADY : 0;
    if (error == 0) {
        core = new (std::nothrow) IOCore(this, static_cast<size_t>(maxevents));
        error = core != nullptr ? 0 : ENOMEM;
    }
    if (error == 0)
        return 0;
    errno = error;
    return -1;
}

void IOService::deinit() {
    if (core == nullptr)
        return;
    core->join();
    delete core;
    core = nullptr;
}

IOService::~IOService() {
    deinit();
}

int IOService::request(IOSession *session) {
    int saved = errno;
    int error = core != nullptr ? core->submit(session) : ENOENT;
    errno = error != 0 ? error : saved;
    return error != 0 ? -1 : 0;
}

void IOSession::prep_pread(int fd, void *buf, size_t count, long long offset) {
    single_ = {buf, count};
    prep_preadv(fd, &single_, 1, offset);
}

void IOSession::prep_pwrite(int fd, void *buf, size_t count, long long offset) {
    single_ = {buf, count};
    prep_pwritev(fd, &single_, 1, offset);
}

void IOSession::prep_preadv(int fd, const struct iovec *iov, int iovcnt, long long offset) {
    operation_ = READ;
    fd_ = fd;
    iov_ = iov;
    iovcnt_ = iovcnt;
    offset_ = offset;
}

void IOSession::prep_pwritev(int fd, const struct iovec *iov, int iovcnt, long long offset) {
    prep_preadv(fd, iov, iovcnt, offset);
    operation_ = WRITE;
}

void IOSession::prep_fsync(int fd) {
    operation_ = FSYNC;
    fd_ = fd;
}

void IOSession::prep_fdatasync(int fd) {
    operation_ = FDATASYNC;
    fd_ = fd;
}
