// Descriptors that belong to somebody else, such as a C library's socket: waiting until they can be read or
// written. What is then done with them is the caller's affair.

#pragma once

#include <coroutine>

#include <parley/config.hpp>
#include <parley/core/Communicator.h>
#include <parley/detail/context.hpp>
#include <parley/result.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

class [[nodiscard]] watch_await final : private CommWatch, private operation {
public:
    watch_await(int fd, bool writing) noexcept : fd_(fd), writing_(writing) {}

    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    result<void> await_resume();

private:
    void handle(int state, int error) override;

    void cancel() noexcept override;
    const char *name() const noexcept override { return writing_ ? "writable" : "readable"; }
    std::string resource() const override;
    int descriptor() const noexcept override { return fd_; }

    context *task_ = nullptr;
    int fd_;
    int error_ = 0;
    bool writing_;
};

} // namespace detail

// `co_await readable(fd)`: until a read would not block, because there is data, the end or an error. The
// descriptor should be non-blocking and stays the caller's, who closes it after the wait. A result with the
// error EBUSY if another task waits for the same side of it on this loop, EPERM for a regular file, EBADF.
[[nodiscard]] inline detail::watch_await readable(int fd) noexcept {
    return {fd, false};
}
[[nodiscard]] inline detail::watch_await writable(int fd) noexcept {
    return {fd, true};
}

} // namespace parley::inline PARLEY_ABI
