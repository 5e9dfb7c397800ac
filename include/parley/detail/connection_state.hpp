// What stands behind a connection<P>: the sessions of its turns, who waits for them, and how the connection
// ended. Everything here happens on the connection's loop.

#pragma once

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <parley/config.hpp>
#include <parley/core/Communicator.h>
#include <parley/core/Sync.h>
#include <parley/detail/context.hpp>
#include <parley/detail/hold.hpp>
#include <parley/detail/waiters.hpp>
#include <parley/endpoint.hpp>
#include <parley/error.hpp>
#include <parley/result.hpp>
#include <parley/tls_identity.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

class connection_state;
class door;

// How a send stands; kept in the frame of who awaits it.
enum class send_status : std::uint8_t { pending, sent, failed, no_turn, closed, elsewhere };

// One request and its answer: a session of the core that is used again for a later turn.
//
//   | phase     | what the core does      | becomes                                                        |
//   |-----------|-------------------------|----------------------------------------------------------------|
//   | spare     | nothing                 | receiving, by new_session()                                    |
//   | receiving | awaits, parses          | ready, by handle(TOREPLY); gone, by handle(ERROR or STOPPED)   |
//   | ready     | awaits the reply        | open, when recv() has taken the message                        |
//   | open      | awaits the reply        | sending, by send(); gone, when the connection is               |
//   | sending   | writes                  | spare, by handle(SUCCESS); gone, by handle(ERROR or STOPPED)   |
class turn : public CommSession, private operation {
public:
    enum class phase : std::uint8_t { spare, receiving, ready, open, sending };

    ~turn() override = default;

protected:
    explicit turn(connection_state &owner) noexcept : owner_(owner) {}
    [[nodiscard]] const void *protocol_settings() const noexcept;
    // message_in() of the derived class says that the core writes into its message.
    void message_bound() noexcept { bound_ = true; }

private:
    friend class connection_state;

    CommMessageOut *message_out() override { return answer_; }
    int send_timeout() override;
    int receive_timeout() override;
    int keep_alive_timeout() override;
    void handle(int state, int error) override;
    bool handle_in_place() override { return true; }
    void handle_peer_closed() override;
    void handle_half_closed() override;
    void handle_tls_failure(const SSL *ssl) override;

    void cancel() noexcept override;
    const char *name() const noexcept override { return "send"; }
    parley::stage stage() const noexcept override { return parley::stage::send; }
    std::string resource() const override;
    int descriptor() const noexcept override { return get_fd(); }

    const CommTarget *peer() const noexcept { return get_target(); }
    const SSL *ssl() const noexcept { return get_ssl(); }

    connection_state &owner_;
    turn *next_ = nullptr;             // the one that came after it
    CommMessageOut *answer_ = nullptr; // while sending
    context *sender_ = nullptr;        // suspended in send()
    send_status *status_ = nullptr;    // of the send() under way
    phase phase_ = phase::spare;
    bool bound_ = false;     // the core may write into the message
    bool cancelled_ = false; // the sender was told to stop
    bool last_ = false;      // the connection is closed behind its answer
};

// Somebody in connection<P>::close().
class close_wait : public waiter<close_wait>, private operation {
public:
    explicit close_wait(connection_state *state) noexcept; // nullptr: closed already
    bool await_ready() const noexcept;
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    void await_resume() const noexcept {}
    close_wait(close_wait &&) = delete;

private:
    friend class connection_state;
    void cancel() noexcept override {} // closing is under way and takes no time
    const char *name() const noexcept override { return "close"; }
    parley::stage stage() const noexcept override { return parley::stage::shutdown; }

    hold<connection_state> state_;
    context *task_ = nullptr;
};

// A CommPush in the frame of who awaits it. The derived class has the message.
class push_wait : private operation {
public:
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    result<void> await_resume();
    push_wait(push_wait &&) = delete;

protected:
    explicit push_wait(connection_state *state) noexcept;
    ~push_wait();

private:
    class pushed final : public CommPush {
    public:
        pushed(push_wait &owner, CommSession *of) noexcept : CommPush(of), owner_(owner) {}

