// The values that stand in a channel, oldest first.

#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <utility>

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// Bounded: one ring, allocated at construction. Unbounded: blocks in a circle; one that has been emptied is
// used again, so that nothing is allocated once there are enough. Memory is freed at the end.
template <class T>
class channel_buffer {
public:
    static constexpr std::size_t unbounded = std::numeric_limits<std::size_t>::max();

    explicit channel_buffer(std::size_t capacity)
        : capacity_(capacity), block_size_(capacity == unbounded ? slots_of_a_block : capacity) {
        if (capacity > 0)
            head_ = tail_ = link_after(nullptr);
    }
    channel_buffer(const channel_buffer &) = delete;
    ~channel_buffer() {
        while (count_ > 0)
            pop();
        if (!head_)
            return;
        block *const begin = head_;
        do {
            block *next = head_->next;
            free_block(head_);
            head_ = next;
        } while (head_ != begin);
    }

    [[nodiscard]] std::size_t size() const noexcept { return count_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
    [[nodiscard]] bool full() const noexcept { return count_ >= capacity_; }

    // Nothing has changed if it throws: T's move, or std::bad_alloc.
    void push(T &&value) {
        if (tail_at_ == block_size_) [[unlikely]]
            advance_tail();
        std::construct_at(tail_->slot(tail_at_), std::move(value));
        ++tail_at_;
        ++count_;
    }
    [[nodiscard]] T &front() noexcept {
        if (head_at_ == block_size_) [[unlikely]] {
            head_ = head_->next;
            head_at_ = 0;
        }
        return *head_->slot(head_at_);
    }
    void pop() noexcept {
        std::destroy_at(std::addressof(front()));
        ++head_at_;
        --count_;
    }

private:
    static constexpr std::size_t slots_of_a_block = sizeof(T) >= 512 ? 8 : 4096 / sizeof(T);

    struct block {
        block *next;
        T *slot(std::size_t i) noexcept {
            return std::launder(reinterpret_cast<T *>(reinterpret_cast<std::byte *>(this) + first)) + i;
        }
    };
    static constexpr std::size_t alignment = alignof(T) > alignof(block) ? alignof(T) : alignof(block);
    static constexpr std::size_t first = (sizeof(block) + alignment - 1) / alignment * alignment;

    block *link_after(block *before) {
        if (block_size_ > (std::numeric_limits<std::ptrdiff_t>::max() - first) / sizeof(T))
            throw std::bad_array_new_length();
        void *memory = ::operator new(first + block_size_ * sizeof(T), std::align_val_t{alignment});
        auto *fresh = ::new (memory) block{nullptr};
        fresh->next = before ? before->next : fresh;
        if (before)
            before->next = fresh;
        return fresh;
    }
    static void free_block(block *one) noexcept { ::operator delete(one, std::align_val_t{alignment}); }

    // The places from head to tail are in use, the blocks behind tail until head are spare. A ring's only
    // block is its own successor.
    void advance_tail() {
        if (count_ == 0 || capacity_ != unbounded) {
            if (count_ == 0)
                head_at_ = 0; // at its end as well
            tail_at_ = 0;
            return;
        }
        tail_ = tail_->next == head_ ? link_after(tail_) : tail_->next;
        tail_at_ = 0;
    }

    const std::size_t capacity_;
    const std::size_t block_size_;
    std::size_t count_ = 0;
    std::size_t head_at_ = 0;
    std::size_t tail_at_ = 0;
    block *head_ = nullptr;
    block *tail_ = nullptr;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
