/* SPDX-License-Identifier: BSD-2-Clause */
/* A holder is started, or found and adopted, and ended. */
#include "holder/internal.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/proc.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM "drafter-holder"
#define ANSWER_TIMEOUT_S 20
#define PREDECESSOR_TIMEOUT_NS UINT64_C(5000000000)
#define STUCK_NS UINT64_C(100000000)

/* What the starting thread needs; it touches nothing else. */
struct holder_launch {
    int listener, control, lock;
    char *program, *directory;
    pid_t pid;
    struct drafter_error error;
};

int holder_new(struct holder **ret_holder, struct drafter_error *err)
{
    struct holder *holder = calloc(1, sizeof(*holder));

    if (holder)
        holder->packet = malloc(sizeof(*holder->packet));
    if (!holder || !holder->packet) {
        free(holder);
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    holder->socket = -1;
    pthread_mutex_init(&holder->lock, NULL);
    *ret_holder = holder;
    return 0;
}

bool holder_active(const struct holder *holder)
{
    return holder && holder->socket >= 0;
}

bool holder_adopted(const struct holder *holder)
{
    return holder && holder->adopted;
}

/* ---- start */

static void launch_free(struct holder_launch *launch)
{
    if (!launch)
        return;
    if (launch->listener >= 0)
        close(launch->listener);
    if (launch->control >= 0)
        close(launch->control);
    free(launch->program);
    free(launch->directory);
    free(launch);
}

/* Beside our own program in a build tree, else where it was installed. */
static char *find_program(void)
{
    char own[PATH_MAX], *slash, *path = NULL;
    ssize_t length = readlink("/proc/self/exe", own, sizeof(own) - 1);

    if (length > 0) {
        own[length] = '\0';
        slash = strrchr(own, '/');
        if (slash && asprintf(&path, "%.*s/" PROGRAM, (int)(slash - own), own) < 0)
            path = NULL;
    }
    if (path && access(path, X_OK) == 0)
        return path;
    free(path);
    return strdup(LIBEXECDIR "/" PROGRAM);
}

/* Names the socket through the directory's descriptor: socket addresses hold 107 characters. */
static struct sockaddr_un address_in(int directory)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" HOLDER_SOCKET, directory);
    return address;
}

static int listen_in(int directory, int *ret_fd, struct drafter_error *err)
{
    cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = address_in(directory);

    unlinkat(directory, HOLDER_SOCKET, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0)
        return drafter_error_errno(err, errno, HOLDER_SOCKET);
    *ret_fd = steal_fd(&fd);
    return 0;
}

