// byte_buffer: the bytes of a message's body. It grows like a std::string but never writes zeros
// into memory that is about to be read into, which is what a 64 MiB body would otherwise pay for
// twice. For writers of messages; see length_prefixed.hpp for one that uses it.

#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string_view>
#include <utility>

namespace parley {

// A movable array of bytes. Copies copy size() bytes. Not synchronised.
class byte_buffer {
public:
    byte_buffer() = default;
    explicit byte_buffer(std::string_view bytes) { assign(bytes); }
    explicit byte_buffer(std::span<const std::byte> bytes) { assign(bytes); }
    byte_buffer(const byte_buffer &other) : byte_buffer(other.view()) {}
    byte_buffer(byte_buffer &&other) noexcept
        : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)),
          capacity_(std::exchange(other.capacity_, 0)) {}
    byte_buffer &operator=(const byte_buffer &other) {
        if (this != &other)
            assign(other.view());
        return *this;
    }
    byte_buffer &operator=(byte_buffer &&other) noexcept {
        data_ = std::move(other.data_);
        size_ = std::exchange(other.size_, 0);
        capacity_ = std::exchange(other.capacity_, 0);
        return *this;
    }
    ~byte_buffer() = default;
    friend void swap(byte_buffer &a, byte_buffer &b) noexcept {
        a.data_.swap(b.data_);
        std::swap(a.size_, b.size_);
        std::swap(a.capacity_, b.capacity_);
    }

    char *data() noexcept { return data_.get(); }
    const char *data() const noexcept { return data_.get(); }
    std::size_t size() const noexcept { return size_; }
    std::size_t capacity() const noexcept { return capacity_; }
    bool empty() const noexcept { return size_ == 0; }
    std::string_view view() const noexcept { return {data_.get(), size_}; }
    std::span<const std::byte> bytes() const noexcept { return std::as_bytes(std::span(data(), size_)); }
    std::span<std::byte> bytes() noexcept { return std::as_writable_bytes(std::span(data(), size_)); }

    // Sets the size and gives up the contents: the bytes are indeterminate. Keeps the memory when
    // it is large enough. Throws std::bad_alloc, and is then unchanged.
    void resize_for_overwrite(std::size_t size) {
        if (size > capacity_)
            reallocate(size, 0);
        size_ = size;
    }

    // Sets the size and keeps the first `kept` bytes of the memory, which may be more than size()
    // were, but not more than capacity(). Throws std::bad_alloc, and is then unchanged.
    void resize(std::size_t size, std::size_t kept) {
        if (size > capacity_)
            reallocate(size, kept);
        size_ = size;
    }

    // Adds bytes at the end; grows by half, so that a body read in pieces is copied rarely. Throws
    // std::bad_alloc, and is then unchanged. `bytes` may not be part of this buffer.
    void append(std::string_view bytes) {
        if (bytes.size() > capacity_ - size_)
            reallocate(size_ + bytes.size() > capacity_ + capacity_ / 2 ? size_ + bytes.size()
                                                                        : capacity_ + capacity_ / 2,
                       size_);
        copy(data_.get() + size_, bytes);
        size_ += bytes.size();
    }
    void append(std::span<const std::byte> bytes) { append(as_text(bytes)); }

    // Replaces the contents. Throws std::bad_alloc, and is then unchanged. `bytes` may not be part
    // of this buffer.
    void assign(std::string_view bytes) {
        resize_for_overwrite(bytes.size());
        copy(data_.get(), bytes);
    }
    void assign(std::span<const std::byte> bytes) { assign(as_text(bytes)); }

    // Empties it and keeps the memory.
    void clear() noexcept { size_ = 0; }

private:
    static std::string_view as_text(std::span<const std::byte> bytes) noexcept {
        return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
    }

    void reallocate(std::size_t capacity, std::size_t kept) {
        std::unique_ptr<char[]> larger(new char[capacity]); // not make_unique: that writes zeros
        copy(larger.get(), {data_.get(), kept});
        data_ = std::move(larger);
        capacity_ = capacity;
    }

    static void copy(char *to, std::string_view bytes) noexcept {
        if (!bytes.empty())
            std::memcpy(to, bytes.data(), bytes.size());
    }

    std::unique_ptr<char[]> data_;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
};

} // namespace parley
