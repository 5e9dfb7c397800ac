// The dates of HTTP (RFC 9110 section 5.6.7): "Mon, 23 Nov 2026 14:25:12 GMT".

#pragma once

#include <ctime>
#include <optional>
#include <string>
#include <string_view>

namespace parley::http {

// Seconds since 1970, as UTC; years 0 to 9999.
[[nodiscard]] std::string to_date(std::time_t when);

// All three forms that the RFC wants understood, the one above, "Monday, 23-Nov-26 14:25:12 GMT" and
// "Mon Nov 23 14:25:12 2026"; nothing for anything else.
[[nodiscard]] std::optional<std::time_t> parse_date(std::string_view text);

} // namespace parley::http
