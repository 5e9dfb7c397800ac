#include <parley/detail/frame_pool.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>

#include <parley/core/Sync.h>

// Sizes are rounded up to multiples of 16 bytes less 8: what glibc's malloc hands out without waste. Each
// thread keeps the blocks that were freed on it, one list per size, at most `per_thread[size]` of them; a
// list that grows beyond that gives half of itself, as one batch, to the shared list of its size, and an
// empty one takes a batch from there. So a thread that only makes frames and one that only frees them (an
// acceptor and a worker) go through a mutex once in a batch. The shared lists are bounded too; what is more
// goes back to the allocator.

namespace parley::inline PARLEY_ABI {
namespace detail {
namespace {

constexpr std::size_t step = 16;
constexpr std::size_t overhead = 8; // of each block, in front of it
constexpr std::size_t classes = 256;
constexpr std::size_t largest = classes * step - overhead;
constexpr std::size_t shared_batches = 64; // per size

constexpr std::size_t class_of(std::size_t size) noexcept {
    return (size + overhead - 1) / step;
}
constexpr std::size_t block_size(std::size_t index) noexcept {
    return (index + 1) * step - overhead;
}
// 64 blocks, or 64 KiB of them. A table, since a division would cost more than all else that freeing does.
constexpr auto per_thread = [] {
    std::array<std::uint8_t, classes> limits{};
    for (std::size_t i = 0; i < classes; ++i) {
        const std::size_t by_memory = 65536 / block_size(i);
        limits[i] = static_cast<std::uint8_t>(by_memory < 64 ? by_memory : 64);
    }
    return limits;
}();

struct free_block {
    free_block *next;
    free_block *next_batch; // in the first block of a batch in a shared list
};

struct free_list {
    free_block *first = nullptr;
    std::size_t count = 0;
};

// Lives for ever, so that threads may end after main().
struct shared_pool {
    struct list {
        sync::mutex mutex;
        free_block *batches = nullptr;
        std::size_t count = 0;
    };
    std::array<list, classes> lists;

    // Takes the batch, or says no.
    bool give(std::size_t index, free_block *batch) noexcept {
        list &l = lists[index];
        sync::lock_guard<sync::mutex> lock(l.mutex);
        if (l.count == shared_batches)
            return false;
        batch->next_batch = l.batches;
        l.batches = batch;
        ++l.count;
        return true;
    }
    free_block *take(std::size_t index) noexcept {
        list &l = lists[index];
        sync::lock_guard<sync::mutex> lock(l.mutex);
        free_block *batch = l.batches;
        if (batch) {
            l.batches = batch->next_batch;
            --l.count;
        }
        return batch;
    }
};

shared_pool &shared() noexcept {
    static shared_pool &pool = *new shared_pool;
    return pool;
}

// How many frames each thread has made, less those it has freed. Only its thread writes `live`.
struct thread_count {
    sync::atomic<std::ptrdiff_t> live{0};
    thread_count *next = nullptr;
    thread_count *previous = nullptr;
};

struct census {
    sync::mutex mutex;
    thread_count *first = nullptr;
    std::ptrdiff_t departed = 0; // of threads that have ended
};

census &all_threads() noexcept {
    static census &all = *new census;
    return all;
}

// The thread's own part. Its destructor runs when the thread ends; frames that are freed even later (by other
// thread-local objects) find `gone` and go the plain way.
class thread_pool {
public:
    thread_pool() {
        census &all = all_threads();
        sync::lock_guard<sync::mutex> lock(all.mutex);
        count_.next = all.first;
        if (all.first)
            all.first->previous = &count_;
        all.first = &count_;
    }
    ~thread_pool();

    void count(std::ptrdiff_t change) noexcept {
        count_.live.store(count_.live.load(sync::memory_order_relaxed) + change, sync::memory_order_relaxed);
    }

    void *take(std::size_t index) noexcept {
        free_list &l = lists_[index];
        if (!l.first && !refill(index)) [[unlikely]]
            return nullptr;
        free_block *block = l.first;
        l.first = block->next;
        --l.count;
        return block;
    }