    private:
        CommMessageOut *message_out() override { return &owner_.message(); }
        void handle(int state, int error) override { owner_.written(state, error); }
        push_wait &owner_;
    };

    virtual CommMessageOut &message() noexcept = 0;
    void written(int state, int error) noexcept;
    void cancel() noexcept override;
    const char *name() const noexcept override { return "push"; }
    parley::stage stage() const noexcept override { return parley::stage::send; }
    std::string resource() const override;
    int descriptor() const noexcept override;

    hold<connection_state> state_;
    std::optional<pushed> push_;
    context *task_ = nullptr;
    bool elsewhere_ = false;
    int state_of_push_ = CS_STATE_SUCCESS;
    int error_ = 0;
    bool cancelled_ = false;
};

// Where the core's object for a connection lies: in the connection's state.
struct link_place {
    alignas(CommConnection) std::byte link[sizeof(CommConnection)];
};

class connection_state : private operation, private CommNode, private link_place {
public:
    void retain() noexcept { references_.fetch_add(1, sync::memory_order_relaxed); }
    void release() noexcept {
        if (references_.fetch_sub(1, sync::memory_order_acq_rel) == 1)
            delete this;
    }

    // --- for connection<P> ---

    // The handle is gone, on whatever thread: closes and lets go of its reference.
    void abandon() noexcept;
    void begin_close() noexcept;
    [[nodiscard]] bool is_closed() const noexcept { return !linked_.load(sync::memory_order_acquire); }
    // Operations are awaited on the connection's own loop.
    [[nodiscard]] bool is_here() const noexcept { return CommLoop::current() == &home_; }
    [[nodiscard]] static error not_here();

    [[nodiscard]] endpoint peer() const;
    // -1 when it is closed.
    [[nodiscard]] int descriptor() const noexcept final;
    [[nodiscard]] endpoint local() const;
    [[nodiscard]] std::optional<tls::peer_identity> tls_peer() const;

    // recv(): whether it has not to wait; waits; the oldest request, whose turn is then open, or nullptr.
    [[nodiscard]] bool is_receiving() const noexcept { return receiving_; }
    [[nodiscard]] bool recv_is_ready() const noexcept {
        return closing_ || no_more_ || find(turn::phase::ready);
    }
    void wait_for_request(context &task) noexcept;
    turn *take_request() noexcept;
    [[nodiscard]] error recv_error(bool busy) const;

    // send(): false when it is decided, true when `status` and the task will be told.
    // `last`: the connection is closed behind it.
    bool begin_send(context &task, CommMessageOut &message, bool last, send_status &status) noexcept;
    // Sends a FIN behind all output; false when the connection is gone.
    bool half_close() noexcept;
    [[nodiscard]] bool can_send(send_status &status) const noexcept;
    [[nodiscard]] error send_error(send_status status) const;
    // A turn that awaits its next request and into which the core does not write yet; or nullptr.
    [[nodiscard]] turn *idle_turn() const noexcept;

    // --- for who looks at it ---

    // Requests that have come and are not answered, and whether it is being closed.
    [[nodiscard]] std::size_t unanswered() const noexcept;
    [[nodiscard]] bool is_closing() const noexcept { return closing_; }
    // "idle", "receiving", "answering" or "closing".
    [[nodiscard]] const char *condition() const noexcept;
    // Those that the core has and whose loop the calling thread is.
    [[nodiscard]] static const connection_state *first_here() noexcept;
    [[nodiscard]] const connection_state *next_here() const noexcept { return next_listed_; }

    // --- for the door it came through ---

    // As CommService::new_connection(): the core's object, which holds this state. On its loop.
    CommConnection *make_link() noexcept;
    static CommSession *new_session(CommConnection *link) noexcept;
    [[nodiscard]] CommLoop &home() const noexcept { return home_; }
    [[nodiscard]] door &through() const noexcept { return door_; }

