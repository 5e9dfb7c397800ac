#include <parley/http/files.hpp>

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <parley/compute.hpp>
#include <parley/file.hpp>
#include <parley/http/date.hpp>

namespace parley::http::inline PARLEY_ABI {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t piece_size = 65536;

// The bytes [first, last] of a file.
struct span_of_file {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
};

enum class ranges { whole, part, outside };

// RFC 9110 section 14.2. More than one range is answered by the whole, which is allowed and never wrong.
ranges parse_range(std::string_view value, std::uint64_t size, span_of_file &part) {
    if (!value.starts_with("bytes=") || value.find(',') != std::string_view::npos)
        return ranges::whole;
    value.remove_prefix(6);
    const std::size_t dash = value.find('-');
    if (dash == std::string_view::npos)
        return ranges::whole;
    const auto number = [](std::string_view text) -> std::optional<std::uint64_t> {
        std::uint64_t n = 0;
        const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), n);
        if (failed != std::errc() || end != text.data() + text.size())
            return {};
        return n;
    };
    const std::optional<std::uint64_t> first = number(value.substr(0, dash)),
                                       last = number(value.substr(dash + 1));
    if (dash == 0) { // the last so many
        if (!last)
            return ranges::whole;
        if (*last == 0 || size == 0)
            return ranges::outside;
        part = {size - std::min(*last, size), size - 1};
        return ranges::part;
    }
    if (!first || (!last && dash + 1 != value.size()) || (last && *last < *first))
        return ranges::whole;
    if (*first >= size)
        return ranges::outside;
    part = {*first, last ? std::min(*last, size - 1) : size - 1};
    return ranges::part;
}

// Whether one of the listed tags is this one (RFC 9110 section 13.1.2); weak ones count only where that is enough.
bool has_tag(std::string_view list, std::string_view tag, bool weak_counts) {
    if (list == "*")
        return true;
    for (std::size_t at = list.find(tag); at != std::string_view::npos; at = list.find(tag, at + 1)) {
        const bool weak = at >= 2 && list.substr(at - 2, 2) == "W/";
        if (!weak || weak_counts)
            return true;
    }
    return false;
}

std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
        case '&':
            out += "&amp;";
            break;
        case '<':
            out += "&lt;";
            break;
        case '>':
            out += "&gt;";
            break;
        case '"':
            out += "&quot;";
            break;
        default:
            out += c;
        }
    }
    return out;
}

std::string percent_encoded(std::string_view text) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    constexpr std::string_view plain = "-._~!$&()*+,;=:@";
    std::string out;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            plain.find(c) != std::string_view::npos) {
            out += c;
        } else {
            out += '%';
            out += digits[byte >> 4];
            out += digits[byte & 15];
        }
    }
    return out;
}

struct entry {
    std::string name; // with a slash behind a directory's
    std::uintmax_t size = 0;
};

std::string page_of(std::string_view path, const std::vector<entry> &entries) {
    std::string page = "<!doctype html>\n<meta charset=\"utf-8\">\n<title>" + escaped(path) +
                       "</title>\n<h1>" + escaped(path) + "</h1>\n<ul>\n";
    if (path != "/")
        page += "<li><a href=\"../\">../</a></li>\n";
    for (const entry &one : entries) {
        const bool directory = one.name.ends_with('/');
        const std::string_view bare =
            std::string_view(one.name).substr(0, one.name.size() - (directory ? 1 : 0));
        page += "<li><a href=\"./" + percent_encoded(bare) + (directory ? "/" : "") + "\">" +
                escaped(one.name) + "</a>";
        if (!directory)
            page += " " + std::to_string(one.size);
        page += "</li>\n";
    }
    return page + "</ul>\n";
}

} // namespace

// What the handler of a directory has to know.
struct file_sender {
    struct found {
        enum class kind { nothing, forbidden, directory, regular } what = kind::nothing;
        fs::path path;
        file opened;
        std::uint64_t size = 0;
        std::time_t modified = 0;
        std::string tag;
        std::vector<entry> entries;
    };

    file_sender(const fs::path &directory, file_options o)
        : root(fs::canonical(directory)), options(std::move(o)) {}

    [[nodiscard]] found look_up(std::string_view path, bool as_directory) const;
    [[nodiscard]] std::vector<entry> list(const fs::path &directory) const;
    [[nodiscard]] task<> send(exchange &x, found file) const;
    static task<> answer(exchange &x, std::shared_ptr<const file_sender> self);

    const fs::path root;
    const file_options options;
};

