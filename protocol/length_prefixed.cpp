#include <parley/protocol/length_prefixed.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <new>

namespace parley {

namespace {

// Below this a copy out of the loop's buffer costs less than a system call of its own.
constexpr std::size_t direct_read_threshold = std::size_t{16} << 10;

constexpr std::size_t largest_body = UINT32_MAX;

} // namespace

int length_prefixed::append(const void *buf, std::size_t *size) {
    const char *next = static_cast<const char *>(buf);
    std::size_t left = *size;

    if (received_ >= header_size && received_ == wire_.size())
        clear(); // the first bytes of the next message
    if (received_ < header_size) {
        try {
            wire_.resize_for_overwrite(header_size);
        } catch (const std::bad_alloc &) {
            errno = ENOMEM;
            return -1;
        }
        std::size_t taken = std::min(left, header_size - received_);
        if (next != wire_.data() + received_)
            std::memcpy(wire_.data() + received_, next, taken);
        received_ += taken;
        left -= taken;
        if (received_ < header_size)
            return 0;
        // What reserve() gave away stands where it belongs, unless the body needs more memory.
        bool in_place = next == wire_.data() + received_ - taken;
        next += taken;
        std::size_t come = std::min(left, body_length());
        if (!accept_length(in_place ? header_size + come : header_size))
            return -1;
        if (in_place)
            next = wire_.data() + header_size;
    }

    std::size_t taken = std::min(left, wire_.size() - received_);
    if (taken > 0 && next != wire_.data() + received_)
        std::memcpy(wire_.data() + received_, next, taken);
    received_ += taken;
    *size -= left - taken;
    return received_ == wire_.size() ? 1 : 0;
}

void *length_prefixed::reserve(std::size_t *size) {
    // Before the header, the next message is taken to be about as long as the last.
    bool fresh = received_ == 0 || received_ == wire_.size();
    std::size_t offset = fresh ? 0 : received_;
    std::size_t room = fresh ? wire_.capacity() : received_ < header_size ? 0 : wire_.size() - received_;
    if (room < direct_read_threshold) {
        *size = 0;
        return nullptr;
    }
    if (fresh)
        clear();
    *size = room;
    return wire_.data() + offset;
}

int length_prefixed::encode(struct iovec vectors[], int max) {
    static const char empty[header_size] = {};
    if (size() > largest_body) {
        errno = EMSGSIZE;
        return -1;
    }
    if (max < 1) {
        errno = EOVERFLOW;
        return -1;
    }
    if (wire_.empty())
        vectors[0] = {const_cast<char *>(empty), header_size};
    else
        vectors[0] = {wire_.data(), wire_.size()};
    return 1;
}

std::size_t length_prefixed::body_length() const noexcept {
    auto byte = [this](std::size_t i) { return std::size_t{static_cast<unsigned char>(wire_.data()[i])}; };
    return byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3);
}

// The header is whole: makes room for the body it announces and keeps the first `kept` bytes.
bool length_prefixed::accept_length(std::size_t kept) {
    std::size_t length = body_length();
    if (length > limit_) {
        errno = EMSGSIZE;
        return false;
    }
    try {
        wire_.resize(header_size + length, kept);
    } catch (const std::bad_alloc &) {
        errno = ENOMEM;
        return false;
    }
    return true;
}

void length_prefixed::write_header() noexcept {
    std::size_t length = size();
    wire_.data()[0] = static_cast<char>(length >> 24);
    wire_.data()[1] = static_cast<char>(length >> 16);
    wire_.data()[2] = static_cast<char>(length >> 8);
    wire_.data()[3] = static_cast<char>(length);
}

} // namespace parley
