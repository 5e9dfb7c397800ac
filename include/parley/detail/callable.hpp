// Functions that users hand to awaitables: kept by value when given as a temporary, by reference when they
// have a name.

#pragma once

#include <string_view>
#include <type_traits>

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
// Whether F is a lambda's own type and not a template that wraps one. Only GCC 12 is asked, and its spelling
// of the name is known: "... [with F = main()::<lambda(int)>; ...]".
template <class F>
consteval bool is_lambda() {
    const std::string_view whole = __PRETTY_FUNCTION__;
    const std::string_view name = whole.substr(whole.find("F = ") + 4);
    int depth = 0;
    for (std::size_t i = 0; i < name.size(); ++i) {
        if (name[i] == ';' || name[i] == ']')
            return false;
        if (name[i] == '<' && depth == 0 && name.substr(i).starts_with("<lambda"))
            return true;
        if (name[i] == '<')
            ++depth;
        else if (name[i] == '>')
            --depth;
    }
    return false;
}
template <class F>
inline constexpr bool destroyed_twice =
    !std::is_lvalue_reference_v<F> && !std::is_trivially_destructible_v<F> &&
    (is_lambda<F>() || std::is_aggregate_v<F>);
#else
template <class F>
inline constexpr bool destroyed_twice = false;
#endif

// Called with F as in a forwarding reference, by everything that takes a callable and is awaited.
template <class F>
constexpr void check_callable() {
    static_assert(!destroyed_twice<F>,
                  "parley: g++ 12 destroys the captures of a temporary lambda twice when it stands in a "
                  "co_await expression (PR 99576). Capture by reference, or name the lambda first and pass "
                  "the name (docs/compilers.md)");
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
