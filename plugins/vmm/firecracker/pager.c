/* SPDX-License-Identifier: BSD-2-Clause */
#include "pager.h"
#include "util/cleanup.h"
#include "vmm/common/socket.h"
#include <fcntl.h>
#include <jansson.h>
#include <linux/close_range.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define PAGE ((uint64_t)DRAFTER_PAGE_SIZE)
#define MESSAGE_MAX ((size_t)16 << 10)
#define SERVERS 4
#define PREFETCH_STEP ((size_t)64 << 10)
#define RETRY_MS 100

void pager_init(struct pager *pager)
{
    *pager = (struct pager){.listener = -1, .uffd = -1, .memory = -1, .stop_fd = -1};
}

/* ---- the processes: async-signal-safe calls only */

/* Waits for `fd`; ends with Firecracker. */
static void child_wait(const struct pager *pager, int fd, int timeout_ms)
{
    struct pollfd polled[2] = {{.fd = pager->pidfd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

    while (poll(polled, 2, timeout_ms) < 0 && errno == EINTR)
        ;
    if (polled[0].revents)
        _exit(0);
}

/* The guest gets what the device has, or stands still: never anything else. */
static void child_read(const struct pager *pager, char *buffer, size_t length, uint64_t offset)
{
    size_t done = 0;

    while (done < length) {
        ssize_t got = pread(pager->memory, buffer + done, length - done, (off_t)(offset + done));

        if (got > 0)
            done += (size_t)got;
        else if (got == 0 || errno != EINTR)
            child_wait(pager, -1, RETRY_MS);
    }
}

/* Copies pages in; those that are there stay. */
static void child_copy(const struct pager *pager, uint64_t address, const char *data, uint64_t length)
{
    while (length) {
        struct uffdio_copy copy = {.dst = address, .src = (uintptr_t)data, .len = length};
        struct uffdio_range there = {.start = address, .len = PAGE};
        uint64_t done = length;

        if (ioctl(pager->uffd, UFFDIO_COPY, &copy) < 0) {
            done = copy.copy > 0 ? (uint64_t)copy.copy : errno == EEXIST ? PAGE : 0;
            if (!done && errno != EAGAIN)
                _exit(1); /* Firecracker ends */
            if (copy.copy <= 0 && done)
                ioctl(pager->uffd, UFFDIO_WAKE, &there); /* two of its threads wanted it */
        }
        address += done;
        data += done;
        length -= done;
    }
}

static void child_fault(const struct pager *pager, uint64_t address)
{
    char page[DRAFTER_PAGE_SIZE];

    address &= ~(PAGE - 1);
    for (uint32_t i = 0; i < pager->region_count; i++) {
        const struct pager_region *region = &pager->regions[i];

        if (address < region->address || address - region->address >= region->size)
            continue;
        child_read(pager, page, sizeof(page), region->offset + (address - region->address));
        child_copy(pager, address, page, sizeof(page));
    }
}

/* The descriptor does not block, and another server may have been quicker. */
static void child_serve(const struct pager *pager)
{
    struct uffd_msg message;

    for (;;) {
        child_wait(pager, pager->uffd, -1);
        if (read(pager->uffd, &message, sizeof(message)) == (ssize_t)sizeof(message) &&
            message.event == UFFD_EVENT_PAGEFAULT)
            child_fault(pager, message.arg.pagefault.address);
    }
}

static void child_prefetch(const struct pager *pager)
{
    char buffer[PREFETCH_STEP];

    for (uint32_t i = 0; i < pager->region_count; i++) {
        const struct pager_region *region = &pager->regions[i];

        for (uint64_t at = 0; at < region->size; at += PREFETCH_STEP) {
            size_t step = region->size - at < PREFETCH_STEP ? (size_t)(region->size - at)
                                                            : PREFETCH_STEP;

            child_wait(pager, -1, 0);
            child_read(pager, buffer, step, region->offset + at);
            child_copy(pager, region->address + at, buffer, step);
        }
    }
}

/* Nothing of drafter's may stay open: neither its locks nor the device that is waited for. */
static void child_keep(struct pager *pager)
{
    int *const kept[] = {&pager->uffd, &pager->memory, &pager->pidfd};

    for (int i = 0; i < 3; i++)
        if ((*kept[i] = fcntl(*kept[i], F_DUPFD, 16)) < 0)
            _exit(1);
    for (int i = 0; i < 3; i++)
        *kept[i] = dup2(*kept[i], i + 3);
    if (syscall(SYS_close_range, 6u, ~0u, 0u) < 0)
        _exit(1);
}

static void child_main(struct pager *pager, void (*body)(const struct pager *pager))
{
    sigset_t none;

    setsid();
    prctl(PR_SET_NAME, "fc-pager");
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    child_keep(pager);
    body(pager);
    _exit(0);
}

/* A grandchild, which nobody has to reap. */
static int detach(const struct pager *pager, void (*body)(const struct pager *pager))
{
    struct pager copy = *pager;
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        pid = fork();
        if (pid == 0)
            child_main(&copy, body);
        _exit(pid < 0);
    }
    if (pid < 0)
        return -errno;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EAGAIN;
}

/* ---- Firecracker's word */

/* False when the pager ends. */
static bool await(const struct pager *pager, int fd)
{
    struct pollfd polled[2] = {{.fd = fd, .events = POLLIN},
                               {.fd = pager->stop_fd, .events = POLLIN}};

    while (poll(polled, 2, -1) < 0 && errno == EINTR)
        ;
    return !polled[1].revents;
}

static bool take_region(const json_t *value, uint64_t memory_size, struct pager_region *region)
{
    json_int_t address = json_integer_value(json_object_get(value, "base_host_virt_addr"));
    json_int_t size = json_integer_value(json_object_get(value, "size"));
    json_int_t offset = json_integer_value(json_object_get(value, "offset"));

    if (address <= 0 || size <= 0 || offset < 0 || (uint64_t)size > memory_size ||
        (uint64_t)offset > memory_size - (uint64_t)size ||
        ((uint64_t)address | (uint64_t)size | (uint64_t)offset) % PAGE)
        return false;
    *region = (struct pager_region){(uint64_t)address, (uint64_t)size, (uint64_t)offset};
    return true;
}

static bool take_regions(struct pager *pager, const char *text, size_t length)
{
    json_t *list = json_loadb(text, length, 0, NULL);
    size_t count = json_array_size(list);
    bool good = count > 0 && count <= PAGER_REGIONS_MAX;

    for (size_t i = 0; good && i < count; i++)
        good = take_region(json_array_get(list, i), pager->memory_size, &pager->regions[i]);
    pager->region_count = good ? (uint32_t)count : 0;
    json_decref(list);
    return good;
}

/* The list of regions, and with it the descriptor that faults are told by. */
static bool receive(struct pager *pager, int fd)
{
    char text[MESSAGE_MAX];
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = text, .iov_len = sizeof(text)};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    const struct cmsghdr *header;
    ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);

    header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
        header->cmsg_len != CMSG_LEN(sizeof(int)))
        return false;
    memcpy(&pager->uffd, CMSG_DATA(header), sizeof(int));
    return take_regions(pager, text, (size_t)got);
}

