#include <parley/detail/join.hpp>

#include <parley/detail/promise.hpp>
#include <parley/detail/root.hpp>
#include <parley/exception_notes.hpp>
#include <parley/sleep.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

void join_base::add(record &child, const inherited *from) noexcept {
    child.begin_chain(task_->loop(), *this, from);
    chains_.push_back(child);
    ++running_;
    child.owned_chain().pass();
}

bool join_base::wait() noexcept {
    if (running_ == 0)
        return false;
    task_->begin(*this);
    return true;
}

void join_base::leave() noexcept {
    if (--running_ == 0)
        task_->complete();
}

void join_base::chain_done(record &first) noexcept {
    chains_.remove(first);
    ended(first);
    leave();
}

void join_base::cancel_chains() noexcept {
    for (record *chain = chains_.first(); chain; chain = chain_list::next(*chain))
        chain->owned_chain().cancel();
}

const context *join_base::eldest() const noexcept {
    return chains_.first() ? &chains_.first()->owned_chain() : nullptr;
}

void interrupted::note(const context &chain) noexcept {
    // Each level of a deep nest may look for what is below it: not further than so far, or a cancel of n
    // levels would take n * n steps.
    constexpr int furthest = 256;
    const operation *waits = chain.awaiting();
    for (int level = 0; waits && waits->as_branch(); ++level) {
        if (level == furthest)
            return;
        const context *below = waits->as_branch()->eldest();
        waits = below ? below->awaiting() : nullptr;
    }
    if (!waits)
        return;
    stage_ = waits->stage();
    try {
        peer_ = waits->resource();
    } catch (...) {
        peer_.clear(); // no memory for the name
    }
}

error interrupted::make_error(errc code, std::int64_t started, std::string_view detail) const {
    return error(code, stage_, peer_, std::chrono::nanoseconds(monotonic_now() - started), detail);
}

void add_other(const std::exception_ptr &primary, const std::exception_ptr &other) noexcept {
    if (primary != other && !attach_other(primary, other))
        report_exception("a task beside one whose exception is thrown", other);
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
