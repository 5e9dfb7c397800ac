// The samples stay small, and so do the parts of them that the README shows.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace {

const std::filesystem::path folder = PARLEY_SAMPLES_SOURCE;

std::vector<std::string> lines_of(const std::filesystem::path &path) {
    std::ifstream in(path);
    REQUIRE(in);
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);)
        lines.push_back(line);
    return lines;
}

// Lines between "// [name]" and "// [/name]".
std::size_t part(const std::filesystem::path &path, const std::string &name) {
    const std::vector<std::string> lines = lines_of(path);
    const auto find = [&](const std::string &mark) {
        const auto found = std::find(lines.begin(), lines.end(), mark);
        REQUIRE_MESSAGE(found != lines.end(), mark);
        return found;
    };
    return static_cast<std::size_t>(find("// [/" + name + "]") - find("// [" + name + "]")) - 1;
}

} // namespace

TEST_CASE("a sample has fewer than 80 lines and begins with a comment of three") {
    std::size_t samples = 0;
    for (const auto &entry : std::filesystem::directory_iterator(folder)) {
        const std::string name = entry.path().filename().string();
        if (!name.ends_with(".cpp"))
            continue;
        CAPTURE(name);
        samples++;
        const std::vector<std::string> lines = lines_of(entry.path());
        CHECK(lines.size() < 80);
        for (std::size_t i = 0; i < 3; i++)
            CHECK(lines.at(i).starts_with("// "));
        CHECK(lines.at(3) == "");
    }
    CHECK(samples >= 21);
}

TEST_CASE("the server that the README shows has 20 lines, the client 8") {
    CHECK(part(folder / "02_echo_server.cpp", "server") <= 20);
    CHECK(part(folder / "03_echo_client.cpp", "client") <= 8);
}
