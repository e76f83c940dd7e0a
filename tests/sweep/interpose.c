/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Preloaded into a program, makes the n-th call of a kind fail, once:
 *
 *     DRAFTER_FAIL=KIND:N      malloc, open, read, write, fsync, mmap, ioctl or socket; N = 0 counts only
 *     DRAFTER_FAIL=short:N     the n-th transfer of bytes does half of what it was asked for
 *     DRAFTER_FAIL=eintr:N     the n-th call that a signal may interrupt is
 *     DRAFTER_FAIL=kill:N      the program is killed ahead of the n-th call that changes or opens a file
 *     DRAFTER_FAIL_FILE=FILE   4096 bytes that get the number of calls, whether one failed, and whose it was
 *
 * Programs that this one starts are left alone.
 */
#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { MALLOC, OPEN, READ, WRITE, FSYNC, MMAP, IOCTL, SOCKET, SHORT, EINTR_, KILL, NAMES, KINDS };

static const char *const names[KINDS] = {"malloc", "open",  "read",   "write", "fsync",
                                         "mmap",   "ioctl", "socket", "short", "eintr",  "kill",  "names"};
static const int errors[KINDS] = {ENOMEM, EMFILE, EIO, EIO, EIO, ENOMEM, EIO, EMFILE, 0, EINTR, 0, 0};

struct shared {
    _Atomic uint64_t calls, failed;
    char caller[512];
};

static struct shared *shared;
static enum kind chosen = KINDS;
static uint64_t at;

/* False for what the guest of the null VMM does: a guest that is told EIO may stop. */
static bool note_caller(void *caller)
{
    Dl_info info = {0};

    if (!dladdr(caller, &info))
        return true;
    snprintf(shared->caller, sizeof(shared->caller), "%s+%#lx %s", info.dli_fname,
             (unsigned long)((char *)caller - (char *)info.dli_fbase),
             info.dli_sname ? info.dli_sname : "");
    return !strstr(info.dli_fname, "vmm-null");
}

/* Counts a call; whether it is the one. */
static bool hit(enum kind kind, void *caller)
{
    bool changes = kind == OPEN || kind == WRITE || kind == FSYNC || kind == NAMES;

    if (!(kind == chosen || (chosen == KILL && changes)) || !shared ||
        atomic_fetch_add(&shared->calls, 1) + 1 < at || at == 0)
        return false;
    if (!note_caller(caller)) /* the next one, then */
        return false;
    atomic_store(&shared->failed, 1);
    if (chosen == KILL)
        raise(SIGKILL);
    chosen = KINDS;
    return true;
}

static bool fails(enum kind kind, void *caller)
{
    if (!hit(kind, caller))
        return false;
    errno = errors[kind];
    return true;
}

#define FAILS(kind) fails(kind, __builtin_return_address(0))
#define INTERRUPTED() fails(EINTR_, __builtin_return_address(0))
#define LESS(length) ((length) > 1 && hit(SHORT, __builtin_return_address(0)) ? (length) / 2 : (length))

/* The program's own, found at the first call: others' constructors may run before ours. */
#define NEXT(name)                                                                                 \
    static __typeof__(&name) next;                                                                 \
    if (!next)                                                                                     \
        next = (__typeof__(&name))(intptr_t)dlsym(RTLD_NEXT, #name)

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);

void *malloc(size_t size)
{
    return FAILS(MALLOC) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return FAILS(MALLOC) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    return FAILS(MALLOC) ? NULL : __libc_realloc(memory, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return FAILS(MALLOC) ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **ret_memory, size_t alignment, size_t size)
{
    void *memory = hit(MALLOC, __builtin_return_address(0)) ? NULL : __libc_memalign(alignment, size);

    if (!memory)
        return ENOMEM;
    *ret_memory = memory;
    return 0;
}

static mode_t mode_of(int flags, va_list arguments)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN_FUNCTION(name)                                                                        \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list arguments;                                                                         \
        mode_t mode;                                                                               \
        NEXT(name);                                                                                \
                                                                                                   \
        va_start(arguments, flags);                                                                \
        mode = mode_of(flags, arguments);                                                          \
        va_end(arguments);                                                                         \
        return FAILS(OPEN) ? -1 : next(path, flags, mode);                        \
    }
OPEN_FUNCTION(open)
OPEN_FUNCTION(open64)

#define OPENAT_FUNCTION(name)                                                                      \
    int name(int directory, const char *path, int flags, ...)                                      \
    {                                                                                              \
        va_list arguments;                                                                         \
        mode_t mode;                                                                               \
        NEXT(name);                                                                                \
                                                                                                   \
        va_start(arguments, flags);                                                                \
        mode = mode_of(flags, arguments);                                                          \
        va_end(arguments);                                                                         \
        return FAILS(OPEN) ? -1 : next(directory, path, flags, mode);             \
    }
OPENAT_FUNCTION(openat)
OPENAT_FUNCTION(openat64)

FILE *fopen(const char *path, const char *mode)
{
    NEXT(fopen);
    return FAILS(OPEN) ? NULL : next(path, mode);
}

ssize_t read(int fd, void *buffer, size_t length)
{
    NEXT(read);
    return FAILS(READ) || INTERRUPTED() ? -1 : next(fd, buffer, LESS(length));
}

