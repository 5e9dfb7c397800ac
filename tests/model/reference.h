// What a session, a timer, a push, a service and a pool may do, as slow and plain as can be. A program
// under test reports what it sees happen; the reference says when that must not happen, and at the end what
// is missing. It knows nothing of how the core works: only sentences of its public headers, which stand
// beside each rule.

#pragma once

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace model {

// What else goes on in the world of a session, by which its failures must be explained.
struct circumstances {
    bool network_faults = false; // resets, cut connections
    bool system_faults = false;  // calls that fail by EMFILE, ENOBUFS, ...
    bool deadlines = false;      // somebody closes what takes too long
};

class reference {
public:
    explicit reference(circumstances around, std::function<void(const std::string &)> object)
        : around_(around), object_(std::move(object)) {}

    // --- a client's session: one submission is one life ---

    struct submission {
        std::size_t id = 0;
        std::size_t pool = 0;
        std::size_t service = 0;
        bool has_deadline = false;
        bool server_closes = false; // the server was told to give no answer
        std::string expected;       // what the answer must be, without what is pushed before it

        bool returned = false;
        int result = 0, code = 0; // of request()
        bool asked_out = false;
        int handled = 0;
        int state = -1, error = -1;
        int cancelled = 0; // cancel() said 0
        bool slot = false;
    };
    submission &submit(submission plan);
    void returned(submission &it, int result, int code);
    void asked_out(submission &it);
    void handled(submission &it, int state, int error, const std::string &answer,
                 const std::vector<std::string> &pushed);
    void cancel_returned(submission &it, int result, int code);

    // --- a pool: a CommSchedTarget ---

    std::size_t add_pool(std::size_t most);
    void connection_made(std::size_t pool);
    void connection_gone(std::size_t pool);
    void released(std::size_t pool);

    // --- a service, and its side of an exchange ---

    std::size_t add_service();
    void bound(std::size_t service);
    void unbinding(std::size_t service);
    void disturbed(std::size_t service); // drained, paused: connections may be closed or refused
    void stopped(std::size_t service);
    void unbound(std::size_t service);
    bool is_unbound(std::size_t service);
    void peer_made(std::size_t service);
    void peer_gone(std::size_t service);

    struct exchange {
        std::size_t service = 0;
        std::size_t id = 0; // of the request, once it is known
        int to_reply = 0;
        bool replied = false; // reply() said 0
        int finished = 0;     // a last handle()
        bool dropped = false; // shut down or deleted by its owner
        std::vector<std::string> pushed;
    };
    exchange &begin(std::size_t service);
    void to_reply(exchange &it, std::size_t id);
    void pushed(exchange &it, const std::string &what);
    void push_began();
    void push_ended();
    void replies(exchange &it); // right before reply(): its completion may come before it returns
    void reply_refused(exchange &it, int code);
    void dropped(exchange &it);
    void finished(exchange &it, int state, int error);
    void destroyed(exchange &it);

    // --- a timer ---

    struct timer {
        bool endless = false;
        int handled = 0, state = -1;
        int cancelled = 0;
        bool refused = false;
    };
    timer &start_timer(bool endless);
    void timer_refused(timer &it, int code);
    void timer_handled(timer &it, int state, int error);
    void unsleep_returned(timer &it, int result, int code);

    // --- the whole ---

    void deinit_begins();
    void deinit_over(); // from now on nothing may be heard of what it ran
    // What is still missing, once everything has been ended.
    void finish();
    // Nothing is in flight any more.
    bool quiet();

private:
    struct pool_state {
        std::size_t most;
        std::size_t connections = 0;
        std::size_t slots = 0;
    };
    struct service_state {
        bool bound = false, unbinding = false, disturbed = false, ever_unbound = false;
        int stops = 0, unbounds = 0, binds = 0;
        std::size_t peers = 0;
        std::size_t open_exchanges = 0;
    };

    void check(bool holds, const std::string &rule, const std::string &about);
    std::string name(const submission &it) const;
    bool explains(const submission &it, int state, int error) const;
    void not_after_end(const std::string &what);

    std::mutex mutex_;
    circumstances around_;
    std::function<void(const std::string &)> object_;
    std::deque<submission> submissions_;
    std::deque<exchange> exchanges_;
    std::deque<timer> timers_;
    std::deque<pool_state> pools_;
    std::deque<service_state> services_;
    std::map<std::size_t, std::vector<std::string>> pushes_of_; // by request
    std::map<std::size_t, int> replies_of_;
    std::size_t in_flight_ = 0;
    int pushes_open_ = 0;
    bool stopping_ = false, over_ = false;
};

} // namespace model