// On a thread that may block.
file_sender::found file_sender::look_up(std::string_view path, bool as_directory) const {
    found result;
    std::error_code failed;
    const fs::path relative(path);
    if (!options.hidden_) {
        for (const fs::path &part : relative) {
            if (part.native().starts_with('.'))
                return result;
        }
    }
    fs::path real = fs::canonical(root / relative, failed);
    // Links are followed as long as they stay inside.
    const auto [rest, ignored] = std::mismatch(root.begin(), root.end(), real.begin(), real.end());
    if (failed || rest != root.end())
        return result;
    if (fs::is_directory(real, failed)) {
        result.what = found::kind::directory;
        result.path = real;
        if (!as_directory)
            return result; // its address ends in a slash, or what it refers to would be looked for elsewhere
        const fs::path index = real / options.index_;
        if (options.index_.empty() || !fs::is_regular_file(index, failed)) {
            if (options.listing_)
                result.entries = list(real);
            return result;
        }
        real = index;
    } else if (as_directory || !fs::is_regular_file(real, failed)) {
        return result; // neither devices nor pipes: who opens them may wait for ever
    }
    auto opened = file::open(real, file_mode::read);
    struct stat about{};
    if (!opened || ::fstat(opened->descriptor(), &about) != 0) {
        if (errno == EACCES)
            result.what = found::kind::forbidden;
        return result;
    }
    result.what = found::kind::regular;
    result.path = std::move(real);
    result.opened = std::move(*opened);
    result.size = static_cast<std::uint64_t>(about.st_size);
    result.modified = about.st_mtim.tv_sec;
    std::array<char, 64> text{};
    char *end = text.data();
    *end++ = '"';
    end = std::to_chars(end, end + 20, about.st_mtim.tv_sec, 16).ptr;
    *end++ = '.';
    end = std::to_chars(end, end + 20, about.st_mtim.tv_nsec, 16).ptr;
    *end++ = '-';
    end = std::to_chars(end, end + 20, about.st_size, 16).ptr;
    *end++ = '"';
    result.tag.assign(text.data(), end);
    return result;
}

std::vector<entry> file_sender::list(const fs::path &directory) const {
    std::vector<entry> all;
    std::error_code failed;
    for (const fs::directory_entry &one : fs::directory_iterator(directory, failed)) {
        std::string name = one.path().filename().string();
        if (name.starts_with('.') && !options.hidden_)
            continue;
        std::error_code ignored;
        if (one.is_directory(ignored))
            all.push_back({name + "/", 0});
        else if (one.is_regular_file(ignored))
            all.push_back({std::move(name), one.file_size(ignored)});
    }
    std::sort(all.begin(), all.end(), [](const entry &a, const entry &b) { return a.name < b.name; });
    return all;
}

task<> file_sender::send(exchange &x, found file) const {
    const fields &asked = x.request().header();
    const std::string date = to_date(file.modified);
    const auto about = [&](int status) {
        response head(status);
        head.set("ETag", file.tag).set("Last-Modified", date).set("Accept-Ranges", "bytes");
        if (!options.cache_.empty())
            head.set("Cache-Control", options.cache_);
        return head;
    };
    const auto later_than = [&](std::string_view value) {
        const std::optional<std::time_t> given = parse_date(value);
        return given && file.modified > *given;
    };
    // RFC 9110 section 13.2.2, in its order.
    int status = 200;
    if (const auto match = asked.get("If-Match")) {
        if (!has_tag(*match, file.tag, false))
            status = 412;
    } else if (const auto since = asked.get("If-Unmodified-Since"); since && later_than(*since)) {
        status = 412;
    }
    if (status == 200) {
        if (const auto none = asked.get("If-None-Match")) {
            if (has_tag(*none, file.tag, true))
                status = 304;
        } else if (const auto changed = asked.get("If-Modified-Since");
                   changed && parse_date(*changed) && !later_than(*changed)) {
            status = 304;
        }
    }
    span_of_file part{0, file.size == 0 ? 0 : file.size - 1};
    if (const auto range = asked.get("Range"); range && status == 200 && x.method() == "GET") {
        const auto condition = asked.get("If-Range");
        const bool holds = !condition || *condition == file.tag || *condition == date;
        const ranges kind = holds ? parse_range(*range, file.size, part) : ranges::whole;
        if (kind == ranges::part)
            status = 206;
        else if (kind == ranges::outside)
            status = 416;
    }
    response head = about(status);
    if (status == 412 || status == 304 || status == 416) {
        if (status == 416)
            head.set("Content-Range", "bytes */" + std::to_string(file.size));
        const result<void> sent = co_await x.respond(std::move(head));
        static_cast<void>(sent);
        co_return;
    }
    head.set("Content-Type", media_type(file.path)).set("X-Content-Type-Options", "nosniff");
    const std::uint64_t length = file.size == 0 ? 0 : part.last - part.first + 1;
    if (status == 206)
        head.set("Content-Range", "bytes " + std::to_string(part.first) + "-" + std::to_string(part.last) +
                                      "/" + std::to_string(file.size));
    result<void> sent = co_await x.begin(std::move(head), length);
    if (x.method() == "HEAD") {
        if (sent)
            sent = co_await x.finish();
        co_return;
    }
    std::vector<char> piece(static_cast<std::size_t>(std::min<std::uint64_t>(piece_size, length)));
    for (std::uint64_t at = part.first, left = length; sent && left != 0;) {
        const std::span<char> into(piece.data(),
                                   static_cast<std::size_t>(std::min<std::uint64_t>(left, piece.size())));
        const result<std::size_t> read = co_await file.opened.read_at(at, into);
        if (!read || *read == 0)
            co_return; // it has become shorter: the connection ends, so that nobody takes this for the whole
        sent = co_await x.write(std::string_view(piece.data(), *read));
        at += *read;
        left -= *read;
    }
    if (sent)
        sent = co_await x.finish();
}

