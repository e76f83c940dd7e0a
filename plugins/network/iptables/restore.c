/* SPDX-License-Identifier: BSD-2-Clause */
/* Runs iptables-restore and iptables-save, without a shell and without waiting on pipes. */
#include "iptables.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX (64u << 20)
#define LOCK_WAIT_S "20" /* for the lock of the legacy world */

static void program_name(const struct iptables_config *config, enum layout_family_index family,
                         const char *verb, char *name, size_t size)
{
    static const char *const worlds[] = {"", "nft-", "legacy-"};

    snprintf(name, size, "%s-%s%s", family == LAYOUT_V6 ? "ip6tables" : "iptables",
             worlds[config->backend], verb);
}

/* A path of a program that is rarely in the PATH of a service. */
static void find_program(const char *name, char *path, size_t size)
{
    static const char *const directories[] = {"/usr/sbin", "/sbin", "/usr/local/sbin"};

    for (size_t i = 0; i < sizeof(directories) / sizeof(*directories); i++) {
        snprintf(path, size, "%s/%s", directories[i], name);
        if (access(path, X_OK) == 0)
            return;
    }
    snprintf(path, size, "%s", name);
}

static int memory_file(const char *text, struct drafter_error *err)
{
    size_t length = text ? strlen(text) : 0, done = 0;
    int fd = memfd_create("iptables", MFD_CLOEXEC);

    if (fd < 0)
        return drafter_error_errno(err, errno, "iptables: memfd");
    while (done < length) {
        ssize_t written = write(fd, text + done, length - done);

        if (written < 0) {
            close(fd);
            return drafter_error_errno(err, errno, "iptables: memfd");
        }
        done += (size_t)written;
    }
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static int read_back(int fd, char **ret_text, struct drafter_error *err)
{
    struct stat status;
    char *text;

    if (fstat(fd, &status) < 0)
        return drafter_error_errno(err, errno, "iptables: output");
    if (status.st_size > OUTPUT_MAX)
        return drafter_error_set(err, EFBIG, "iptables: more output than can be");
    text = calloc(1, (size_t)status.st_size + 1);
    if (!text)
        return drafter_error_set(err, ENOMEM, "iptables: no memory");
    if (pread(fd, text, (size_t)status.st_size, 0) != status.st_size) {
        free(text);
        return drafter_error_set(err, EIO, "iptables: output was cut off");
    }
    *ret_text = text;
    return 0;
}

/* What becomes of the program's descriptors. */
struct streams {
    int in, out, errors, guard;
};

/* In the child, which shares our memory until it is another program. */
static void become(const char *const *argv, const struct streams *streams, pid_t parent)
{
    /* A killed maker's rules are of no use, and the next one waits for the lock on `guard`. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent &&
        dup2(streams->in, 0) == 0 && dup2(streams->out, 1) == 1 && dup2(streams->errors, 2) == 2 &&
        (streams->guard < 0 || fcntl(streams->guard, F_SETFD, 0) == 0))
        execvp(argv[0], (char *const *)argv);
    _exit(127);
}

static int spawn(const char *const *argv, const struct streams *streams, struct drafter_error *err)
{
    pid_t parent = getpid(), child;
    int status = 0;

    child = vfork();
    if (child < 0)
        return drafter_error_errno(err, errno, "%s", argv[0]);
    if (child == 0)
        become(argv, streams, parent);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return drafter_error_errno(err, errno, "%s: wait", argv[0]);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return drafter_error_set(err, ENOENT, "%s: not installed, or cannot be run", argv[0]);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* The first line that says something. */
static int tell(const char *program, const char *what, int errors, struct drafter_error *err)
{
    char *text = NULL, *line;
    int ret;

    if (read_back(errors, &text, NULL) < 0)
        return drafter_error_set(err, EIO, "%s: %s failed", program, what);
    line = text + strspn(text, "\n ");
    ret = drafter_error_set(err, EIO, "%s: %s: %.*s", program, what, (int)strcspn(line, "\n"), line);
    free(text);
    return ret;
}

static int run_with(const char *const *argv, const char *what, const struct streams *streams,
                    char **ret_output, struct drafter_error *err)
{
    struct drafter_error error = {0};
    int ret = spawn(argv, streams, &error);

    if (ret < 0 && error.code)
        return drafter_error_set(err, error.code, "%s", error.message);
    if (ret < 0)
        return tell(argv[0], what, streams->errors, err);
    return ret_output ? read_back(streams->out, ret_output, err) : 0;
}

static int run(const char *const *argv, const char *what, const char *input, int guard,
               char **ret_output, struct drafter_error *err)
{
    struct streams streams = {memory_file(input, err), -1, -1, guard};
    int ret = streams.in;

    if (ret >= 0)
        ret = streams.out = memory_file(NULL, err);
    if (ret >= 0)
        ret = streams.errors = memory_file(NULL, err);
    if (ret >= 0)
        ret = run_with(argv, what, &streams, ret_output, err);
    if (streams.in >= 0)
        close(streams.in);
    if (streams.out >= 0)
        close(streams.out);
    if (streams.errors >= 0)
        close(streams.errors);
    return ret;
}

int iptables_restore(const struct iptables_config *config, enum layout_family_index family,
                     int guard, const char *what, const char *text, struct drafter_error *err)
{
    char name[64], path[128];
    const char *argv[] = {path, "--noflush", "-w", LOCK_WAIT_S, NULL};

    program_name(config, family, "restore", name, sizeof(name));
    find_program(name, path, sizeof(path));
    return run(argv, what, text, guard, NULL, err);
}

int iptables_save(const struct iptables_config *config, enum layout_family_index family,
                  char **ret_text, struct drafter_error *err)
{
    char name[64], path[128];
    const char *argv[] = {path, NULL};

    program_name(config, family, "save", name, sizeof(name));
    find_program(name, path, sizeof(path));
    return run(argv, "list the rules", NULL, -1, ret_text, err);
}
