/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * drafter-holder: keeps what a VM needs while its drafter is dead.
 *
 * It is the VMM's parent, and it holds descriptors: the FUSE session, locks, shared memory, control
 * connections.  It knows the meaning of none of them.  It does so little that there is nothing to
 * crash and nothing to upgrade: one thread, no memory beyond its tables, no library but libc.
 *
 *     drafter-holder LISTENER CONTROL DIRECTORY PATH   (inherited descriptors; the path is for ps)
 *
 * It ends when its drafter says so; when its drafter ended before the VM was worth waiting for a
 * successor (then the VMM ends, too); and when the VMM ended and no drafter was there, which it leaves a
 * note of.  If it is killed, the kernel kills the
 * VMM with it (PR_SET_PDEATHSIG): a VMM without a holder could never be adopted.
 */
#include "holder/packet.h"
#include "util/proc.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FD_BASE (HOLDER_TARGET_MAX + 1)
#define CLIENTS_MAX 8
#define CHILDREN_MAX 8
#define WORDS_MAX 1024
#define LOOK_MS 1000
#define PROCESS_EXITING 0x4u /* PF_EXITING of the kernel, as /proc/PID/stat shows it */

struct entry {
    char name[HOLDER_NAME_MAX];
    int fd;
};

struct child {
    pid_t pid;
    int pidfd; /* -1 once it ended */
    int status;
};

/* The program's state; it has one thread. */
struct holder {
    int listener, directory, signals;
    int drafter; /* connection, or -1 */
    pid_t drafter_pid;
    bool worth; /* to be kept when the drafter dies */
    int adoptions;
    int failure; /* negative errno of the first PUT that failed, until it is told */
    int clients[CLIENTS_MAX]; /* who connected and has not said ADOPT, or -1 */
    struct entry entries[HOLDER_ENTRIES_MAX];
    unsigned entry_count;
    struct child children[CHILDREN_MAX];
    unsigned child_count;
    struct holder_packet packet;
};

/* Out of the way of the numbers that a program may want. */
static int lift(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, FD_BASE);

    if (high >= 0)
        close(fd);
    return high;
}

/* ---- what is kept */

static struct entry *find(struct holder *holder, const char *name)
{
    for (unsigned i = 0; i < holder->entry_count; i++)
        if (strcmp(holder->entries[i].name, name) == 0)
            return &holder->entries[i];
    return NULL;
}

static int put(struct holder *holder, const struct holder_packet *packet)
{
    struct entry *entry = find(holder, packet->header.name);
    int fd;

    if (packet->header.fd_count != 1)
        return -EBADMSG;
    if (!entry && holder->entry_count == HOLDER_ENTRIES_MAX)
        return -ENOSPC;
    fd = fcntl(packet->fds[0], F_DUPFD_CLOEXEC, FD_BASE);
    if (fd < 0)
        return -errno;
    if (entry) {
        close(entry->fd);
        entry->fd = fd;
        return 0;
    }
    entry = &holder->entries[holder->entry_count++];
    memcpy(entry->name, packet->header.name, sizeof(entry->name));
    entry->fd = fd;
    return 0;
}

static void drop(struct holder *holder, const char *name)
{
    struct entry *entry = find(holder, name);

    if (!entry)
        return;
    close(entry->fd);
    *entry = holder->entries[--holder->entry_count];
}

/* ---- processes */

/* Reads a small file of /proc; "" when the process is gone. */
static void read_proc(pid_t pid, const char *name, char *text, size_t size)
{
    char path[48];
    ssize_t got;
    int fd;

    text[0] = '\0';
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    got = read(fd, text, size - 1);
    close(fd);
    text[got > 0 ? got : 0] = '\0';
}

/*
 * A process that was killed keeps what it has while one of its threads waits in the kernel, for a
 * write-back that nobody serves.
 */
