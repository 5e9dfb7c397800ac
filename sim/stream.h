// Stream sockets, TCP and unix: as Linux treats them towards the program, not as TCP treats the wire.
// Segments arrive in order after the link's time; a window of the two buffers' size holds the sender back.

#pragma once

#include <deque>
#include <functional>

#include "network.h"
#include "options.h"

namespace parley::sim::detail {

// What cut_connection() plans for the next connection to a port.
struct cut {
    std::uint16_t port;
    bool connecting_side;
    std::uint64_t bytes;
    bool reset;
};

class stream_socket final : public file {
public:
    stream_socket(kernel &world, host_state &home, int domain)
        : file(world, home), options(domain, SOCK_STREAM), domain_(domain) {
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
    int disconnect();     // connect() to no family
    std::shared_ptr<stream_socket> accept();
    bool listening() const noexcept { return state_ == state::listening; }
    int shutdown(int how);
    ssize_t send(const char *data, std::size_t size);
    // out nullptr: thrown away.
    ssize_t recv(char *out, std::size_t size, int flags);
    int take_error();
    // A send that a fault cut short: room that comes is told, as after a real one.
    void out_of_room() noexcept { wants_room_ = true; }

    int domain() const noexcept { return domain_; }
    bool named() const noexcept { return named_; }
    const address &local() const noexcept { return local_; }
    const address &remote() const noexcept { return remote_; }
    bool connected() const noexcept { return state_ == state::connected; }

    socket_options options;

private:
    // TCP's, as far as the program sees them.
    //   fresh       nothing was done, or it was undone by disconnect()
    //   listening   by listen()
    //   connecting  by connect(), until an answer comes
    //   connected   one end or both are open
    //   closed      reset, refused, timed out, or both ends have ended; it keeps its descriptor
    enum class state { fresh, listening, connecting, connected, closed };
    // What connect() says next: Linux keeps it beside the state (struct socket's).
    enum class asked { not_yet, told_in_progress, told, in_vain };

    using pointer = std::shared_ptr<stream_socket>;
    pointer self() { return std::static_pointer_cast<stream_socket>(shared_from_this()); }

    // --- stream_connect.cpp ---
    bool only_v6() const { return options.on(IPPROTO_IPV6, IPV6_V6ONLY); }
    bool is_taken(const address &at) const;
    void claim_port(const address &at);
    void share_port(const address &at);
    void release_name();
    int choose_port(address &at, int otherwise);
    int connect_unix(const address &to);
    int connect_tcp(const address &to);
    void forget_connection();
    void close_door();
    void send_syn(int attempt);
    void syn_at(host_state &there, int attempt);
    void try_syn_again(int attempt);
    bool syn_arrives(const pointer &client);
    void joins_queue(const pointer &server);
    void refuse_embryo();
    void connected_to(const pointer &server);

    // --- stream.cpp ---
    std::size_t window() const;
    bool writable() const;
    ssize_t may_send() const;
    void transmit(std::string data);
    void transmit_end();
    void transmit_reset();
    // Runs `what` where the peer is, in order with all that was sent before.
    void to_peer(std::size_t size, std::function<void(stream_socket &)> what);
    // The same for what is no data and is not held back: a window's news, an acknowledgement.
    void tell_peer(std::function<void(stream_socket &)> what);
    void segment_arrives(const std::string &data);
    void end_arrives();
    void close_if_both_ended(const stream_socket &peer);
    void reset_arrives(int why);
    void unix_peer_closed(bool unread);
    int shutdown_unix(int how);
    void acknowledged(std::size_t size);
    void give_up_unless_healed();
    bool cut_here(std::string &data);

    int domain_;
    state state_ = state::fresh;
    asked asked_ = asked::not_yet;
    address local_, remote_;
    bool named_ = false; // holds a port or a path
    address bound_;      // what bind() was asked for: connect() makes it narrower
    std::weak_ptr<stream_socket> peer_;

    std::deque<pointer> accepted_;
    std::size_t backlog_ = 0;

    std::string in_;
    std::size_t in_at_ = 0;
    bool end_in_ = false;     // FIN came
    bool shut_read_ = false;  // Linux' RCV_SHUTDOWN
    bool shut_write_ = false; // and SEND_SHUTDOWN
    bool end_sent_ = false;
    int error_ = 0;
    std::size_t unread_by_peer_ = 0;
    mutable bool wants_room_ = false; // a send or a poll found none
    std::int64_t last_arrival_ = 0;
    std::uint64_t sent_ = 0;
    std::uint64_t cut_after_ = UINT64_MAX;
    bool cut_resets_ = false;
    bool cut_ = false;
};

} // namespace parley::sim::detail
