// What scopes and combinators have in common: chains of their own that begin, are cancelled together, and
// have all ended before the one who awaits goes on.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>

#include <parley/config.hpp>
#include <parley/detail/chain_list.hpp>
#include <parley/detail/context.hpp>
#include <parley/detail/record.hpp>
#include <parley/error.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// The frames of the children belong to the derived class. Everything happens on the loop of the awaiting
// task.
class join_base : protected branch, private chain_owner {
public:
    bool await_ready() const noexcept { return false; }

protected:
    join_base() = default;
    ~join_base() = default;

    // At the beginning of await_suspend, before any child.
    void open(context &task) noexcept { task_ = &task; }
    // Begins a child, which first runs when the caller has suspended. `from`: what it inherits.
    void add(record &child, const inherited *from) noexcept;
    void add(record &child) noexcept { add(child, task_->inherits()); }
    // At the end of await_suspend, with its result: whether there is anything to wait for.
    bool wait() noexcept;
    // One more thing to wait for beside the children, until leave().
    void hold() noexcept { ++running_; }
    void leave() noexcept;

    // Tells all that run to stop; they end later.
    void cancel_chains() noexcept;

    [[nodiscard]] context &awaiter() const noexcept { return *task_; }
    [[nodiscard]] std::size_t running() const noexcept { return running_; }
    [[nodiscard]] const context *eldest() const noexcept final;
    [[nodiscard]] const chain_list *children() const noexcept final { return &chains_; }

    parley::loop &home() const noexcept final { return task_->loop(); }
    void cancel_children() noexcept override { cancel_chains(); }

    // A child has ended; its frame may be destroyed now or later. On a flat stack.
    virtual void ended(record &child) noexcept = 0;

private:
    void chain_done(record &first) noexcept final;

    context *task_ = nullptr;
    chain_list chains_;
    std::size_t running_ = 0;
};

// What a chain waits for at the moment it is cancelled, for the error that tells of it.
class interrupted {
public:
    // Down through branches, 256 at most, to the operation that waits longest. Called before the cancel.
    void note(const context &chain) noexcept;
    // `code` at that operation's stage with its peer, `started` on the clock of CommLoop::now().
    [[nodiscard]] error make_error(errc code, std::int64_t started, std::string_view detail = {}) const;
    [[nodiscard]] parley::stage where() const noexcept { return stage_; }
    [[nodiscard]] const std::string &peer() const noexcept { return peer_; }

private:
    parley::stage stage_ = parley::stage::none;
    std::string peer_;
};

// The exception of a child that comes after the one that is thrown: attached to that, or reported on standard
// error if there is none, or no memory.
void add_other(const std::exception_ptr &primary, const std::exception_ptr &other) noexcept;

} // namespace detail
} // namespace parley::inline PARLEY_ABI
