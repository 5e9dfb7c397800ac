#include "http_reference.hpp"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

namespace {

using header = std::vector<std::pair<std::string, std::string>>;

struct refused {};

void demand(bool condition) {
    if (!condition)
        throw refused();
}

bool digit(char c) {
    return c >= '0' && c <= '9';
}
bool alpha(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
int hex(char c) {
    if (digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}
bool one_of(char c, std::string_view set) {
    return set.find(c) != std::string_view::npos;
}
bool tchar(char c) {
    return alpha(c) || digit(c) || one_of(c, "!#$%&'*+-.^_`|~");
}
bool text(char c) { // of a field's value, a reason, a quoted string
    const auto byte = static_cast<unsigned char>(c);
    return c == '\t' || (byte >= 0x20 && byte != 0x7f);
}
template <class Is>
bool all(std::string_view s, Is is) {
    return std::all_of(s.begin(), s.end(), is);
}
bool token(std::string_view s) {
    return !s.empty() && all(s, tchar);
}

std::string lower(std::string_view s) {
    std::string small(s);
    for (char &c : small)
        c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    return small;
}

std::string_view trim(std::string_view s) {
    while (!s.empty() && one_of(s.front(), " \t"))
        s.remove_prefix(1);
    while (!s.empty() && one_of(s.back(), " \t"))
        s.remove_suffix(1);
    return s;
}

// RFC 3986, 3.2.2: IP-literal, or reg-name, which IPv4 addresses are, too.
bool host(std::string_view s) {
    if (s.starts_with("["))
        return s.size() > 2 && s.ends_with("]") && all(s.substr(1, s.size() - 2), [](char c) {
                   return alpha(c) || digit(c) || one_of(c, "-._~!$&'()*+,;=:");
               });
    for (std::size_t i = 0; i < s.size(); ++i)
        if (s[i] == '%') {
            if (i + 2 >= s.size() || hex(s[i + 1]) < 0 || hex(s[i + 2]) < 0)
                return false;
        } else if (!alpha(s[i]) && !digit(s[i]) && !one_of(s[i], "-._~!$&'()*+,;=")) {
            return false;
        }
    return true;
}

// Where the port begins, with its colon.
std::size_t port_of(std::string_view s) {
    const std::size_t colon = s.find(':', s.starts_with("[") ? std::min(s.find(']'), s.size()) : 0);
    return std::min(colon, s.size());
}

void check_host(std::string_view s) {
    const std::size_t port = port_of(s);
    demand(host(s.substr(0, port)));
    demand(port == s.size() || all(s.substr(port + 1), digit));
}

void check_target(std::string_view method, std::string_view s) {
    demand(!s.empty() && all(s, [](char c) { return c > 0x20 && c < 0x7f && c != '#'; }));
    if (method == "CONNECT") {
        const std::size_t port = port_of(s);
        demand(port != 0 && host(s.substr(0, port)));
        demand(s.size() > port + 1 && all(s.substr(port + 1), digit));
    } else if (s == "*") {
        demand(method == "OPTIONS");
    } else if (s[0] != '/') {
        const std::size_t end = s.find("://");
        demand(end != std::string_view::npos && alpha(s[0]));
        demand(all(s.substr(0, end), [](char c) { return alpha(c) || digit(c) || one_of(c, "+-."); }));
        demand(s.size() > end + 3 && !one_of(s[end + 3], "/?"));
    }
}

struct reader {
    std::string_view rest;

    std::string_view line() {
        const std::size_t end = rest.find("\r\n");
        demand(end != std::string_view::npos);
        const std::string_view found = rest.substr(0, end);
        demand(all(found, text));
        rest.remove_prefix(end + 2);
        return found;
    }

    header fields() {
        header found;
        for (std::string_view one = line(); !one.empty(); one = line()) {
            const std::size_t colon = one.find(':');
            demand(colon != std::string_view::npos && token(one.substr(0, colon)));
            found.emplace_back(one.substr(0, colon), trim(one.substr(colon + 1)));
        }
        return found;
    }
};

std::vector<std::string> values(const header &in, std::string_view name) {
    std::vector<std::string> found;
    for (const auto &[one, value] : in)
        if (lower(one) == name)
            found.push_back(value);
    return found;
}

// Connection = #connection-option, and each of these is a token.
bool has_option(const header &in, std::string_view option) {
    bool found = false;
    for (const std::string &value : values(in, "connection"))
        for (std::string_view left = value; !left.empty();) {
            const std::size_t comma = std::min(left.find(','), left.size());
            const std::string_view one = trim(left.substr(0, comma));
            demand(one.empty() || token(one));
            found = found || lower(one) == option;
            left.remove_prefix(std::min(comma + 1, left.size()));
        }
    return found;
}

std::string shown(const header &in) {
    std::string joined = "{";
    for (const auto &[name, value] : in)
        joined += (joined.size() > 1 ? "|" : "") + name + ": " + value;
    return joined + "}";
}

void blanks(std::string_view &s) {
    s.remove_prefix(std::min(s.find_first_not_of(" \t"), s.size()));
}
void take_token(std::string_view &s) {
    std::size_t n = 0;
    while (n < s.size() && tchar(s[n]))
        ++n;
    demand(n != 0);
    s.remove_prefix(n);
}

// *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )
void check_extensions(std::string_view s) {
    while (!s.empty()) {
        blanks(s);
        demand(s.starts_with(";"));
        s.remove_prefix(1);
        blanks(s);
        take_token(s);
        std::string_view value = s;
        blanks(value);
        if (!value.starts_with("="))
            continue;
        s = value.substr(1);
        blanks(s);
        if (!s.starts_with("\"")) {
            take_token(s);
            continue;
        }
        std::size_t end = 1;
        while (end < s.size() && s[end] != '"')
            end += s[end] == '\\' ? 2 : 1;
        demand(end < s.size());
        s.remove_prefix(end + 1);
    }
}

struct teller {
    std::string told, body;

    void tell(const std::string &what) {
        if (!body.empty())
            told += (told.empty() ? "data " : "; data ") + body;
        body.clear();
        told += (told.empty() ? "" : "; ") + what;
    }
};

void chunks(reader &in, teller &out) {
    constexpr std::string_view never =
        ",age,authorization,cache-control,connection,content-encoding,content-length,content-range,content-"
        "type,"
        "cookie,date,expect,expires,host,location,max-forwards,proxy-authorization,proxy-authenticate,range,"
        "retry-after,set-cookie,te,trailer,transfer-encoding,www-authenticate,";
    for (std::uint64_t sum = 0;;) {
        std::string_view line = in.line();
        std::uint64_t size = 0;
        std::size_t digits = 0;
        for (; digits < line.size() && hex(line[digits]) >= 0; ++digits) {
            demand(size >> 60 == 0);
            size = size * 16 + static_cast<std::uint64_t>(hex(line[digits]));
        }
        demand(digits != 0);
        check_extensions(line.substr(digits));
        if (size == 0)
            break;
        demand(size <= UINT64_MAX - sum);
        sum += size;
        out.body += in.rest.substr(0, static_cast<std::size_t>(size));
        demand(in.rest.size() >= size && in.rest.size() - size >= 2);
        in.rest.remove_prefix(static_cast<std::size_t>(size));
        demand(in.rest.starts_with("\r\n"));
        in.rest.remove_prefix(2);
    }
    const header trailer = in.fields();
    for (const auto &[name, value] : trailer)
        demand(never.find("," + lower(name) + ",") == std::string_view::npos);
    if (!trailer.empty())
        out.tell("trailer " + shown(trailer));
}

bool one_message(bool request, reader &in, teller &out, std::string_view answers) {
    for (int interims = 0;;) {
        std::string_view line = in.line();
        std::string start, version;
        int status = 0;
        if (request) {
            const std::size_t first = line.find(' '), last = line.rfind(' ');
            demand(first != std::string_view::npos && first < last);
            const std::string_view method = line.substr(0, first);
            const std::string_view target = line.substr(first + 1, last - first - 1);
            version = line.substr(last + 1);
            demand(token(method));
            check_target(method, target);
            start.append(method).append(" ").append(target);
        } else {
            demand(line.size() >= 12 && line[8] == ' ' && all(line.substr(9, 3), digit));
            version = line.substr(0, 8);
            status = std::stoi(std::string(line.substr(9, 3)));
            demand(status >= 100);
            demand(line.size() == 12 || line[12] == ' ');
            start = line.substr(9, 3);
            start.append(" ").append(line.substr(std::min<std::size_t>(13, line.size())));
        }
        demand(version == "HTTP/1.0" || version == "HTTP/1.1");
        const bool old = version.back() == '0';

        const header all_fields = in.fields();
        if (request) {
            const auto hosts = values(all_fields, "host");
            demand(hosts.size() == 1 || (hosts.empty() && old));
            if (!hosts.empty())
                check_host(hosts[0]);
        }
        const auto lengths = values(all_fields, "content-length");
        demand(lengths.size() <= 1);
        if (!lengths.empty()) // more digits are refused: nothing is that long
            demand(!lengths[0].empty() && lengths[0].size() <= 18 && all(lengths[0], digit));
        const auto codings = values(all_fields, "transfer-encoding");
        if (!codings.empty())
            demand(codings.size() == 1 && lower(codings[0]) == "chunked" && lengths.empty() && !old &&
                   (request || status >= 200));
        // Of no meaning, but refused where it is no list of tokens.
        header proxy;
        for (const std::string &value : values(all_fields, "proxy-connection"))
            proxy.emplace_back("connection", value);
        has_option(proxy, "");
        const bool close = has_option(all_fields, "close");
        bool keep = !close && (!old || has_option(all_fields, "keep-alive"));

        if (!request && status < 200 && status != 101) {
            demand(++interims <= 8);
            out.tell("interim " + std::to_string(status) + " " + shown(all_fields));
            continue;
        }
        const bool upgraded = status == 101 || (answers == "CONNECT" && status / 100 == 2);
        const bool empty = upgraded || status == 204 || status == 304 || answers == "HEAD";
        const bool until_end = !request && !empty && lengths.empty() && codings.empty();
        keep = keep && !until_end;
        out.tell("head " + start + " 1." + version.back() + " " + shown(all_fields) + (keep ? " keep" : ""));
        if (empty) {
        } else if (until_end) {
            out.body = in.rest;
            in.rest = {};
        } else if (!codings.empty()) {
            chunks(in, out);
        } else if (!lengths.empty()) {
            const std::uint64_t length = std::stoull(lengths[0]);
            out.body = in.rest.substr(0, static_cast<std::size_t>(length));
            demand(in.rest.size() >= length);
            in.rest.remove_prefix(static_cast<std::size_t>(length));
        }
        out.tell("end");
        return !upgraded && !until_end;
    }
}

} // namespace

std::string reference_told(bool request, std::string_view input, std::string_view answers) {
    reader in{input};
    teller out;
    try {
        for (;;) {
            int skipped = 0;
            for (; request && in.rest.starts_with("\r\n"); in.rest.remove_prefix(2))
                demand(++skipped <= 4);
            if (in.rest.empty() || in.rest == "\r") {
                out.tell("need_more");
                break;
            }
            if (!one_message(request, in, out, answers))
                break;
            answers = {};
        }
    } catch (const refused &) {
        out.tell("refused");
    }
    return std::move(out.told);
}

std::string without_reason(std::string told) {
    // Nothing is told behind either; a body may hold these words, so only the last counts.
    const std::size_t error = told.rfind("error "), cut = told.rfind("cut: ");
    const std::size_t at = error == std::string::npos ? cut
                           : cut == std::string::npos ? error
                                                      : std::max(error, cut);
    if (at == std::string::npos || told.ends_with("; end") || told.ends_with("need_more"))
        return told;
    return told.replace(at, std::string::npos, "refused");
}
