#include <parley/from_callback.hpp>

#include <cstdio>
#include <cstdlib>

namespace parley::inline PARLEY_ABI {
namespace detail {

void callback_base::begin(context &task) noexcept {
    task_ = &task;
    phase_.store(starting, sync::memory_order_relaxed);
    claimed_.store(false, sync::memory_order_relaxed);
    dropped_ = false;
    task.begin(*this);
}

bool callback_base::arm() noexcept {
    return phase_.exchange(armed, sync::memory_order_acq_rel) == starting;
}

void callback_base::complete(bool stopped) noexcept {
    context &task = *task_;
    if (phase_.exchange(done, sync::memory_order_acq_rel) == armed)
        task.complete_elsewhere(stopped);
}

void callback_base::claim() noexcept {
    if (try_claim())
        return;
    std::fputs("parley: the callback of a from_callback was called twice\n", stderr);
    std::abort();
}

void callback_base::throw_dropped() const {
    throw exception(errc::dropped);
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
