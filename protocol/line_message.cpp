#include <parley/protocol/line_message.hpp>

#include <cerrno>
#include <cstring>
#include <new>

namespace parley {

int line_message::append(const void *buf, std::size_t *size) {
    if (complete_)
        clear(); // the first bytes of the next line

    const char *begin = static_cast<const char *>(buf);
    const char *end = static_cast<const char *>(std::memchr(begin, '\n', *size));
    std::size_t length = end ? static_cast<std::size_t>(end - begin) : *size;
    // One more than the limit may be held: a carriage return that does not count.
    std::size_t total = text_.size() + length;
    if (total > limit_ && total - limit_ > 1) {
        errno = EMSGSIZE;
        return -1;
    }
    try {
        text_.append(begin, length);
    } catch (const std::bad_alloc &) {
        errno = ENOMEM;
        return -1;
    }
    if (!end)
        return 0;

    if (text_.ends_with('\r'))
        text_.pop_back();
    if (text_.size() > limit_) {
        errno = EMSGSIZE;
        return -1;
    }
    *size = length + 1;
    complete_ = true;
    return 1;
}

int line_message::encode(struct iovec vectors[], int max) {
    if (text_.find('\n') != std::string::npos) {
        errno = EINVAL;
        return -1;
    }
    if (max < 2) {
        errno = EOVERFLOW;
        return -1;
    }
    static char line_feed = '\n';
    vectors[0] = {text_.data(), text_.size()};
    vectors[1] = {&line_feed, 1};
    return 2;
}

} // namespace parley
