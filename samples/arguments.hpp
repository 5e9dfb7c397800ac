// The command lines of the samples: [--port N], and words where a sample takes some. What is not understood
// ends the program with status 2 and a line that says why.

#pragma once

#include <charconv>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

struct arguments {
    unsigned short port = 0;
    std::vector<std::string> words;
};

// `usage` is what follows the program's name and says what is taken: "[--port N]", "[--port N] TEXT...",
// "FROM TO".
inline arguments parse_arguments(int argc, char **argv, const std::string &usage,
                                 unsigned short default_port = 0) {
    const auto help = [&](std::ostream &out) { out << "usage: " << argv[0] << ' ' << usage << '\n'; };
    const auto refuse = [&](std::string_view why) {
        std::cerr << argv[0] << ": " << why << '\n';
        help(std::cerr);
        std::exit(2);
    };

    const bool takes_port = usage.starts_with("[--port N]");
    const bool takes_more = usage.ends_with("...");
    std::istringstream expected(usage.substr(takes_port ? usage.find(']') + 1 : 0));
    std::size_t wanted = 0;
    for (std::string word; expected >> word; wanted++) {
    }

    arguments given{default_port, {}};
    for (int i = 1; i < argc; i++) {
        const std::string word = argv[i];
        if (word == "--help") {
            help(std::cout);
            std::exit(0);
        }
        if (word == "--port" && takes_port) {
            const std::string number = i + 1 < argc ? argv[++i] : "";
            const char *end = number.data() + number.size();
            if (const auto [rest, error] = std::from_chars(number.data(), end, given.port);
                error != std::errc() || rest != end)
                refuse("--port wants a number from 0 to 65535, not \"" + number + '"');
        } else if (word.starts_with("--")) {
            refuse("there is no option " + word);
        } else {
            given.words.push_back(word);
        }
    }
    if (given.words.size() < wanted)
        refuse("something is missing");
    if (given.words.size() > wanted && !takes_more)
        refuse("too much: \"" + given.words[wanted] + '"');
    return given;
}