static void limit_waits(int fd)
{
    static const struct timeval limit = {.tv_sec = ANSWER_TIMEOUT_S};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

/* It has no output of ours: whoever reads that waits for its end. */
static void *starter_main(void *opaque)
{
    struct holder_launch *launch = opaque;
    const int kept[] = {launch->listener, launch->control, launch->lock, -1};
    char numbers[3][12];
    const char *const argv[] = {launch->program, numbers[0], numbers[1], numbers[2],
                                launch->directory, NULL};

    for (int i = 0; i < 3; i++)
        snprintf(numbers[i], sizeof(numbers[i]), "%d", kept[i]);
    if (proc_spawn(&(struct proc_spec){.argv = argv,
                                       .stdin_fd = -1,
                                       .stdout_fd = -1,
                                       .stderr_fd = -1,
                                       .keep_fds = kept,
                                       .new_process_group = true,
                                       .without_secrets = true},
                   &launch->pid, &launch->error) < 0)
        log_warning("holder", "%s", launch->error.message);
    close(launch->listener);
    close(launch->control); /* now its end ends our conversations */
    launch->listener = launch->control = -1;
    return NULL;
}

static int start(struct holder *holder, const char *directory, int lock, struct drafter_error *err)
{
    struct holder_launch *launch = holder->launch;
    int ends[2], result = listen_in(lock, &launch->listener, err);

    if (result < 0)
        return result;
    launch->lock = lock;
    launch->program = find_program();
    launch->directory = strdup(directory);
    if (!launch->program || !launch->directory)
        return drafter_error_set(err, ENOMEM, "out of memory");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return drafter_error_errno(err, errno, "socketpair");
    limit_waits(ends[0]);
    holder->socket = ends[0];
    launch->control = ends[1];
    holder->starting = !pthread_create(&holder->starter, NULL, starter_main, launch);
    return holder->starting ? 0 : drafter_error_set(err, EAGAIN, "cannot start a thread");
}

int holder_start(struct holder *holder, const char *directory, int lock, struct drafter_error *err)
{
    int result;

    holder->launch = calloc(1, sizeof(*holder->launch));
    if (!holder->launch)
        return drafter_error_set(err, ENOMEM, "out of memory");
    holder->launch->listener = holder->launch->control = -1;
    result = start(holder, directory, lock, err);
    if (result < 0) {
        if (holder->socket >= 0)
            close(holder->socket);
        holder->socket = -1;
        launch_free(steal(&holder->launch));
        return drafter_error_wrap(err, "%s: cannot start a holder", directory);
    }
    return 0;
}

static void join_starter(struct holder *holder)
{
    if (!holder->starting)
        return;
    pthread_join(holder->starter, NULL);
    holder->starting = false;
    holder->pid = holder->launch->pid;
}

bool holder_failed_to_start(struct holder *holder)
{
    join_starter(holder);
    if (!holder->launch || !holder->launch->error.code)
        return false;
    close(holder->socket);
    holder->socket = -1;
    return true;
}

/* ---- adoption */

static int connect_in(const char *directory, struct drafter_error *err)
{
    cleanup_close int directory_fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = address_in(directory_fd);
    struct ucred credentials;
    socklen_t size = sizeof(credentials);

    if (directory_fd < 0 || fd < 0)
        return drafter_error_errno(err, errno, "%s", directory);
    limit_waits(fd);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return drafter_error_errno(err, errno == ECONNREFUSED ? ENOENT : errno,
                                   "%s/" HOLDER_SOCKET, directory);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0 ||
        (credentials.uid != geteuid() && credentials.uid != 0))
        return drafter_error_set(err, EPERM, "%s/" HOLDER_SOCKET ": it belongs to user %u", directory,
                                 (unsigned)credentials.uid);
    return steal_fd(&fd);
}