    void give(void *memory, std::size_t index) noexcept {
        free_list &l = lists_[index];
        if (l.count >= per_thread[index]) [[unlikely]]
            spill(index);
        auto *block = ::new (memory) free_block{l.first, nullptr};
        l.first = block;
        ++l.count;
    }

private:
    // Out of line, so that the way past them saves no registers.
    [[gnu::noinline]] bool refill(std::size_t index) noexcept {
        free_block *batch = shared().take(index);
        if (!batch)
            return false;
        free_list &l = lists_[index];
        l.first = batch;
        for (; batch; batch = batch->next)
            ++l.count;
        return true;
    }
    // Half of a list leaves.
    [[gnu::noinline]] void spill(std::size_t index) noexcept {
        free_list &l = lists_[index];
        free_block *batch = l.first;
        free_block *last = batch;
        const std::size_t leaving = (l.count + 1) / 2;
        for (std::size_t i = 1; i < leaving; ++i)
            last = last->next;
        l.first = last->next;
        l.count -= leaving;
        last->next = nullptr;
        if (!shared().give(index, batch))
            release(batch);
    }
    static void release(free_block *block) noexcept {
        while (block)
            ::operator delete(std::exchange(block, block->next));
    }

    std::array<free_list, classes> lists_;
    thread_count count_;
};

// The thread's pool, from its first frame to its end: one load and one test on the way there.
constinit thread_local thread_pool *here = nullptr;
constinit thread_local bool gone = false;

// nullptr when the thread is ending.
[[gnu::noinline, gnu::cold]] thread_pool *enter() {
    if (gone)
        return nullptr;
    thread_local thread_pool pool;
    return here = &pool;
}

thread_pool::~thread_pool() {
    here = nullptr;
    gone = true;
    for (std::size_t i = 0; i < classes; ++i) {
        if (lists_[i].first && !shared().give(i, lists_[i].first))
            release(lists_[i].first);
    }
    census &all = all_threads();
    sync::lock_guard<sync::mutex> lock(all.mutex);
    all.departed += count_.live.load(sync::memory_order_relaxed);
    if (count_.previous)
        count_.previous->next = count_.next;
    else
        all.first = count_.next;
    if (count_.next)
        count_.next->previous = count_.previous;
}

void count_late(std::ptrdiff_t change) noexcept {
    census &all = all_threads();
    sync::lock_guard<sync::mutex> lock(all.mutex);
    all.departed += change;
}

} // namespace

// When the thread is ending. Apart, for the same reason.
[[gnu::noinline, gnu::cold]] static void *allocate_late(std::size_t size) {
    void *frame = ::operator new(size > largest ? size : block_size(class_of(size)));
    count_late(1);
    return frame;
}

void *allocate_frame(std::size_t size) {
    thread_pool *pool = here;
    if (!pool) [[unlikely]] {
        pool = enter();
        if (!pool)
            return allocate_late(size);
    }
#if PARLEY_FRAME_POOL
    if (size <= largest) [[likely]] {
        const std::size_t index = class_of(size);
        void *frame = pool->take(index);
        if (!frame) [[unlikely]]
            frame = ::operator new(block_size(index));
        pool->count(1);
        return frame;
    }
#endif
    void *frame = ::operator new(size);
    pool->count(1);
    return frame;
}

void free_frame(void *frame, std::size_t size) noexcept {
    thread_pool *pool = here;
    if (!pool) [[unlikely]] {
        pool = enter();
        if (!pool) {
            ::operator delete(frame);
            count_late(-1);
            return;
        }
    }
    pool->count(-1);
#if PARLEY_FRAME_POOL
    if (size <= largest) [[likely]]
        return pool->give(frame, class_of(size));
#else
    static_cast<void>(size);
#endif
    ::operator delete(frame);
}

std::ptrdiff_t live_frames() noexcept {
    census &all = all_threads();
    sync::lock_guard<sync::mutex> lock(all.mutex);
    std::ptrdiff_t sum = all.departed;
    for (const thread_count *t = all.first; t; t = t->next)
        sum += t->live.load(sync::memory_order_relaxed);
    return sum;
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
