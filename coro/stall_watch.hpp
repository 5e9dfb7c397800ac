// The thread of a runtime that looks for loops which do not come round.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include <parley/config.hpp>
#include <parley/core/Sync.h>
#include <parley/stall_report.hpp>

namespace parley::inline PARLEY_ABI {

class runtime;

namespace detail {

class stall_watch {
public:
    using sink = std::function<void(const stall_report &)>;

    // Watches the loops of `of` until its own end, which must come before theirs. Throws std::system_error
    // when there is no thread.
    stall_watch(runtime &of, std::chrono::nanoseconds threshold, sink tell);
    // Waits for a call of the sink that is under way.
    ~stall_watch();
    stall_watch(const stall_watch &) = delete;

private:
    // What is known of one loop.
    struct watched {
        std::int64_t told = 0; // the begin of the turn that was reported, until its end was
        stall_report report;
    };

    void run() noexcept;
    void look_at(std::size_t index) noexcept;
    void tell(const stall_report &report) noexcept;

    runtime &runtime_;
    const std::int64_t threshold_; // nanoseconds
    const sink sink_;
    std::vector<watched> loops_;
    sync::mutex mutex_; // for ended_
    sync::condition_variable changed_;
    bool ended_ = false;
    sync::thread thread_;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
