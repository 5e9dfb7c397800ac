// Every runtime of the process, for those who want to look at all of them.

#pragma once

#include <parley/config.hpp>
#include <parley/core/Sync.h>
#include <parley/runtime.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

class all_runtimes {
public:
    // By the runtime: when it has its loops, and when it has no tasks any more but still its loops.
    static void enter(runtime &one) noexcept;
    static void leave(runtime &one) noexcept;

    // Calls visit(runtime &) for each, eldest last, then after_all(); none of them ends meanwhile. What is
    // posted to a loop in it runs before that loop ends. Any thread.
    template <class F, class G>
    static void for_each(F &&visit, G &&after_all) {
        sync::lock_guard<sync::mutex> hold(mutex_);
        for (runtime *one = first_; one; one = one->next_)
            visit(*one);
        after_all();
    }

private:
    inline static constinit sync::mutex mutex_;
    inline static constinit runtime *first_ = nullptr;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
