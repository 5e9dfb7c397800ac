#include <parley/http/date.hpp>

#include <array>
#include <cstdio>

namespace parley::http {
namespace {

constexpr std::array<const char *, 7> days = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
constexpr std::array<const char *, 12> months = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

struct reader {
    std::string_view rest;
    bool good = true;

    void skip(std::string_view text) {
        good = good && rest.starts_with(text);
        rest.remove_prefix(good ? text.size() : 0);
    }
    int number(std::size_t digits, bool blank_for_zero = false) {
        int value = 0;
        for (std::size_t i = 0; i < digits && good; ++i) {
            const char c = rest.empty() ? 'x' : rest[0];
            good = (c >= '0' && c <= '9') || (blank_for_zero && i == 0 && c == ' ');
            value = value * 10 + (c == ' ' || !good ? 0 : c - '0');
            rest.remove_prefix(good ? 1 : 0);
        }
        return value;
    }
    int month() {
        for (std::size_t i = 0; i < months.size(); ++i) {
            if (rest.starts_with(months[i])) {
                rest.remove_prefix(3);
                return static_cast<int>(i);
            }
        }
        good = false;
        return 0;
    }
    void time(std::tm &to) {
        to.tm_hour = number(2);
        skip(":");
        to.tm_min = number(2);
        skip(":");
        to.tm_sec = number(2);
    }
};

} // namespace

std::string to_date(std::time_t when) {
    std::tm parts{};
    gmtime_r(&when, &parts);
    std::array<char, 64> text{};
    const int length = std::snprintf(text.data(), text.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                                     days[static_cast<std::size_t>(parts.tm_wday)], parts.tm_mday,
                                     months[static_cast<std::size_t>(parts.tm_mon)], parts.tm_year + 1900,
                                     parts.tm_hour, parts.tm_min, parts.tm_sec);
    return {text.data(), static_cast<std::size_t>(length)};
}

std::optional<std::time_t> parse_date(std::string_view text) {
    std::tm parts{};
    const std::size_t comma = text.find(',');
    reader in{text.substr(comma == std::string_view::npos ? 0 : comma + 1)};
    if (comma == std::string_view::npos) { // asctime: "Mon Nov  3 14:25:12 2026"
        in.rest.remove_prefix(in.rest.size() < 3 ? 0 : 3);
        in.skip(" ");
        parts.tm_mon = in.month();
        in.skip(" ");
        parts.tm_mday = in.number(2, true);
        in.skip(" ");
        in.time(parts);
        in.skip(" ");
        parts.tm_year = in.number(4) - 1900;
    } else {
        in.skip(" ");
        parts.tm_mday = in.number(2);
        const bool old = in.rest.starts_with("-"); // RFC 850
        in.skip(old ? "-" : " ");
        parts.tm_mon = in.month();
        in.skip(old ? "-" : " ");
        if (old) {
            // More than fifty years ahead is the last century.
            const int year = in.number(2);
            std::time_t now = std::time(nullptr);
            std::tm today{};
            gmtime_r(&now, &today);
            parts.tm_year = today.tm_year / 100 * 100 + year;
            if (parts.tm_year > today.tm_year + 50)
                parts.tm_year -= 100;
        } else {
            parts.tm_year = in.number(4) - 1900;
        }
        in.skip(" ");
        in.time(parts);
        in.skip(" GMT");
    }
    const bool sound = parts.tm_mday >= 1 && parts.tm_mday <= 31 && parts.tm_hour < 24 && parts.tm_min < 60 &&
                       parts.tm_sec <= 60;
    if (!in.good || !in.rest.empty() || !sound)
        return {};
    return timegm(&parts);
}

} // namespace parley::http
