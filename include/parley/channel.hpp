// Values from task to task, in order, also between loops: a queue that makes a fast producer wait and that
// can be closed. select.hpp waits for several.
//
//     auto lines = parley::channel<std::string>::bounded(16);
//
//     if (auto sent = co_await lines.push(std::move(text)); !sent)    // errc::closed; text is as it was
//         co_return;
//     while (auto line = co_await lines.pop())                        // ends at errc::end_of_stream
//         use(*line);
//
// Who feeds it closes it: lines.close().

#pragma once

#include <chrono>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <parley/config.hpp>
#include <parley/core/Sync.h>
#include <parley/detail/channel_buffer.hpp>
#include <parley/detail/channel_wait.hpp>
#include <parley/error.hpp>
#include <parley/result.hpp>
#include <parley/sleep.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {
template <class T>
class pop_case;
template <class T, class Held>
class push_case;
template <class Case, class Wait>
class channel_await;
} // namespace detail

// First in, first out, for values, for tasks that wait to push and for tasks that wait to pop; a value goes
// straight to who waits for it, and nobody barges past those who wait. push and pop without waiting allocate
// nothing once the channel has had that many values in it. Any number of tasks on any loops; try_push,
// try_pop, close and drain from any other thread as well.
//
// A channel is as wide as its name says: bounded(n) holds n values, rendezvous() none, so that a push ends
// when its value is taken; unbounded() any number, and push never waits.
//
// T is moved, and what it was moved from destroyed, with the channel locked, on the thread of whoever comes
// second; who finds it locked lets others run and tries again. So T's move constructor may throw, but it and
// the destructor must not use the channel, and should be quick: make T a unique_ptr if they are not. What a
// move throws is thrown by who called, push or pop; or by the push whose value could not be moved into the
// place that has become free. The value then is as T's move left it.
//
// It must live until every await on it has returned; destroying it while tasks wait ends the program in a
// debug build. It cannot be moved.
template <class T>
class channel final : private detail::channel_base {
    static_assert(std::is_object_v<T> && !std::is_const_v<T> && std::move_constructible<T>,
                  "parley: the values of a channel are objects that can be moved");
    static_assert(alignof(T) <= alignof(std::max_align_t),
                  "parley: nothing in a coroutine may be over-aligned, compilers get that wrong "
                  "(docs/compilers.md); use a channel of unique_ptr to it");
    using by_reference = detail::push_case<T, T &>;
    using by_copy = detail::push_case<T, T>;
    using popping = detail::pop_case<T>;
    template <class Case>
    using now_or_later = detail::channel_await<Case, detail::channel_wait>;
    template <class Case>
    using within = detail::channel_await<Case, detail::timed_channel_wait>;

public:
    using value_type = T;

    // std::bad_alloc if there is no memory for n values; 0 is a rendezvous.
    [[nodiscard]] static channel bounded(std::size_t n) { return channel(n); }
    [[nodiscard]] static channel rendezvous() { return channel(0); }
    [[nodiscard]] static channel unbounded() { return channel(detail::channel_buffer<T>::unbounded); }

    // bounded(n), where a channel is a member.
    explicit channel(std::size_t n) : values_(n) {}

    // `co_await c.push(value)`: result<void>, errc::closed if the channel is closed, before or while it
    // waits. An rvalue stays with the caller, whose variable must live until the await ends, and is moved
    // from only if the push succeeds; after a failure, or a cancel, it is as it was. An lvalue is copied at
    // once. Throws std::bad_alloc if an unbounded channel cannot grow.
    [[nodiscard]] now_or_later<by_reference> push(T &&value) noexcept;
    [[nodiscard]] now_or_later<by_copy> push(const T &value)
        requires std::copy_constructible<T>;
    // For not longer than that: errc::timed_out. Without time left it is tried once.
    template <class Rep, class Period>
    [[nodiscard]] within<by_reference> push_for(std::chrono::duration<Rep, Period> limit, T &&value);
    template <class Rep, class Period>
    [[nodiscard]] within<by_copy> push_for(std::chrono::duration<Rep, Period> limit, const T &value)
        requires std::copy_constructible<T>;

