#include <parley/http/router.hpp>

#include <algorithm>
#include <optional>
#include <stdexcept>

#include <parley/http/fields.hpp>

namespace parley::http::inline PARLEY_ABI {
namespace {

int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

// Nothing for one that is malformed, or that could lead a handler astray.
std::optional<std::string> decoded(std::string_view segment) {
    std::string text;
    for (std::size_t i = 0; i < segment.size(); ++i) {
        if (segment[i] != '%') {
            text += segment[i];
            continue;
        }
        if (i + 2 >= segment.size() || hex(segment[i + 1]) < 0 || hex(segment[i + 2]) < 0)
            return {};
        const char c = static_cast<char>(hex(segment[i + 1]) * 16 + hex(segment[i + 2]));
        if (c == '\0' || c == '/')
            return {};
        text += c;
        i += 2;
    }
    if (text == "." || text == "..")
        return {};
    return text;
}

std::optional<std::vector<std::string>> segments_of(std::string_view path) {
    std::vector<std::string> all;
    if (path.empty() || path[0] != '/')
        return {};
    while (!path.empty()) {
        path.remove_prefix(1);
        const std::size_t slash = path.find('/');
        std::optional<std::string> one = decoded(path.substr(0, slash));
        if (!one)
            return {};
        all.push_back(std::move(*one));
        path.remove_prefix(std::min(slash, path.size()));
    }
    return all;
}

} // namespace

void router::insert(std::string_view method, std::string_view pattern, handler answer) {
    const auto refuse = [&](const char *why) {
        throw std::invalid_argument("http::router: " + std::string(why) + ": \"" + std::string(method) + " " +
                                    std::string(pattern) + "\"");
    };
    if (!is_token(method))
        refuse("the method is no token");
    if (pattern.empty() || pattern[0] != '/')
        refuse("a pattern begins with a slash");
    route made{std::string(method), {}, std::move(answer)};
    for (std::string_view rest = pattern; !rest.empty();) {
        rest.remove_prefix(1);
        std::string_view text = rest.substr(0, rest.find('/'));
        rest.remove_prefix(text.size());
        if (!text.starts_with("{")) {
            if (text.find_first_of("{}?#") != std::string_view::npos)
                refuse("a brace inside a segment, or what belongs to no path");
            made.pattern.push_back({segment::kind::text, std::string(text)});
            continue;
        }
        if (!text.ends_with("}"))
            refuse("a segment with { ends with }");
        text = text.substr(1, text.size() - 2);
        const bool all = text.ends_with("...");
        if (all)
            text.remove_suffix(3);
        if (text.empty())
            refuse("a parameter without a name");
        if (all && !rest.empty())
            refuse("{name...} stands at the end");
        made.pattern.push_back({all ? segment::kind::rest : segment::kind::any, std::string(text)});
    }
    // In order of precedence: the first that matches is the one.
    const auto place = std::find_if(routes_.begin(), routes_.end(),
                                    [&](const route &other) { return before(made.pattern, other.pattern); });
    routes_.insert(place, std::move(made));
}

bool router::before(const std::vector<segment> &a, const std::vector<segment> &b) {
    for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
        if (a[i].what != b[i].what)
            return a[i].what < b[i].what;
    }
    return false;
}

bool router::match(const std::vector<segment> &pattern, const std::vector<std::string> &path) {
    for (std::size_t i = 0; i < pattern.size(); ++i) {
        if (pattern[i].what == segment::kind::rest)
            return true;
        if (i >= path.size() || (pattern[i].what == segment::kind::text && pattern[i].text != path[i]))
            return false;
    }
    return pattern.size() == path.size();
}

const handler *router::find(std::string_view method, std::string_view path, parameters &found,
                            std::string &allow) const {
    found.clear();
    allow.clear();
    const std::optional<std::vector<std::string>> segments = segments_of(path);
    const route *chosen = nullptr;
    const route *for_get = nullptr;
    fields methods; // each once
    for (const route &one : routes_) {
        if (!segments || !match(one.pattern, *segments))
            continue;
        methods.set(one.method, "");
        if (!chosen && one.method == method)
            chosen = &one;
        if (!for_get && one.method == "GET")
            for_get = &one;
    }
    if (!chosen && method == "HEAD")
        chosen = for_get;
    if (chosen) {
        for (std::size_t i = 0; i < chosen->pattern.size(); ++i) {
            const segment &part = chosen->pattern[i];
            if (part.what == segment::kind::any) {
                found.emplace_back(part.text, (*segments)[i]);
            } else if (part.what == segment::kind::rest) {
                std::string rest;
                for (std::size_t j = i; j < segments->size(); ++j)
                    rest.append(j == i ? "" : "/").append((*segments)[j]);
                found.emplace_back(part.text, std::move(rest));
            }
        }
        return &chosen->answer;
    }
    if (otherwise_)
        return &otherwise_;
    if (!methods.empty()) {
        if (for_get)
            methods.set("HEAD", "");
        methods.set("OPTIONS", "");
        for (const auto [name, value] : methods)
            allow.append(allow.empty() ? "" : ", ").append(name);
    }
    return nullptr;
}

} // namespace parley::http::inline PARLEY_ABI
