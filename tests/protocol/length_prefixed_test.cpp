#include <parley/protocol/length_prefixed.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

using namespace std::string_literals;
using namespace std::string_view_literals;

namespace {

struct open_message : parley::length_prefixed {
    using length_prefixed::length_prefixed;

    int feed(std::string_view bytes, std::size_t &taken) {
        taken = bytes.size();
        errno = 0;
        return append(bytes.data(), &taken);
    }
    int feed(std::string_view bytes) {
        std::size_t taken = 0;
        return feed(bytes, taken);
    }
    // Reads as the core does: in place where the message offers room.
    int feed_in_place(std::string_view bytes) {
        std::size_t room = 0;
        void *place = reserve(&room);
        REQUIRE(place != nullptr);
        std::size_t taken = std::min(room, bytes.size());
        std::memcpy(place, bytes.data(), taken);
        return append(place, &taken);
    }
    std::size_t room() {
        std::size_t size = 1;
        return reserve(&size) ? size : 0;
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

std::string framed(std::string_view body) {
    open_message message{body};
    return message.wire();
}

} // namespace

TEST_CASE("the length is four bytes, big end first, and does not count itself") {
    CHECK(framed("abc") == "\0\0\0\3abc"s);
    CHECK(framed("") == "\0\0\0\0"s);
    CHECK(framed(std::string(0x010203, 'x')).substr(0, 4) == "\0\1\2\3"s);
}

TEST_CASE("a message ends with its body and leaves the rest to the next one") {
    open_message message;
    std::size_t taken = 0;
    CHECK(message.feed(framed("one") + framed("two"), taken) == 1);
    CHECK(taken == 7);
    CHECK(message.body() == "one");
}

TEST_CASE("a message may come byte by byte") {
    open_message message;
    std::string bytes = framed("split");
    for (std::size_t i = 0; i + 1 < bytes.size(); i++)
        CHECK(message.feed({&bytes[i], 1}) == 0);
    CHECK(message.feed({&bytes.back(), 1}) == 1);
    CHECK(message.body() == "split");
}

TEST_CASE("an empty body is a message as soon as its length is there") {
    open_message message;
    CHECK(message.feed("\0\0\0"s) == 0);
    CHECK(message.feed("\0"s) == 1);
    CHECK(message.body().empty());
}

TEST_CASE("a body over the limit is EMSGSIZE as soon as its length is there") {
    open_message message;
    message.limit(3);
    CHECK(message.feed("\0\0\0\4"s) == -1);
    CHECK(errno == EMSGSIZE);

    open_message largest;
    CHECK(largest.feed("\xff\xff\xff\xff"s) == -1);
    CHECK(errno == EMSGSIZE);
}

TEST_CASE("a large body is read straight into its memory") {
    std::string body(100'000, 'b');
    std::string bytes = framed(body);
    open_message message;
    CHECK(message.room() == 0);
    CHECK(message.feed(bytes.substr(0, 1000)) == 0);
    CHECK(message.room() == 100'004 - 1000);
    CHECK(message.feed_in_place(std::string_view(bytes).substr(1000, 50'000)) == 0);
    CHECK(message.feed_in_place(std::string_view(bytes).substr(51'000)) == 1);
    CHECK(message.body() == body);
}

TEST_CASE("a small body is not worth a read of its own") {
    open_message message;
    CHECK(message.feed(framed("small").substr(0, 5)) == 0);
    CHECK(message.room() == 0);
}

TEST_CASE("a message that was read may be sent and read into again") {
    open_message message;
    CHECK(message.feed(framed("echo")) == 1);
    CHECK(message.wire() == framed("echo"));
    CHECK(message.feed(framed("again")) == 1);
    CHECK(message.body() == "again");
    message.clear();
    CHECK(message.wire() == framed(""));
    CHECK(message.feed(framed("third")) == 1);
    CHECK(message.body() == "third");
}

TEST_CASE("a message that was read, changed and sent is read into again from its beginning") {
    open_message message;
    CHECK(message.feed(framed("a question")) == 1);
    message.body("no");
    CHECK(message.wire() == framed("no"));
    CHECK(message.feed(framed("another question")) == 1);
    CHECK(message.body() == "another question");
}

TEST_CASE("a body can be written in place") {
    open_message message;
    std::memcpy(message.resize_for_overwrite(3), "xyz", 3);
    CHECK(message.wire() == framed("xyz"));
}

TEST_CASE("bodies are taken, given and changed as bytes too") {
    const std::array<std::byte, 3> three{std::byte{0}, std::byte{0xff}, std::byte{'a'}};
    open_message message{std::span<const std::byte>(three)};
    CHECK(message.body() == "\0\xff\x61"sv);
    CHECK(std::ranges::equal(std::as_const(message).bytes(), three));
    message.bytes()[0] = std::byte{'b'};
    CHECK(message.body() == "b\xff\x61"sv);
    message.body(std::span<const std::byte>());
    CHECK(message.size() == 0);
    CHECK(message.bytes().empty());
    CHECK(open_message().bytes().empty());

    parley::byte_buffer buffer{std::span<const std::byte>(three)};
    buffer.append(std::span<const std::byte>(three).subspan(2));
    CHECK(buffer.view() == "\0\xff\x61\x61"sv);
    buffer.bytes().back() = std::byte{'c'};
    CHECK(std::as_const(buffer).bytes().back() == std::byte{'c'});
    buffer.assign(std::span<const std::byte>(three).first(2));
    CHECK(buffer.size() == 2);
    CHECK(parley::byte_buffer().bytes().empty());
}

TEST_CASE("copies are independent and a message that was moved from is empty") {
    open_message message{"body"};
    open_message copy = message;
    open_message moved = std::move(message);
    copy.data()[0] = 'B';
    CHECK(copy.wire() == framed("Body"));
    CHECK(moved.wire() == framed("body"));
    CHECK(message.wire() == framed("")); // NOLINT: that is the point

    open_message target{"something longer than the rest"};
    target = std::move(moved);
    CHECK(target.wire() == framed("body"));
}

TEST_CASE("a buffer that is too small grows and keeps what it holds") {
    parley::byte_buffer buffer{"head"};
    for (int i = 0; i < 1000; i++)
        buffer.append("tail");
    CHECK(buffer.size() == 4004);
    CHECK(buffer.view().substr(0, 8) == "headtail");
    std::size_t capacity = buffer.capacity();
    buffer.clear();
    buffer.append("x");
    CHECK(buffer.capacity() == capacity);
    CHECK(buffer.view() == "x");
}
