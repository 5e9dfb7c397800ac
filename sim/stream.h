// Stream sockets, TCP and unix: as Linux treats them towards the program, not as TCP treats the wire. Segments
// arrive in order after the link's time; a window of the two buffers' size holds the sender back.

#pragma once

#include <deque>
#include <map>

#include "network.h"

namespace parley::sim::detail {

// Options that are kept and given back; those that mean something are read from here.
class socket_options {
public:
    int get(int level, int name, void *value, socklen_t *length) const;
    int set(int level, int name, const void *value, socklen_t length);
    int number(int level, int name, int otherwise) const;

    bool resets_at_close = false; // SO_LINGER with 0 seconds

private:
    std::map<std::pair<int, int>, int> values_;
};

// What cut_connection() plans for the next connection to a port.
struct cut {
    std::uint16_t port;
    bool connecting_side;
    std::uint64_t bytes;
    bool reset;
};

class stream_socket final : public file {
public:
    stream_socket(kernel &world, host_state &home, int domain) : file(world, home), domain_(domain) {
        local_.family = remote_.family = domain;
    }
    ~stream_socket() override;

    std::uint32_t poll() const override;
    void close() override;
    std::string describe() const override;

    // As the calls: 0, or a count, or minus an errno. EAGAIN where a blocking one would wait.
    int bind(const address &to);
    int listen(int backlog);
    int connect(const address &to);
    int finish_connect(); // for a blocking connect(): EINPROGRESS, or how it ended
    std::shared_ptr<stream_socket> accept();
    bool listening() const noexcept { return state_ == state::listening; }
    int shutdown(int how);
    ssize_t send(const char *data, std::size_t size);
    ssize_t recv(char *out, std::size_t size, int flags);
    int take_error();

    const address &local() const noexcept { return local_; }
    const address &remote() const noexcept { return remote_; }
    bool connected() const noexcept { return state_ == state::connected; }

    socket_options options;

private:
    // closed: reset, refused or timed out; it keeps its descriptor.
    enum class state { fresh, listening, connecting, connected, closed };

    using pointer = std::shared_ptr<stream_socket>;
    pointer self() { return std::static_pointer_cast<stream_socket>(shared_from_this()); }

    std::size_t window() const;
    bool writable() const;
    void claim_port(const address &at);
    void release_name();
    int choose_port(address &at, const address *to);
    void send_syn(int attempt);
    void syn_arrives(const pointer &client, bool &dropped, bool &refused);
    void connected_to(const pointer &server, const address &at);
    void transmit(std::string data);
    void transmit_end();
    void transmit_reset();
    // Runs `what` where the peer is, in order with all that was sent before.
    void to_peer(std::size_t size, std::function<void(stream_socket &)> what);
    void segment_arrives(std::string data);
    void end_arrives();
    void reset_arrives(int why);
    void unix_peer_closed(bool unread);
    void acknowledged(std::size_t size);
    void give_up_unless_healed();
    bool cut_here(std::string &data);

    int domain_;
    state state_ = state::fresh;
    address local_, remote_;
    bool named_ = false; // holds a port or a path
    std::weak_ptr<stream_socket> peer_;

    std::deque<pointer> accepted_;
    std::size_t backlog_ = 0;

    std::string in_;
    std::size_t in_at_ = 0;
    bool end_in_ = false;     // FIN came
    bool shut_read_ = false;
    bool shut_write_ = false; // FIN sent
    bool end_sent_ = false;
    int error_ = 0;
    std::size_t unread_by_peer_ = 0;
    mutable bool wants_room_ = false; // a send found none
    std::int64_t last_arrival_ = 0;
    std::uint64_t sent_ = 0;
    std::uint64_t cut_after_ = UINT64_MAX;
    bool cut_resets_ = false;
    bool cut_ = false;
};

} // namespace parley::sim::detail
