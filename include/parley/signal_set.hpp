// Signals that a program takes for as long as it wants, none of them lost between two waits:
//
//     parley::signal_set ends(SIGINT, SIGTERM);
//     co_await ends.wait();
//     co_await parley::when_any(door.drain(10s), ends.wait()); // a second one ends the patience

#pragma once

#include <concepts>
#include <coroutine>
#include <cstdint>
#include <memory>

#include <parley/config.hpp>
#include <parley/core/Communicator.h>
#include <parley/core/Sync.h>
#include <parley/detail/context.hpp>
#include <parley/wait_signal.hpp>

namespace parley::inline PARLEY_ABI {

class signal_set;

namespace detail {

class signal_listener;

class [[nodiscard]] signal_set_wait final : private CommWatch, private operation {
public:
    explicit signal_set_wait(signal_set &from) noexcept : from_(from) {}
    signal_set_wait(signal_set_wait &&) = delete;

    static constexpr bool keeps_result = true;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    int await_resume() const;

private:
    bool watch() noexcept;
    void handle(int state, int error) override;

    void cancel() noexcept override;
    const char *name() const noexcept override { return "signal"; }

    signal_set &from_;
    context *task_ = nullptr;
    int signal_ = 0;
    int error_ = 0;
    bool cancelled_ = false;
};

} // namespace detail

// From its making to its end these signals do nothing else to the process: parley's handler stands in the
// place of the old dispositions, which come back with the end of the last signal_set or wait_signal() for
// that signal. Each set gets every signal, whatever thread it comes to. A signal that comes again before it
// was waited for counts once, as pending signals of POSIX do. What nobody waited for is gone with the set.
//
// Made and destroyed on any thread; nobody may be in wait() at its end.
class signal_set {
public:
    // Throws parley::exception: EINVAL for a signal that cannot be caught, EAGAIN when there are 64 sets and
    // waits, or why there is no descriptor.
    template <std::same_as<int>... Signal>
        requires(sizeof...(Signal) > 0)
    explicit signal_set(Signal... numbers) : signal_set(detail::signal_bits(numbers...)) {}
    ~signal_set();
    signal_set(const signal_set &) = delete;
    signal_set &operator=(const signal_set &) = delete;

    // int: the number of a signal that has come since the last wait() named it, the smallest first; at once if
    // there is one. On any loop, by one task at a time: a second one gets parley::exception, EBUSY. Cancelled,
    // no signal is lost.
    [[nodiscard]] detail::signal_set_wait wait() noexcept { return detail::signal_set_wait(*this); }

private:
    friend class detail::signal_set_wait;

    explicit signal_set(std::uint64_t wanted);
    // One that has come; 0 for none.
    int take() noexcept;

    std::unique_ptr<detail::signal_listener> listener_;
    std::uint64_t come_ = 0;         // taken from the listener, not yet given away
    sync::atomic<bool> busy_{false}; // somebody is in wait(), and come_ is theirs
};

} // namespace parley::inline PARLEY_ABI
