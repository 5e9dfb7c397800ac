// From how the core ended a session to the error that a person reads.

#pragma once

#include <chrono>
#include <string_view>

#include <parley/config.hpp>
#include <parley/error.hpp>

class CommSession;
struct ssl_st;

namespace parley::inline PARLEY_ABI {
namespace detail {

// The stage that a CommCause names; `otherwise` where it names none.
[[nodiscard]] parley::stage stage_of(int cause, parley::stage otherwise) noexcept;

// Inside the session's handle(state, error), which was not a success.
[[nodiscard]] error session_error(const CommSession &session, int state, int error, parley::stage otherwise,
                                  std::string_view peer, std::chrono::nanoseconds elapsed);

// Inside the session's handle_tls_failure(): an error without a code whose detail says what was wrong, for
// people; add_tls_words() gives it to the failure that session_error() makes of it later, if that is of TLS.
[[nodiscard]] error tls_words(const CommSession &session, const ssl_st *ssl) noexcept;
void add_tls_words(error &failure, const error &words) noexcept;

// From errno.
[[nodiscard]] error errno_error(int error_number, parley::stage where, std::string_view peer,
                                std::chrono::nanoseconds elapsed = {});

// errc::timed_out; the limit stands in the detail: "limit 1.5 s". A negative one is not known.
[[nodiscard]] error timed_out_error(parley::stage where, std::string_view peer,
                                    std::chrono::nanoseconds elapsed,
                                    std::chrono::nanoseconds limit) noexcept;

} // namespace detail
} // namespace parley::inline PARLEY_ABI
