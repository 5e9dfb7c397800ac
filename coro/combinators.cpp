#include <utility>

#include <parley/cancelled.hpp>
#include <parley/when_all.hpp>
#include <parley/when_any.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

void when_all_base::ended(record &child) noexcept {
    if (child.ending() == ending::value)
        return;
    if (std::exception_ptr failure = failure_of(child)) {
        if (failure_)
            return add_other(failure_, failure);
        failure_ = std::move(failure);
    }
    if (!std::exchange(stopped_, true))
        cancel_chains();
}

void when_all_base::rethrow() const {
    if (failure_)
        std::rethrow_exception(failure_);
    if (stopped_)
        throw cancelled();
}

void when_any_base::ended(record &child) noexcept {
    if (child.ending() == ending::stopped)
        return;
    std::exception_ptr failure = failure_of(child);
    if (!winner_) {
        winner_ = &child;
        failure_ = std::move(failure);
        cancel_chains();
    } else if (failure) {
        add_other(failure_, failure);
    }
}

record &when_any_base::winner() const {
    if (!winner_)
        throw cancelled();
    if (failure_)
        std::rethrow_exception(failure_);
    return *winner_;
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
