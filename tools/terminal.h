// What the demo shows while it works: on a terminal a bar that overwrites itself, elsewhere now and then a
// plain line.

#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

// Numbers as people read them.
std::string grouped(std::uint64_t number);           // 1,234,567
std::string in_words(std::chrono::nanoseconds time); // "1.23 ms"
std::string in_bytes(std::uint64_t bytes);           // "1.50 GiB"

// The standard output. `quiet` shows nothing at all.
class terminal {
public:
    explicit terminal(bool quiet);

    void line(std::string_view text);
    void heading(std::string_view text);
    void good(std::string_view text); // green, where colours are wanted

    // How far the current part is, from 0 to 1, and a word about it. To be called often.
    void progress(double part, std::string_view note);
    // The part is over: the bar goes.
    void end_progress();

private:
    void paint(const char *colour, std::string_view text);

    bool quiet_;
    bool bar_;    // it is a terminal that can overwrite a line
    bool colour_; // and NO_COLOR is not set
    bool shown_ = false;
    std::chrono::steady_clock::time_point last_{}; // of the plain lines
};
