// parser: HTTP/1.0 and 1.1 messages out of bytes, wherever these come from (RFC 9112). The messages
// (request.hpp, response.hpp) are made with it; by itself it is for programs that bring their own I/O.
//
//     parley::http::parser parser(parley::http::parser::request);
//     for (std::string_view input = ...; ;)
//         switch (parser.next(input)) {
//         case event::head: use(parser.head()); break;
//         case event::data: use(parser.data()); break;
//         case event::end: parser.reset(); break;
//         ...

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <parley/http/fields.hpp>
#include <parley/http/limits.hpp>

namespace parley::http {

// What stands before a message's body.
struct message_head {
    std::string method;    // of a request
    std::string target;    // as it was sent
    int status = 0;        // of a response
    std::string reason;    // may be empty
    int minor_version = 1; // 0 is HTTP/1.0
    fields header;

    // Keeps its memory.
    void clear() noexcept;
};

// Why a message was refused.
struct parse_error {
    int status = 0;           // the answer to a request like that: 400, 413, 414, 431, 501 or 505
    std::string what;         // a sentence that says what and where: "header line 7: ..."
    const char *section = ""; // that forbids it, of RFC 9112 unless it says otherwise; empty for a limit
};

// A pull parser. Not synchronised; movable. It copies what has to be whole to be understood, a head or the
// line of a chunk, and nothing of a body. Used again for the next message it allocates nothing.
//
// The events do not depend on how the input was split, but that data may come in other pieces.
//
// Stricter than RFC 9112 has to be: Content-Length once and alone, Transfer-Encoding exactly "chunked", one
// Host, lines that end in CRLF and are not folded. Whatever two programs could understand differently is an
// error.
class parser {
public:
    enum role : std::uint8_t { request, response };

    enum class event : std::uint8_t {
        need_more, // all input was taken, and more is needed
        interim,   // head() is a response with a status of 1xx, but 101; the one that counts follows
        head,      // head() is complete
        data,      // data() is a piece of the body
        end,       // the message is complete; what is left of the input is not part of it
        error      // error() says why; nothing more is taken
    };

    explicit parser(role what, const http::limits &most = {});
    parser(parser &&) noexcept;
    parser &operator=(parser &&) noexcept;
    ~parser();

    // Takes bytes from the front of `input` until something is to be told. data() is a view into it.
    event next(std::string_view &input);
    // The input has come to its end: `end` if the message is complete by that (a response without a length),
    // need_more if none has begun, else an error.
    event finish();

    // The next message. Keeps its memory.
    void reset() noexcept;

    // The head, from `head` or `interim` on until the next reset(); it may be moved from or swapped.
    [[nodiscard]] message_head &head() noexcept;
    [[nodiscard]] std::string_view data() const noexcept;
    // What stood behind the last chunk; complete at `end`.
    [[nodiscard]] fields &trailer() noexcept;
    [[nodiscard]] const parse_error &error() const noexcept;

    // Holds from the next byte on. limits::body() is not the parser's: it keeps nothing.
    void limit(const http::limits &most) noexcept;
    [[nodiscard]] const http::limits &limit() const noexcept;

    // What the response answers: the one to HEAD has no body, what follows 2xx to CONNECT is no message. Until
    // reset(), and before the head of the response.
    void answer_to(std::string_view method) noexcept;

    // From `head` on. How long the body is: nothing when chunks or the end of the stream will tell.
    [[nodiscard]] std::optional<std::uint64_t> content_length() const noexcept;
    [[nodiscard]] bool chunked() const noexcept;
    // Bytes of a body without chunks and of known length that have not come yet.
    [[nodiscard]] std::uint64_t remaining() const noexcept;
    // So many of these were read elsewhere, and not by next().
    void skip(std::uint64_t bytes) noexcept;
    // Whether the connection can carry another message behind this one (section 9.3).
    [[nodiscard]] bool keep_alive() const noexcept;
    // At `end` of a response: the connection speaks another protocol from here (101, or 2xx to CONNECT).
    [[nodiscard]] bool upgraded() const noexcept;
    // Whether a byte of the message has come.
    [[nodiscard]] bool begun() const noexcept;

private:
    struct state;
    std::unique_ptr<state> state_;
};

} // namespace parley::http
