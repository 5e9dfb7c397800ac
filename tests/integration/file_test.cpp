#include "net.hpp"

#include <array>
#include <memory>
#include <vector>

#include <sys/stat.h>

using namespace net;
using parley::file;
using parley::file_mode;
using parley::runtime;
using parley::task;

namespace {
constexpr std::size_t piece = 1u << 20;
}

TEST_CASE("a file is written at positions and read back") {
    temp_dir dir;
    runtime rt(with_loops(1));
    rt.sync_wait([](std::string path) -> task<> {
        auto out = file::open(path, file_mode::write);
        REQUIRE(out);
        CHECK(out->path() == path);
        auto wrote = co_await out->write_at(0, "hello, world");
        CHECK(*wrote == 12);
        wrote = co_await out->write_at(7, "files");
        CHECK(*wrote == 5);
        auto synced = co_await out->sync();
        CHECK(synced);
        synced = co_await out->sync_data();
        CHECK(synced);

        auto in = file::open(path, file_mode::read);
        std::string text(100, '\0');
        auto read = co_await in->read_at(0, std::span(text.data(), text.size()));
        CHECK(*read == 12);
        CHECK(text.substr(0, *read) == "hello, files");
        read = co_await in->read_at(7, std::span(text.data(), 3));
        CHECK(text.substr(0, *read) == "fil");
        read = co_await in->read_at(1000, std::span(text.data(), text.size()));
        CHECK(*read == 0);
        std::array<std::byte, 4> bytes{};
        read = co_await in->read_at(0, std::span<std::byte>(bytes));
        CHECK(*read == 4);
        CHECK(bytes[0] == std::byte{'h'});
    }(dir / "file"));
}

TEST_CASE("large files, many operations at once") {
    temp_dir dir;
    runtime rt(with_loops(2));
    rt.sync_wait([](std::string path) -> task<> {
        auto f = file::open(path, file_mode::create);
        REQUIRE(f);
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            for (std::size_t i = 0; i < 16; i++) {
                s.spawn([](file &to, std::size_t n) -> task<> {
                    std::string bytes(piece, static_cast<char>('a' + n));
                    auto wrote = co_await to.write_at(n * piece, bytes);
                    CHECK(*wrote == piece);
                }(*f, i));
            }
            co_return;
        });
        std::string all(16 * piece + 1, '\0');
        auto read = co_await f->read_at(0, std::span(all.data(), all.size()));
        CHECK(*read == 16 * piece);
        for (std::size_t i = 0; i < 16; i++)
            CHECK(all[i * piece + 77] == static_cast<char>('a' + i));
    }(dir / "large"));
}

TEST_CASE("errors name the file and the stage") {
    temp_dir dir;
    auto missing = file::open(dir / "missing", file_mode::read);
    CHECK(missing.error() == std::errc::no_such_file_or_directory);
    CHECK(missing.error().stage() == parley::stage::file);
    CHECK(missing.error().peer() == dir / "missing");
    {
        auto made = file::open(dir / "there", file_mode::write);
    }
    CHECK(file::open(dir / "there", file_mode::create).error() == std::errc::file_exists);

    runtime rt(with_loops(1));
    rt.sync_wait([](std::string path) -> task<> {
        auto f = file::open(path, file_mode::read);
        auto wrote = co_await f->write_at(0, "not allowed");
        CHECK(wrote.error() == std::errc::bad_file_descriptor);
        CHECK(wrote.error().stage() == parley::stage::file);
        CHECK(wrote.error().peer() == path);
        file nothing;
        auto read = co_await nothing.sync();
        CHECK(read.error() == parley::errc::closed);
    }(dir / "there"));
}

TEST_CASE("a file that is dropped while an operation runs is closed after it") {
    temp_dir dir;
    std::size_t before = open_descriptors();
    {
        runtime rt(with_loops(1));
        rt.sync_wait([](std::string path) -> task<> {
            auto f = std::make_unique<file>(file::open(path, file_mode::create).value());
            std::string bytes(8u << 20, 'x');
            co_await parley::with_scope([&](parley::scope &s) -> task<> {
                s.spawn([](file &to, const std::string &what) -> task<> {
                    auto wrote = co_await to.write_at(0, what);
                    CHECK(*wrote == what.size());
                }(*f, bytes));
                co_await parley::yield();
                f.reset();
            });
            struct stat status;
            CHECK(::stat(path.c_str(), &status) == 0);
            CHECK(status.st_size == static_cast<off_t>(bytes.size()));
        }(dir / "dropped"));
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("/proc and pipes' ends: what has no size is read to its end") {
    runtime rt(with_loops(1));
    rt.sync_wait([]() -> task<> {
        auto f = file::open("/proc/self/status", file_mode::read);
        std::string text(65536, '\0');
        auto read = co_await f->read_at(0, std::span(text.data(), text.size()));
        CHECK(*read > 100);
        CHECK(text.find("VmRSS") != std::string::npos);
    }());
}
