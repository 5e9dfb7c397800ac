// The part of a task's promise that does not depend on its type: where the task stands in the tree of tasks,
// what it does and how it ended. The runtime, scopes and whoever looks at a running program see tasks as
// records.

#pragma once

#include <coroutine>
#include <cstdint>
#include <optional>
#include <source_location>
#include <string>

#include <parley/config.hpp>
#include <parley/detail/chain_list.hpp>
#include <parley/detail/context.hpp>
#include <parley/loop.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

class excursion;

#if PARLEY_SYMMETRIC_TRANSFER
// await_suspend returns who goes on; the compiler makes it a tail call.
using transfer = std::coroutine_handle<>;
#else
// await_suspend leaves who goes on with the loop and returns; loop::resume() takes it from there.
using transfer = void;
#endif

struct loop_access {
    // What await_suspend returns so that `next` goes on now, or so that the loop does.
    static transfer hand_over([[maybe_unused]] parley::loop &home, std::coroutine_handle<> next) noexcept {
#if PARLEY_SYMMETRIC_TRANSFER
        return next;
#else
        home.next_ = next;
#endif
    }
    static transfer rest() noexcept {
#if PARLEY_SYMMETRIC_TRANSFER
        return std::noop_coroutine();
#endif
    }
    static void finished(parley::loop &home, record &first) noexcept { home.finished_ = &first; }
    static root_list &roots(parley::loop &home) noexcept { return home.roots_; }
    static void resume(parley::loop &home, std::coroutine_handle<> task) noexcept { home.resume(task); }
    static chain_source *&sources(parley::loop &home) noexcept { return home.sources_; }
    static excursion *&guests(parley::loop &home) noexcept { return home.guests_; }
    // Of the task that runs there: where it was when it was resumed, empty if it had awaited nothing yet.
    // Nothing when none runs. Any thread.
    [[nodiscard]] static std::optional<std::source_location> resumed_at(const parley::loop &home) noexcept;
};

// The life of a task, kept for whoever looks at it and checked in debug builds:
//
//   | state     | becomes                                                                  |
//   |-----------|--------------------------------------------------------------------------|
//   | created   | running when first resumed; destroyed when dropped without being awaited |
//   | running   | suspended in each co_await that waits; done at its end                   |
//   | suspended | running; destroying it is not reachable by the public API                |
//   | done      | destroyed, by who awaited or owns it                                     |
enum class life : std::uint8_t { created, running, suspended, done, destroyed };

enum class ending : std::uint8_t { none, value, exception, stopped };

class record {
public:
    // The chain this task is part of, from its start on. For the task itself, on the loop where it is.
    [[nodiscard]] context &chain() const noexcept { return *context_; }
    // Of the first of a chain: the chain, at home. What its owner uses, wherever the task may be.
    [[nodiscard]] context &owned_chain() noexcept { return own_; }
    // Who awaits this task; nullptr for the first of a chain.
    [[nodiscard]] record *parent() const noexcept { return is_first_ ? nullptr : parent_; }
    // The frame whose promise this is.
    [[nodiscard]] std::coroutine_handle<> frame() const noexcept;
    // Where it is, or was last, in a co_await; the empty location for a wrapper of the library's.
    [[nodiscard]] std::source_location site() const noexcept {
        return is_named_ ? std::source_location() : site_;
    }
    // What named() called it; nullptr for nothing. On its loop.
    [[nodiscard]] const std::string *name() const noexcept { return is_named_ ? name_ : nullptr; }
    // Of the first of a chain: who began it. The owner's.
    [[nodiscard]] const chain_owner &owner() const noexcept { return *owner_; }
    [[nodiscard]] detail::life life() const noexcept { return life_; }
    [[nodiscard]] detail::ending ending() const noexcept { return ending_; }

    // --- beginning: one of these, once ---

    // Becomes part of the parent's chain; the parent goes on when it ends.
    void begin_below(record &parent) noexcept {
        expect(detail::life::created, "started twice");
        context_ = parent.context_;
        parent_ = &parent;
        life_ = detail::life::running;
    }
    // Becomes the first of a chain of its own. It runs when start() of its chain() is called; until then the
    // chain may be cancelled, which it then learns at its first await. Any thread.
    void begin_chain(parley::loop &home, chain_owner &owner, const inherited *from) noexcept;

    // --- the end ---

    // At the final suspension: who goes on.
    transfer finish() noexcept {
        expect(detail::life::running, "ended twice");
        life_ = detail::life::done;
        if (is_first_ || away_) [[unlikely]]
            return finish_apart();
        parent_->life_ = detail::life::running;
        context_->note_innermost(parent_->frame());
        return loop_access::hand_over(context_->loop(), parent_->frame());
    }

    // Of the first of a chain that has ended, by its owner.
    void destroy() noexcept;

    // Ends the program, naming the task: "parley: a task was <what>. ..."
    [[noreturn]] void fail(const char *what) const noexcept;

    // A list of frames that are to be destroyed (destroy_unstarted).
    void bury(record *next) noexcept { next_ = next; }
    [[nodiscard]] record *buried_next() const noexcept { return next_; }

    record(const record &) = delete;
    record &operator=(const record &) = delete;

protected:
    record() noexcept : site_() {}
    // From now on the task's place is of no interest, its name is; lives as long as the task.
    void set_name(const std::string &name) noexcept {
        name_ = &name;
        is_named_ = true;
    }
    ~record() { life_ = detail::life::destroyed; }

private:
    friend class chain_list;
    friend class excursion;
    friend class hop_await;
    friend class promise_base;
    friend class root_list;
    friend class parley::loop;
    template <class Op>
    friend class leaf_await;
    template <class T>
    friend class promise;
    template <class T>
    friend class task_await;

    // The first of a chain, or a task that ends on another loop than its parent's.
    transfer finish_apart() noexcept;
    void expect([[maybe_unused]] detail::life state, [[maybe_unused]] const char *otherwise) const noexcept {
#ifndef NDEBUG
        if (life_ != state)
            fail(otherwise);
#endif
    }

    context *context_ = nullptr;
    union {
        std::source_location site_;
        const std::string *name_; // of one that has a name
    };
    union {
        record *parent_;
        chain_owner *owner_; // of the first of a chain
    };
    // In the owner's chain_list. The neighbours write here, at home, while a task that is away may be read
    // over there: so they share their place with nothing.
    record *previous_;
    record *next_;
    union { // alive in the first of a chain
        context own_;
    };
    detail::life life_ = detail::life::created;
    detail::ending ending_ = detail::ending::none;
    bool is_first_ = false;
    bool is_named_ = false; // what would be site_ is name_
    bool away_ = false;     // resume_on: context_ is another loop's
};

// Destroys the frame of a task that was never started. Tasks that it owns as parameters are destroyed after
// it, one by one, so that no depth of nesting grows the stack.
void destroy_unstarted(record &task) noexcept;

} // namespace detail
} // namespace parley::inline PARLEY_ABI
