#include "program.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <deque>
#include <memory>

#include "CommScheduler.h"
#include "wire.h"

namespace model {

namespace {

using parley::sync::condition_variable;
using parley::sync::lock_guard;
using parley::sync::mutex;
using parley::sync::unique_lock;

struct whole; // the program

// --- the server ---

class served;

class server final : public CommService {
public:
    server(whole &program, std::size_t number) : program_(program), number_(number) {}

    whole &program_;
    std::size_t number_;

private:
    struct connection final : CommConnection {
        explicit connection(server &owner);
        ~connection() override;
        server &owner_;
    };
    CommConnection *new_connection(int) override { return new connection(*this); }
    CommSession *new_session(long long, CommConnection *) override;
    bool session_at_connect() override;
    int max_pipeline() override;
    void handle_stop(int) override;
    void handle_unbound() override;
};

class pushing final : public CommPush {
public:
    pushing(CommSession *on, reference &rules, std::string bytes) : CommPush(on), rules_(rules) {
        out_.bytes = std::move(bytes);
    }

private:
    CommMessageOut *message_out() override { return &out_; }
    void handle(int, int) override {
        rules_.push_ended();
        delete this;
    }

    reference &rules_;
    class message_out out_;
};

class served final : public CommSession {
public:
    explicit served(server &owner);
    ~served() override;

    // On any thread, once, after TOREPLY.
    void answer();
    void push_some();

private:
    CommMessageOut *message_out() override { return &out_; }
    CommMessageIn *message_in() override { return &in_; }
    int keep_alive_timeout() override;
    // Not if another thread may delete it: handle_peer_closed() is for sessions that stay on their loop.
    bool handle_in_place() override {
        const auto how = static_cast<behaviour>(in_.head.how);
        const bool later = how == behaviour::reply_later || how == behaviour::push_then_later ||
                           how == behaviour::shut_down_later || how == behaviour::delete_later;
        return in_.head.id % 3 == 0 && !later;
    }
    void handle(int state, int error) override;

    server &owner_;
    reference::exchange &report_;
    class message_in in_;
    class message_out out_;
};

// --- the client ---

class pool final : public CommSchedTarget {
public:
    pool(whole &program, std::size_t number) : program_(program), number_(number) {}

    whole &program_;
    std::size_t number_;

private:
    struct connection final : CommConnection {
        explicit connection(pool &owner);
        ~connection() override;
        pool &owner_;
    };
    CommConnection *new_connection(int) override { return new connection(*this); }
};

// A submission that a driver may still want to cancel.
struct pending {
    reference::submission *report;
    CommTicket ticket;
};

class asking final : public CommSession {
public:
    asking(whole &program, const step &what);

    // False: refused.
    pending start();

private:
    CommMessageOut *message_out() override;
    CommMessageIn *message_in() override { return &in_; }
    int receive_timeout() override { return what_.deadline_ms; }
    int keep_alive_timeout() override { return 60000; }
    bool handle_in_place() override { return what_.in_place; }
    bool retriable() override { return what_.retriable; }
    void handle(int state, int error) override;

    whole &program_;
    step what_;
    reference::submission *report_ = nullptr;
    class message_in in_;
    class message_out out_;
};

class nap final : public SleepSession {
public:
    nap(whole &program, int ms);

    reference::timer &report_;
    bool over_ = false; // under the program's mutex: nobody touches it any more

private:
    int duration(struct timespec *value) override;
    void handle(int state, int error) override;

    whole &program_;
    int ms_;
};

struct whole {
    whole(const plan &the_plan, const surroundings &around)
        : what(the_plan), in(around), rules(around.around, around.object) {}

    const plan &what;
    const surroundings &in;
    reference rules;
    CommScheduler scheduler;
    std::deque<server> servers;
    std::deque<pool> pools;
    std::vector<std::unique_ptr<parley::sync::atomic<bool>>> unbind_begun;
    parley::sync::atomic<bool> stopped{false};
    std::atomic<std::uint32_t> next_id{1};

    // Requests that are answered later, and who waits for what.
    mutex later_mutex;
    condition_variable changed;
    std::deque<served *> later;
    bool no_more = false;

