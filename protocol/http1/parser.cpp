// Beast's basic_parser understands start lines, fields and chunks; it is used here and nowhere else. What it leaves
// open is closed around it: head_scanner looks at the bytes before it sees them, head_rules at what it made of them.

#include <parley/http/parser.hpp>

#include <algorithm>
#include <boost/beast/http/basic_parser.hpp>
#include <limits>
#include <optional>
#include <utility>

#include "head_rules.hpp"
#include "head_scanner.hpp"

namespace parley::http {
namespace {

namespace beast = boost::beast;
using beast::error_code;

std::string_view view(beast::string_view text) {
    return {text.data(), text.size()};
}

// Puts what Beast finds where the parser wants it.
struct sink {
    message_head *head = nullptr;
    fields *trailer = nullptr;
    std::string_view data;
    std::uint64_t chunk = 0;     // how large the present one is
    std::size_t fields_seen = 0; // of the head or of the trailer
    bool in_trailer = false;
    std::string refused; // a field of the trailer that may not stand there
};

template <bool is_request>
class beast_parser final : public beast::http::basic_parser<is_request> {
public:
    explicit beast_parser(sink &to) : to_(to) {
        this->header_limit(std::numeric_limits<std::uint32_t>::max());
        this->body_limit(std::numeric_limits<std::uint64_t>::max());
    }

private:
    void on_request_impl(beast::http::verb, beast::string_view method, beast::string_view target, int version,
                         error_code &) override {
        to_.head->method.assign(view(method));
        to_.head->target.assign(view(target));
        to_.head->minor_version = version % 10;
    }
    void on_response_impl(int status, beast::string_view reason, int version, error_code &) override {
        to_.head->status = status;
        to_.head->reason.assign(view(reason));
        to_.head->minor_version = version % 10;
    }
    void on_field_impl(beast::http::field, beast::string_view name, beast::string_view value,
                       error_code &failed) override {
        ++to_.fields_seen;
        if (!to_.in_trailer) {
            to_.head->header.add(view(name), view(value));
        } else if (may_trail(view(name))) {
            to_.trailer->add(view(name), view(value));
        } else {
            to_.refused = view(name);
            failed = beast::http::error::bad_field;
        }
    }
    void on_header_impl(error_code &) override { to_.fields_seen = 0; }
    void on_body_init_impl(const boost::optional<std::uint64_t> &, error_code &) override {}
    std::size_t on_body_impl(beast::string_view body, error_code &) override { return body.size(); }
    void on_chunk_header_impl(std::uint64_t size, beast::string_view extensions,
                              error_code &failed) override {
        // Beast takes the quotation "\" for a closed one.
        if (!is_chunk_extensions(view(extensions)))
            failed = beast::http::error::bad_chunk_extension;
        to_.chunk = size;
        to_.in_trailer = size == 0;
        to_.fields_seen = 0;
    }
    std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view body, error_code &) override {
        to_.data = view(body);
        return body.size();
    }
    void on_finish_impl(error_code &) override {}

    sink &to_;
};

constexpr const char *bad_chunk_line =
    "chunk: its line is no size in hexadecimal digits, extensions if any, and CRLF";

enum class phase : std::uint8_t { head, fixed, chunks, chunk_data, until_end, done, failed };

} // namespace

void message_head::clear() noexcept {
    method.clear();
    target.clear();
    reason.clear();
    status = 0;
    minor_version = 1;
    header.clear();
}

struct parser::state {
    state(role w, const http::limits &m) : what(w), most(m) {}

    event next(std::string_view &input);
    event next_head(std::string_view &input);
    event head_complete(std::string_view text);
    event next_chunk(std::string_view &input);
    event check_trailer(std::string_view all);
    event fail(int status, std::string text, const char *section);
    event fail(const error_code &why, std::string_view raw);
    void begin();
    void begin_beast();

    std::size_t put(std::string_view bytes, error_code &failed) {
        const boost::asio::const_buffer buffer(bytes.data(), bytes.size());
        return what == request ? for_request->put(buffer, failed) : for_response->put(buffer, failed);
    }

