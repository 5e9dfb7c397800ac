#include "terminal.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include <sys/ioctl.h>
#include <unistd.h>

using namespace std::chrono_literals;

namespace {

bool is_set(const char *name) {
    const char *value = std::getenv(name);
    return value != nullptr && *value != '\0';
}

bool can_overwrite() {
    const char *kind = std::getenv("TERM");
    return isatty(STDOUT_FILENO) == 1 && kind != nullptr && std::string_view(kind) != "dumb";
}

std::size_t width() {
    struct winsize size = {};
    const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : 80;
}

std::string three_digits(double value, const char *unit) {
    char text[32];
    std::snprintf(text, sizeof text, "%.*f %s", value < 10 ? 2 : value < 100 ? 1 : 0, value, unit);
    return text;
}

} // namespace

std::string grouped(std::uint64_t number) {
    std::string digits = std::to_string(number);
    for (std::size_t at = digits.size(); at > 3;)
        digits.insert(at -= 3, 1, ',');
    return digits;
}

std::string in_words(std::chrono::nanoseconds time) {
    const auto ns = static_cast<double>(time.count());
    if (ns < 1e3)
        return std::to_string(time.count()) + " ns";
    if (ns < 1e6)
        return three_digits(ns / 1e3, "us");
    if (ns < 1e9)
        return three_digits(ns / 1e6, "ms");
    return three_digits(ns / 1e9, "s");
}

std::string in_bytes(std::uint64_t bytes) {
    const auto size = static_cast<double>(bytes);
    if (size < 0x1p10)
        return std::to_string(bytes) + " B";
    if (size < 0x1p20)
        return three_digits(size * 0x1p-10, "KiB");
    if (size < 0x1p30)
        return three_digits(size * 0x1p-20, "MiB");
    return three_digits(size * 0x1p-30, "GiB");
}

terminal::terminal(bool quiet)
    : quiet_(quiet), bar_(!quiet && can_overwrite()), colour_(bar_ && !is_set("NO_COLOR")) {}

void terminal::paint(const char *colour, std::string_view text) {
    end_progress();
    if (quiet_)
        return;
    const int size = static_cast<int>(text.size());
    if (colour_ && *colour != '\0')
        std::printf("\033[%sm%.*s\033[0m\n", colour, size, text.data());
    else
        std::printf("%.*s\n", size, text.data());
    std::fflush(stdout);
}

void terminal::line(std::string_view text) {
    paint("", text);
}

void terminal::heading(std::string_view text) {
    paint("1", text);
    last_ = std::chrono::steady_clock::now();
}

void terminal::good(std::string_view text) {
    paint("32", text);
}

void terminal::progress(double part, std::string_view note) {
    if (quiet_)
        return;
    part = std::clamp(part, 0.0, 1.0);
    const int percent = static_cast<int>(part * 100);
    if (!bar_) {
        const auto now = std::chrono::steady_clock::now();
        if (now - last_ < 1s)
            return;
        last_ = now;
        std::printf("  %3d %%  %.*s\n", percent, static_cast<int>(note.size()), note.data());
    } else {
        constexpr std::size_t cells = 30;
        const auto full = static_cast<std::size_t>(part * cells);
        char end[16];
        std::snprintf(end, sizeof end, "] %3d %%  ", percent);
        std::string shown = "  [" + std::string(full, '#') + std::string(cells - full, '.') + end;
        shown += note;
        shown.resize(std::min(shown.size(), width() - 1)); // a line that wraps could not be overwritten
        std::printf("\r\033[K%s", shown.c_str());
        shown_ = true;
    }
    std::fflush(stdout);
}

void terminal::end_progress() {
    if (shown_)
        std::printf("\r\033[K");
    shown_ = false;
}
