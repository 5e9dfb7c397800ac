// What travels with an exception, whatever its type: the awaits that it came through, and the exceptions that
// others in its scope ended with after it. The exception stays what it was; nothing is wrapped.
//
//     try {
//         parley::run(serve_all());
//     } catch (const std::exception& e) {
//         std::cerr << e.what() << '\n' << parley::await_trace();      // "  awaited at main.cpp:12 in ..."
//         for (const std::exception_ptr& other : parley::other_exceptions())
//             log(other);
//     }
//
// The notes belong to the exception object: they are there for everyone who holds it, however often it is
// thrown again, and end with it. An exception that is copied into a new one (`throw e;`) starts without any.
// Tasks that end well pay nothing for this.
//
// Where the layout of exception objects is not known (anything but 64-bit x86 and ARM with the Itanium C++
// ABI of libstdc++ or libc++abi) and when memory runs out, there are no notes.

#pragma once

#include <cstddef>
#include <exception>
#include <iosfwd>
#include <source_location>
#include <vector>

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {
struct exception_notes;
}

// The awaits that an exception came out of, innermost first. The locations point into the program's
// constants: they are valid as long as the shared object that awaited is loaded.
class await_sites {
public:
    using const_iterator = std::vector<std::source_location>::const_iterator;

    [[nodiscard]] const_iterator begin() const noexcept { return sites_.begin(); }
    [[nodiscard]] const_iterator end() const noexcept { return sites_.end(); }
    [[nodiscard]] bool empty() const noexcept { return sites_.empty(); }
    [[nodiscard]] std::size_t size() const noexcept { return sites_.size(); }
    [[nodiscard]] const std::source_location &operator[](std::size_t i) const noexcept { return sites_[i]; }

    // How many further ones there were: the innermost 64 are kept.
    [[nodiscard]] std::size_t omitted() const noexcept { return omitted_; }

private:
    friend struct detail::exception_notes;
    std::vector<std::source_location> sites_;
    std::size_t omitted_ = 0;
};

// One line for each: "  awaited at <file>:<line> in <function>"; then "  and <n> more" if some were omitted.
std::ostream &operator<<(std::ostream &out, const await_sites &sites);

// The awaits that the exception has left so far; empty for nullptr. Without an argument that of the exception
// being handled. An exception object that is thrown again continues its list. Any thread; throws
// std::bad_alloc.
[[nodiscard]] await_sites await_trace(const std::exception_ptr &exception = std::current_exception());

// The exceptions that others in its scope ended with after this one had cancelled them, in that order; each
// may have notes of its own. Not those that with_scope() was given a vector for. Any thread; throws
// std::bad_alloc.
[[nodiscard]] std::vector<std::exception_ptr>
other_exceptions(const std::exception_ptr &exception = std::current_exception());

namespace detail {

// Any thread. False when there is no memory or there are no notes here, and when `other` cannot be kept alive
// by `primary` without being kept alive by itself.
bool attach_other(const std::exception_ptr &primary, const std::exception_ptr &other) noexcept;
// False also for the empty location.
bool attach_site(const std::exception_ptr &exception, const std::source_location &site) noexcept;

// In a catch block of what a co_await at `site` threw. Nothing for `cancelled`.
void note_await(const std::source_location &site) noexcept;

// How many exception objects have notes now.
[[nodiscard]] std::size_t noted_exceptions() noexcept;

} // namespace detail
} // namespace parley::inline PARLEY_ABI
