#include <parley/scope.hpp>

#include <cassert>

#include <parley/cancelled.hpp>
#include <parley/detail/promise.hpp>
#include <parley/detail/root.hpp>
#include <parley/loop.hpp>

namespace parley::inline PARLEY_ABI {

detail::scope_base &scope::base() noexcept {
    return static_cast<detail::scope_base &>(*this);
}

const detail::scope_base &scope::base() const noexcept {
    return static_cast<const detail::scope_base &>(*this);
}

void scope::spawn(task<void> &&given) {
    task<void> child = std::move(given);
    if (!child)
        detail::throw_empty_task();
    assert(base().home().is_current() && "parley: spawn() on another loop than the scope's");
    if (cancelled_)
        return;
    base().add(detail::task_access::release(child).promise());
}

void scope::cancel() noexcept {
    if (cancelled_)
        return;
    cancelled_ = true;
    base().cancel_chains();
}

std::size_t scope::children() const noexcept {
    const detail::scope_base &all = base();
    return all.running() - (all.body_ ? 1 : 0);
}

namespace detail {

void scope_base::prepare(context &task) noexcept {
    open(task);
    failure_ = nullptr;
    cancelled_ = false;
}

bool scope_base::enter(record *body, std::exception_ptr failure) noexcept {
    if (body) {
        body_ = body;
        add(*body);
        if (cancelled_)
            body->owned_chain().cancel();
    } else {
        fail(std::move(failure));
    }
    return wait();
}

// The body's frame stays for await_resume(); a child is a task<void>, see spawn().
void scope_base::ended(record &child) noexcept {
    std::exception_ptr failure;
    if (&child == body_) {
        body_ = nullptr;
        failure = body_failure();
    } else {
        failure = static_cast<promise<void> &>(child).failure();
        child.destroy();
    }
    if (failure)
        fail(std::move(failure));
}

void scope_base::fail(std::exception_ptr failure) noexcept {
    if (!failure_) {
        failure_ = std::move(failure);
        scope::cancel();
        return;
    }
    try {
        if (others_)
            return others_->push_back(failure);
    } catch (...) { // no memory: with the first one instead
    }
    add_other(failure_, failure);
}

void scope_base::cancel_children() noexcept {
    cancelled_ = true;
    cancel_chains();
}

void scope_base::rethrow() const {
    if (failure_)
        std::rethrow_exception(failure_);
    if (awaiter().stopping())
        throw parley::cancelled(); // not scope::cancelled()
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