    const role what;
    http::limits most;
    head_scanner scanner;
    std::optional<beast_parser<true>> for_request;
    std::optional<beast_parser<false>> for_response;
    sink found;
    message_head head;
    fields trailer;
    std::string pending; // what came of a head, or of the lines around a chunk, that is not complete
    parse_error why;
    phase at = phase::head;
    std::uint64_t left = 0;
    std::optional<std::uint64_t> length;
    std::size_t interims = 0;
    bool has_chunks = false;
    bool to_head = false;
    bool to_connect = false;
    bool is_upgraded = false;
    bool persistent = true;
};

void parser::state::begin() {
    scanner.reset();
    pending.clear();
    head.clear();
    trailer.clear();
    at = phase::head;
    left = 0;
    length.reset();
    has_chunks = is_upgraded = false;
    persistent = true;
    begin_beast();
}

void parser::state::begin_beast() {
    found = sink();
    found.head = &head;
    found.trailer = &trailer;
    if (what == request)
        for_request.emplace(found);
    else
        for_response.emplace(found);
}

parser::event parser::state::fail(int status, std::string text, const char *section) {
    at = phase::failed;
    why = {status, std::move(text), section};
    return event::error;
}

// What Beast says, with the place.
parser::event parser::state::fail(const error_code &code, std::string_view raw) {
    using error = beast::http::error;
    const std::string line = (found.in_trailer ? "trailer line " : "header line ") +
                             std::to_string(found.fields_seen + (found.in_trailer ? 1 : 2)) + ": ";
    if (!found.refused.empty())
        return fail(400, "trailer: " + found.refused + " may not stand in it", "6.5.1 of RFC 9110");
    if (code == error::bad_method)
        return fail(400, "start line: the method is no token", "3.1");
    const std::string_view first = raw.substr(0, raw.find('\r'));
    const std::size_t blank = what == request ? first.find(' ', first.find(' ') + 1) : 0;
    if (code == error::bad_target && blank != std::string_view::npos)
        return fail(400, "start line: a character in the target that no URI has", "3.2");
    if (code == error::bad_version || code == error::bad_target) {
        // Well-formed, but not ours?
        const std::string_view version = blank == std::string_view::npos ? std::string_view()
                                         : what == request               ? first.substr(blank + 1)
                                                                         : first.substr(0, 8);
        const auto digit = [](char c) { return c >= '0' && c <= '9'; };
        if (version.size() == 8 && version.starts_with("HTTP/") && digit(version[5]) && version[6] == '.' &&
            digit(version[7]))
            return fail(505, "start line: a version other than HTTP/1.0 and HTTP/1.1", "2.3");
        return fail(400, "start line: no HTTP version at its end", "2.3");
    }
    if (code == error::bad_status)
        return fail(400, "start line: the status is no number of three digits", "4");
    if (code == error::bad_reason)
        return fail(400, "start line: a character that a reason may not have", "4");
    if (code == error::bad_field)
        return fail(400, line + "the name of the field is no token, or a blank stands before its colon",
                    "5.1");
    if (code == error::bad_value)
        return fail(400, line + "a value that the field may not have", "5.5 of RFC 9110");
    if (code == error::bad_content_length)
        return fail(400, line + "Content-Length is no number, a second one, or beside Transfer-Encoding",
                    "6.3");
    if (code == error::bad_transfer_encoding)
        return fail(400, line + "a second Transfer-Encoding, or one beside Content-Length", "6.3");
    if (code == error::body_limit)
        return fail(400, "chunk: the body would be longer than 2^64 bytes", "7.1");
    if (code == error::bad_chunk_extension)
        return fail(400, bad_chunk_line, "7.1.1");
    if (code == error::bad_chunk || code == error::bad_line_ending)
        return at == phase::chunks ? fail(400, bad_chunk_line, "7.1")
                                   : fail(400, line + "it does not end in CRLF", "2.2");
    return fail(400, line + code.message(), "");
}

parser::event parser::state::next_head(std::string_view &input) {
    std::size_t taken = 0;
    const head_scanner::verdict verdict = scanner.scan(input, most, what == request, taken, why);
    if (verdict == head_scanner::verdict::refused) {
        at = phase::failed;
        return event::error;
    }
    std::string_view part = input.substr(0, taken);
    input.remove_prefix(taken);
    if (pending.empty()) // empty lines before a request are no part of it
        part.remove_prefix(std::min(part.find_first_not_of("\r\n"), part.size()));
    if (verdict == head_scanner::verdict::need_more) {
        pending.append(part);
        return event::need_more;
    }
    if (pending.empty())
        return head_complete(part);
    pending.append(part);
    const event result = head_complete(pending);
    pending.clear();
    return result;
}

