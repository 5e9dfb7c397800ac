// Signals of the process as something to await.
//
//     co_await parley::wait_signal(SIGINT, SIGTERM);

#pragma once

#include <concepts>
#include <coroutine>
#include <cstdint>

#include <parley/config.hpp>
#include <parley/core/Communicator.h>
#include <parley/detail/context.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

struct signal_slot; // wait_signal.cpp

constexpr std::uint64_t signal_bit(int number) noexcept {
    return number > 0 && number <= 64 ? std::uint64_t{1} << (number - 1) : 0;
}

// 0 if one of them is none.
template <class... Signal>
constexpr std::uint64_t signal_bits(Signal... numbers) noexcept {
    return ((signal_bit(numbers) != 0) && ...) ? (signal_bit(numbers) | ...) : 0;
}

class [[nodiscard]] signal_await final : private CommWatch, private operation {
public:
    explicit signal_await(std::uint64_t wanted) noexcept : wanted_(wanted) {}

    static constexpr bool keeps_result = true;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    int await_resume() const;

private:
    void handle(int state, int error) override;

    void cancel() noexcept override;
    const char *name() const noexcept override { return "signal"; }

    context *task_ = nullptr;
    signal_slot *slot_ = nullptr;
    std::uint64_t wanted_;
    int signal_ = 0;
    int error_ = 0;
};

} // namespace detail

// `co_await wait_signal(SIGINT, SIGTERM)`: the number of the first of these signals that arrives, on whatever
// thread. While somebody waits for a signal it does nothing else to the process: parley's handler stands in
// the place of the old disposition, which comes back when the last who waits for it goes; who waits more than
// once keeps a signal_set, so that no signal meets the old disposition in between. Each of several who wait
// for a signal gets it. Of two signals that arrive together, the second is kept for the next
// wait_signal() that names it. Throws parley::exception when a signal cannot be caught (EINVAL) or more than
// 64 tasks wait (EAGAIN).
template <std::same_as<int>... Signal>
    requires(sizeof...(Signal) > 0)
[[nodiscard]] detail::signal_await wait_signal(Signal... numbers) noexcept {
    return detail::signal_await(detail::signal_bits(numbers...));
}

} // namespace parley::inline PARLEY_ABI
