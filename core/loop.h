// One loop: an epoll instance, a mailbox other threads post to, a list of work that is ready, the
// timers, and the buffers its connections share. All of it belongs to the loop's thread but the
// mailbox and the counters.

#pragma once

#include <openssl/bio.h>
#include <stdint.h>
#include <sys/uio.h>

#include <vector>

#include "CommLoop.h"
#include "Sync.h"
#include "Sys.h"
#include "handler_pool.h"
#include "list.h"
#include "slot_inbox.h"
#include "timer_queue.h"

struct CommConnEntry;
struct CommCore;

namespace parley::core {

// Something with a descriptor in epoll. Events carry the slot and its generation, never a pointer:
// one that arrives after the source has left its slot is recognised and dropped.
struct Source {
    void (*on_events)(Source *self, uint32_t events) = nullptr;
    uint32_t slot = UINT32_MAX;
};

// A part of a message that could not be written yet; recycled by the loop.
struct Output;

// A single-threaded FIFO of nodes.
struct NodeList {
    CommNode *head = nullptr;
    CommNode **tail = &head;

    bool empty() const { return head == nullptr; }
    void append(CommNode *node) {
        node->next = nullptr;
        *tail = node;
        tail = &node->next;
    }
    CommNode *take() {
        CommNode *all = head;
        head = nullptr;
        tail = &head;
        return all;
    }
};

class Loop final : public CommLoop {
public:
    static constexpr size_t read_size = 256 * 1024;  // one read, and the budget of a turn's visit
    static constexpr size_t cipher_size = 64 * 1024; // one read under TLS
    static constexpr int max_vectors = 2048;         // what encode() may fill
    static constexpr size_t merge_size = 16 * 1024;  // one TLS record

    // 0 or an errno; then nothing is left open.
    int open(CommCore *core, Communicator *communicator, size_t index);
    // Body of the loop's thread. Returns when stop() was posted and everything has ended.
    void run();

    static Loop *current() noexcept;

    // Mailbox, any thread. False when the loop has ended: the node is not taken.
    bool post_remote(CommNode *node) noexcept;
    // The end of the ready list. On the loop.
    void post_local(CommNode *node) noexcept { ready_.append(node); }
    bool post_any(CommNode *node) noexcept;
    // After the loop's thread was joined, before the loop may be freed.
    void wait_for_posters() noexcept;

    // Runs what is ready now, one generation of it, and says how many that were. Called right after a
    // callback has returned; never touches a connection's read side, so the read buffer stays as it is.
    int run_ready();

    // Connection work for the top of the loop, where nothing of a connection is on the stack.
    void schedule(CommNode *node) noexcept { pending_.append(node); }

    // Registers a descriptor, edge-triggered unless told otherwise. 0 or -1 and errno.
    int add_source(Source *source, int fd, uint32_t events);
    int modify_source(Source *source, int fd, uint32_t events);
    void remove_source(Source *source, int fd);

    void set_timer(CommTimer *timer, int64_t deadline) { timers_.set(timer, deadline); }
    void remove_timer(CommTimer *timer) { timers_.remove(timer); }
    void refresh_clock() {
        now_ = world->monotonic_ns();
        busy_since_.store(now_, std::memory_order_release);
    }

    // Freed at the end of the turn, when no event of its batch can name it any more.
    void bury(CommConnEntry *entry);

    // Completions on their way to the handler threads, handed over once per turn.
    void hand_over(CommNode *node) { handed_.append(node); }

    Output *get_output();
    void put_output(Output *output);

    // The array for encode(); a nested encode gets none and allocates.
    struct iovec *borrow_vectors() {
        if (vectors_lent_)
            return nullptr;
        vectors_lent_ = true;
        return vectors_;
    }
    void return_vectors() { vectors_lent_ = false; }

    void retain() noexcept { ref_.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept;

    bool stopping() const noexcept { return stopping_; }

    sys::world *world = nullptr;
    CommCore *core = nullptr;
    char *read_buffer = nullptr;
    char *cipher_buffer = nullptr; // made by the first TLS connection
    char *merge_buffer = nullptr;
    struct list_head entries;   // every client connection of this loop
    struct list_head services;  // ServiceLoop::link
    struct list_head sleepers;  // timers that never fire, so that the stop finds them
    struct list_head listeners; // Listener::link
    struct list_head watches;   // WatchSlot::link
    struct list_head datagrams; // sessions of UDP services that are not done
    parley::sync::atomic<size_t> connection_count{0};
    SlotInbox slots; // granted to waiters of this loop

    // Written by the loop's thread, read by any: relaxed stores.
    struct Tally {
        parley::sync::atomic<uint64_t> turns{0}, accepts{0}, accept_errors{0}, connects{0}, reuse_hits{0},
            stale_hits{0}, migrations{0}, posts{0}, timers{0};
        parley::sync::atomic<int64_t> max_lateness{0};
    } tally;
    static void count(parley::sync::atomic<uint64_t> &counter) {
        counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }

    // Posted by Communicator::deinit(); ends every operation, then the loop.
    CommNode stop_node;

private:
    friend class ::CommLoop;

    ~Loop();
    struct Slot {
        Source *source;
        uint32_t generation;
    };

    CommNode *take_mail(bool awake);
    void run_mail(CommNode *list);
    void run_pending();
    void run_timers();
    void flush_handed();
    void empty_graveyard();
    void close_descriptors() noexcept;
    int64_t wait_time();
    void poll();
    bool has_work() const { return !ready_.empty() || !pending_.empty(); }

    int epoll_fd_ = -1;
    int wake_fd_ = -1;
    Source wake_source_;
    parley::sync::atomic<CommNode *> mailbox_{nullptr};
    parley::sync::atomic<int> ref_{1};
    parley::sync::atomic<int> posters_{0}; // threads inside post_remote()
    parley::sync::atomic<int64_t> busy_since_{0};
    NodeList ready_;
    NodeList pending_;
    NodeList handed_;
    TimerQueue timers_;
    std::vector<Slot> slots_;
    std::vector<uint32_t> free_slots_;
    struct list_head graveyard_; // linked: to end a connection takes no memory
    Output *spare_outputs_ = nullptr;
    size_t spare_output_count_ = 0;
    struct iovec vectors_[max_vectors];
    bool vectors_lent_ = false;
    bool stopping_ = false;

public:
    void begin_stop() { stopping_ = true; }
};

} // namespace parley::core
