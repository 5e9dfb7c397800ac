// length_prefixed: a body of bytes with its length in front, the simplest binary protocol there
// is. It is an ordinary message of the core, for callbacks and coroutines alike, on either side.

#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include <parley/core/Communicator.h>
#include <parley/protocol/byte_buffer.hpp>

namespace parley {

// On the wire: 4 bytes, the body's length as a big-endian number, then the body. Large bodies are
// read straight into their memory and written straight from it. Default-constructible, copyable,
// and movable while no connection reads into it or writes from it. Not synchronised; one message
// may be sent on several connections and loops at once, as long as nobody changes it.
//
// Errors: a body longer than limit() fails its reader with EMSGSIZE as soon as its length has
// arrived; to send more than 4 GiB - 1 fails with EMSGSIZE.
class length_prefixed : public CommMessageIn, public CommMessageOut {
public:
    static constexpr std::size_t default_limit = std::size_t{64} << 20;

    length_prefixed() = default;
    explicit length_prefixed(std::string_view body) { this->body(body); }
    explicit length_prefixed(std::span<const std::byte> body) { this->body(body); }
    length_prefixed(const length_prefixed &) = default;
    length_prefixed &operator=(const length_prefixed &) = default;
    length_prefixed(length_prefixed &&other) noexcept
        : CommMessageIn(other), CommMessageOut(other), wire_(std::move(other.wire_)),
          received_(std::exchange(other.received_, 0)), limit_(other.limit_) {}
    length_prefixed &operator=(length_prefixed &&other) noexcept {
        wire_ = std::move(other.wire_);
        received_ = std::exchange(other.received_, 0);
        limit_ = other.limit_;
        return *this;
    }
    ~length_prefixed() override = default;
    friend void swap(length_prefixed &a, length_prefixed &b) noexcept {
        swap(a.wire_, b.wire_);
        std::swap(a.received_, b.received_);
        std::swap(a.limit_, b.limit_);
    }

    std::string_view body() const noexcept {
        return wire_.empty() ? std::string_view() : wire_.view().substr(header_size);
    }
    std::span<const std::byte> bytes() const noexcept { return std::as_bytes(std::span(body())); }
    std::size_t size() const noexcept { return wire_.empty() ? 0 : wire_.size() - header_size; }

    // Replaces the body by a copy. Throws std::bad_alloc. `bytes` may not be part of it.
    void body(std::string_view bytes) {
        char *to = resize_for_overwrite(bytes.size());
        if (!bytes.empty())
            std::memcpy(to, bytes.data(), bytes.size());
    }
    void body(std::span<const std::byte> bytes) {
        body(std::string_view(reinterpret_cast<const char *>(bytes.data()), bytes.size()));
    }
    // Makes the body `size` bytes of indeterminate contents and returns where they are, for the
    // caller to fill. Throws std::bad_alloc.
    char *resize_for_overwrite(std::size_t size) {
        wire_.resize_for_overwrite(header_size + size);
        received_ = 0;
        write_header();
        return data();
    }
    // The body's bytes, to be changed in place.
    char *data() noexcept { return wire_.empty() ? nullptr : wire_.data() + header_size; }
    std::span<std::byte> bytes() noexcept { return std::as_writable_bytes(std::span(data(), size())); }

    // The longest body that is read, in bytes. A class derived from this one that sets it in its
    // constructor makes a protocol with another limit.
    std::size_t limit() const noexcept { return limit_; }
    void limit(std::size_t bytes) noexcept { limit_ = bytes; }

    // Ready to be read into again; keeps the limit and the memory.
    void clear() noexcept {
        wire_.clear();
        received_ = 0;
    }

protected:
    int append(const void *buf, std::size_t *size) override;
    void *reserve(std::size_t *size) override;
    int encode(struct iovec vectors[], int max) override;

private:
    static constexpr std::size_t header_size = 4;

    std::size_t body_length() const noexcept; // as the header says
    bool accept_length(std::size_t kept);
    void write_header() noexcept;

    byte_buffer wire_;         // header and body, as they are sent; empty for an empty body that nobody set
    std::size_t received_ = 0; // of both together, while it is read
    std::size_t limit_ = default_limit;
};

} // namespace parley
