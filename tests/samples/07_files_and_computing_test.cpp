#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

#include <doctest/doctest.h>

#include "process.h"

namespace {

// A folder of the test's own, gone afterwards.
struct folder {
    folder() {
        std::string name = (std::filesystem::temp_directory_path() / "parley-XXXXXX").string();
        REQUIRE(mkdtemp(name.data()) != nullptr);
        path = name;
    }
    folder(const folder &) = delete;
    ~folder() { std::filesystem::remove_all(path); }
    std::filesystem::path path;
};

void write_file(const std::filesystem::path &path, const std::string &bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}

std::string read_file(const std::filesystem::path &path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

std::string fnv1a(const std::string &bytes) {
    std::uint64_t sum = 0xcbf29ce484222325;
    for (const char byte : bytes)
        sum = (sum ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
    std::ostringstream text;
    text << std::hex << sum;
    return text.str();
}

} // namespace

TEST_CASE("a file is copied and its checksum is right") {
    const folder here;
    for (const std::size_t size : {0u, 1u, 262'144u, 262'145u, 1'000'000u}) {
        std::string bytes(size, '\0');
        for (std::size_t i = 0; i < size; i++)
            bytes[i] = static_cast<char>(i * 2'654'435'761u >> 24);
        write_file(here.path / "from", bytes);
        const outcome ended =
            run_program(sample("07_files_and_computing"), {here.path / "from", here.path / "to"});
        CHECK(ended.errors == "");
        CHECK(ended.output == fnv1a(bytes) + ' ' + std::to_string(size) + " bytes\n");
        CHECK(ended.status == 0);
        CHECK(read_file(here.path / "to") == bytes);
    }
}

TEST_CASE("a file that is not there is named, with status 1") {
    const folder here;
    const outcome ended =
        run_program(sample("07_files_and_computing"), {here.path / "none", here.path / "to"});
    CHECK(ended.status == 1);
    CHECK(ended.errors.find("No such file or directory: file, " + (here.path / "none").string()) !=
          std::string::npos);
    CHECK(!std::filesystem::exists(here.path / "to"));
}

TEST_CASE("a folder cannot be copied as a file, and the folder is named") {
    const folder here;
    const outcome ended = run_program(sample("07_files_and_computing"), {here.path, here.path / "to"});
    CHECK(ended.status == 1);
    CHECK(ended.errors.find("Is a directory: file, " + here.path.string()) != std::string::npos);
}

TEST_CASE("copying wants two names") {
    CHECK(run_program(sample("07_files_and_computing"), {"from"}).status == 2);
    CHECK(run_program(sample("07_files_and_computing"), {"from", "to", "more"}).status == 2);
}
