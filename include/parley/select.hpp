// Waiting for several channels at once, and doing one thing at one of them.
//
//     auto which = co_await parley::select(orders.pop(), news.pop(), answers.push(std::move(mine)));
//     if (which.index() == 0) {
//         if (auto &order = std::get<0>(which))       // result<T>; at the end errc::end_of_stream
//             work_on(*order);
//     } else if (which.index() == 2 && !std::get<2>(which)) ...    // result<void>: errc::closed

#pragma once

#include <array>
#include <chrono>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include <parley/channel.hpp>
#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {

template <class A>
inline constexpr bool is_selectable = false;
template <class Case>
inline constexpr bool is_selectable<channel_await<Case, channel_wait>> = true;

// What became of the one case that took effect: its index is the variant's.
template <class... A>
using selected = std::variant<typename std::remove_reference_t<A>::value...>;

template <class Wait, class... A>
class [[nodiscard]] select_await final : public Wait {
public:
    static constexpr bool awaited_where_made = true;

    explicit select_await(A &...cases) noexcept
        requires std::same_as<Wait, channel_wait>
        : cases_(&cases...), to_try_{&cases...} {}
    explicit select_await(std::int64_t limit, A &...cases) noexcept
        requires(!std::same_as<Wait, channel_wait>)
        : Wait(limit), cases_(&cases...), to_try_{&cases...} {}

    bool await_ready() noexcept {
        prepare();
        return false;
    }
    auto await_resume() {
        if constexpr (std::same_as<Wait, channel_wait>) {
            return take();
        } else {
            using value = result<selected<A...>>;
            if (this->ended_without())
                return value(unexpected(this->failure()));
            return value(take());
        }
    }
    // Without waiting: nothing if none can go.
    std::optional<selected<A...>> try_once() {
        prepare();
        if (!this->try_now(false))
            return std::nullopt;
        return take();
    }

private:
    const char *name() const noexcept override { return "select"; }

    void prepare() noexcept { this->use(to_try_, room_); }
    selected<A...> take() {
        this->leave_others();
        return take_from(std::index_sequence_for<A...>());
    }
    template <std::size_t... I>
    selected<A...> take_from(std::index_sequence<I...>) {
        using taker = selected<A...> (*)(std::tuple<A *...> &);
        static constexpr taker takers[] = {[](std::tuple<A *...> &of) {
            return selected<A...>(std::in_place_index<I>, std::get<I>(of)->outcome_of());
        }...};
        return takers[this->winner()](cases_);
    }

    std::tuple<A *...> cases_;
    std::array<channel_case *, sizeof...(A)> to_try_;
    std::array<channel_case *, sizeof...(A)> room_{};
};

template <class... A>
constexpr void check_selectable() {
    static_assert(sizeof...(A) > 0, "parley: select needs something to select from");
    static_assert((is_selectable<std::remove_reference_t<A>> && ...),
                  "parley: select takes push() and pop() of channels; a time limit is select_for's, and "
                  "when_any is for other operations");
}

} // namespace detail

// `co_await select(a.pop(), b.push(std::move(v)), ...)`: waits until one of them can go and does that one;
// the others are as if they had never been tried. Gives a std::variant of their results: index() says which,
// and its result is result<T> of a pop, result<void> of a push. A closed channel can go: with its error. When
// several can go, one is drawn, each with the same chance; in a simulated world the draw follows from the
// seed. The same channel may stand in several places. Allocates nothing.
template <class... A>
[[nodiscard]] auto select(A &&...cases) noexcept {
    detail::check_selectable<A...>();
    return detail::select_await<detail::channel_wait, std::remove_reference_t<A>...>(cases...);
}

// Not longer than that: result<variant>, with errc::timed_out. Without time left it is tried once.
template <class Rep, class Period, class... A>
[[nodiscard]] auto select_for(std::chrono::duration<Rep, Period> limit, A &&...cases) {
    detail::check_selectable<A...>();
    return detail::select_await<detail::timed_channel_wait, std::remove_reference_t<A>...>(
        detail::nanoseconds_of(limit), cases...);
}

// Without waiting, and without co_await: std::optional of the variant, empty if none can go. Any thread.
template <class... A>
[[nodiscard]] auto try_select(A &&...cases) {
    detail::check_selectable<A...>();
    return detail::select_await<detail::channel_wait, std::remove_reference_t<A>...>(cases...).try_once();
}

} // namespace parley::inline PARLEY_ABI
