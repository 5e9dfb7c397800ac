// Files: the simulated kernel does what Linux does.

#include <fcntl.h>

#include "conformance.hpp"

using namespace conformance;

namespace {

int open_file(script &s, const std::string &file, int flags) {
    const int fd = s.keep(s.world.open(s.path(file).c_str(), flags, 0600));
    s.note("open", fd < 0 ? -1 : 0);
    return fd;
}

void put(script &s, int fd, std::string text, off_t offset) {
    iovec from{text.data(), text.size()};
    s.note("pwritev", s.world.pwritev(fd, &from, 1, offset, 0));
}

void take(script &s, int fd, off_t offset, std::size_t size = 100) {
    std::string text(size, '\0');
    iovec into{text.data(), size};
    const ssize_t n = s.note("preadv", s.world.preadv(fd, &into, 1, offset, 0));
    if (n > 0) {
        text.resize(static_cast<std::size_t>(n));
        std::replace(text.begin(), text.end(), '\0', '.');
        s.say("\"" + text + "\"");
    }
}

} // namespace

TEST_CASE("a file is made, found, emptied and refused as the flags say") {
    same_in_both([](script &s) {
        open_file(s, "file", O_RDONLY);
        open_file(s, "file", O_WRONLY);
        const int made = open_file(s, "file", O_RDWR | O_CREAT | O_EXCL);
        put(s, made, "content", 0);
        open_file(s, "file", O_RDWR | O_CREAT | O_EXCL);
        take(s, open_file(s, "file", O_RDWR | O_CREAT), 0);
        take(s, open_file(s, "file", O_RDONLY), 0);
        open_file(s, "file", O_WRONLY | O_TRUNC);
        take(s, made, 0);
        s.note("nameless", s.world.open("", O_RDONLY, 0));
        open_file(s, "file", O_RDONLY | O_DIRECTORY);
        open_file(s, "file/below", O_RDONLY);
        open_file(s, "file/below", O_WRONLY | O_CREAT);
    });
}

TEST_CASE("a file that is opened for one way refuses the other") {
    same_in_both([](script &s) {
        const int out = open_file(s, "file", O_WRONLY | O_CREAT);
        put(s, out, "text", 0);
        take(s, out, 0);
        char byte = 'x';
        s.note("read", s.world.read(out, &byte, 1));
        const int in = open_file(s, "file", O_RDONLY);
        put(s, in, "text", 0);
        put(s, in, "", 0);
        s.note("write", s.world.write(in, &byte, 1));
        s.note("fsync", s.world.fsync(in));
    });
}

TEST_CASE("a file is read and written at offsets, short at its end, with nulls in its holes") {
    same_in_both([](script &s) {
        const int fd = open_file(s, "file", O_RDWR | O_CREAT);
        put(s, fd, "hello, world", 0);
        put(s, fd, "files", 7);
        take(s, fd, 0);
        take(s, fd, 7, 3);
        take(s, fd, 12);
        take(s, fd, 1000);
        put(s, fd, "far", 20);
        take(s, fd, 0);
        put(s, fd, "", 40);
        take(s, fd, 0);
        take(s, fd, 0, 0);
        take(s, fd, -2);
        put(s, fd, "x", -2);
    });
}

TEST_CASE("offset -1 goes on where the last call ended, and other offsets do not move that") {
    same_in_both([](script &s) {
        const int fd = open_file(s, "file", O_RDWR | O_CREAT);
        put(s, fd, "abcdef", -1);
        take(s, fd, -1);
        const int in = open_file(s, "file", O_RDONLY);
        take(s, in, -1, 2);
        take(s, in, 0, 1);
        take(s, in, -1, 2);
        char bytes[9] = {};
        s.note("read", s.world.read(in, bytes, 1));
        s.note("read", s.world.read(in, bytes + 1, 7));
        s.say(bytes);
        s.note("read", s.world.read(in, bytes, 7));
        s.note("write", s.world.write(fd, "ghi", 3));
        take(s, in, -1);
    });
}

