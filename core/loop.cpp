#include "loop.h"

#include <errno.h>
#include <stdlib.h>

#include "machine.h"

namespace parley::core {

namespace {

thread_local Loop *this_loop = nullptr;

// What the mailbox holds besides a list: nobody will look again, or the loop sleeps in epoll_wait
// and must be woken.
CommNode closed_mark;
CommNode asleep_mark;

constexpr int max_events = 256;
constexpr int max_timers_per_turn = 1024; // then the sockets get their turn
constexpr int ready_per_turn = 64;

} // namespace

Loop *Loop::current() noexcept {
    return this_loop;
}

int Loop::open(CommCore *owner, Communicator *communicator, size_t index) {
    core = owner;
    communicator_ = communicator;
    index_ = index;
    world = &sys::current();
    INIT_LIST_HEAD(&entries);
    INIT_LIST_HEAD(&services);
    INIT_LIST_HEAD(&sleepers);
    INIT_LIST_HEAD(&listeners);
    INIT_LIST_HEAD(&watches);
    INIT_LIST_HEAD(&datagrams);
    INIT_LIST_HEAD(&graveyard_);
    read_buffer = static_cast<char *>(world->allocate(read_size));
    if (read_buffer == nullptr)
        return ENOMEM;
    epoll_fd_ = world->epoll_create();
    if (epoll_fd_ < 0)
        return errno;
    wake_fd_ = world->eventfd();
    if (wake_fd_ < 0)
        return errno;
    // Edge-triggered and never read: every write is an edge of its own.
    wake_source_.on_events = [](Source *, uint32_t) {};
    if (add_source(&wake_source_, wake_fd_, EPOLLIN | EPOLLET) < 0)
        return errno;
    now_ = world->monotonic_ns();
    return 0;
}

Loop::~Loop() {
    while (Output *output = spare_outputs_) {
        spare_outputs_ = output->next;
        CommMachine::free_output(output);
    }
    close_descriptors();
    if (world != nullptr) {
        world->deallocate(read_buffer);
        world->deallocate(cipher_buffer);
        world->deallocate(merge_buffer);
    }
}

void Loop::release() noexcept {
    if (ref_.fetch_sub(1, std::memory_order_acq_rel) == 1)
        delete this;
}

void Loop::run() {
    this_loop = this;
    refresh_clock();
    for (;;) {
        // What runs makes more ready. So much of it, and then the sockets and timers have their turn.
        for (int left = ready_per_turn; left > 0 && !ready_.empty();)
            left -= run_ready();
        run_pending();
        // What they finished must not wait for the next event: the poll may sleep.
        flush_handed();
        empty_graveyard();
        if (stopping_ && !has_work()) {
            // The last look. Mail that has come still runs, and what that leads to; only an empty box is
            // closed, so whoever is refused may take it that nothing happens here any more.
            CommNode *none = nullptr;
            if (!CommMachine::loop_is_empty(this))
                parley::sync::yield(); // to the thread that has claimed what is left and is about to post it
            else if (mailbox_.compare_exchange_strong(none, &closed_mark, std::memory_order_acq_rel))
                break;
        }
        poll();
        run_timers();
        flush_handed();
        empty_graveyard();
        count(tally.turns);
    }
    flush_handed();
    empty_graveyard();
    busy_since_.store(0, std::memory_order_release);
    this_loop = nullptr;
}

void Loop::poll() {
    int64_t timeout = has_work() || stopping_ ? 0 : wait_time();
    bool sleeps = timeout != 0;
    if (sleeps) {
        CommNode *expected = nullptr;
        if (!mailbox_.compare_exchange_strong(expected, &asleep_mark, std::memory_order_seq_cst)) {
            timeout = 0; // mail has come
            sleeps = false;
        }
    }
    if (sleeps)
        busy_since_.store(0, std::memory_order_release);
    struct epoll_event events[max_events];
    int n = world->epoll_wait(epoll_fd_, events, max_events, timeout);
    // Interrupted, perhaps for long (SIGSTOP): what has arrived meanwhile comes before what has run out.
    if (n < 0)
        n = world->epoll_wait(epoll_fd_, events, max_events, 0);
    refresh_clock();
    for (int i = 0; i < n; i++) {
        uint32_t slot = static_cast<uint32_t>(events[i].data.u64);
        uint32_t generation = static_cast<uint32_t>(events[i].data.u64 >> 32);
        if (slot < slots_.size() && slots_[slot].generation == generation && slots_[slot].source != nullptr) {
            slots_[slot].source->on_events(slots_[slot].source, events[i].events);
            run_ready();
        }
    }
    if (CommNode *mail = take_mail(sleeps))
        run_mail(mail);
}

CommNode *Loop::take_mail(bool slept) {
    if (!slept && mailbox_.load(std::memory_order_relaxed) == nullptr)
        return nullptr;
    CommNode *list = mailbox_.exchange(nullptr, std::memory_order_acq_rel);
    return list == &asleep_mark ? nullptr : list;
}

void Loop::run_mail(CommNode *list) {
    // Last posted comes first: turn it round.
    CommNode *in_order = nullptr;
    while (list != nullptr && list != &asleep_mark) {
        CommNode *next = list->next;
        list->next = in_order;
        in_order = list;
        list = next;
    }
    while (in_order != nullptr) {
        CommNode *node = in_order;
        in_order = node->next;
        count(tally.posts);
        node->run(node);
        run_ready();
    }
}

bool Loop::post_remote(CommNode *node) noexcept {
    // The node may be the last thing that somebody waits for before he ends the Communicator: the loop
    // is not freed while we still touch it.
    posters_.fetch_add(1, std::memory_order_acquire);
    CommNode *head = mailbox_.load(std::memory_order_acquire);
    do {
        if (head == &closed_mark) {
            posters_.fetch_sub(1, std::memory_order_release);
            return false;
        }
        node->next = head == &asleep_mark ? nullptr : head;
    } while (
        !mailbox_.compare_exchange_weak(head, node, std::memory_order_seq_cst, std::memory_order_acquire));
    if (head == &asleep_mark) {
        uint64_t one = 1;
        // Fails only if the counter is full: then the loop is awake already.
        [[maybe_unused]] ssize_t n = world->write(wake_fd_, &one, sizeof one);
    }
    posters_.fetch_sub(1, std::memory_order_release);
    return true;
}

void Loop::wait_for_posters() noexcept {
    while (posters_.load(std::memory_order_acquire) != 0)
        parley::sync::yield(); // a few instructions and one write() at most
    // Targets and sessions may keep the loop for long; its descriptors go now.
    close_descriptors();
}

void Loop::close_descriptors() noexcept {
    if (wake_fd_ >= 0)
        world->close(wake_fd_);
    if (epoll_fd_ >= 0)
        world->close(epoll_fd_);
    wake_fd_ = epoll_fd_ = -1;
}

bool Loop::post_any(CommNode *node) noexcept {
    if (this_loop == this) {
        post_local(node);
        return true;
    }
    return post_remote(node);
}

int Loop::run_ready() {
    int ran = 0;
    CommNode *node = ready_.take();
    while (node != nullptr) {
        CommNode *next = node->next;
        node->run(node);
        node = next;
        ran++;
    }
    return ran;
}

void Loop::run_pending() {
    CommNode *node = pending_.take();
    while (node != nullptr) {
        CommNode *next = node->next;
        node->run(node);
        run_ready();
        node = next;
    }
}

int64_t Loop::wait_time() {
    int64_t next = timers_.next();
    if (next == never)
        return -1;
    return next > now_ ? next - now_ : 0;
}

void Loop::run_timers() {
    for (int i = 0; i < max_timers_per_turn; i++) {
        CommTimer *timer = timers_.expire(now_);
        if (timer == nullptr)
            break;
        int64_t late = now_ - timer->deadline;
        if (late > tally.max_lateness.load(std::memory_order_relaxed))
            tally.max_lateness.store(late, std::memory_order_relaxed);
        count(tally.timers);
        timer->fire(timer);
        run_ready();
    }
}

void Loop::flush_handed() {
    if (handed_.empty())
        return;
    CommNode *head = handed_.take();
    CommNode *tail = head;
    size_t n = 1;
    for (; tail->next != nullptr; tail = tail->next)
        n++;
    CommMachine::to_handlers(core, head, tail, n);
}

int Loop::add_source(Source *source, int fd, uint32_t events) {
    try {
        if (free_slots_.empty()) {
            if (slots_.size() == slots_.capacity())
                slots_.reserve(slots_.size() * 2 + 64);
            free_slots_.reserve(slots_.capacity()); // so that remove_source() never allocates
            free_slots_.push_back(static_cast<uint32_t>(slots_.size()));
            slots_.push_back({nullptr, 1});
        }
    } catch (...) {
        errno = ENOMEM;
        return -1;
    }
    uint32_t slot = free_slots_.back();
    struct epoll_event event = {};
    event.events = events;
    event.data.u64 = static_cast<uint64_t>(slots_[slot].generation) << 32 | slot;
    if (world->epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) < 0)
        return -1;
    free_slots_.pop_back();
    slots_[slot].source = source;
    source->slot = slot;
    return 0;
}

