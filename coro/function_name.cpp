#include "function_name.hpp"

#include <cstddef>

namespace parley::inline PARLEY_ABI {
namespace detail {
namespace {

#define PARLEY_TEXT(name) #name
#define PARLEY_TEXT_OF(name) PARLEY_TEXT(name)
constexpr std::string_view configuration = PARLEY_TEXT_OF(PARLEY_ABI) "::";
#undef PARLEY_TEXT_OF
#undef PARLEY_TEXT

// Where the parenthesis opens that closes at `end`.
std::size_t opening(std::string_view text, std::size_t end) {
    int depth = 0;
    for (std::size_t at = end;; --at) {
        if (text[at] == ')')
            ++depth;
        else if (text[at] == '(' && --depth == 0)
            return at;
        if (at == 0)
            return std::string_view::npos;
    }
}

} // namespace

std::string function_name(std::string_view whole) {
    std::string name(whole);
    constexpr std::string_view frame = ".Frame*)";
    if (const std::size_t tail = whole.find(frame); tail != std::string_view::npos) {
        const std::size_t end = tail + frame.size() - 1;
        const std::size_t begin = opening(whole, end), mangled = whole.rfind("::_Z", tail);
        if (begin != std::string_view::npos && mangled != std::string_view::npos && begin < mangled) {
            name = whole.substr(begin + 1, mangled - begin - 1);
            name += whole.substr(end + 1); // " [with T = int]"
        }
    }
    for (std::size_t at; (at = name.find(configuration)) != std::string::npos;)
        name.erase(at, configuration.size());
    return name;
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