static bool is_dying(pid_t pid)
{
    unsigned long long pending = 0;
    unsigned flags = 0;
    char text[4096], *field, state = 'X';

    read_proc(pid, "stat", text, sizeof(text)); /* pid (name) state ppid group session tty owner flags */
    field = strrchr(text, ')');
    if (!field || sscanf(field + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2 ||
        strchr("ZX", state) || flags & PROCESS_EXITING)
        return true;
    read_proc(pid, "status", text, sizeof(text));
    field = strstr(text, "\nSigPnd:");
    if (field)
        pending = strtoull(field + 8, NULL, 16);
    field = strstr(text, "\nShdPnd:");
    if (field)
        pending |= strtoull(field + 8, NULL, 16);
    return pending >> (SIGKILL - 1) & 1;
}

static bool has_child(const struct holder *holder)
{
    for (unsigned i = 0; i < holder->child_count; i++)
        if (holder->children[i].pidfd >= 0)
            return true;
    return false;
}

static void reap(struct holder *holder)
{
    for (unsigned i = 0; i < holder->child_count; i++) {
        struct child *child = &holder->children[i];

        if (child->pidfd < 0 || waitpid(child->pid, &child->status, WNOHANG) != child->pid)
            continue;
        close(child->pidfd);
        child->pidfd = -1;
    }
}

/* A place that counts only once something is in it. */
static struct child *free_child(struct holder *holder)
{
    for (unsigned i = 0; i < holder->child_count; i++)
        if (holder->children[i].pidfd < 0)
            return &holder->children[i];
    return holder->child_count < CHILDREN_MAX ? &holder->children[holder->child_count] : NULL;
}

static int add_child(struct holder *holder, struct child *child, pid_t pid, struct drafter_error *err)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), high = pidfd >= 0 ? lift(pidfd) : -1, code = errno;

    if (high < 0) {
        if (pidfd >= 0)
            close(pidfd);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return drafter_error_errno(err, code, "pidfd_open");
    }
    *child = (struct child){.pid = pid, .pidfd = high};
    if (child == &holder->children[holder->child_count])
        holder->child_count++;
    return 0;
}

/* Splits data into the namespace and the words of the command. */
static int split(struct holder_packet *packet, const char **words)
{
    char *at = packet->data, *end = packet->data + packet->header.length;
    size_t count = 0;

    if (at == end || end[-1] != '\0')
        return -EBADMSG;
    for (; at < end; at += strlen(at) + 1) {
        if (count == WORDS_MAX)
            return -E2BIG;
        words[count++] = at;
    }
    words[count] = NULL;
    return count < 2 ? -EBADMSG : 0;
}

/* Gives the descriptors the numbers that the program knows them by; `kept` lists those above 2. */
static int place(struct holder_packet *packet, int standard[3], int kept[HOLDER_FDS_MAX + 1])
{
    unsigned count = 0;

    for (uint32_t i = 0; i < packet->header.fd_count; i++) {
        int target = packet->header.targets[i];

        if (target < 0 || target > HOLDER_TARGET_MAX)
            return -EINVAL;
        packet->fds[i] = lift(packet->fds[i]);
        if (packet->fds[i] < 0)
            return -EMFILE;
    }
    for (uint32_t i = 0; i < packet->header.fd_count; i++) {
        int target = packet->header.targets[i];

        if (target <= 2) {
            standard[target] = packet->fds[i];
            continue;
        }
        if (dup3(packet->fds[i], target, O_CLOEXEC) < 0)
            return -errno;
        kept[count++] = target;
        kept[count] = -1;
    }
    return 0;
}

static int spawn(struct holder *holder, struct child **ret_child, struct drafter_error *err)
{
    struct holder_packet *packet = &holder->packet;
    int standard[3] = {-1, -1, -1}, kept[HOLDER_FDS_MAX + 1] = {-1};
    static const char *words[WORDS_MAX + 1];
    struct child *child = free_child(holder);
    int result = child ? split(packet, words) : -EMFILE;
    pid_t pid;

    if (result == 0)
        result = place(packet, standard, kept);
    if (result < 0)
        result = drafter_error_errno(err, -result, "cannot start a program");
    else
        result = proc_spawn(&(struct proc_spec){.argv = words + 1,
                                                .stdin_fd = standard[0],
                                                .stdout_fd = standard[1],
                                                .stderr_fd = standard[2],
                                                .keep_fds = kept,
                                                .netns = *words[0] ? words[0] : NULL,
                                                .new_process_group = true,
                                                .die_with_parent = true,
                                                .without_secrets = true},
                            &pid, err);
    for (int *fd = kept; *fd >= 0; fd++)
        close(*fd);
    if (result < 0)
        return result;
    *ret_child = child;
    return add_child(holder, child, pid, err);
}

