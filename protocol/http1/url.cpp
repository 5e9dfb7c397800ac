#include <parley/http/url.hpp>

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ostream>
#include <stdexcept>

namespace parley::http {
namespace {

// --- Characters, by RFC 3986's names ---

enum : unsigned char {
    is_unreserved = 1,
    is_sub_delimiter = 2,
    is_path = 4,     // ":" "@" "/"
    is_scheme = 8,   // letters, digits, "+" "-" "."
    is_question = 16 // "?"
};

constexpr bool is_letter(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
constexpr bool is_digit(char c) noexcept {
    return c >= '0' && c <= '9';
}
constexpr char small(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
constexpr int hex_value(char c) noexcept {
    if (is_digit(c))
        return c - '0';
    const char low = small(c);
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

constexpr std::array<unsigned char, 256> make_kinds() {
    std::array<unsigned char, 256> kinds{};
    auto mark = [&](std::string_view which, unsigned char kind) {
        for (const char c : which)
            kinds[static_cast<unsigned char>(c)] |= kind;
    };
    for (int c = 0; c < 256; ++c) {
        if (is_letter(static_cast<char>(c)) || is_digit(static_cast<char>(c)))
            kinds[static_cast<std::size_t>(c)] |= is_unreserved | is_scheme;
    }
    mark("-._~", is_unreserved);
    mark("!$&'()*+,;=", is_sub_delimiter);
    mark(":@/", is_path);
    mark("+-.", is_scheme);
    mark("?", is_question);
    return kinds;
}
constexpr std::array<unsigned char, 256> kinds = make_kinds();

constexpr bool is_of(char c, unsigned char kind) noexcept {
    return (kinds[static_cast<unsigned char>(c)] & kind) != 0;
}

constexpr std::uint16_t port_of_scheme(std::string_view scheme) noexcept {
    if (scheme == "http" || scheme == "ws")
        return 80;
    if (scheme == "https" || scheme == "wss")
        return 443;
    return 0;
}

// What stands at a place where it may not.
std::string name_of(char c) {
    if (c == ' ')
        return "a space";
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
        return "a control character";
    if (static_cast<unsigned char>(c) >= 0x80)
        return "a byte that is not ASCII";
    return std::string("'") + c + '\'';
}

// RFC 3986 section 5.2.4, on the path of a url, which begins with a slash.
std::string without_dots(std::string_view path) {
    std::string out;
    while (!path.empty()) {
        const std::size_t end = path.find('/', 1);
        const std::string_view segment = path.substr(0, end); // "/name"
        const bool last = end == std::string_view::npos;
        if (segment == "/." || segment == "/..") {
            if (const std::size_t slash = out.rfind('/'); segment == "/.." && slash != std::string::npos)
                out.resize(slash);
            if (last)
                out += '/';
        } else {
            out += segment;
        }
        path = last ? std::string_view() : path.substr(end);
    }
    return out;
}

} // namespace

// Reads a url once from left to right and writes its normal form.
class url::reader {
public:
    explicit reader(std::string_view text) noexcept : text_(text) {}

    // Whether it is one; else why() says why not.
    bool read(url &out) {
        out.text_.reserve(text_.size() + 1);
        return read_scheme(out) && read_authority(out) && read_path(out) && read_query(out) &&
               read_fragment(out);
    }
    [[nodiscard]] std::string why() const {
        std::string said = "url: " + why_ + " at " + std::to_string(at_);
        // Shown as far as it is harmless to print.
        std::string shown;
        for (const char c : text_.substr(0, 200))
            shown += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
        return said + " in \"" + shown + (text_.size() > 200 ? "...\"" : "\"");
    }

private:
    bool fail(std::string what) {
        why_ = std::move(what);
        return false;
    }
    bool fail_here() { return fail(at_ < text_.size() ? name_of(text_[at_]) : "the end"); }

    [[nodiscard]] bool is_at(char c) const noexcept { return at_ < text_.size() && text_[at_] == c; }

    // Copies characters of these kinds and percent-encoded ones; stops at the first that is neither.
    bool copy(std::string &to, unsigned char which, bool lower = false) {
        for (; at_ < text_.size(); ++at_) {
            const char c = text_[at_];
            if (c == '%') {
                if (at_ + 2 >= text_.size() || hex_value(text_[at_ + 1]) < 0 || hex_value(text_[at_ + 2]) < 0)
                    return fail("a '%' without two hexadecimal digits");
                to.append(text_.substr(at_, 3));
                at_ += 2;
            } else if (is_of(c, which)) {
                to += lower ? small(c) : c;
            } else {
                break;
            }
        }
        return true;
    }

    bool read_scheme(url &out) {
        if (text_.empty() || !is_letter(text_.front()))
            return text_.empty() ? fail("nothing") : fail("no scheme");
        for (; at_ < text_.size() && is_of(text_[at_], is_scheme); ++at_)
            out.text_ += small(text_[at_]);
        if (!text_.substr(at_).starts_with("://"))
            return is_at(':') ? fail("no \"//\" after the scheme")
                              : fail(at_ < text_.size() ? name_of(text_[at_]) : "no \"://\"");
        at_ += 3;
        out.scheme_ = {0, out.text_.size()};
        out.text_ += "://";
        return true;
    }

    bool read_authority(url &out) {
        const std::size_t end = std::min(text_.find_first_of("/?#", at_), text_.size());
        const std::size_t user_end = text_.substr(0, end).rfind('@');
        if (user_end != std::string_view::npos && user_end >= at_) {
            const std::size_t begin = out.text_.size();
            while (at_ < user_end) {
                if (!copy(out.text_, is_unreserved | is_sub_delimiter))
                    return false;
                if (!is_at(':'))
                    break;
                out.text_ += ':';
                ++at_;
            }
            if (at_ != user_end)
                return fail_here();
            out.user_info_ = {begin, out.text_.size() - begin};
            out.text_ += '@';
            ++at_;
        }
        return (is_at('[') ? read_literal(out) : read_name(out)) && read_port(out, end);
    }

    // "[" IPv6address "]". Zones (RFC 6874) mean nothing to another machine; IPvFuture is nothing yet.
    bool read_literal(url &out) {
        const std::size_t close = text_.find(']', at_);
        if (close == std::string_view::npos)
            return fail("a '[' without its ']'");
        const std::string inside(text_.substr(at_ + 1, close - at_ - 1));
        in6_addr address;
        if (inside.size() > INET6_ADDRSTRLEN || ::inet_pton(AF_INET6, inside.c_str(), &address) != 1 ||
            inside.find('\0') != std::string::npos)
            return fail("no IPv6 address");
        out.text_ += '[';
        out.host_ = {out.text_.size(), inside.size()};
        std::transform(inside.begin(), inside.end(), std::back_inserter(out.text_), small);
        out.text_ += ']';
        out.ipv6_ = true;
        at_ = close + 1;
        return true;
    }
    bool read_name(url &out) {
        const std::size_t begin = out.text_.size();
        if (!copy(out.text_, is_unreserved | is_sub_delimiter, true))
            return false;
        out.host_ = {begin, out.text_.size() - begin};
        return out.host_.size > 0 || fail("no host");
    }
    bool read_port(url &out, std::size_t end) {
        const std::uint16_t usual = port_of_scheme(out.scheme());
        out.port_ = usual;
        if (at_ < end && text_[at_] == ':') {
            ++at_;
            const std::string_view digits = text_.substr(at_, end - at_);
            const auto stray = std::find_if_not(digits.begin(), digits.end(), is_digit);
            if (stray != digits.end()) {
                at_ += static_cast<std::size_t>(stray - digits.begin());
                return fail_here();
            }
            if (!digits.empty()) { // "host:" has the scheme's
                const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), out.port_);
                if (read.ec != std::errc() || out.port_ == 0)
                    return fail("no port from 1 to 65535");
                if (out.port_ != usual) {
                    out.text_ += ':';
                    out.text_ += std::to_string(out.port_);
                }
                at_ = end;
            }
        }
        return at_ == end || fail_here();
    }

    bool read_path(url &out) {
        const std::size_t begin = out.text_.size();
        if (!is_at('/'))
            out.text_ += '/';
        if (!copy(out.text_, is_unreserved | is_sub_delimiter | is_path))
            return false;
        out.path_ = out.target_ = {begin, out.text_.size() - begin};
        return at_ == text_.size() || is_at('?') || is_at('#') || fail_here();
    }
    bool read_query(url &out) {
        if (!is_at('?'))
            return true;
        ++at_;
        out.text_ += '?';
        const std::size_t begin = out.text_.size();
        if (!copy(out.text_, is_unreserved | is_sub_delimiter | is_path | is_question))
            return false;
        out.has_query_ = true;
        out.query_ = {begin, out.text_.size() - begin};
        out.target_.size = out.text_.size() - out.target_.begin;
        return at_ == text_.size() || is_at('#') || fail_here();
    }
    bool read_fragment(url &out) {
        if (!is_at('#'))
            return true;
        ++at_;
        out.text_ += '#';
        const std::size_t begin = out.text_.size();
        if (!copy(out.text_, is_unreserved | is_sub_delimiter | is_path | is_question))
            return false;
        out.has_fragment_ = true;
        out.fragment_ = {begin, out.text_.size() - begin};
        return at_ == text_.size() || fail_here();
    }

    std::string_view text_;
    std::size_t at_ = 0;
    std::string why_;
};

url::url(std::string_view text) {
    reader from(text);
    if (!from.read(*this))
        throw std::invalid_argument(from.why());
}

std::optional<url> url::parse(std::string_view text) {
    url made;
    if (reader(text).read(made))
        return made;
    return std::nullopt;
}

std::optional<std::string_view> url::query() const noexcept {
    if (has_query_)
        return part(query_);
    return std::nullopt;
}

std::optional<std::string_view> url::fragment() const noexcept {
    if (has_fragment_)
        return part(fragment_);
    return std::nullopt;
}

bool url::has_default_port() const noexcept {
    return port_ == port_of_scheme(scheme());
}

std::string url::authority() const {
    std::string made;
    if (ipv6_)
        made.append("[").append(host()).append("]");
    else
        made.append(host());
    if (!has_default_port())
        made.append(":").append(std::to_string(port_));
    return made;
}

std::string url::origin() const {
    return std::string(scheme()).append("://").append(authority());
}

std::optional<url> url::resolve(std::string_view reference) const {
    // A scheme is what stands before a colon that comes before every slash, question mark and number sign.
    const std::size_t colon = reference.find_first_of(":/?#");
    if (empty() || (colon != std::string_view::npos && colon > 0 && reference[colon] == ':'))
        return plain(parse(reference));
    if (reference.starts_with("//"))
        return plain(parse(std::string(scheme()).append(":").append(reference)));

    const std::size_t path_end = std::min(reference.find_first_of("?#"), reference.size());
    const std::string_view its_path = reference.substr(0, path_end);
    std::string made = text_.substr(0, path_.begin);
    if (its_path.empty())
        made.append(reference.substr(path_end).starts_with('?') ? path() : target());
    else if (its_path.starts_with('/'))
        made.append(its_path);
    else
        made.append(path().substr(0, path().rfind('/') + 1)).append(its_path);
    return plain(parse(made.append(reference.substr(path_end))));
}

std::optional<url> url::plain(std::optional<url> made) {
    if (!made)
        return made;
    const std::string path = without_dots(made->path());
    if (path == made->path())
        return made;
    const std::size_t end = made->path_.begin + made->path_.size;
    return parse(made->text_.substr(0, made->path_.begin) + path + made->text_.substr(end));
}

std::ostream &operator<<(std::ostream &out, const url &u) {
    return out << u.to_string();
}

std::optional<std::string> percent_decode(std::string_view text) {
    std::string bytes;
    bytes.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            bytes += text[i];
            continue;
        }
        const int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
        const int low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
        if (high < 0 || low < 0)
            return std::nullopt;
        bytes += static_cast<char>(high * 16 + low);
        i += 2;
    }
    return bytes;
}

std::string percent_encode(std::string_view bytes) {
    static constexpr char digits[] = "0123456789ABCDEF";
    std::string text;
    text.reserve(bytes.size());
    for (const char c : bytes) {
        if (is_of(c, is_unreserved)) {
            text += c;
        } else {
            const auto byte = static_cast<unsigned char>(c);
            text += '%';
            text += digits[byte >> 4];
            text += digits[byte & 15];
        }
    }
    return text;
}

} // namespace parley::http