    // Of connections that nobody accepted yet. The node is else used for a handle dropped on another thread.
    [[nodiscard]] connection_state *next_in_queue() const noexcept {
        return static_cast<connection_state *>(CommNode::next);
    }
    void set_next_in_queue(connection_state *after) noexcept { CommNode::next = after; }

protected:
    connection_state(door &from, CommLoop &home) noexcept;
    virtual ~connection_state();

    // The peer has gone, and no recv() or send() is awaited that says so.
    virtual void peer_gone() noexcept {}
    // The same of one that sends nothing more but may still read.
    virtual void peer_half_closed() noexcept {}

    virtual turn *make_turn() = 0;
    virtual void free_turn(turn *old) noexcept = 0;

private:
    friend class turn;
    friend class close_wait;
    friend class push_wait;

    // The core's hold on the state, from accept to the last session that saw it; deleting it lets go of the
    // state, when its destructor is through.
    class held_link final : public CommConnection {
    public:
        ~held_link() override { state_at(this).unlinked(); }
        static void operator delete(void *memory) noexcept { state_at(memory).release(); }
    };
    static_assert(sizeof(held_link) == sizeof(link));
    [[nodiscard]] static connection_state &state_at(void *link) noexcept {
        return static_cast<connection_state &>(*static_cast<link_place *>(link));
    }

    void list() noexcept;
    void unlist() noexcept;

    // What the core tells of a turn.
    CommSession *next_turn() noexcept;
    void request_arrived(turn &t) noexcept;
    void answered(turn &t) noexcept;
    void turn_failed(turn &t, int state, int error) noexcept;
    void peer_closed(turn &t) noexcept;
    void half_closed() noexcept;
    void tls_failed(turn &t, const SSL *ssl) noexcept;
    void unlinked() noexcept;

    void note_failure(error failure) noexcept;
    [[nodiscard]] error farewell() const;
    void receiving_ended() noexcept;
    void destroy_spares() noexcept;
    void wake_receiver() noexcept;
    [[nodiscard]] bool somebody_waits() const noexcept;
    void destroy(turn &t) noexcept;
    void destroy_last(turn &t) noexcept;
    void append(turn &t) noexcept;
    void unlink(turn &t) noexcept;
    [[nodiscard]] turn *find(turn::phase what) const noexcept {
        turn *t = first_;
        while (t && t->phase_ != what)
            t = t->next_;
        return t;
    }
    [[nodiscard]] CommSession *session_to_push() const noexcept;
    [[nodiscard]] Communicator &communicator() const noexcept { return *home_.communicator(); }
    [[nodiscard]] std::chrono::nanoseconds since(const context &task) const noexcept;

    // As the operation that a task in recv() waits for.
    void cancel() noexcept override;
    const char *name() const noexcept override { return "recv"; }
    parley::stage stage() const noexcept override;
    std::string resource() const override { return peer().to_string(); }

    door &door_; // as long as the core has the connection, or a server's handler runs
    CommLoop &home_;
    context *receiver_ = nullptr; // suspended in recv()
    turn *first_ = nullptr;       // all turns; those with requests in the order of arrival
    error ending_;                // why it ended, if it did; names the peer. Before: TLS' words about it
    waiters<close_wait> closers_;
    connection_state *next_listed_ = nullptr; // of the calling loop's
    connection_state **place_listed_ = nullptr;
    sync::atomic<int> references_{1};  // atomic because another thread may drop the handle
    sync::atomic<bool> linked_{false}; // the core has the connection
    bool receiving_ : 1 = false;       // a recv() is awaited, or has been woken and has not gone on yet
    bool no_more_ : 1 = false;         // requests will not come any more
    bool closing_ : 1 = false;         // by us
    bool greeted_ : 1 = false;         // some request came
    bool ended_ : 1 = false;           // ending_ says why
    // It is the end of the peer's stream that ending_ says: what is open can still be answered.
    bool clean_end_ : 1 = false;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
