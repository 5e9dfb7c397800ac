// A signal for threads of the library's own; wait_signal.cpp takes signals for tasks in the same way.

#pragma once

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

struct signal_slot;

// From its making on the signal is diverted. The handler only makes event() readable.
class signal_listener {
public:
    // Throws std::system_error: EINVAL, EAGAIN (too many), or why there is no descriptor.
    explicit signal_listener(int number);
    ~signal_listener();
    signal_listener(const signal_listener &) = delete;

    [[nodiscard]] int event() const noexcept;
    // Whether the signal has come since the last call.
    [[nodiscard]] bool take() noexcept;

private:
    signal_slot *slot_;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
