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

bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

bool is_host_character(char c) {
    constexpr std::string_view others = "-._~!$&'()*+,;=";
    return is_alpha(c) || is_digit(c) || others.find(c) != std::string_view::npos;
}

// RFC 3986 section 3.2.2, but that what stands in brackets is not read as an address. `end` says where the host ends:
// at the colon of a port, or with the text.
bool is_host(std::string_view text, std::size_t &end) {
    if (text.starts_with('[')) {
        const std::size_t bracket = text.find(']');
        if (bracket == std::string_view::npos || bracket == 1)
            return false;
        end = bracket + 1;
        const std::string_view address = text.substr(1, bracket - 1);
        return std::all_of(address.begin(), address.end(),
                           [](char c) { return c == ':' || is_host_character(c); });
    }
    end = std::min(text.find(':'), text.size());
    for (std::size_t i = 0; i < end; ++i) {
        if (text[i] != '%') {
            if (!is_host_character(text[i]))
                return false;
        } else if (i + 2 >= end || !is_hex(text[i + 1]) || !is_hex(text[i + 2])) {
            return false;
        }
    }
    return true;
}

// host [ ":" port ]; with_port: as CONNECT has it, with both.
bool is_authority(std::string_view text, bool with_port) {
    std::size_t end = 0;
    if (!is_host(text, end))
        return false;
    if (end == text.size())
        return !with_port;
    if (text[end] != ':' || (with_port && (end == 0 || end + 1 == text.size())))
        return false;
    return std::all_of(text.begin() + static_cast<std::ptrdiff_t>(end) + 1, text.end(), is_digit);
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
        if (!is_authority(target, true))
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
    if (!is_authority(*head.header.get("Host"), false))
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

bool is_chunk_extensions(std::string_view text) noexcept {
    std::size_t i = 0;
    const auto skip_blanks = [&] { i = std::min(text.find_first_not_of(" \t", i), text.size()); };
    const auto take_token = [&] {
        const std::size_t begin = i;
        while (i < text.size() && is_token(text.substr(i, 1)))
            ++i;
        return i != begin;
    };
    const auto take_quoted = [&] {
        for (++i; i < text.size() && text[i] != '"'; ++i)
            if (text[i] == '\\')
                ++i;
        return i++ < text.size();
    };
    const bool clean = std::none_of(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
    });
    while (clean && i < text.size()) {
        skip_blanks();
        if (i == text.size() || text[i++] != ';')
            return false;
        skip_blanks();
        if (!take_token())
            return false;
        const std::size_t name_end = i;
        skip_blanks();
        if (i == text.size() || text[i] != '=') {
            i = name_end;
            continue;
        }
        ++i;
        skip_blanks();
        if (!(i < text.size() && text[i] == '"' ? take_quoted() : take_token()))
            return false;
    }
    return clean;
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
