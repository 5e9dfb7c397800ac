// A part of a test that runs in a process of its own, because it is killed, stopped, or exits. Make one while
// no Communicator runs here: a child has only the thread that forked it.

#pragma once

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <utility>

#include <doctest/doctest.h>

namespace process {

constexpr unsigned guard_s = 20; // a child that hangs ends itself, and with its status the test

class Child {
public:
    // Runs work(child) in the process and then ends it, with status 0.
    template <class Work>
    explicit Child(Work work) {
        int there[2], back[2];
        REQUIRE(pipe(there) == 0);
        REQUIRE(pipe(back) == 0);
        fflush(nullptr); // or the child would print it again
        id_ = fork();
        REQUIRE(id_ >= 0);
        bool here = id_ != 0;
        close(there[here ? 0 : 1]);
        close(back[here ? 1 : 0]);
        in_ = here ? back[0] : there[0];
        out_ = here ? there[1] : back[1];
        if (here)
            return;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        // The framework's handlers would report a crash of the child as the parent's.
        for (int number : {SIGABRT, SIGSEGV, SIGILL, SIGFPE, SIGTERM, SIGINT})
            signal(number, SIG_DFL);
        alarm(guard_s);
        work(*this);
        end(0);
    }
    ~Child() {
        if (id_ > 0) {
            kill(id_, SIGKILL);
            (void)status();
        }
        close(in_);
        close(out_);
    }
    Child(const Child &) = delete;
    Child &operator=(const Child &) = delete;

    pid_t id() const { return id_; }

    // Over there: ends the process where it stands, with nothing destroyed.
    [[noreturn]] static void end(int status) { _exit(status); }

    // One line to the other side, which line() gives it without its end.
    void say(std::string text) {
        text += '\n';
        (void)!write(out_, text.data(), text.size());
    }
    // Empty when the other side has gone, or says nothing within the guard.
    std::string line() {
        std::string text;
        for (char c; readable() && read(in_, &c, 1) == 1 && c != '\n';)
            text += c;
        return text;
    }
    // Over there: what goes to standard error is lines for the other side.
    void say_errors() { dup2(out_, 2); }
    // Waits for its end: the exit status, or minus the signal.
    int status() {
        int how = 0;
        pid_t ended;
        while ((ended = waitpid(std::exchange(id_, 0), &how, 0)) < 0 && errno == EINTR) {
        }
        return WIFEXITED(how) ? WEXITSTATUS(how) : -WTERMSIG(how);
    }
    void kill_now() { kill(id_, SIGKILL); }
    // Returns when it stands still.
    bool stop() {
        int how = 0;
        return kill(id_, SIGSTOP) == 0 && waitpid(id_, &how, WUNTRACED) == id_ && WIFSTOPPED(how);
    }
    void go_on() { kill(id_, SIGCONT); }

private:
    bool readable() const {
        struct pollfd p = {in_, POLLIN, 0};
        return poll(&p, 1, static_cast<int>(guard_s) * 1000) > 0;
    }

    pid_t id_ = 0;
    int in_ = -1, out_ = -1;
};

} // namespace process