    // `co_await c.pop()`: result<T>; errc::end_of_stream once it is closed and nothing is left. A task that
    // gets a value although it was told to stop has it; its next await throws `cancelled`.
    [[nodiscard]] now_or_later<popping> pop() noexcept;
    template <class Rep, class Period>
    [[nodiscard]] within<popping> pop_for(std::chrono::duration<Rep, Period> limit);

    // False if it would have to wait, or is closed; the value is as it was then. Any thread.
    [[nodiscard]] bool try_push(T &&value);
    [[nodiscard]] bool try_push(const T &value)
        requires std::copy_constructible<T>
    {
        return try_push(T(value));
    }
    // Nothing if nothing is there. Any thread.
    [[nodiscard]] std::optional<T> try_pop();

    // Pushes fail from now on, those that wait too; pops take what is left and then end. Any thread; again
    // does nothing.
    void close() noexcept;
    // close(), and takes what is left. The values of pushes that wait stay with these. If T's move throws, or
    // memory ends, the values that were not yet taken are still in the channel.
    std::vector<T> drain();

    // As it was at that moment. Any thread.
    [[nodiscard]] bool closed() const noexcept;
    [[nodiscard]] std::size_t size() const noexcept;
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
    // SIZE_MAX: unbounded.
    [[nodiscard]] std::size_t capacity() const noexcept { return values_.capacity(); }

private:
    template <class U>
    friend class detail::pop_case;
    template <class U, class Held>
    friend class detail::push_case;

    using fate = detail::channel_case::fate;
    using guard = sync::lock_guard<detail::channel_lock>;

    fate put(T &from, detail::channel_grants &out);
    fate take(std::optional<T> &into, detail::channel_grants &out);
    void refill(detail::channel_grants &out) noexcept;

    detail::channel_buffer<T> values_;
};

// --- Implementation ---

namespace detail {

template <class T, class Held>
class push_case : public channel_case {
public:
    using value = result<void>;

    template <class U>
    push_case(channel<T> &c, U &&from) : channel_case(c, true), to_(c), held_(std::forward<U>(from)) {
        place_ = std::addressof(held_);
    }
    bool attempt(channel_grants &out) noexcept final {
        try {
            const fate how = to_.put(held_, out);
            return how != fate::waiting && this->end(how);
        } catch (...) {
            return this->fail();
        }
    }
    value outcome_of() {
        if (this->succeeded())
            return {};
        return unexpected(errc::closed, stage::none, "channel");
    }
    static constexpr const char *label = "channel push";

private:
    channel<T> &to_;
    Held held_;
};

template <class T>
class pop_case : public channel_case {
public:
    using value = result<T>;

    explicit pop_case(channel<T> &c) noexcept : channel_case(c, false), from_(c) { place_ = &taken_; }
    bool attempt(channel_grants &out) noexcept final {
        try {
            const fate how = from_.take(taken_, out);
            return how != fate::waiting && this->end(how);
        } catch (...) {
            return this->fail();
        }
    }
    value outcome_of() {
        if (!this->succeeded())
            return unexpected(errc::end_of_stream, stage::none, "channel");
        return value(std::in_place, std::move(*taken_));
    }
    static constexpr const char *label = "channel pop";

private:
    channel<T> &from_;
    std::optional<T> taken_;
};

// One case, awaited alone. In a select only the case is used.
template <class Case, class Wait>
class [[nodiscard]] channel_await final : public Case, public Wait {
public:
    template <class C, class... U>
    channel_await(std::int64_t limit, C &c, U &&...from)
        requires(!std::same_as<Wait, channel_wait>)
        : Case(c, std::forward<U>(from)...), Wait(limit) {}
    template <class C, class... U>
    explicit channel_await(C &c, U &&...from)
        requires std::same_as<Wait, channel_wait>
        : Case(c, std::forward<U>(from)...) {}

    bool await_ready() noexcept {
        this->reset();
        if constexpr (!std::same_as<Wait, channel_wait>)
            this->begin_anew();
        channel_grants others;
        bool done;
        {
            sync::lock_guard<channel_lock> hold(this->lock());
            done = Case::attempt(others);
        }
        others.tell();
        if (!done)
            this->use({&one_, 1}, {&room_, 1});
        return done;
    }
    typename Case::value await_resume() {
        if constexpr (!std::same_as<Wait, channel_wait>) {
            if (this->ended_without())
                return unexpected(this->failure());
        }
        return this->outcome_of();
    }

private:
    const char *name() const noexcept override { return Case::label; }