parser::event parser::state::head_complete(std::string_view text) {
    head.clear(); // of an interim answer
    // Many servers leave out the blank before a reason that they leave out, too.
    std::string patched;
    if (what == response && text.size() > 14 && text.substr(12, 2) == "\r\n") {
        patched.append(text.substr(0, 12)).append(" ").append(text.substr(12));
        text = patched;
    }
    error_code failed;
    put(text, failed);
    if (failed)
        return fail(failed, text);
    std::optional<parse_error> bad = what == request ? check_request_head(head) : check_response_head(head);
    if (bad) {
        at = phase::failed;
        why = std::move(*bad);
        return event::error;
    }

    persistent = !head.header.has_member("Connection", "close") &&
                 (head.minor_version != 0 || head.header.has_member("Connection", "keep-alive"));
    has_chunks = head.header.contains("Transfer-Encoding");
    length.reset(); // an interim answer may have said one
    if (const auto value = head.header.get("Content-Length"))
        length = std::stoull(std::string(*value));
    if (what == response) {
        if (head.status < 200 && head.status != 101) {
            if (++interims > most.interim_answers())
                return fail(400, "more than " + std::to_string(most.interim_answers()) + " interim answers",
                            "");
            scanner.reset();
            begin_beast();
            return event::interim;
        }
        is_upgraded = head.status == 101 || (to_connect && head.status / 100 == 2);
        if (is_upgraded || to_head || head.status == 204 || head.status == 304) {
            has_chunks = false; // said, but not there
            at = phase::done;
            return event::head;
        }
    }
    if (has_chunks) {
        at = phase::chunks;
    } else if (length || what == request) {
        left = length.value_or(0);
        length = left;
        at = left == 0 ? phase::done : phase::fixed;
    } else {
        at = phase::until_end;
        persistent = false;
    }
    return event::head;
}

// Beast wants the line of a chunk whole, and the last one together with the trailer. It sees no more than the limits
// allow, whether more is there or not.
parser::event parser::state::next_chunk(std::string_view &input) {
    const std::size_t line_most = most.chunk_header() + 2; // with the end of the chunk before it
    const std::size_t all_most = line_most + most.trailer_bytes() + 2;
    const std::size_t held = pending.size();
    std::string_view seen = input;
    if (held != 0) {
        pending.append(input.substr(0, all_most - held));
        seen = pending;
    }
    // Beast asserts that what it sees a second time of a last chunk that is the first has five bytes, "0" and two CRLF.
    if (found.chunk == 0 && seen.size() < std::min<std::size_t>(5, all_most) && seen[0] == '0') {
        if (held == 0)
            pending.assign(input);
        input = {};
        return event::need_more;
    }
    const bool line_ends = seen.substr(0, line_most).find('\n', 2) != std::string_view::npos;
    const std::size_t most_now = line_ends ? all_most : line_most;
    seen = seen.substr(0, most_now);

    error_code failed;
    const std::size_t used = put(seen, failed);
    if (failed == beast::http::error::need_more) {
        // A quotation in an extension that does not end with its line: Beast would look for its end behind it.
        const bool first = found.chunk == 0;
        const std::size_t digit = seen.find_first_not_of('0', first ? 0 : 2);
        const bool last =
            digit == std::string_view::npos ||
            std::string_view("123456789abcdefABCDEF").find(seen[digit]) == std::string_view::npos;
        if (line_ends && (first || seen.starts_with("\r\n")) &&
            (!last || seen.find("\r\n\r\n") != std::string_view::npos))
            return fail(400, bad_chunk_line, "7.1.1");
        if (seen.size() < most_now) {
            if (held == 0)
                pending.assign(input);
            input = {};
            return event::need_more;
        }
        if (line_ends)
            return fail(431, "the trailer is longer than " + std::to_string(most.trailer_bytes()) + " bytes",
                        "");
        return fail(400, "chunk: its line is longer than " + std::to_string(most.chunk_header()) + " bytes",
                    "");
    }
    if (failed)
        return fail(failed, seen);
    if (found.in_trailer) {
        if (const event bad = check_trailer(seen.substr(0, used)); bad == event::error)
            return bad;
        at = phase::done;
    } else {
        left = found.chunk;
        at = phase::chunk_data;
    }
    input.remove_prefix(used - held);
    pending.clear();
    return next(input);
}

