// Signals that are taken for a while; wait_signal.cpp takes them for one wait in the same way.

#pragma once

#include <cstdint>

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

struct signal_slot;

// From its making on the signals are diverted. The handler only makes event() readable.
class signal_listener {
public:
    // A set of signal_bits(). Throws parley::exception: EINVAL, EAGAIN (too many), or why there is no
    // descriptor.
    explicit signal_listener(std::uint64_t wanted);
    ~signal_listener();
    signal_listener(const signal_listener &) = delete;

    [[nodiscard]] int event() const noexcept;
    // Those that have come since the last call. May leave event() readable without any.
    [[nodiscard]] std::uint64_t take() noexcept;

private:
    signal_slot *slot_;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
