#include <parley/http/request.hpp>

#include <algorithm>
#include <stdexcept>

#include <parley/http/status.hpp>

namespace parley::http {

request::request(std::string_view method, std::string_view target) : message(parser::request) {
    this->method(method);
    this->target(target);
}

request &request::method(std::string_view method) {
    if (!is_token(method))
        throw std::invalid_argument("http::request: the method is no token: \"" + std::string(method) + "\"");
    head_.method = method;
    return *this;
}

request &request::target(std::string_view target) {
    const bool good = !target.empty() && std::all_of(target.begin(), target.end(), [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte > 0x20 && byte < 0x7f && c != '#';
    });
    if (!good)
        throw std::invalid_argument("http::request: no target: \"" + std::string(target) + "\"");
    head_.target = target;
    return *this;
}

std::string_view request::path() const noexcept {
    std::string_view text = head_.target;
    if (text.empty() || text == "*" || head_.method == "CONNECT")
        return {};
    if (text[0] != '/') { // scheme://authority/path
        const std::size_t authority = text.find("://");
        if (authority == std::string_view::npos)
            return {};
        text.remove_prefix(std::min(text.find_first_of("/?", authority + 3), text.size()));
        if (text.empty() || text[0] == '?')
            return "/";
    }
    return text.substr(0, text.find('?'));
}

std::string_view request::query() const noexcept {
    const std::string_view text = head_.target;
    const std::size_t mark = text.find('?');
    return mark == std::string_view::npos ? std::string_view() : text.substr(mark + 1);
}

bool request::retriable() const noexcept {
    return is_idempotent(head_.method);
}

void request::write_start(std::string &to) const {
    to.append(head_.method).append(" ").append(head_.target).append(" HTTP/1.1\r\n");
}

// RFC 9110 section 8.6: a length of nothing says that content was expected.
bool request::framed() const noexcept {
    return !body_.empty() || head_.method == "POST" || head_.method == "PUT" || head_.method == "PATCH";
}

} // namespace parley::http
