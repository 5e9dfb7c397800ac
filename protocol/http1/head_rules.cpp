#include "head_rules.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

namespace parley::http {
namespace {

using verdict = std::optional<parse_error>;

verdict refuse(std::string what, const char *section, int status = 400) {
    return parse_error{status, std::move(what), section};
}

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool is_alpha(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// RFC 3986: what a host with or without a port is made of. Brackets and percent signs are not checked further.
bool is_authority_character(char c) {
    constexpr std::string_view others = "-._~!$&'()*+,;=:%[]";
    return is_alpha(c) || is_digit(c) || others.find(c) != std::string_view::npos;
}

bool is_authority(std::string_view text) {
    return std::all_of(text.begin(), text.end(), is_authority_character);
}

// host:port, as CONNECT has it.
bool is_authority_form(std::string_view text) {
    const std::size_t colon = text.rfind(':');
    return colon != std::string_view::npos && colon != 0 && colon + 1 < text.size() && is_authority(text) &&
           std::all_of(text.begin() + static_cast<std::ptrdiff_t>(colon) + 1, text.end(), is_digit);
}

// scheme "://" authority: the only absolute form that a proxy or a server is asked with.
bool is_absolute_form(std::string_view text) {
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos || colon == 0 || !is_alpha(text[0]) || text.substr(colon, 3) != "://")
        return false;
    const bool scheme =
        std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(colon),
                    [](char c) { return is_alpha(c) || is_digit(c) || c == '+' || c == '-' || c == '.'; });
    const std::string_view rest = text.substr(colon + 3);
    return scheme && !rest.empty() && rest[0] != '/' && rest[0] != '?';
}

verdict check_target(std::string_view method, std::string_view target) {
    for (const char c : target) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte <= 0x20 || byte >= 0x7f || c == '#')
            return refuse("start line: a character in the target that no URI has", "3.2");
    }
    if (method == "CONNECT") {
        if (!is_authority_form(target))
            return refuse("start line: the target of CONNECT is no host:port", "3.2.3");
    } else if (target == "*") {
        if (method != "OPTIONS")
            return refuse("start line: the target * is for OPTIONS only", "3.2.4");
    } else if (target[0] != '/' && !is_absolute_form(target)) {
        return refuse("start line: the target is neither a path nor an absolute URI", "3.2");
    }
    return {};
}

verdict check_host(const message_head &head) {
    const std::size_t count = head.header.count("Host");
    if (count == 0)
        return head.minor_version == 0 ? verdict() : refuse("header: no Host", "3.2");
    if (count > 1)
        return refuse("header: more than one Host", "3.2");
    if (!is_authority(*head.header.get("Host")))
        return refuse("header: Host is no host with or without a port", "3.2");
    return {};
}

verdict check_length(const message_head &head) {
    const std::size_t lengths = head.header.count("Content-Length");
    if (lengths > 1)
        return refuse("header: more than one Content-Length", "6.3");
    if (lengths == 1) {
        const std::string_view value = *head.header.get("Content-Length");
        if (value.empty() || value.size() > 18 || !std::all_of(value.begin(), value.end(), is_digit))
            return refuse("header: Content-Length is no number", "6.2");
    }
    const std::size_t codings = head.header.count("Transfer-Encoding");
    if (codings == 0)
        return {};
    if (lengths != 0)
        return refuse("header: Content-Length and Transfer-Encoding", "6.1");
    if (head.minor_version == 0)
        return refuse("header: Transfer-Encoding in HTTP/1.0", "6.1");
    std::string all = head.header.joined("Transfer-Encoding");
    if (codings == 1 && same_token(all, "chunked"))
        return {};
    std::size_t chunked = 0, others = 0;
    bool last = false;
    for (std::string_view rest = all; !rest.empty() || last;) {
        const std::size_t comma = rest.find(',');
        std::string_view coding = rest.substr(0, comma);
        coding.remove_prefix(std::min(coding.find_first_not_of(" \t"), coding.size()));
        coding = coding.substr(0, coding.find_last_not_of(" \t") + 1);
        last = same_token(coding, "chunked");
        ++(last ? chunked : others);
        if (comma == std::string_view::npos)
            break;
        rest.remove_prefix(comma + 1);
    }
    if (chunked != 1 || !last)
        return refuse("header: Transfer-Encoding does not end in chunked, once", "6.3");
    return refuse("header: a Transfer-Encoding other than chunked", "6.1", 501);
}

} // namespace

verdict check_request_head(const message_head &head) {
    if (verdict bad = check_target(head.method, head.target))
        return bad;
    if (verdict bad = check_host(head))
        return bad;
    return check_length(head);
}

verdict check_response_head(const message_head &head) {
    if (head.status < 100 || head.status > 999)
        return refuse("start line: a status of less than 100", "4");
    if (head.status < 200 && (head.header.contains("Transfer-Encoding")))
        return refuse("header: Transfer-Encoding in an answer that has no body", "6.1");
    return check_length(head);
}

bool may_trail(std::string_view name) noexcept {
    constexpr std::array<std::string_view, 24> never = {"Age",
                                                        "Authorization",
                                                        "Cache-Control",
                                                        "Connection",
                                                        "Content-Encoding",
                                                        "Content-Length",
                                                        "Content-Range",
                                                        "Content-Type",
                                                        "Cookie",
                                                        "Date",
                                                        "Expect",
                                                        "Expires",
                                                        "Host",
                                                        "Location",
                                                        "Max-Forwards",
                                                        "Proxy-Authorization",
                                                        "Proxy-Authenticate",
                                                        "Range",
                                                        "Retry-After",
                                                        "Set-Cookie",
                                                        "TE",
                                                        "Trailer",
                                                        "Transfer-Encoding",
                                                        "WWW-Authenticate"};
    return std::none_of(never.begin(), never.end(),
                        [&](std::string_view one) { return same_token(one, name); });
}

} // namespace parley::http