    channel_case *one_ = this;
    channel_case *room_ = nullptr;
};

} // namespace detail

template <class T>
auto channel<T>::put(T &from, detail::channel_grants &out) -> fate {
    if (closed_)
        return fate::closed;
    while (detail::channel_case *one = this->claim_popper()) {
        try {
            static_cast<std::optional<T> *>(one->place())->emplace(std::move(from));
        } catch (...) {
            this->give_back(*one);
            throw;
        }
        this->grant(*one, fate::done, out);
        return fate::done;
    }
    if (values_.full())
        return fate::waiting;
    values_.push(std::move(from));
    return fate::done;
}

template <class T>
auto channel<T>::take(std::optional<T> &into, detail::channel_grants &out) -> fate {
    if (!values_.empty()) {
        into.emplace(std::move(values_.front()));
        values_.pop();
        refill(out);
        return fate::done;
    }
    while (detail::channel_case *one = this->claim_pusher()) {
        try {
            into.emplace(std::move(*static_cast<T *>(one->place())));
        } catch (...) {
            this->give_back(*one);
            throw;
        }
        this->grant(*one, fate::done, out);
        return fate::done;
    }
    return closed_ ? fate::closed : fate::waiting;
}

// What waits to push comes into the place that has become free.
template <class T>
void channel<T>::refill(detail::channel_grants &out) noexcept {
    while (!values_.full()) {
        detail::channel_case *one = this->claim_pusher();
        if (!one)
            return;
        try {
            values_.push(std::move(*static_cast<T *>(one->place())));
            this->grant(*one, fate::done, out);
        } catch (...) {
            this->grant_failed(*one, out);
        }
    }
}

template <class T>
auto channel<T>::push(T &&value) noexcept -> now_or_later<by_reference> {
    return now_or_later<by_reference>(*this, value);
}
template <class T>
auto channel<T>::push(const T &value) -> now_or_later<by_copy>
    requires std::copy_constructible<T>
{
    return now_or_later<by_copy>(*this, value);
}
template <class T>
template <class Rep, class Period>
auto channel<T>::push_for(std::chrono::duration<Rep, Period> limit, T &&value) -> within<by_reference> {
    return within<by_reference>(detail::nanoseconds_of(limit), *this, value);
}
template <class T>
template <class Rep, class Period>
auto channel<T>::push_for(std::chrono::duration<Rep, Period> limit, const T &value) -> within<by_copy>
    requires std::copy_constructible<T>
{
    return within<by_copy>(detail::nanoseconds_of(limit), *this, value);
}
template <class T>
auto channel<T>::pop() noexcept -> now_or_later<popping> {
    return now_or_later<popping>(*this);
}
template <class T>
template <class Rep, class Period>
auto channel<T>::pop_for(std::chrono::duration<Rep, Period> limit) -> within<popping> {
    return within<popping>(detail::nanoseconds_of(limit), *this);
}

template <class T>
bool channel<T>::try_push(T &&value) {
    detail::channel_grants others;
    fate how;
    {
        guard hold(this->lock_);
        how = put(value, others);
    }
    others.tell();
    return how == fate::done;
}
template <class T>
std::optional<T> channel<T>::try_pop() {
    detail::channel_grants others;
    std::optional<T> value;
    {
        guard hold(this->lock_);
        static_cast<void>(take(value, others));
    }
    others.tell();
    return value;
}

template <class T>
void channel<T>::close() noexcept {
    detail::channel_grants others;
    {
        guard hold(this->lock_);
        this->end_waits(others);
    }
    others.tell();
}
template <class T>
std::vector<T> channel<T>::drain() {
    close();
    std::vector<T> left;
    left.reserve(size()); // nobody adds to it any more
    while (std::optional<T> value = try_pop())
        left.push_back(std::move(*value));
    return left;
}

template <class T>
bool channel<T>::closed() const noexcept {
    guard hold(this->lock_);
    return closed_;
}
template <class T>
std::size_t channel<T>::size() const noexcept {
    guard hold(this->lock_);
    return values_.size();
}

} // namespace parley::inline PARLEY_ABI
