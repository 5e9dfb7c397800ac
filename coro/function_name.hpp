// Names of functions as people write them.

#pragma once

#include <source_location>
#include <string>
#include <string_view>

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// g++ calls the body of a coroutine f() "void f(f()::_Z1fv.Frame*)": that becomes "f()". The namespace that
// stands for the library's configuration is left out.
[[nodiscard]] std::string function_name(std::string_view whole);
[[nodiscard]] inline std::string function_name(const std::source_location &site) {
    return function_name(site.function_name());
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
