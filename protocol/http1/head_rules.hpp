// What a head must be beyond its syntax, so that all who read it agree where the message ends and for whom it is:
// the strictness that Beast's parser leaves to its user.

#pragma once

#include <optional>

#include <parley/http/parser.hpp>

namespace parley::http {

// Nothing when it is sound.
[[nodiscard]] std::optional<parse_error> check_request_head(const message_head &head);
[[nodiscard]] std::optional<parse_error> check_response_head(const message_head &head);

// RFC 9112 section 7.1.1: all that follows the size of a chunk in its line, may be empty.
[[nodiscard]] bool is_chunk_extensions(std::string_view text) noexcept;

// Whether a field may stand in a trailer (RFC 9110 section 6.5.1).
[[nodiscard]] bool may_trail(std::string_view name) noexcept;

} // namespace parley::http