int Loop::modify_source(Source *source, int fd, uint32_t events) {
    struct epoll_event event = {};
    event.events = events;
    event.data.u64 = static_cast<uint64_t>(slots_[source->slot].generation) << 32 | source->slot;
    return world->epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event);
}

void Loop::remove_source(Source *source, int fd) {
    if (source->slot == UINT32_MAX)
        return;
    // Explicitly, since a duplicate of the descriptor in a child process would keep it registered.
    struct epoll_event unused = {};
    world->epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, &unused);
    Slot &slot = slots_[source->slot];
    slot.source = nullptr;
    slot.generation++;
    free_slots_.push_back(source->slot);
    source->slot = UINT32_MAX;
}

void Loop::bury(CommConnEntry *entry) {
    list_add(&entry->all, &graveyard_);
}

void Loop::empty_graveyard() {
    // Destroying a connection object may run user code that buries another one.
    while (!list_empty(&graveyard_)) {
        CommConnEntry *entry = list_entry(graveyard_.next, CommConnEntry, all);
        list_del(&entry->all);
        CommMachine::unpin(entry);
    }
}

Output *Loop::get_output() {
    Output *output = spare_outputs_;
    if (output == nullptr)
        return CommMachine::new_output();
    spare_outputs_ = output->next;
    spare_output_count_--;
    output->next = nullptr;
    return output;
}