/* One that waits for an answer on a session that nobody serves ends only with the session. */
static void kill_children(struct holder *holder)
{
    for (unsigned i = 0; i < holder->child_count; i++)
        if (holder->children[i].pidfd >= 0)
            kill(holder->children[i].pid, SIGKILL);
    for (unsigned i = 0; i < holder->entry_count; i++)
        close(holder->entries[i].fd);
    holder->entry_count = 0;
    for (unsigned i = 0; i < holder->child_count; i++) {
        if (holder->children[i].pidfd < 0)
            continue;
        waitpid(holder->children[i].pid, &holder->children[i].status, 0);
        holder->children[i].pidfd = -1;
    }
}

/* A child that was killed while no drafter is there ends only when the session does. */
static void release_dying(struct holder *holder)
{
    bool dying = false;

    for (unsigned i = 0; holder->drafter < 0 && i < holder->child_count; i++)
        dying |= holder->children[i].pidfd >= 0 && is_dying(holder->children[i].pid);
    for (unsigned i = 0; dying && i < holder->entry_count; i++)
        close(holder->entries[i].fd);
    if (dying)
        holder->entry_count = 0;
}

/* ---- the end */

/* Nobody else is there to take the dead mount away. */
static void unmount(struct holder *holder)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d/devices", holder->directory);
    umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
}

static void write_epitaph(struct holder *holder)
{
    int fd = openat(holder->directory, HOLDER_EPITAPH, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0)
        return;
    dprintf(fd, "%d\n", holder->children[0].status);
    close(fd);
}

/* Ends the program when nothing is left to hold. */
static void maybe_end(struct holder *holder)
{
    if (holder->drafter >= 0 || has_child(holder))
        return;
    unlinkat(holder->directory, HOLDER_SOCKET, 0);
    if (holder->worth)
        write_epitaph(holder);
    kill_children(holder); /* there are none; lets go of what is held */
    unmount(holder);
    _exit(0);
}

/* ---- conversations */

static int answer(int socket, int result, pid_t pid, int value, const char *text, const int *fd)
{
    struct holder_message header = {.op = HOLDER_ANSWER, .result = result, .pid = pid, .value = value};

    header.length = text ? (uint32_t)strlen(text) : 0;
    header.fd_count = fd ? 1 : 0;
    return packet_send(socket, &header, text, fd);
}

static void on_spawn(struct holder *holder)
{
    struct drafter_error error = {0};
    struct child *child = NULL;
    int result = holder->failure;

    holder->failure = 0;
    if (result < 0)
        drafter_error_errno(&error, -result, "cannot hold a descriptor");
    else
        result = spawn(holder, &child, &error);
    if (result < 0)
        answer(holder->drafter, result, 0, 0, error.message, NULL);
    else
        answer(holder->drafter, 0, child->pid, 0, NULL, &child->pidfd);
}

static void on_status(struct holder *holder)
{
    reap(holder);
    for (unsigned i = 0; i < holder->child_count; i++) {
        const struct child *child = &holder->children[i];

        if (child->pid != holder->packet.header.pid)
            continue;
        answer(holder->drafter, child->pidfd < 0 ? 0 : -EAGAIN, child->pid, child->status, NULL,
               NULL);
        return;
    }
    answer(holder->drafter, -ESRCH, 0, 0, NULL, NULL);
}

static void on_end(struct holder *holder)
{
    kill_children(holder);
    unlinkat(holder->directory, HOLDER_SOCKET, 0);
    if (holder->drafter >= 0)
        answer(holder->drafter, 0, 0, 0, NULL, NULL);
    else
        unmount(holder);
    _exit(0);
}

static void lose_drafter(struct holder *holder)
{
    close(holder->drafter);
    holder->drafter = -1;
    if (!holder->worth)
        on_end(holder);
}

static void on_drafter(struct holder *holder)
{
    struct holder_packet *packet = &holder->packet;
    int result = packet_receive(holder->drafter, packet);

    if (result < 0) {
        lose_drafter(holder);
        return;
    }
    if (packet->header.op == HOLDER_PUT) {
        result = put(holder, packet);
        if (!holder->failure)
            holder->failure = result;
    } else if (packet->header.op == HOLDER_DROP) {
        drop(holder, packet->header.name);
    } else if (packet->header.op == HOLDER_WORTH) {
        holder->worth = packet->header.value;
    } else if (packet->header.op == HOLDER_SPAWN) {
        on_spawn(holder);
    } else if (packet->header.op == HOLDER_STATUS) {
        on_status(holder);
    } else if (packet->header.op == HOLDER_END) {
        on_end(holder);
    }
    packet_close_fds(packet);
}

