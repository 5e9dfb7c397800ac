#include <parley/protocol/line_message.hpp>

#include <doctest/doctest.h>

#include <cerrno>
#include <string>
#include <string_view>

using namespace std::string_view_literals;

namespace {

// What the core does with a message, at hand.
struct open_line : parley::line_message {
    using line_message::line_message;

    int feed(std::string_view bytes, std::size_t &taken) {
        taken = bytes.size();
        errno = 0;
        return append(bytes.data(), &taken);
    }
    int feed(std::string_view bytes) {
        std::size_t taken = 0;
        return feed(bytes, taken);
    }
    std::string wire() {
        struct iovec vectors[8];
        std::string bytes;
        int count = encode(vectors, 8);
        if (count < 0)
            return "failed";
        for (int i = 0; i < count; i++)
            bytes.append(static_cast<const char *>(vectors[i].iov_base), vectors[i].iov_len);
        return bytes;
    }
};

} // namespace

TEST_CASE("a line ends at its line feed and leaves the rest to the next one") {
    open_line line;
    std::size_t taken = 0;
    CHECK(line.feed("hello\nworld\n", taken) == 1);
    CHECK(taken == 6);
    CHECK(line.text() == "hello");
}

TEST_CASE("a line may come byte by byte") {
    open_line line;
    for (char c : "split"sv)
        CHECK(line.feed({&c, 1}) == 0);
    CHECK(line.feed("\n") == 1);
    CHECK(line.text() == "split");
}

TEST_CASE("a carriage return before the line feed is dropped and one inside is kept") {
    open_line line;
    CHECK(line.feed("a\rb\r") == 0);
    CHECK(line.feed("\n") == 1);
    CHECK(line.text() == "a\rb");
}

TEST_CASE("an empty line is a message") {
    open_line line;
    CHECK(line.feed("\n") == 1);
    CHECK(line.text().empty());
}

TEST_CASE("a line of exactly the limit is read, with either ending") {
    for (std::string_view ending : {"\n"sv, "\r\n"sv}) {
        open_line line;
        line.limit(4);
        CHECK(line.feed("1234") == 0);
        CHECK(line.feed(ending) == 1);
        CHECK(line.text() == "1234");
    }
}

TEST_CASE("a line over the limit is EMSGSIZE, before its end is seen") {
    open_line line;
    line.limit(4);
    CHECK(line.feed("123456") == -1);
    CHECK(errno == EMSGSIZE);

    open_line ended;
    ended.limit(4);
    CHECK(ended.feed("12345\n") == -1);
    CHECK(errno == EMSGSIZE);
}

TEST_CASE("a message that was read may be read into again") {
    open_line line;
    CHECK(line.feed("first\n") == 1);
    CHECK(line.feed("second\n") == 1);
    CHECK(line.text() == "second");
    line.clear();
    CHECK(line.feed("third\n") == 1);
    CHECK(line.text() == "third");
}

TEST_CASE("a line is sent with a line feed") {
    open_line line;
    line.text("hello");
    CHECK(line.wire() == "hello\n");
    line.text("");
    CHECK(line.wire() == "\n");
}

TEST_CASE("a text with a line feed inside is EINVAL") {
    open_line line;
    line.text("two\nlines");
    CHECK(line.wire() == "failed");
    CHECK(errno == EINVAL);
}

TEST_CASE("a line can be copied and moved") {
    open_line line;
    line.text("a text that is too long for a small string");
    open_line copy = line;
    open_line moved = std::move(line);
    CHECK(copy.wire() == moved.wire());
    CHECK(moved.text() == "a text that is too long for a small string");
}
