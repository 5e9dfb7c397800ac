#include <parley/http/message.hpp>

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include <parley/http/status.hpp>

namespace parley::http {
namespace {

// Room is made for so much of a body before it is there: what a peer merely announces is not believed.
constexpr std::size_t believed = std::size_t{1} << 20;

} // namespace

message::message(const message &other)
    : CommMessageIn(other), CommMessageOut(other), head_(other.head_), body_(other.body_),
      trailer_(other.trailer_), error_(other.error_), limits_(other.limits_), role_(other.role_),
      persistent_(other.persistent_), parsed_(other.parsed_) {}

message &message::operator=(const message &other) {
    if (this != &other) {
        head_ = other.head_;
        body_ = other.body_;
        trailer_ = other.trailer_;
        error_ = other.error_;
        limits_ = other.limits_;
        parsing_ = false;
        persistent_ = other.persistent_;
        parsed_ = other.parsed_;
    }
    return *this;
}

bool message::keep_alive() const noexcept {
    return parsed_ ? persistent_ : !head_.header.has_member("Connection", "close");
}

void message::adopt(parser &from) noexcept {
    std::swap(head_, from.head());
    persistent_ = from.keep_alive();
    parsed_ = true;
}

void message::clear() noexcept {
    head_.clear();
    body_.clear();
    trailer_.clear();
    error_.reset();
    parsing_ = parsed_ = false;
    persistent_ = true;
}

// A request's reader is told by error(), a response's by the error of its request.
int message::refuse(int error_number) {
    persistent_ = parsing_ = false;
    if (keeps_errors())
        return 1;
    errno = error_number;
    return -1;
}

int message::append(const void *buf, std::size_t *size) {
    try {
        return parse(buf, size);
    } catch (const std::bad_alloc &) {
        errno = ENOMEM;
        return -1;
    }
}

int message::parse(const void *buf, std::size_t *size) {
    if (!parsing_) {
        clear();
        if (parser_) {
            parser_->limit(limits_);
            parser_->reset();
        } else {
            parser_ = std::make_unique<parser>(role_, limits_);
        }
        if (!answers().empty())
            parser_->answer_to(answers());
        parsing_ = parsed_ = true;
    }
    std::string_view input(static_cast<const char *>(buf), *size);
    if (room_ != 0) {
        const std::size_t kept = body_.size() - room_;
        const bool in_place = buf == body_.data() + kept; // it was read where reserve() said
        body_.resize(kept + (in_place ? *size : 0));
        room_ = 0;
        if (in_place) {
            parser_->skip(*size);
            input = {};
        }
    }
    const auto too_large = [&] {
        error_ = parse_error{413, "the body is longer than " + std::to_string(limits_.body()) + " bytes", ""};
        return refuse(EMSGSIZE);
    };
    for (;;) {
        switch (parser_->next(input)) {
        case parser::event::need_more:
            return 0;
        case parser::event::interim:
            break;
        case parser::event::head:
            adopt(*parser_);
            if (const auto length = parser_->content_length(); length && parser_->remaining() != 0) {
                if (*length > limits_.body())
                    return too_large();
                body_.reserve(static_cast<std::size_t>(std::min<std::uint64_t>(*length, believed)));
            }
            break;
        case parser::event::data:
            if (parser_->data().size() > limits_.body() - body_.size())
                return too_large();
            body_.append(parser_->data());
            break;
        case parser::event::end:
            std::swap(trailer_, parser_->trailer());
            *size -= input.size();
            parsing_ = false;
            return 1;
        case parser::event::error:
            error_ = parser_->error();
            return refuse(error_->section[0] == '\0' ? EMSGSIZE : EBADMSG);
        }
    }
}

void *message::reserve(std::size_t *size) {
    *size = 0;
    if (!parsing_)
        return nullptr;
    if (room_ == 0) {
        const std::uint64_t missing = parser_->remaining();
        if (missing < 16384)
            return nullptr;
        // No more than as much again as there is already.
        const auto room = static_cast<std::size_t>(
            std::min<std::uint64_t>(missing, std::max<std::size_t>(body_.size(), believed)));
        try {
            body_.resize(body_.size() + room);
        } catch (const std::bad_alloc &) {
            return nullptr; // append() will say so
        }
        room_ = room;
    }
    *size = room_;
    return body_.data() + body_.size() - room_;
}

bool message::ended_by_stream() {
    if (!parsing_ || parser_->finish() != parser::event::end)
        return false;
    parsing_ = false;
    return true;
}

int message::encode(struct iovec vectors[], int) {
    if (head_.header.contains("Content-Length") || head_.header.contains("Transfer-Encoding")) {
        errno = EINVAL;
        return -1;
    }
    try {
        write_head();
    } catch (const std::bad_alloc &) {
        errno = ENOMEM;
        return -1;
    }
    vectors[0] = {wire_.data(), wire_.size()};
    if (body_.empty() || !framed() || answers() == "HEAD")
        return 1;
    vectors[1] = {body_.data(), body_.size()};
    return 2;
}

void message::write_head() {
    wire_.clear();
    write_start(wire_);
    for (const auto [name, value] : head_.header)
        wire_.append(name).append(": ").append(value).append("\r\n");
    if (framed())
        wire_.append("Content-Length: ").append(std::to_string(body_.size())).append("\r\n");
    wire_.append("\r\n");
}

} // namespace parley::http