static int greet(struct pager *pager)
{
    cleanup_close int fd = -1;
    int result = 0;

    if (!await(pager, pager->listener))
        return -ECANCELED;
    fd = accept4(pager->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 || !await(pager, fd))
        return -ECANCELED;
    if (!receive(pager, fd))
        return -EPROTO;
    for (unsigned i = 0; i < SERVERS && result == 0; i++)
        result = detach(pager, child_serve);
    return result;
}

/* Firecracker may touch memory before its answer to the load, so that somebody must listen meanwhile. */
static void *greeter_main(void *opaque)
{
    struct pager *pager = opaque;
    int result = greet(pager);

    __atomic_store_n(&pager->connected, result < 0 ? result : 1, __ATOMIC_RELEASE);
    return NULL;
}

/* ---- from outside */

static int open_files(struct pager *pager, const char *path, struct drafter_error *err)
{
    pager->memory = open(path, O_RDONLY | O_CLOEXEC);
    if (pager->memory < 0)
        return drafter_error_errno(err, errno, "%s", path);
    pager->stop_fd = eventfd(0, EFD_CLOEXEC);
    return pager->stop_fd < 0 ? drafter_error_errno(err, errno, "eventfd") : 0;
}

/* Signals are for the program's own threads. */
static int begin(pthread_t *thread, void *(*body)(void *), struct pager *pager)
{
    sigset_t all, saved;
    int code;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved);
    code = pthread_create(thread, NULL, body, pager);
    pthread_sigmask(SIG_SETMASK, &saved, NULL);
    return code;
}

int pager_start(struct pager *pager, const char *directory, const char *name, const char *path,
                uint64_t memory_size, int pidfd, struct drafter_error *err)
{
    int result = open_files(pager, path, err);

    if (result == 0)
        result = socket_listen(directory, name, 1, &pager->listener, err);
    if (result < 0)
        return result;
    pager->memory_size = memory_size;
    pager->pidfd = pidfd;
    result = begin(&pager->greeter, greeter_main, pager);
    pager->greeting = result == 0;
    return result ? drafter_error_errno(err, result, "cannot start a thread") : 0;
}

int pager_await(struct pager *pager, uint64_t deadline, struct drafter_error *err)
{
    static const struct timespec moment = {.tv_nsec = 200000};
    int connected;

    while (!(connected = __atomic_load_n(&pager->connected, __ATOMIC_ACQUIRE))) {
        if (drafter_now_ns() > deadline)
            return drafter_error_set(err, ETIMEDOUT, "Firecracker asked for no pages");
        nanosleep(&moment, NULL);
    }
    return connected < 0 ? drafter_error_errno(err, -connected, "cannot serve Firecracker's pages") : 0;
}

void pager_prefetch(struct pager *pager)
{
    if (pager->prefetching || __atomic_load_n(&pager->connected, __ATOMIC_ACQUIRE) <= 0)
        return;
    pager->prefetching = true;
    if (detach(pager, child_prefetch) < 0)
        drafter_log(DRAFTER_LOG_WARNING, "firecracker", "memory is fetched only as the guest needs it");
}

void pager_stop(struct pager *pager)
{
    const int fds[] = {pager->listener, pager->uffd, pager->memory, pager->stop_fd};
    uint64_t one = 1;

    if (pager->greeting) {
        if (write(pager->stop_fd, &one, sizeof(one)) < 0)
            drafter_log(DRAFTER_LOG_ERROR, "firecracker", "eventfd: %s", strerror(errno));
        pthread_join(pager->greeter, NULL);
    }
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    pager_init(pager);
}
