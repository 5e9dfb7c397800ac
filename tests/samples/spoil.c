/*
 * Loaded before the C library's functions: does one thing wrong, once, so that the demo has something to
 * find. SPOIL=byte changes a byte that was received, SPOIL=reset lets a receive fail, SPOIL=close keeps a
 * descriptor open.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>

static const char *how = "";
static atomic_int calls;
static long (*real_syscall)(long, ...);
static int (*real_close)(int);

__attribute__((constructor)) static void set_up(void) {
    const char *wanted = getenv("SPOIL");
    how = wanted != NULL ? wanted : "";
    *(void **)&real_syscall = dlsym(RTLD_NEXT, "syscall");
    *(void **)&real_close = dlsym(RTLD_NEXT, "close");
}

static int is_time(const char *what) {
    return strcmp(how, what) == 0 && atomic_fetch_add(&calls, 1) == 500;
}

/* A whole message has its length in the first four bytes: what comes later belongs to the body. */
static void spoil(char *bytes, size_t room, ssize_t received) {
    if (received > 100 && room > 50 && is_time("byte"))
        bytes[50] ^= 1;
}

/* parley's data path uses system calls, not the C library's recv(). */
long syscall(long number, ...) {
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    const int receives = number == SYS_recvfrom || number == SYS_recvmsg;
    if (receives && is_time("reset")) {
        errno = ECONNRESET;
        return -1;
    }
    const long n = real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (number == SYS_recvfrom) {
        spoil((char *)a[1], (size_t)a[2], n);
    } else if (number == SYS_recvmsg) {
        const struct msghdr *message = (const struct msghdr *)a[1];
        if (message->msg_iovlen > 0)
            spoil((char *)message->msg_iov[0].iov_base, message->msg_iov[0].iov_len, n);
    }
    return n;
}

int close(int fd) {
    return is_time("close") ? 0 : real_close(fd);
}
