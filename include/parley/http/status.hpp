// What is known of methods and statuses (RFC 9110 sections 9 and 15).

#pragma once

#include <string_view>

namespace parley::http {

// "Not Found" for 404; empty for one that nobody has registered.
[[nodiscard]] std::string_view reason_phrase(int status) noexcept;

// Whether a request with that method changes nothing, and whether it may be sent twice for once (section 9.2).
[[nodiscard]] bool is_safe(std::string_view method) noexcept;
[[nodiscard]] bool is_idempotent(std::string_view method) noexcept;

// Whether an answer with that status to that method has a body (section 6.4.1).
[[nodiscard]] bool has_body(int status, std::string_view method) noexcept;

} // namespace parley::http
