// File operations and name resolution: the calls that take their time on a thread of their own.

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>

#include "disk.h"
#include "kernel.h"

namespace parley::sim::detail {

namespace {

// What is wrong with a preadv or pwritev: 0 or an errno.
int refuse_offset(const file *it, bool allowed, int count, off_t offset, int flags) {
    constexpr int known = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND;
    if (it == nullptr)
        return EBADF;
    if (offset < -1)
        return EINVAL;
    const bool on_disk = dynamic_cast<const disk_file *>(it) != nullptr;
    if (!on_disk && offset >= 0)
        return ESPIPE;
    if (on_disk && !allowed)
        return EBADF;
    if (count < 0 || count > IOV_MAX)
        return EINVAL;
    return (flags & ~known) != 0 ? EOPNOTSUPP : 0;
}

} // namespace

void kernel::use_disk(const char *doing) {
    if (fault("slow disk", faults_.slow_disk))
        scheduler_.block(doing, nullptr,
                         scheduler_.now() + 1'000'000 * (1 + choices_.draw(stream::fault, 1000)));
}

int kernel::open(const char *path, int flags, mode_t mode) {
    (void)mode;
    if (!enter(call::open, -1))
        return -1;
    use_disk("open");
    auto &files = here().files.files;
    auto place = files.find(path);
    // There are no directories, but nothing is below a file either.
    const std::string whole = path;
    for (auto slash = whole.rfind('/'); slash != std::string::npos && slash > 0;
         slash = whole.rfind('/', slash - 1))
        if (files.contains(whole.substr(0, slash)))
            return leave_int(call::open, -1, -ENOTDIR, path);
    if (whole.empty() || (place == files.end() && (flags & O_CREAT) == 0))
        return leave_int(call::open, -1, -ENOENT, path);
    if ((flags & O_DIRECTORY) != 0)
        return leave_int(call::open, -1, place != files.end() ? -ENOTDIR : -EINVAL, path);
    if (place != files.end() && (flags & O_CREAT) != 0 && (flags & O_EXCL) != 0)
        return leave_int(call::open, -1, -EEXIST, path);
    if (place == files.end())
        place = files.emplace(path, std::make_shared<content>()).first;
    if ((flags & O_TRUNC) != 0)
        place->second->bytes.clear();
    return leave_int(call::open, -1,
                     give_number(std::make_shared<disk_file>(*this, here(), path, place->second, flags)),
                     path);
}

ssize_t kernel::preadv(int fd, const iovec *iov, int count, off_t offset, int flags) {
    if (!enter(call::preadv, fd))
        return -1;
    auto *any = find(call::preadv, fd);
    auto *it = dynamic_cast<disk_file *>(any);
    if (int error = refuse_offset(any, it != nullptr && it->readable(), count, offset, flags))
        return leave(call::preadv, fd, -error);
    if (auto *stream = dynamic_cast<stream_socket *>(any))
        return read_stream(call::preadv, *stream, iov, static_cast<std::size_t>(count), 0);
    if (it == nullptr)
        return leave(call::preadv, fd, -EINVAL);
    use_disk("preadv");
    std::size_t most = SIZE_MAX;
    if (fault("short read", faults_.short_read))
        most = 1 + choices_.draw(stream::fault, 100);
    ssize_t sum = 0;
    for (int i = 0; i < count && most > 0; i++) {
        const std::size_t size = std::min(iov[i].iov_len, most);
        const ssize_t n = it->read(iov[i].iov_base, size, offset < 0 ? -1 : offset + sum);
        if (n < 0)
            return leave(call::preadv, fd, sum > 0 ? sum : -errno);
        sum += n;
        most -= static_cast<std::size_t>(n);
        if (static_cast<std::size_t>(n) < size)
            break;
    }
    return leave(call::preadv, fd, sum, it->describe());
}

ssize_t kernel::pwritev(int fd, const iovec *iov, int count, off_t offset, int flags) {
    if (!enter(call::pwritev, fd))
        return -1;
    auto *any = find(call::pwritev, fd);
    auto *it = dynamic_cast<disk_file *>(any);
    if (int error = refuse_offset(any, it != nullptr && it->writable(), count, offset, flags))
        return leave(call::pwritev, fd, -error);
    if (auto *stream = dynamic_cast<stream_socket *>(any))
        return write_stream(call::pwritev, *stream, iov, static_cast<std::size_t>(count), 0);
    if (it == nullptr)
        return leave(call::pwritev, fd, -EINVAL);
    use_disk("pwritev");
    std::size_t most = SIZE_MAX;
    if (fault("short write", faults_.short_write))
        most = 1 + choices_.draw(stream::fault, 100);
    ssize_t sum = 0;
    for (int i = 0; i < count && most > 0; i++) {
        const std::size_t size = std::min(iov[i].iov_len, most);
        if (size == 0)
            continue;
        const ssize_t n = it->write(iov[i].iov_base, size, offset < 0 ? -1 : offset + sum);
        if (n < 0)
            return leave(call::pwritev, fd, sum > 0 ? sum : -errno);
        sum += n;
        most -= static_cast<std::size_t>(n);
        if (static_cast<std::size_t>(n) < size)
            break;
    }
    return leave(call::pwritev, fd, sum, it->describe());
}

int kernel::fsync(int fd) {
    if (!enter(call::fsync, fd))
        return -1;
    auto *it = find_as<disk_file>(call::fsync, fd);
    if (it != nullptr)
        use_disk("fsync");
    return leave_int(call::fsync, fd, it != nullptr ? 0 : fd < 0 ? -EBADF : -EINVAL);
}

int kernel::fdatasync(int fd) {
    if (!enter(call::fdatasync, fd))
        return -1;
    auto *it = find_as<disk_file>(call::fdatasync, fd);
    if (it != nullptr)
        use_disk("fdatasync");
    return leave_int(call::fdatasync, fd, it != nullptr ? 0 : fd < 0 ? -EBADF : -EINVAL);
}

// --- names ---

namespace {

struct named : addrinfo {
    sockaddr_storage storage;
};

named *make_named(const address &at, int type) {
    auto *one = new named{};
    socklen_t size = sizeof one->storage;
    at.to(at.family, reinterpret_cast<sockaddr *>(&one->storage), &size);
    one->ai_family = at.family;
    one->ai_socktype = type;
    one->ai_protocol = type == SOCK_RAW ? 0 : type == SOCK_DGRAM ? IPPROTO_UDP : IPPROTO_TCP;
    one->ai_addrlen = size;
    one->ai_addr = reinterpret_cast<sockaddr *>(&one->storage);
    return one;
}

} // namespace

int kernel::getaddrinfo(const char *node, const char *service, const addrinfo *hints, addrinfo **result) {
    if (!enter(call::getaddrinfo, -1))
        return errno;
    const int family = hints != nullptr ? hints->ai_family : AF_UNSPEC;
    const int wanted = hints != nullptr ? hints->ai_socktype : 0;
    const int flags = hints != nullptr ? hints->ai_flags : 0;
    std::uint16_t port = 0;
    if (service != nullptr) {
        char *end = nullptr;
        const long number = std::strtol(service, &end, 10);
        if (*end != '\0' || end == service || number < 0 || number > 65535)
            return (flags & AI_NUMERICSERV) != 0 ? EAI_NONAME : EAI_SERVICE;
        port = static_cast<std::uint16_t>(number);
    }
    std::vector<address> found;
    address one;
    one.port = port;
    if (node == nullptr && service == nullptr)
        return EAI_NONAME;
    if (family != AF_UNSPEC && family != AF_INET && family != AF_INET6)
        return EAI_FAMILY;
    if (wanted != 0 && wanted != SOCK_STREAM && wanted != SOCK_DGRAM && wanted != SOCK_RAW)
        return EAI_SOCKTYPE;
    bool in_numbers = false;
    if (node == nullptr) {
        for (int kind : {AF_INET6, AF_INET}) {
            one.family = kind;
            one.ip = {};
            if ((flags & AI_PASSIVE) == 0) {
                if (kind == AF_INET)
                    one.ip = {127, 0, 0, 1};
                else
                    one.ip[15] = 1;
            }
            found.push_back(one);
        }
    } else if (in_addr four; inet_aton(node, &four) == 1) {
        std::memcpy(one.ip.data(), &four, sizeof four);
        one.family = AF_INET;
        found.push_back(one);
        in_numbers = true;
    } else if (inet_pton(AF_INET6, node, one.ip.data()) == 1) {
        one.family = AF_INET6;
        found.push_back(one);
        in_numbers = true;
    } else if ((flags & AI_NUMERICHOST) == 0) {
        use_disk("getaddrinfo");
        const host_state *there = std::string_view(node) == "localhost" ? &here() : network_.by_name(node);
        if (there != nullptr) {
            const bool self = there == &here();
            for (const address *at : {&there->v6, &there->v4}) {
                one = *at;
                one.port = port;
                if (self && std::string_view(node) == "localhost") {
                    one.ip = {};
                    if (one.family == AF_INET)
                        one.ip = {127, 0, 0, 1};
                    else
                        one.ip[15] = 1;
                }
                found.push_back(one);
            }
        }
    }
    std::erase_if(found, [family](const address &at) { return family != AF_UNSPEC && at.family != family; });
    trace("getaddrinfo", std::string(node != nullptr ? node : "-") + " = " + std::to_string(found.size()) +
                             (found.empty() ? "" : " addresses, " + found.front().text()));
    if (found.empty())
        return in_numbers ? EAI_ADDRFAMILY : EAI_NONAME;
    addrinfo *first = nullptr;
    addrinfo **next = &first;
    for (const address &at : found) {
        for (int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW}) {
            if (wanted != 0 && wanted != type)
                continue;
            *next = make_named(at, type);
            next = &(*next)->ai_next;
        }
    }
    names_given_[first] = true;
    *result = first;
    return 0;
}

void kernel::freeaddrinfo(addrinfo *result) {
    scheduler_.self();
    if (names_given_.erase(result) == 0)
        fail("freeaddrinfo() was handed a result that getaddrinfo() did not give, or a second time");
    while (result != nullptr)
        delete static_cast<named *>(std::exchange(result, result->ai_next));
}

} // namespace parley::sim::detail
