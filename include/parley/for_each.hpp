// The elements of a range, several at a time:
//
//     co_await parley::for_each_concurrently(urls, 8, [&](const std::string &url) -> parley::task<> {
//         co_await fetch(url);
//     });

#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <ranges>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/detail/callable.hpp>
#include <parley/scope.hpp>
#include <parley/sleep.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {

// --- Implementation ---

namespace detail {

template <class F, class E>
concept makes_task_of = std::invocable<F &, E> && std::same_as<std::invoke_result_t<F &, E>, task<void>>;

// One of the tasks that share what is left of a range.
template <class I, class S, class F>
task<> take_elements(I &next, const S &end, F &each) {
    while (next != end) {
        std::iter_reference_t<I> element = *next;
        ++next;
        co_await std::invoke(each, std::forward<std::iter_reference_t<I>>(element));
    }
}

template <class V, class F>
task<> for_each_in(V elements, std::size_t limit, F each) {
    auto next = std::ranges::begin(elements);
    const auto end = std::ranges::end(elements);
    co_await with_scope([&](scope &workers) -> task<> {
        for (std::size_t i = 1; i < limit && next != end; ++i) {
            workers.spawn(take_elements(next, end, each));
            // It takes its first element before another worker is made, so there are never more than
            // elements.
            co_await yield();
        }
        co_await take_elements(next, end, each);
    });
}

} // namespace detail

// Awaits `each(element)`, a task<>, for every element, at most `limit` at a time, in order of their
// beginning. The first exception cancels what runs, begins no more and is thrown. A range that has a name
// is referred to, a temporary one and `each` are kept. Elements are taken as they are needed: an input
// range may be endless. Throws std::invalid_argument for a limit of 0.
template <std::ranges::input_range R, class F>
    requires std::ranges::viewable_range<R>
[[nodiscard]] task<> for_each_concurrently(R &&range, std::size_t limit, F &&each) {
    detail::check_callable<F>();
    static_assert(detail::makes_task_of<std::decay_t<F>, std::ranges::range_reference_t<R>>,
                  "parley: for_each_concurrently awaits each(element), a task<>: "
                  "[&](const auto& element) -> parley::task<> { ... } (docs/tasks.md)");
    if (limit == 0)
        throw std::invalid_argument("parley: for_each_concurrently with a limit of 0 would never begin");
    return detail::for_each_in<std::views::all_t<R>, std::decay_t<F>>(std::views::all(std::forward<R>(range)),
                                                                      limit, std::forward<F>(each));
}

} // namespace parley::inline PARLEY_ABI
