#include "demo_report.h"

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <utility>

#include <parley/config.hpp>

namespace {

struct percentile {
    const char *name;
    double part;
};
constexpr percentile percentiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}};

std::uint64_t per_second(const demo_part &part) {
    return part.seconds > 0
               ? static_cast<std::uint64_t>(static_cast<double>(part.counted.ended) / part.seconds)
               : 0;
}

std::string number(double value, int digits) {
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return text;
}

std::string microseconds(histogram::duration time) {
    return number(static_cast<double>(time.count()) / 1e3, 1);
}

// "name":value, with a comma before it unless it is the first of its object.
class json {
public:
    json &open(const char *bracket) { return put(bracket, false); }
    json &close(const char *bracket) {
        text_ += bracket;
        first_ = false;
        return *this;
    }
    json &name(std::string_view what) {
        put(quoted(what) + ':', true);
        first_ = true; // the value follows without a comma
        return *this;
    }
    json &value(std::string_view raw) { return put(raw, true); }
    json &text(std::string_view what) { return put(quoted(what), true); }
    json &field(std::string_view what, std::string_view raw) { return name(what).value(raw); }
    json &field(std::string_view what, std::uint64_t count) { return field(what, std::to_string(count)); }

    std::string take() { return std::move(text_); }

private:
    json &put(std::string_view what, bool then_comma) {
        if (!first_)
            text_ += ',';
        text_ += what;
        first_ = !then_comma;
        return *this;
    }
    static std::string quoted(std::string_view what) {
        std::string all = "\"";
        for (const char c : what) {
            char code[8];
            if (static_cast<unsigned char>(c) < 0x20) {
                std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(c));
                all += code;
                continue;
            }
            if (c == '"' || c == '\\')
                all += '\\';
            all += c;
        }
        return all + '"';
    }

    std::string text_;
    bool first_ = true;
};

void add_times(json &out, const demo_part &part) {
    out.name(part.is_traffic ? "latency_us" : "lateness_us").open("{");
    for (const auto &[name, share] : percentiles)
        out.field(name, microseconds(part.times.percentile(share)));
    out.field("max", microseconds(part.times.max())).close("}");
    out.name("histogram").open("["); // [upper limit in us, how many]
    for (const histogram::row &row : part.times.rows(8)) {
        out.open("[").value(microseconds(row.below)).value(std::to_string(row.count)).close("]");
    }
    out.close("]");
}

void add_part(json &out, const demo_part &part) {
    out.open("{").name("name").text(part.key);
    if (part.is_traffic) {
        out.field("connections", part.connections).field("sent", part.counted.begun);
        out.field("answered", part.counted.ended)
            .field("wrong", part.wrong)
            .field("bytes", part.counted.bytes);
    } else {
        out.field("started", part.counted.begun)
            .field("finished", part.counted.ended)
            .field("at_once", part.at_once);
    }
    out.field("seconds", number(part.seconds, 3)).field("per_second", per_second(part));
    add_times(out, part);
    out.close("}");
}

} // namespace

std::uint64_t demo_report::sent() const noexcept {
    std::uint64_t all = 0;
    for (const demo_part &part : parts)
        all += part.is_traffic ? part.counted.begun : 0;
    return all;
}

std::uint64_t demo_report::answered() const noexcept {
    std::uint64_t all = 0;
    for (const demo_part &part : parts)
        all += part.is_traffic ? part.counted.ended : 0;
    return all;
}

std::uint64_t demo_report::leaked() const noexcept {
    return static_cast<std::uint64_t>(std::max<std::ptrdiff_t>(leaked_frames, 0)) +
           static_cast<std::uint64_t>(std::max<std::ptrdiff_t>(leaked_descriptors, 0)) + leaked_sessions;
}

void print_part(terminal &out, const demo_part &part) {
    const std::string many = grouped(part.counted.ended);
    if (part.is_traffic)
        out.line("  " + many + " answers in " + number(part.seconds, 2) + " s, " + grouped(per_second(part)) +
                 " a second; " + in_bytes(part.counted.bytes) + " each way over " +
                 std::to_string(part.connections) + " connections, every byte checked");
    else
        out.line("  " + many + " started and finished in " + number(part.seconds, 2) + " s, " +
                 grouped(part.at_once) + " asleep at once");

    std::string line = part.is_traffic ? "  latency: " : "  woke too late by: ";
    for (const auto &[name, share] : percentiles)
        line.append(name).append(" ").append(in_words(part.times.percentile(share))).append(", ");
    out.line(line + "at most " + in_words(part.times.max()));

    const std::vector<histogram::row> rows = part.times.rows(8);
    std::uint64_t most = 1;
    for (const histogram::row &row : rows)
        most = std::max(most, row.count);
    for (const histogram::row &row : rows) {
        constexpr std::size_t width = 40;
        const auto full = static_cast<std::size_t>((row.count * width + most - 1) / most);
        const double percent =
            100.0 * static_cast<double>(row.count) / static_cast<double>(part.times.count());
        char text[128];
        std::snprintf(text, sizeof text, "    < %-8s %-*s %6.2f %%", in_words(row.below).c_str(),
                      static_cast<int>(width), std::string(full, '#').c_str(), percent);
        out.line(text);
    }
}

std::string proof_line(const demo_report &report) {
    return (report.is_proof() ? "proof: " : "no proof: ") + std::to_string(report.sent()) + " sent, " +
           std::to_string(report.answered()) + " answered, " + std::to_string(report.lost()) + " lost, " +
           std::to_string(report.leaked()) + " leaked";
}

std::string to_json(const demo_report &report) {
    json out;
    out.open("{").name("version").text(PARLEY_VERSION).field("loops", report.loops);
    out.field("coroutines", traffic::coroutines).name("parts").open("[");
    for (const demo_part &part : report.parts)
        add_part(out, part);
    out.close("]").field("sent", report.sent()).field("answered", report.answered());
    out.field("lost", report.lost()).field("leaked", report.leaked());
    out.field("leaked_frames", std::to_string(report.leaked_frames));
    out.field("leaked_descriptors", std::to_string(report.leaked_descriptors));
    out.field("leaked_sessions", report.leaked_sessions);
    out.name("problems").open("[");
    for (const std::string &problem : report.problems)
        out.text(problem);
    out.close("]").field("ok", report.is_proof() ? "true" : "false").close("}");
    return out.take();
}