    void answer_later(served *one) {
        lock_guard<mutex> lock(later_mutex);
        later.push_back(one);
        changed.notify_all();
    }
    void something_ended() {
        lock_guard<mutex> lock(later_mutex);
        changed.notify_all();
    }
    // A thread that answers what is left for later.
    void work() {
        unique_lock<mutex> lock(later_mutex);
        for (;;) {
            changed.wait(lock, [&] { return no_more || !later.empty(); });
            if (later.empty())
                return;
            served *one = later.front();
            later.pop_front();
            lock.unlock();
            one->answer();
            lock.lock();
        }
    }
    void unbind(std::size_t number, int deadline_ms) {
        if (unbind_begun[number]->exchange(true))
            return;
        rules.unbinding(number);
        if (deadline_ms < 0)
            scheduler.communicator().unbind(&servers[number]);
        else
            scheduler.communicator().unbind(&servers[number], deadline_ms);
    }
    void stop() {
        if (stopped.exchange(true))
            return;
        rules.deinit_begins();
        scheduler.deinit();
        rules.deinit_over();
    }
    void refuse(nap &one, int code) {
        rules.timer_refused(one.report_, code);
        lock_guard<mutex> lock(later_mutex);
        one.over_ = true;
    }
    void drive(const std::vector<step> &steps);
};

// --- server ---

server::connection::connection(server &owner) : owner_(owner) {
    owner.program_.rules.peer_made(owner.number_);
}
server::connection::~connection() {
    owner_.program_.rules.peer_gone(owner_.number_);
}
CommSession *server::new_session(long long, CommConnection *) {
    return new served(*this);
}
bool server::session_at_connect() {
    return program_.what.services[number_].session_at_connect;
}
int server::max_pipeline() {
    return program_.what.services[number_].max_pipeline;
}
void server::handle_stop(int) {
    program_.rules.stopped(number_);
}
void server::handle_unbound() {
    program_.rules.unbound(number_);
    program_.something_ended();
}

served::served(server &owner) : owner_(owner), report_(owner.program_.rules.begin(owner.number_)) {}
served::~served() {
    owner_.program_.rules.destroyed(report_);
}
int served::keep_alive_timeout() {
    return owner_.program_.what.services[owner_.number_].keep_alive_ms;
}

void served::handle(int state, int error) {
    reference &rules = owner_.program_.rules;
    if (state != CS_STATE_TOREPLY) {
        rules.finished(report_, state, error);
        delete this;
        return;
    }
    rules.to_reply(report_, in_.head.id);
    switch (static_cast<behaviour>(in_.head.how)) {
    case behaviour::push_then_reply:
        push_some();
        [[fallthrough]];
    case behaviour::reply_at_once:
    case behaviour::shut_down:
    case behaviour::delete_at_once:
        answer();
        break;
    case behaviour::push_then_later:
        push_some();
        [[fallthrough]];
    default:
        owner_.program_.answer_later(this);
        break;
    }
}

void served::push_some() {
    reference &rules = owner_.program_.rules;
    for (std::size_t i = 0; i < 1 + in_.head.id % 3; i++) {
        const std::string body = pattern(in_.head.id, 100 + i, 10 + (in_.head.id * 37 + i * 1000) % 3000);
        const std::string bytes = encode(frame::push, in_.head.id, behaviour::reply_at_once, 0, body);
        if (i % 2 == 0) {
            const int n = owner_.program_.scheduler.communicator().push(bytes.data(), bytes.size(), this);
            if (n == static_cast<int>(bytes.size()))
                rules.pushed(report_, body);
        } else {
            auto *one = new pushing(this, rules, bytes);
            rules.push_began();
            if (owner_.program_.scheduler.communicator().push(one) == 0) {
                rules.pushed(report_, body);
            } else {
                rules.push_ended();
                delete one;
            }
        }
    }
}

void served::answer() {
    reference &rules = owner_.program_.rules;
    Communicator &comm = owner_.program_.scheduler.communicator();
    switch (static_cast<behaviour>(in_.head.how)) {
    case behaviour::shut_down:
    case behaviour::shut_down_later:
        rules.dropped(report_);
        comm.shutdown(this); // whether the peer is still there or not
        delete this;
        return;
    case behaviour::delete_at_once:
    case behaviour::delete_later:
        rules.dropped(report_);
        delete this;
        return;
    default:
        break;
    }
    out_.bytes = encode(frame::answer, in_.head.id, behaviour::reply_at_once, 0,
                        pattern(in_.head.id, 1, in_.head.answer_size) +
                            pattern(in_.head.id, 0, in_.head.size).substr(0, 16));
    rules.replies(report_);
    if (comm.reply(this) < 0) {
        rules.reply_refused(report_, errno);
        rules.dropped(report_);
        delete this;
    }
}

// --- client ---

pool::connection::connection(pool &owner) : owner_(owner) {
    owner.program_.rules.connection_made(owner.number_);
}
pool::connection::~connection() {
    owner_.program_.rules.connection_gone(owner_.number_);
}

asking::asking(whole &program, const step &what) : program_(program), what_(what) {}

CommMessageOut *asking::message_out() {
    program_.rules.asked_out(*report_);
    return &out_;
}

pending asking::start() {
    reference::submission life;
    life.id = program_.next_id++;
    life.pool = what_.pool;
    life.service = program_.what.pools[what_.pool].service;
    life.has_deadline = what_.deadline_ms >= 0 || program_.what.pools[what_.pool].response_timeout >= 0 ||
                        program_.what.pools[what_.pool].connect_timeout >= 0;
    life.server_closes = what_.how >= behaviour::shut_down;
    life.expected = pattern(life.id, 1, what_.answer_size) + pattern(life.id, 0, what_.size).substr(0, 16);
    out_.bytes =
        encode(frame::request, life.id, what_.how, what_.answer_size, pattern(life.id, 0, what_.size));
    report_ = &program_.rules.submit(std::move(life));
    // `this` may be gone once it has been taken.
    reference::submission *report = report_;
    whole &program = program_;
    const CommTicket named = ticket();
    CommTarget *chosen = nullptr;
    const int result =
        program.scheduler.request(this, &program.pools[what_.pool], what_.wait_timeout, &chosen);
    const int code = errno;
    program.rules.returned(*report, result, code);
    if (result < 0) {
        delete this;
        program.something_ended();
    }
    return {report, named};
}

void asking::handle(int state, int error) {
    program_.rules.handled(*report_, state, error, in_.body, in_.pushed);
    whole &program = program_;
    if (what_.again && state == CS_STATE_SUCCESS) {
        // From inside handle(), as callback programs do it.
        step next = what_;
        next.again = false;
        next.wait_timeout = 0;
        (new asking(program, next))->start();
    }
    delete this;
    program.something_ended();
}

nap::nap(whole &program, int ms) : report_(program.rules.start_timer(ms < 0)), program_(program), ms_(ms) {}
int nap::duration(struct timespec *value) {
    *value = {ms_ < 0 ? -1 : ms_ / 1000, ms_ < 0 ? 0 : ms_ % 1000 * 1000000L};
    return 0;
}
void nap::handle(int state, int error) {
    program_.rules.timer_handled(report_, state, error);
    // Its maker deletes it then.
    lock_guard<mutex> lock(program_.later_mutex);
    over_ = true;
    program_.changed.notify_all();
}

// --- a driver ---

void whole::drive(const std::vector<step> &steps) {
    std::vector<pending> mine;
    std::deque<std::unique_ptr<nap>> naps;
    for (const step &one : steps) {
        switch (one.what) {
        case step::kind::request:
            mine.push_back((new asking(*this, one))->start());
            break;
        case step::kind::cancel:
            if (!mine.empty()) {
                const pending &goal =
                    mine[mine.size() - 1 - static_cast<std::size_t>(one.number) % mine.size()];
                errno = 0;
                const int result = scheduler.communicator().cancel(goal.ticket);
                rules.cancel_returned(*goal.report, result, errno);
            }
            break;
        case step::kind::sleep:
            naps.push_back(std::make_unique<nap>(*this, one.number * in.unit_ms));
            if (scheduler.sleep(naps.back().get()) < 0)
                refuse(*naps.back(), errno);
            break;
        case step::kind::unsleep:
            // Only while handle() has not returned, says the contract: of an endless one, where nobody stops
            // the whole, that is sure.
            naps.push_back(std::make_unique<nap>(*this, -1));
            if (scheduler.sleep(naps.back().get()) < 0) {
                refuse(*naps.back(), errno);
            } else {
                in.pause(one.number * in.unit_ms);
                errno = 0;
                const int result = scheduler.communicator().unsleep(naps.back().get());
                rules.unsleep_returned(naps.back()->report_, result, errno);
            }
            break;
        case step::kind::pause:
            in.pause(one.number * in.unit_ms);
            break;
        case step::kind::drain:
            rules.disturbed(one.service);
            servers[one.service].drain(one.number - 1);
            break;
        case step::kind::close_idle:
            pools[one.pool].close_idle();
            break;
        case step::kind::rest:
            servers[one.service].pause_accept();
            in.pause(one.number * in.unit_ms);
            servers[one.service].resume_accept();
            break;
        case step::kind::unbind:
            unbind(one.service, one.number > 0 ? one.number * in.unit_ms : -1);
            break;
        case step::kind::stop:
            stop();
            break;
        }
    }
    // The timers are this thread's memory.
    unique_lock<mutex> lock(later_mutex);
    changed.wait(lock, [&] {
        return std::all_of(naps.begin(), naps.end(), [](const auto &it) { return it->over_; });
    });
}

void address_of(const plan::service &service, std::size_t number, sockaddr_storage &out, socklen_t &size) {
    memset(&out, 0, sizeof out);
    if (service.unix_socket) {
        auto &un = reinterpret_cast<sockaddr_un &>(out);
        un.sun_family = AF_UNIX;
        const std::string name = "parley-model-" + std::to_string(parley::sys::current().monotonic_ns()) +
                                 "-" + std::to_string(number);
        memcpy(un.sun_path + 1, name.data(), name.size());
        size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
        return;
    }
    auto &in = reinterpret_cast<sockaddr_in &>(out);
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    size = sizeof in;
}

} // namespace

void run_program(const plan &what, const surroundings &in) {
    whole program(what, in);
    if (program.scheduler.init(what.loops, what.handler_threads) < 0) {
        // Only planned failures of the system excuse that.
        if (!in.around.system_faults)
            in.object(std::string("CommScheduler::init failed: ") + strerrorname_np(errno));
        return;
    }
    bool ready = true;
    std::vector<bool> bound;
    std::vector<std::pair<sockaddr_storage, socklen_t>> where(what.services.size());
    for (std::size_t i = 0; i < what.services.size(); i++) {
        program.rules.add_service();
        program.servers.emplace_back(program, i);
        program.unbind_begun.push_back(std::make_unique<parley::sync::atomic<bool>>(false));
        address_of(what.services[i], i, where[i].first, where[i].second);
        server &one = program.servers.back();
        program.rules.bound(i);
        bound.push_back(one.init(reinterpret_cast<sockaddr *>(&where[i].first), where[i].second, -1,
                                 what.services[i].response_timeout) == 0 &&
                        program.scheduler.bind(&one) == 0);
        if (!bound.back()) {
            if (!in.around.system_faults)
                in.object(std::string("init or bind of a service failed: ") + strerrorname_np(errno));
            ready = false;
            program.rules.unbinding(i);
            program.rules.unbound(i);
        } else {
            where[i].second = sizeof where[i].first;
            if (one.get_local_addr(reinterpret_cast<sockaddr *>(&where[i].first), &where[i].second) < 0)
                in.object("get_local_addr() of a service that is bound fails");
        }
    }
    for (std::size_t i = 0; i < what.pools.size(); i++) {
        const plan::pool &one = what.pools[i];
        program.rules.add_pool(one.most);
        program.pools.emplace_back(program, i);
        if (program.pools.back().init(reinterpret_cast<sockaddr *>(&where[one.service].first),
                                      where[one.service].second, one.connect_timeout, one.response_timeout,
                                      one.most) < 0) {
            if (!in.around.system_faults)
                in.object(std::string("init of a target failed: ") + strerrorname_np(errno));
            ready = false;
        }
    }

    std::vector<parley::sync::thread> workers;
    std::vector<parley::sync::thread> drivers;
    for (std::size_t i = 0; i < what.executors; i++)
        workers.emplace_back([&] { program.work(); });
    if (ready)
        for (const std::vector<step> &steps : what.threads)
            drivers.emplace_back([&] { program.drive(steps); });
    for (parley::sync::thread &one : drivers)
        one.join();

    const auto unbind_all = [&] {
        for (std::size_t i = 0; i < what.services.size(); i++)
            if (bound[i])
                program.unbind(i, -1);
    };
    if (!what.deinit_before_unbind) {
        // Everything comes to its own end.
        {
            unique_lock<mutex> lock(program.later_mutex);
            program.changed.wait(lock, [&] { return program.rules.quiet(); });
        }
        unbind_all();
    } else {
        program.stop();
        unbind_all();
    }
    {
        unique_lock<mutex> lock(program.later_mutex);
        program.changed.wait(lock, [&] {
            for (std::size_t i = 0; i < what.services.size(); i++)
                if (!program.rules.is_unbound(i))
                    return false;
            return true;
        });
        program.no_more = true;
        program.changed.notify_all();
    }
    for (parley::sync::thread &one : workers)
        one.join();
    program.stop();
    for (pool &one : program.pools) {
        if (one.get_cur_load() != 0)
            in.object("every slot comes back: " + std::to_string(one.get_cur_load()) +
                      " of a pool are taken in the end");
        one.deinit();
    }
    for (server &one : program.servers)
        one.deinit();
    program.rules.finish();
}

} // namespace model
