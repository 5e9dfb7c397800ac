#include <parley/http/detail/outgoing.hpp>

#include <sys/uio.h>

namespace parley::http::inline PARLEY_ABI {
namespace detail {

int outgoing::encode(struct iovec vectors[], int) {
    int count = 0;
    const auto give = [&](std::string_view bytes) {
        if (!bytes.empty())
            vectors[count++] = {const_cast<char *>(bytes.data()), bytes.size()};
    };
    give(head_);
    give(body_);
    give(tail_);
    return count;
}

} // namespace detail
} // namespace parley::http::inline PARLEY_ABI
