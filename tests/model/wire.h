// What the random programs say to each other: frames of a kind, a number and a body.

#pragma once

#include <string.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "Communicator.h"
#include "program.h"

namespace model {

// Bytes that name their owner, so that one in the wrong place is seen.
inline std::string pattern(std::size_t id, std::size_t salt, std::size_t size) {
    std::string bytes(size, '\0');
    std::uint64_t state = id * 0x9e3779b97f4a7c15 + salt;
    for (char &byte : bytes) {
        state = state * 6364136223846793005 + 1442695040888963407;
        byte = static_cast<char>(state >> 56);
    }
    return bytes;
}

// Frames of a kind, a number and a body; a message ends with its first frame that is not a push.
struct frame {
    enum kind : unsigned char { request, answer, push };
    struct header {
        std::uint32_t size, id, answer_size;
        unsigned char what, how, unused[2];
    };
};

inline std::string encode(frame::kind what, std::size_t id, behaviour how, std::size_t answer_size,
                          const std::string &body) {
    frame::header head{static_cast<std::uint32_t>(body.size()), static_cast<std::uint32_t>(id),
                       static_cast<std::uint32_t>(answer_size), what,
                       static_cast<unsigned char>(how),         {}};
    std::string bytes(sizeof head, '\0');
    memcpy(bytes.data(), &head, sizeof head);
    return bytes + body;
}

class message_out final : public CommMessageOut {
public:
    std::string bytes;

private:
    int encode(struct iovec vectors[], int max) override {
        // In uneven pieces, so that short writes end inside of them.
        int n = 0;
        std::size_t at = 0;
        while (at < bytes.size() && n < max) {
            const std::size_t size =
                n + 1 == max ? bytes.size() - at : std::min<std::size_t>(bytes.size() - at, 1 + at * 2);
            vectors[n++] = {bytes.data() + at, size};
            at += size;
        }
        return n;
    }
};

class message_in final : public CommMessageIn {
public:
    frame::header head{};
    std::string body;
    std::vector<std::string> pushed;

private:
    int append(const void *buf, std::size_t *size) override {
        const char *from = static_cast<const char *>(buf);
        std::size_t left = *size;
        for (;;) {
            if (have_ < sizeof head) {
                const std::size_t n = std::min(left, sizeof head - have_);
                memcpy(reinterpret_cast<char *>(&head) + have_, from, n);
                have_ += n;
                from += n;
                left -= n;
                if (have_ < sizeof head)
                    return 0;
                body.clear();
            }
            const std::size_t n = std::min<std::size_t>(left, head.size - body.size());
            body.append(from, n);
            from += n;
            left -= n;
            if (body.size() < head.size)
                return 0;
            if (head.what != frame::push) {
                *size -= left;
                return 1;
            }
            pushed.push_back(body);
            have_ = 0;
            if (left == 0)
                return 0;
        }
    }

    std::size_t have_ = 0;
};

} // namespace model
