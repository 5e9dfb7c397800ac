#include <parley/http/response.hpp>

#include <stdexcept>

#include <parley/http/status.hpp>

namespace parley::http {

response::response(int status) : message(parser::response) {
    this->status(status);
}

response &response::status(int status) {
    if (status < 100 || status > 999)
        throw std::invalid_argument("http::response: no status: " + std::to_string(status));
    head_.status = status;
    head_.reason = reason_phrase(status);
    return *this;
}

response response::text(int status, std::string body) {
    return response(status).set("Content-Type", "text/plain; charset=utf-8").body(std::move(body));
}

response response::json(int status, std::string body) {
    return response(status).set("Content-Type", "application/json").body(std::move(body));
}

response response::redirect(int status, std::string_view where) {
    return response(status).set("Location", where);
}

response &response::answers_to(std::string_view method) {
    method_ = method;
    return *this;
}

void response::write_start(std::string &to) const {
    to.append("HTTP/1.1 ")
        .append(std::to_string(head_.status))
        .append(" ")
        .append(head_.reason)
        .append("\r\n");
}

// A 304 and an answer to HEAD could tell a length, but only one that is known to be right: the one of the body.
bool response::framed() const noexcept {
    if (head_.status < 200 || head_.status == 204 || (head_.status == 304 && body_.empty()))
        return false;
    return !(method_ == "CONNECT" && head_.status < 300);
}

} // namespace parley::http
