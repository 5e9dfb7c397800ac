/*
 * LD_PRELOADed into a server, this counts its allocations and locks. The counters lie in the file that
 * PARLEY_COUNT_CALLS names, mapped and shared: another process reads them at any moment, two readings give
 * the calls between two points, and the server is not disturbed by a signal it does not know. Native byte
 * order, one 64-bit number for each name of `enum counter`, in that order. Without the variable nothing is
 * counted.
 *
 * operator new and delete are seen as the malloc and free that they call. What a library calls inside itself
 * without going through the dynamic linker (libc's own locks) is not seen.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>

enum counter {
    count_malloc,
    count_calloc,
    count_realloc,
    count_aligned,
    count_free,
    count_mutex_lock,
    count_mutex_trylock,
    count_rwlock,
    count_condition,
    counters
};

static _Atomic uint64_t nowhere[counters];
static _Atomic uint64_t *counts = nowhere;

/* glibc's own names of its allocator: looking up the plain ones would allocate. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *memory);

static void add(enum counter counter) {
    atomic_fetch_add_explicit(&counts[counter], 1, memory_order_relaxed);
}

__attribute__((constructor)) static void map_counters(void) {
    const char *path = getenv("PARLEY_COUNT_CALLS");
    void *memory;
    int fd;

    if (!path) {
        return;
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof nowhere) < 0) {
        abort();
    }
    memory = mmap(NULL, sizeof nowhere, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        abort();
    }
    close(fd);
    counts = memory;
}

void *malloc(size_t size) {
    add(count_malloc);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    add(count_calloc);
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size) {
    add(count_realloc);
    return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size) {
    add(count_aligned);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    add(count_aligned);
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size) {
    void *memory;

    if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0) {
        return EINVAL;
    }
    add(count_aligned);
    memory = __libc_memalign(alignment, size);
    if (!memory) {
        return ENOMEM;
    }
    *result = memory;
    return 0;
}

void free(void *memory) {
    if (memory) {
        add(count_free);
    }
    __libc_free(memory);
}

/* The next definition of a pthread function, looked up once; a race to do so is harmless. */
#define FORWARD(counter, name, type, argument)                                                               \
    int name(type *argument) {                                                                               \
        static int (*_Atomic next)(type *);                                                                  \
        int (*function)(type *) = atomic_load_explicit(&next, memory_order_relaxed);                         \
                                                                                                             \
        if (!function) {                                                                                     \
            void *found = dlsym(RTLD_NEXT, #name);                                                           \
                                                                                                             \
            if (!found) {                                                                                    \
                abort();                                                                                     \
            }                                                                                                \
            memcpy(&function, &found, sizeof function);                                                      \
            atomic_store_explicit(&next, function, memory_order_relaxed);                                    \
        }                                                                                                    \
        add(counter);                                                                                        \
        return function(argument);                                                                           \
    }

FORWARD(count_mutex_lock, pthread_mutex_lock, pthread_mutex_t, mutex)
FORWARD(count_mutex_trylock, pthread_mutex_trylock, pthread_mutex_t, mutex)
FORWARD(count_rwlock, pthread_rwlock_rdlock, pthread_rwlock_t, lock)
FORWARD(count_rwlock, pthread_rwlock_wrlock, pthread_rwlock_t, lock)
FORWARD(count_condition, pthread_cond_signal, pthread_cond_t, condition)
FORWARD(count_condition, pthread_cond_broadcast, pthread_cond_t, condition)
