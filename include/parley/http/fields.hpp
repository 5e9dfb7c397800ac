// fields: the header or the trailer of an HTTP message. In the order in which they came, any number of one
// name, names compared without case (RFC 9110 section 5).
//
//     parley::http::fields header;
//     header.set("Content-Type", "text/plain");
//     header.add("Set-Cookie", "a=1");
//     header.get("content-type");          // "text/plain"
//     for (auto [name, value] : header)
//         ...

#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace parley::http {

// Whether two names of fields, or two tokens, are the same: ASCII letters compare without case.
[[nodiscard]] bool same_token(std::string_view a, std::string_view b) noexcept;
// RFC 9110 section 5.6.2: what a method or the name of a field may be.
[[nodiscard]] bool is_token(std::string_view text) noexcept;
// RFC 9110 section 5.5: no control character but the tab, and no blank at either end.
[[nodiscard]] bool is_field_value(std::string_view text) noexcept;

// A value type; what it holds lies in one piece of memory, which clear() keeps, so that a message that is
// used again allocates nothing. Not synchronised. Views into it are valid until it is changed.
class fields {
public:
    struct field {
        std::string_view name; // as it was written
        std::string_view value;
    };
    class iterator;

    [[nodiscard]] bool empty() const noexcept { return places_.empty(); }
    [[nodiscard]] std::size_t size() const noexcept { return places_.size(); }
    // The bytes of all names and values.
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

    // The value of the first of that name; nothing if there is none, which an empty value is not.
    [[nodiscard]] std::optional<std::string_view> get(std::string_view name) const noexcept;
    [[nodiscard]] bool contains(std::string_view name) const noexcept { return find(name) != places_.size(); }
    [[nodiscard]] std::size_t count(std::string_view name) const noexcept;
    // All of that name as one: joined by ", " (RFC 9110 section 5.2). Not for Set-Cookie.
    [[nodiscard]] std::string joined(std::string_view name) const;
    // Whether that member is in the comma-separated list that the fields of that name make, without case:
    // has_member("Connection", "close"). Blanks and empty members are passed over, and so is a comma in a
    // quoted string.
    [[nodiscard]] bool has_member(std::string_view name, std::string_view member) const noexcept;

    // Behind all others. Throws std::invalid_argument for a name that is no token or a value that a message
    // cannot carry: nothing may be smuggled into a header by a line feed. std::bad_alloc leaves it as it was.
    void add(std::string_view name, std::string_view value);
    // In the place of the first of that name, the others of it go; as add() if there is none.
    void set(std::string_view name, std::string_view value);
    // How many there were.
    std::size_t erase(std::string_view name) noexcept;
    // Keeps its memory.
    void clear() noexcept {
        places_.clear();
        text_.clear();
        bytes_ = 0;
    }
    // Room for so many fields with so many bytes of names and values.
    void reserve(std::size_t count, std::size_t bytes_of_text) {
        places_.reserve(count);
        text_.reserve(bytes_of_text);
    }

    [[nodiscard]] field operator[](std::size_t index) const noexcept { return at(places_[index]); }
    [[nodiscard]] iterator begin() const noexcept;
    [[nodiscard]] iterator end() const noexcept;

    // Order, names' case and all.
    friend bool operator==(const fields &a, const fields &b) noexcept;

private:
    struct place {
        std::uint32_t begin; // of the name; the value follows it
        std::uint32_t name;
        std::uint32_t value;
    };

    [[nodiscard]] field at(const place &p) const noexcept {
        const std::string_view all(text_);
        return {all.substr(p.begin, p.name), all.substr(p.begin + p.name, p.value)};
    }
    [[nodiscard]] std::size_t find(std::string_view name, std::size_t from = 0) const noexcept;
    [[nodiscard]] bool holds(std::string_view part) const noexcept;
    void append(std::string_view name, std::string_view value);
    std::size_t drop(std::string_view name, std::size_t from) noexcept;
    void squeeze() noexcept;

    std::string text_; // names and values; those that were erased stay until squeeze()
    std::vector<place> places_;
    std::size_t bytes_ = 0;
};

class fields::iterator {
public:
    using iterator_category = std::input_iterator_tag;
    using iterator_concept = std::forward_iterator_tag;
    using value_type = field;
    using difference_type = std::ptrdiff_t;
    using reference = field;

    iterator() = default;
    field operator*() const noexcept { return (*of_)[index_]; }
    iterator &operator++() noexcept {
        ++index_;
        return *this;
    }
    iterator operator++(int) noexcept {
        iterator before = *this;
        ++index_;
        return before;
    }
    friend bool operator==(const iterator &a, const iterator &b) noexcept = default;

private:
    friend class fields;
    iterator(const fields &of, std::size_t index) noexcept : of_(&of), index_(index) {}

    const fields *of_ = nullptr;
    std::size_t index_ = 0;
};

inline fields::iterator fields::begin() const noexcept {
    return {*this, 0};
}
inline fields::iterator fields::end() const noexcept {
    return {*this, size()};
}

} // namespace parley::http