static int keep_entry(struct holder *holder)
{
    struct holder_packet *packet = holder->packet;
    struct holder_left *grown;

    if (packet->header.fd_count != 1 || holder->left_count == HOLDER_ENTRIES_MAX)
        return -EBADMSG;
    grown = reallocarray(holder->left, holder->left_count + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    holder->left = grown;
    memcpy(grown[holder->left_count].name, packet->header.name, HOLDER_NAME_MAX);
    grown[holder->left_count++].fd = packet->fds[0];
    packet->header.fd_count = 0;
    return 0;
}

static int receive_all(struct holder *holder, pid_t *ret_old)
{
    struct holder_message header = {.op = HOLDER_ADOPT};
    int result = packet_send(holder->socket, &header, NULL, NULL);

    while (result == 0) {
        result = packet_receive(holder->socket, holder->packet);
        if (result == 0 && holder->packet->header.op == HOLDER_ANSWER) {
            *ret_old = holder->packet->header.pid;
            return holder->packet->header.result;
        }
        if (result == 0)
            result = keep_entry(holder);
        if (result < 0)
            packet_close_fds(holder->packet);
    }
    return result;
}

/* Whether every thread that the process still has waits in the kernel, or is gone. */
static bool is_stuck(pid_t pid)
{
    char path[64];
    struct dirent *entry;
    bool stuck = true;
    DIR *tasks;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    tasks = opendir(path);
    while (tasks && stuck && (entry = readdir(tasks))) {
        char file[400], text[512] = "";
        cleanup_fclose FILE *status = NULL;
        const char *state;

        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        snprintf(file, sizeof(file), "%s/%s/stat", path, entry->d_name);
        status = fopen(file, "re");
        state = status && fgets(text, sizeof(text), status) ? strrchr(text, ')') : NULL;
        stuck = !state || strchr("DZX", state[2]);
    }
    if (tasks)
        closedir(tasks);
    return stuck;
}

/*
 * What the dead drafter had taken from its exposures may only be asked for again when none of its
 * threads can take more.  Those that wait in the kernel for a write-back cannot, and end only when it
 * is served.
 */
static int await_predecessor(pid_t pid, struct drafter_error *err)
{
    uint64_t now = drafter_now_ns(), deadline = now + PREDECESSOR_TIMEOUT_NS, stuck_since = 0;
    cleanup_close int fd = pid > 0 && pid != getpid() ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    while (fd >= 0 && poll(&wait, 1, 2) == 0) {
        now = drafter_now_ns();
        if (!is_stuck(pid))
            stuck_since = 0;
        else if (!stuck_since)
            stuck_since = now;
        if (stuck_since && now - stuck_since > STUCK_NS)
            return 0;
        if (now > deadline)
            return drafter_error_set(err, EBUSY, "process %d, the VM's drafter before, does not end",
                                     (int)pid);
    }
    return 0;
}

static void close_left(struct holder *holder)
{
    for (unsigned i = 0; i < holder->left_count; i++)
        close(holder->left[i].fd);
    free(holder->left);
    holder->left = NULL;
    holder->left_count = 0;
}

static void forget(struct holder *holder)
{
    close_left(holder);
    holder->adopted = false;
    if (holder->socket >= 0)
        close(holder->socket);
    holder->socket = -1;
    launch_free(steal(&holder->launch));
}

int holder_adopt(struct holder *holder, const char *directory, struct drafter_error *err)
{
    pid_t old = 0;
    int result;

    result = connect_in(directory, err);
    if (result < 0)
        return result;
    holder->socket = result;
    result = receive_all(holder, &old);
    if (result < 0) {
        forget(holder);
        return result == -EBUSY
                   ? drafter_error_set(err, EBUSY, "%s: process %d uses it; give this one another "
                                                   "name or run-directory", directory, (int)old)
                   : drafter_error_errno(err, -result, "%s: its holder", directory);
    }
    holder->adopted = true;
    result = await_predecessor(old, err);
    if (result < 0)
        forget(holder);
    return result;
}

int holder_who(const char *directory, pid_t *ret_pid, int *ret_adoptions, struct drafter_error *err)
{
    struct holder_message header = {.op = HOLDER_WHO};
    cleanup_free struct holder_packet *packet = malloc(sizeof(*packet));
    cleanup_close int fd = packet ? connect_in(directory, err) : -ENOMEM;
    int result = fd < 0 ? fd : packet_send(fd, &header, NULL, NULL);

    if (fd < 0)
        return result;
    if (result == 0)
        result = packet_receive(fd, packet);
    if (result < 0)
        return drafter_error_errno(err, -result, "%s: its holder", directory);
    packet_close_fds(packet);
    *ret_pid = packet->header.pid;
    *ret_adoptions = packet->header.value;
    return 0;
}

/* ---- the end */

void holder_end(struct holder *holder)
{
    if (!holder_active(holder))
        return;
    pthread_mutex_lock(&holder->lock);
    close_left(holder); /* a session that nobody else has open ends with the holder's copy */
    if (holder_say_end(holder) == 0)
        packet_close_fds(holder->packet);
    pthread_mutex_unlock(&holder->lock);
    join_starter(holder);
    if (holder->pid > 0)
        proc_wait(holder->pid, ANSWER_TIMEOUT_S * 1000, NULL);
    holder->pid = 0;
    forget(holder);
}

void holder_free(struct holder *holder)
{
    if (!holder)
        return;
    join_starter(holder);
    forget(holder);
    pthread_mutex_destroy(&holder->lock);
    free(holder->packet);
    free(holder);
}
