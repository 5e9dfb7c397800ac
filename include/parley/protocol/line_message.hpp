// line_message: one line of text, as `nc` and most people's first protocol speak it. It is an
// ordinary message of the core, for callbacks and coroutines alike, on either side.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <parley/core/Communicator.h>

namespace parley {

// On the wire: the text and a line feed. Read, a carriage return before the line feed is dropped;
// the text never contains a line feed. Default-constructible, copyable, and movable while no
// connection reads into it or writes from it. Not synchronised.
//
// Errors: a line longer than limit() fails its reader with EMSGSIZE; to send a text with a line
// feed inside fails with EINVAL, because the peer would see two lines.
class line_message : public CommMessageIn, public CommMessageOut {
public:
    static constexpr std::size_t default_limit = std::size_t{64} << 10;

    line_message() = default;
    explicit line_message(std::string text) : text_(std::move(text)) {}

    // The line without its end.
    const std::string &text() const & noexcept { return text_; }
    std::string text() && noexcept { return std::move(text_); }
    void text(std::string text) noexcept { text_ = std::move(text); }
    operator std::string_view() const noexcept { return text_; }

    // The longest text that is read, in bytes. A class derived from this one that sets it in its
    // constructor makes a protocol with another limit.
    std::size_t limit() const noexcept { return limit_; }
    void limit(std::size_t bytes) noexcept { limit_ = bytes; }

    // Ready to be read into again; keeps the limit and the memory.
    void clear() noexcept {
        text_.clear();
        complete_ = false;
    }

protected:
    int append(const void *buf, std::size_t *size) override;
    int encode(struct iovec vectors[], int max) override;

private:
    std::string text_;
    std::size_t limit_ = default_limit;
    bool complete_ = false;
};

} // namespace parley
