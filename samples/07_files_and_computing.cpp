// Files and long computations without stopping the loop: a copy of a file is written while the checksum of
// what was read is computed on another thread.
// Run it: 07_files_and_computing FROM TO

#include <array>
#include <cstdint>
#include <exception>
#include <iostream>
#include <string_view>
#include <vector>

#include <parley/parley.hpp>

#include "arguments.hpp"

// FNV-1a, which is slow enough for our purpose.
std::uint64_t checksum(std::uint64_t sum, std::string_view bytes) {
    for (const char byte : bytes)
        sum = (sum ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
    return sum;
}

parley::task<> add(std::uint64_t &sum, std::string_view bytes) {
    sum = co_await parley::compute([&] { return checksum(sum, bytes); }); // on a thread of the Executor
}

parley::task<> write(parley::file &to, std::uint64_t offset, std::string_view bytes) {
    auto written = co_await to.write_at(offset, bytes);
    if (!written)
        throw parley::exception(written.error()); // which names the file
}

parley::task<> copy(std::string from_path, std::string to_path) {
    parley::file from = parley::file::open(from_path, parley::file_mode::read).value();
    parley::file to = parley::file::open(to_path, parley::file_mode::write).value();

    std::vector<char> block(1 << 18);
    std::uint64_t offset = 0, sum = 0xcbf29ce484222325;
    for (;;) {
        auto read = co_await from.read_at(offset, block);
        const std::string_view bytes(block.data(), read.value());
        if (bytes.empty())
            break;
        co_await parley::with_scope([&](parley::scope &both) -> parley::task<> {
            both.spawn(add(sum, bytes));
            both.spawn(write(to, offset, bytes));
            co_return;
        });
        offset += bytes.size();
    }
    auto synced = co_await to.sync(); // on the disk
    synced.value();
    std::cout << std::hex << sum << std::dec << ' ' << offset << " bytes" << std::endl;
}

int main(int argc, char **argv) {
    const arguments given = parse_arguments(argc, argv, "FROM TO");
    try {
        parley::run(copy(given.words[0], given.words[1]));
        return 0;
    } catch (const std::exception &e) {
        std::cerr << argv[0] << ": " << e.what() << '\n';
        return 1;
    }
}