// From the end of the chunk before it to the empty line.
parser::event parser::state::check_trailer(std::string_view all) {
    std::size_t line = 0;
    for (std::size_t at_line = all.find('\n', 2) + 1; at_line + 2 < all.size();
         at_line = all.find('\n', at_line) + 1) {
        if (++line > most.trailer_count())
            return fail(431, "the trailer has more than " + std::to_string(most.trailer_count()) + " fields",
                        "");
        if (all[at_line] == ' ' || all[at_line] == '\t')
            return fail(400, "trailer line " + std::to_string(line) + ": a folded line", "5.2");
    }
    return event::end;
}

parser::event parser::state::next(std::string_view &input) {
    const auto take = [&](std::uint64_t most_bytes) {
        found.data =
            input.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(most_bytes, input.size())));
        input.remove_prefix(found.data.size());
        return event::data;
    };
    found.data = {};
    if (at == phase::done)
        return event::end;
    if (at == phase::failed)
        return event::error;
    if (input.empty())
        return event::need_more;
    switch (at) {
    case phase::head:
        return next_head(input);
    case phase::fixed:
        take(left);
        left -= found.data.size();
        if (left == 0)
            at = phase::done;
        return event::data;
    case phase::chunk_data: {
        error_code failed;
        const std::size_t used = put(input, failed);
        input.remove_prefix(used);
        left -= used;
        if (left == 0)
            at = phase::chunks;
        return event::data;
    }
    case phase::chunks:
        return next_chunk(input);
    default:
        return take(input.size());
    }
}

parser::parser(role what, const http::limits &most) : state_(std::make_unique<state>(what, most)) {
    state_->begin();
}
parser::parser(parser &&) noexcept = default;
parser &parser::operator=(parser &&) noexcept = default;
parser::~parser() = default;

parser::event parser::next(std::string_view &input) {
    return state_->next(input);
}

parser::event parser::finish() {
    switch (state_->at) {
    case phase::until_end:
        state_->at = phase::done;
        return event::end;
    case phase::done:
        return event::end;
    case phase::failed:
        return event::error;
    case phase::head:
        if (!begun())
            return event::need_more;
        return state_->fail(400, "the input ends in the middle of the head", "8");
    default:
        return state_->fail(400, "the input ends in the middle of the body", "8");
    }
}

void parser::reset() noexcept {
    state_->interims = 0;
    state_->to_head = state_->to_connect = false;
    state_->begin();
}

message_head &parser::head() noexcept {
    return state_->head;
}
std::string_view parser::data() const noexcept {
    return state_->found.data;
}
fields &parser::trailer() noexcept {
    return state_->trailer;
}
const parse_error &parser::error() const noexcept {
    return state_->why;
}

void parser::limit(const http::limits &most) noexcept {
    state_->most = most;
}
const http::limits &parser::limit() const noexcept {
    return state_->most;
}

void parser::answer_to(std::string_view method) noexcept {
    state_->to_head = method == "HEAD";
    state_->to_connect = method == "CONNECT";
}

std::optional<std::uint64_t> parser::content_length() const noexcept {
    return state_->length;
}
bool parser::chunked() const noexcept {
    return state_->has_chunks;
}
std::uint64_t parser::remaining() const noexcept {
    return state_->at == phase::fixed ? state_->left : 0;
}

void parser::skip(std::uint64_t bytes) noexcept {
    if (state_->at != phase::fixed)
        return;
    state_->left -= std::min(bytes, state_->left);
    if (state_->left == 0)
        state_->at = phase::done;
}

bool parser::keep_alive() const noexcept {
    return state_->persistent;
}
bool parser::upgraded() const noexcept {
    return state_->is_upgraded;
}
bool parser::begun() const noexcept {
    return state_->at != phase::head || state_->interims != 0 || state_->scanner.begun();
}

} // namespace parley::http
