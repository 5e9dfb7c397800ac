// A string that is never changed and that its copies share: one pointer, nullptr when empty.

#pragma once

#include <atomic>
#include <cstddef>
#include <string_view>
#include <utility>

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

class shared_text {
public:
    shared_text() noexcept = default;
    explicit shared_text(std::string_view text); // allocates unless empty
    shared_text(const shared_text &other) noexcept : block_(other.block_) {
        if (block_)
            block_->references.fetch_add(1, std::memory_order_relaxed);
    }
    shared_text(shared_text &&other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
    shared_text &operator=(shared_text other) noexcept {
        std::swap(block_, other.block_);
        return *this;
    }
    ~shared_text() {
        if (block_)
            release();
    }

    [[nodiscard]] std::string_view view() const noexcept {
        return block_ ? std::string_view(c_str(), block_->size) : std::string_view();
    }
    // Ends with a zero.
    [[nodiscard]] const char *c_str() const noexcept {
        return block_ ? reinterpret_cast<const char *>(block_ + 1) : "";
    }

private:
    struct block { // the characters follow
        std::atomic<std::size_t> references;
        std::size_t size;
    };

    void release() noexcept;

    block *block_ = nullptr;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