static pid_t peer_pid(int socket)
{
    struct ucred credentials;
    socklen_t size = sizeof(credentials);

    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
        return -1;
    return credentials.uid == geteuid() || credentials.uid == 0 ? credentials.pid : -1;
}

/* Hands everything over; false when this is not the successor. */
static bool adopt(struct holder *holder, int socket)
{
    pid_t old = holder->drafter_pid, pid = peer_pid(socket);
    int result = 0;

    if (holder->drafter >= 0 && pid != old && !is_dying(old)) {
        answer(socket, -EBUSY, old, 0, NULL, NULL);
        return false;
    }
    for (unsigned i = 0; i < holder->entry_count && result == 0; i++) {
        struct holder_message header = {.op = HOLDER_ENTRY, .fd_count = 1};

        memcpy(header.name, holder->entries[i].name, sizeof(header.name));
        result = packet_send(socket, &header, NULL, &holder->entries[i].fd);
    }
    if (result < 0 || answer(socket, 0, old, 0, NULL, NULL) < 0)
        return false;
    if (holder->drafter >= 0)
        close(holder->drafter);
    holder->drafter = socket;
    holder->drafter_pid = pid;
    holder->adoptions++;
    holder->failure = 0;
    return true;
}

static void on_client(struct holder *holder, int *client)
{
    int socket = *client;
    bool keep = false;

    *client = -1;
    if (packet_receive(socket, &holder->packet) == 0) {
        if (holder->packet.header.op == HOLDER_ADOPT)
            keep = adopt(holder, socket);
        else if (holder->packet.header.op == HOLDER_WHO)
            answer(socket, 0, holder->drafter >= 0 ? holder->drafter_pid : 0, holder->adoptions,
                   NULL, NULL);
        packet_close_fds(&holder->packet);
    }
    if (!keep)
        close(socket);
}

static void on_connection(struct holder *holder)
{
    static const struct timeval limit = {.tv_sec = 5};
    int socket = accept4(holder->listener, NULL, NULL, SOCK_CLOEXEC);

    if (socket < 0)
        return;
    socket = lift(socket);
    for (unsigned i = 0; socket >= 0 && peer_pid(socket) > 0 && i < CLIENTS_MAX; i++) {
        if (holder->clients[i] >= 0)
            continue;
        setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        holder->clients[i] = socket;
        return;
    }
    if (socket >= 0)
        close(socket);
}

/* ---- the loop */

static void step(struct holder *holder)
{
    struct pollfd polls[3 + CLIENTS_MAX + CHILDREN_MAX] = {
        {.fd = holder->signals, .events = POLLIN},
        {.fd = holder->drafter, .events = POLLIN},
        {.fd = holder->listener, .events = POLLIN},
    };
    unsigned count = 3;

    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        polls[count++] = (struct pollfd){.fd = holder->clients[i], .events = POLLIN};
    for (unsigned i = 0; i < holder->child_count; i++)
        polls[count++] = (struct pollfd){.fd = holder->children[i].pidfd, .events = POLLIN};
    if (poll(polls, count, holder->drafter < 0 ? LOOK_MS : -1) < 0)
        return;
    release_dying(holder);
    if (polls[0].revents) {
        holder->drafter = -1;
        on_end(holder);
    }
    if (polls[1].revents)
        on_drafter(holder);
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        if (polls[3 + i].revents)
            on_client(holder, &holder->clients[i]);
    if (polls[2].revents)
        on_connection(holder);
    reap(holder);
    maybe_end(holder);
}

static int watch_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

static bool begin(struct holder *holder, char **argv)
{
    holder->listener = lift((int)strtol(argv[1], NULL, 10));
    holder->drafter = lift((int)strtol(argv[2], NULL, 10));
    holder->directory = lift((int)strtol(argv[3], NULL, 10));
    holder->signals = lift(watch_signals());
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        holder->clients[i] = -1;
    if (holder->drafter >= 0)
        holder->drafter_pid = peer_pid(holder->drafter);
    return holder->listener >= 0 && holder->drafter >= 0 && holder->directory >= 0 &&
           holder->signals >= 0;
}

int main(int argc, char **argv)
{
    static struct holder holder;

    if (argc != 5) {
        fprintf(stderr, "drafter-holder is started by drafter, see drafter(8)\n");
        return 2;
    }
    setsid();
    if (!begin(&holder, argv))
        return 1;
    for (;;)
        step(&holder);
}