void Loop::put_output(Output *output) {
    constexpr size_t keep = 64;
    if (spare_output_count_ == keep) {
        CommMachine::free_output(output);
        return;
    }
    output->next = spare_outputs_;
    spare_outputs_ = output;
    spare_output_count_++;
}

} // namespace parley::core

CommLoop *CommLoop::current() noexcept {
    return parley::core::Loop::current();
}

int CommLoop::post(CommNode *node) noexcept {
    if (static_cast<parley::core::Loop *>(this)->post_any(node))
        return 0;
    errno = ESHUTDOWN;
    return -1;
}

size_t CommLoop::connections() const noexcept {
    return static_cast<const parley::core::Loop *>(this)->connection_count.load(std::memory_order_relaxed);
}

int64_t CommLoop::busy_since() const noexcept {
    return static_cast<const parley::core::Loop *>(this)->busy_since_.load(std::memory_order_acquire);
}

CommLoopCounters CommLoop::counters() const noexcept {
    const auto &tally = static_cast<const parley::core::Loop *>(this)->tally;
    auto value = [](const parley::sync::atomic<uint64_t> &counter) {
        return counter.load(std::memory_order_relaxed);
    };
    return {value(tally.turns),         value(tally.accepts),
            value(tally.accept_errors), value(tally.connects),
            value(tally.reuse_hits),    value(tally.stale_hits),
            value(tally.migrations),    value(tally.posts),
            value(tally.timers),        tally.max_lateness.load(std::memory_order_relaxed)};
}