#define PREAD_FUNCTION(name)                                                                       \
    ssize_t name(int fd, void *buffer, size_t length, off_t offset)                                \
    {                                                                                              \
        NEXT(name);                                                                                \
        return FAILS(READ) || INTERRUPTED() ? -1 : next(fd, buffer, LESS(length), offset);         \
    }
PREAD_FUNCTION(pread)
PREAD_FUNCTION(pread64)

ssize_t readv(int fd, const struct iovec *pieces, int count)
{
    NEXT(readv);
    return FAILS(READ) || INTERRUPTED() ? -1 : next(fd, pieces, LESS(count));
}

ssize_t recv(int fd, void *buffer, size_t length, int flags)
{
    NEXT(recv);
    return FAILS(READ) || INTERRUPTED() ? -1 : next(fd, buffer, flags & MSG_WAITALL ? length : LESS(length), flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    NEXT(recvmsg);
    return FAILS(READ) || INTERRUPTED() ? -1 : next(fd, message, flags);
}

/* An eventfd takes what it is told. */
static bool is_counter(int fd, size_t length)
{
    int type;
    socklen_t size = sizeof(type);

    return length == 8 && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0;
}

ssize_t write(int fd, const void *buffer, size_t length)
{
    NEXT(write);
    if (fd == STDERR_FILENO || is_counter(fd, length)) /* a lost log line looks like an event that never was */
        return next(fd, buffer, length);
    return FAILS(WRITE) || INTERRUPTED() ? -1 : next(fd, buffer, LESS(length));
}

#define PWRITE_FUNCTION(name)                                                                      \
    ssize_t name(int fd, const void *buffer, size_t length, off_t offset)                          \
    {                                                                                              \
        NEXT(name);                                                                                \
        return FAILS(WRITE) || INTERRUPTED() ? -1 : next(fd, buffer, LESS(length), offset);        \
    }
PWRITE_FUNCTION(pwrite)
PWRITE_FUNCTION(pwrite64)

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    NEXT(writev);
    if (fd == STDERR_FILENO)
        return next(fd, pieces, count);
    return FAILS(WRITE) || INTERRUPTED() ? -1 : next(fd, pieces, LESS(count));
}

ssize_t send(int fd, const void *buffer, size_t length, int flags)
{
    NEXT(send);
    return FAILS(WRITE) || INTERRUPTED() ? -1 : next(fd, buffer, LESS(length), flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct msghdr less = *message;
    NEXT(sendmsg);

    less.msg_iovlen = LESS(less.msg_iovlen);
    return FAILS(WRITE) || INTERRUPTED() ? -1 : next(fd, &less, flags);
}

int fsync(int fd)
{
    NEXT(fsync);
    return FAILS(FSYNC) ? -1 : next(fd);
}

int fdatasync(int fd)
{
    NEXT(fdatasync);
    return FAILS(FSYNC) ? -1 : next(fd);
}

int rename(const char *from, const char *to)
{
    NEXT(rename);
    return FAILS(NAMES) ? -1 : next(from, to);
}

int unlink(const char *path)
{
    NEXT(unlink);
    return FAILS(NAMES) ? -1 : next(path);
}

int ftruncate(int fd, off_t length)
{
    NEXT(ftruncate);
    return FAILS(NAMES) ? -1 : next(fd, length);
}

#define MMAP_FUNCTION(name)                                                                        \
    void *name(void *address, size_t length, int protection, int flags, int fd, off_t offset)      \
    {                                                                                              \
        NEXT(name);                                                                                \
        return FAILS(MMAP) ? MAP_FAILED : next(address, length, protection, flags, fd, offset);    \
    }
MMAP_FUNCTION(mmap)
MMAP_FUNCTION(mmap64)

int ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    void *argument;
    NEXT(ioctl);

    va_start(arguments, request);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    return FAILS(IOCTL) ? -1 : next(fd, request, argument);
}

int socket(int domain, int type, int protocol)
{
    NEXT(socket);
    return FAILS(SOCKET) ? -1 : next(domain, type, protocol);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    NEXT(accept4);
    return FAILS(SOCKET) || INTERRUPTED() ? -1 : next(fd, address, length, flags);
}

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    NEXT(connect);
    return FAILS(SOCKET) ? -1 : next(fd, address, length);
}

static struct shared *map_shared(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *memory = fd < 0 ? MAP_FAILED
                          : mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (fd >= 0)
        close(fd);
    return memory == MAP_FAILED ? NULL : memory;
}

__attribute__((constructor)) static void start(void)
{
    const char *what = getenv("DRAFTER_FAIL"), *path = getenv("DRAFTER_FAIL_FILE");
    const char *colon = what ? strchr(what, ':') : NULL;
    struct shared *memory = colon && path ? map_shared(path) : NULL;

    for (int i = 0; memory && i < KINDS; i++) {
        if (strlen(names[i]) != (size_t)(colon - what) || memcmp(names[i], what, (size_t)(colon - what)))
            continue;
        at = strtoull(colon + 1, NULL, 10);
        shared = memory;
        chosen = (enum kind)i;
    }
    unsetenv("LD_PRELOAD");
}