task<> file_sender::answer(exchange &x, std::shared_ptr<const file_sender> self) {
    const std::string_view path = x.request().path();
    const bool as_directory = path.ends_with('/');
    const auto look = [&] { return self->look_up(x.parameter("path"), as_directory); };
    found one = co_await compute(look);
    if (one.what == found::kind::regular) {
        co_await self->send(x, std::move(one));
        co_return;
    }
    response reply = response::text(404, "Not Found\n");
    if (one.what == found::kind::forbidden)
        reply = response::text(403, "Forbidden\n");
    else if (one.what == found::kind::directory && !as_directory)
        reply = response::redirect(301, std::string(path) + "/");
    else if (one.what == found::kind::directory && self->options.listing_)
        reply =
            response(200).set("Content-Type", "text/html; charset=utf-8").body(page_of(path, one.entries));
    const result<void> sent = co_await x.respond(std::move(reply));
    static_cast<void>(sent);
}

namespace {

class file_handler {
public:
    explicit file_handler(std::shared_ptr<const file_sender> sender) noexcept : sender_(std::move(sender)) {}
    task<> operator()(exchange &x) const { return file_sender::answer(x, sender_); }

private:
    std::shared_ptr<const file_sender> sender_;
};

} // namespace

handler files(const fs::path &directory, const file_options &options) {
    return handler(file_handler(std::make_shared<const file_sender>(directory, options)));
}

std::string_view media_type(const fs::path &file) {
    constexpr std::array<std::pair<std::string_view, std::string_view>, 38> known = {{
        {".avif", "image/avif"},
        {".bmp", "image/bmp"},
        {".cpp", "text/plain; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".csv", "text/csv; charset=utf-8"},
        {".gif", "image/gif"},
        {".gz", "application/gzip"},
        {".h", "text/plain; charset=utf-8"},
        {".hpp", "text/plain; charset=utf-8"},
        {".htm", "text/html; charset=utf-8"},
        {".html", "text/html; charset=utf-8"},
        {".ico", "image/x-icon"},
        {".jpeg", "image/jpeg"},
        {".jpg", "image/jpeg"},
        {".js", "text/javascript; charset=utf-8"},
        {".json", "application/json"},
        {".log", "text/plain; charset=utf-8"},
        {".md", "text/markdown; charset=utf-8"},
        {".mjs", "text/javascript; charset=utf-8"},
        {".mp3", "audio/mpeg"},
        {".mp4", "video/mp4"},
        {".ogg", "audio/ogg"},
        {".otf", "font/otf"},
        {".pdf", "application/pdf"},
        {".png", "image/png"},
        {".svg", "image/svg+xml"},
        {".tar", "application/x-tar"},
        {".ttf", "font/ttf"},
        {".txt", "text/plain; charset=utf-8"},
        {".wasm", "application/wasm"},
        {".wav", "audio/wav"},
        {".webm", "video/webm"},
        {".webp", "image/webp"},
        {".woff", "font/woff"},
        {".woff2", "font/woff2"},
        {".xhtml", "application/xhtml+xml"},
        {".xml", "application/xml"},
        {".zip", "application/zip"},
    }};
    const std::string extension = file.extension().string();
    for (const auto &[name, type] : known) {
        if (same_token(name.substr(1), std::string_view(extension).substr(extension.empty() ? 0 : 1)) &&
            !extension.empty())
            return type;
    }
    return "application/octet-stream";
}

} // namespace parley::http::inline PARLEY_ABI
