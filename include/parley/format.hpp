// parley's values as text: for streams and, where the standard library has <format>, for std::format.
//
//     std::cout << co_await client.request(question) << '\n'; // the answer, or "error: timed out: ..."
//     log(std::format("{:>20} {}", where, failure));            // an endpoint, an error
//
// error, stage, endpoint and await_sites can be written to a stream with their own headers. Here are those
// that hold a value of yours, which must have an operator<< itself, and every std::formatter. These take the
// format of a string: fill, alignment, width, precision.

#pragma once

#include <concepts>
#include <exception>
#include <ostream>
#include <string>
#include <string_view>
#include <type_traits>
#include <version>

#ifdef __cpp_lib_format
#include <format>
#include <sstream>
#endif

#include <parley/cancelled.hpp>
#include <parley/config.hpp>
#include <parley/endpoint.hpp>
#include <parley/error.hpp>
#include <parley/exception_notes.hpp>
#include <parley/outcome.hpp>
#include <parley/result.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {

template <class T>
concept streamable =
    std::is_void_v<T> || requires(std::ostream &out, const std::remove_reference_t<T> &value) {
        { out << value } -> std::convertible_to<std::ostream &>;
    };

// What std::exception::what() says, or that it is none. Never throws but std::bad_alloc.
[[nodiscard]] std::string text_of(const std::exception_ptr &exception);

} // namespace detail

// "cancelled".
std::ostream &operator<<(std::ostream &out, const cancelled &);

// The value, "done" for result<void>, or "error: " and the error.
template <detail::streamable T>
std::ostream &operator<<(std::ostream &out, const result<T> &r) {
    if (!r)
        return out << "error: " << r.error();
    if constexpr (std::is_void_v<T>)
        return out << "done";
    else
        return out << *r;
}

// The value, "done" for outcome<void>, "stopped", or "exception: " and its what(). It keeps its value.
template <detail::streamable T>
std::ostream &operator<<(std::ostream &out, const outcome<T> &how) {
    if (how.exception())
        return out << "exception: " << detail::text_of(how.exception());
    if (how.stopped())
        return out << "stopped";
    if constexpr (std::is_void_v<T>)
        return out << "done";
    else
        return out << how.peek();
}

#ifdef __cpp_lib_format
namespace detail {

// Formats what the stream operator writes, as the string that it is.
template <class T>
struct formatter_by_stream : std::formatter<std::string_view, char> {
    template <class Context>
    auto format(const T &value, Context &context) const {
        std::ostringstream text;
        text << value;
        return std::formatter<std::string_view, char>::format(text.view(), context);
    }
};

} // namespace detail
#endif

} // namespace parley::inline PARLEY_ABI

#ifdef __cpp_lib_format
template <>
struct std::formatter<parley::error, char> : parley::detail::formatter_by_stream<parley::error> {};
template <>
struct std::formatter<parley::stage, char> : parley::detail::formatter_by_stream<parley::stage> {};
template <>
struct std::formatter<parley::endpoint, char> : parley::detail::formatter_by_stream<parley::endpoint> {};
template <>
struct std::formatter<parley::await_sites, char> : parley::detail::formatter_by_stream<parley::await_sites> {
};
template <>
struct std::formatter<parley::cancelled, char> : parley::detail::formatter_by_stream<parley::cancelled> {};
template <parley::detail::streamable T>
struct std::formatter<parley::result<T>, char> : parley::detail::formatter_by_stream<parley::result<T>> {};
template <parley::detail::streamable T>
struct std::formatter<parley::outcome<T>, char> : parley::detail::formatter_by_stream<parley::outcome<T>> {};
#endif
