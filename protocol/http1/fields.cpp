#include <parley/http/fields.hpp>

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <new>
#include <stdexcept>

namespace parley::http {
namespace {

constexpr char small(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

constexpr bool is_blank(char c) noexcept {
    return c == ' ' || c == '\t';
}

constexpr std::array<bool, 256> make_token_characters() {
    std::array<bool, 256> of{};
    for (const char c : std::string_view("!#$%&'*+-.^_`|~0123456789"
                                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        of[static_cast<unsigned char>(c)] = true;
    return of;
}
constexpr std::array<bool, 256> token_characters = make_token_characters();

constexpr bool is_of_value(char c) noexcept {
    const auto byte = static_cast<unsigned char>(c);
    return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
}

std::string_view trimmed(std::string_view text) noexcept {
    while (!text.empty() && is_blank(text.front()))
        text.remove_prefix(1);
    while (!text.empty() && is_blank(text.back()))
        text.remove_suffix(1);
    return text;
}

// Takes the next member from the front of a list; quoted strings may hold commas (RFC 9110 section 5.6.4).
std::string_view take_member(std::string_view &list) noexcept {
    bool quoted = false;
    std::size_t end = 0;
    for (; end < list.size(); ++end) {
        if (quoted && list[end] == '\\')
            ++end;
        else if (list[end] == '"')
            quoted = !quoted;
        else if (list[end] == ',' && !quoted)
            break;
    }
    end = std::min(end, list.size());
    const std::string_view member = trimmed(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
    return member;
}

} // namespace

bool same_token(std::string_view a, std::string_view b) noexcept {
    return a.size() == b.size() &&
           std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return small(x) == small(y); });
}

bool is_token(std::string_view text) noexcept {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
        return token_characters[static_cast<unsigned char>(c)];
    });
}

bool is_field_value(std::string_view text) noexcept {
    return std::all_of(text.begin(), text.end(), is_of_value) && trimmed(text).size() == text.size();
}

std::size_t fields::find(std::string_view name, std::size_t from) const noexcept {
    while (from < places_.size() && !same_token(at(places_[from]).name, name))
        ++from;
    return from;
}

std::optional<std::string_view> fields::get(std::string_view name) const noexcept {
    const std::size_t index = find(name);
    if (index == places_.size())
        return std::nullopt;
    return at(places_[index]).value;
}

std::size_t fields::count(std::string_view name) const noexcept {
    std::size_t n = 0;
    for (std::size_t i = find(name); i < places_.size(); i = find(name, i + 1))
        ++n;
    return n;
}

std::string fields::joined(std::string_view name) const {
    std::string all;
    for (std::size_t i = find(name), n = 0; i < places_.size(); i = find(name, i + 1)) {
        if (n++ > 0)
            all += ", ";
        all += at(places_[i]).value;
    }
    return all;
}

bool fields::has_member(std::string_view name, std::string_view member) const noexcept {
    for (std::size_t i = find(name); i < places_.size(); i = find(name, i + 1)) {
        for (std::string_view list = at(places_[i]).value; !list.empty();) {
            if (same_token(take_member(list), member))
                return true;
        }
    }
    return false;
}

void fields::add(std::string_view name, std::string_view value) {
    if (!is_token(name))
        throw std::invalid_argument("http: the name of a field is no token");
    if (!is_field_value(value))
        throw std::invalid_argument("http: a field cannot have this value: " + std::string(name));
    if (holds(name) || holds(value)) // which the text must not lose while it grows
        return append(std::string(name), std::string(value));
    append(name, value);
}

bool fields::holds(std::string_view part) const noexcept {
    const std::less<const char *> before;
    return !before(part.data(), text_.data()) && before(part.data(), text_.data() + text_.size());
}

void fields::append(std::string_view name, std::string_view value) {
    constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
    if (name.size() + value.size() > most - text_.size())
        throw std::length_error("http: fields of more than 4 GiB");
    if (places_.size() == places_.capacity())
        places_.reserve(places_.size() * 2 + 8);
    const std::size_t begin = text_.size();
    text_.append(name).append(value);
    places_.push_back({static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(name.size()),
                       static_cast<std::uint32_t>(value.size())});
    bytes_ += name.size() + value.size();
}

void fields::set(std::string_view name, std::string_view value) {
    add(name, value); // may throw; from here on nothing does
    const place newest = places_.back();
    places_.pop_back();
    const std::size_t first = find(at(newest).name);
    bytes_ -= std::size_t{newest.name} + newest.value;
    drop(at(newest).name, first);
    places_.insert(places_.begin() + static_cast<std::ptrdiff_t>(first), newest); // there is room
    bytes_ += std::size_t{newest.name} + newest.value;
    squeeze();
}

std::size_t fields::erase(std::string_view name) noexcept {
    return drop(name, 0);
}

std::size_t fields::drop(std::string_view name, std::size_t from) noexcept {
    const auto begin = places_.begin() + static_cast<std::ptrdiff_t>(from);
    const auto kept = std::remove_if(begin, places_.end(), [&](const place &p) {
        if (!same_token(at(p).name, name))
            return false;
        bytes_ -= std::size_t{p.name} + p.value;
        return true;
    });
    const auto dropped = static_cast<std::size_t>(places_.end() - kept);
    places_.erase(kept, places_.end());
    return dropped;
}

// A field that is set again and again must not make the text longer and longer.
void fields::squeeze() noexcept {
    if (text_.size() < 2 * bytes_ + 4096)
        return;
    try {
        std::string kept;
        kept.reserve(bytes_);
        for (const place &p : places_)
            kept.append(text_, p.begin, std::size_t{p.name} + p.value);
        text_ = std::move(kept);
    } catch (const std::bad_alloc &) {
        return; // another time
    }
    std::size_t begin = 0;
    for (place &p : places_) {
        p.begin = static_cast<std::uint32_t>(begin);
        begin += std::size_t{p.name} + p.value;
    }
}

bool operator==(const fields &a, const fields &b) noexcept {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](fields::field x, fields::field y) {
        return x.name == y.name && x.value == y.value;
    });
}

} // namespace parley::http