TEST_CASE("what is appended goes to the end, whatever the offset") {
    same_in_both([](script &s) {
        const int first = open_file(s, "file", O_WRONLY | O_CREAT);
        put(s, first, "one", 0);
        const int fd = open_file(s, "file", O_RDWR | O_APPEND);
        put(s, fd, " two", 0);
        put(s, first, "ONE and more", 0);
        put(s, fd, " three", -1);
        s.note("write", s.world.write(fd, " four", 5));
        take(s, fd, 0);
        take(s, fd, -1);
    });
}

TEST_CASE("several buffers are one read and one write") {
    same_in_both([](script &s) {
        const int fd = open_file(s, "file", O_RDWR | O_CREAT);
        char one[] = "123", two[] = "", three[] = "4567";
        iovec from[] = {{one, 3}, {two, 0}, {three, 4}};
        s.note("pwritev", s.world.pwritev(fd, from, 3, 2, 0));
        s.note("pwritev", s.world.pwritev(fd, from, 3, -1, 0));
        char first[4] = {}, second[100] = {};
        iovec into[] = {{first, 3}, {second, sizeof second - 1}};
        s.note("preadv", s.world.preadv(fd, into, 2, 1, 0));
        s.say(std::string(first) + " and " + second);
        s.note("of no buffers", s.world.preadv(fd, into, 0, 0, 0));
        s.note("of no buffers", s.world.pwritev(fd, from, 0, 0, 0));
        const std::vector<iovec> many(1025, iovec{one, 1});
        s.note("of too many", s.world.pwritev(fd, many.data(), 1025, 0, 0));
        s.note("of too many", s.world.preadv(fd, many.data(), 1025, 0, 0));
        s.note("of -1", s.world.preadv(fd, into, -1, 0, 0));
        s.note("no such flag", s.world.preadv(fd, into, 1, 0, 1 << 20));
        s.note("no such flag", s.world.pwritev(fd, from, 1, 0, 1 << 20));
    });
}

TEST_CASE("files are written out, and what is none has neither offset nor disk") {
    same_in_both([](script &s) {
        const int fd = open_file(s, "file", O_RDWR | O_CREAT);
        put(s, fd, "x", 0);
        s.note("fsync", s.world.fsync(fd));
        s.note("fdatasync", s.world.fdatasync(fd));
        for (int other : {s.stream(), s.keep(s.world.eventfd()), s.keep(s.world.epoll_create())}) {
            s.note("fsync", s.world.fsync(other));
            s.note("fdatasync", s.world.fdatasync(other));
            take(s, other, 0);
            put(s, other, "x", 0);
        }
        s.note("fsync", s.world.fsync(-1));
        s.note("fdatasync", s.world.fdatasync(-1));
        take(s, -1, 0);
        put(s, -1, "x", 0);
        char byte = 0;
        const int set = s.keep(s.world.epoll_create());
        s.note("read", s.world.read(set, &byte, 1));
        s.note("write", s.world.write(set, &byte, 1));
        s.recv(fd);
        s.send(fd, "x");
        s.bind(fd, inet("127.0.0.1"));
        s.names(fd);
        s.note("set_nonblocking", s.world.set_nonblocking(fd));
    });
}

TEST_CASE("the offsets of a connection are refused, and without one it is read and written") {
    same_in_both([](script &s) {
        const ends c = tcp(s);
        put(s, c.a, "by pwritev", -1);
        s.await(c.b, EPOLLIN);
        take(s, c.b, -1);
        take(s, c.b, -1);
        take(s, c.b, 3);
        put(s, c.b, "x", 3);
    });
}

TEST_CASE("two descriptors of a file see each other's bytes, and have offsets of their own") {
    same_in_both([](script &s) {
        const int one = open_file(s, "file", O_RDWR | O_CREAT);
        const int other = open_file(s, "file", O_RDWR);
        s.note("write", s.world.write(one, "abc", 3));
        take(s, other, -1);
        s.note("write", s.world.write(other, "def", 3));
        s.note("write", s.world.write(one, "X", 1));
        s.close(one);
        take(s, other, 0);
    });
}
