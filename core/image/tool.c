/* SPDX-License-Identifier: BSD-2-Clause */
/* Running skopeo and its like, and cleaning up after them. */
#include "image/image.h"

#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"
#include "util/proc.h"

#include <fts.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#define ARGUMENTS_MAX 40
#define ENDING_MS 5000

int image_check(struct image_job *job, struct drafter_error *err)
{
    if (supervisor_wait(&job->supervisor, 0) != WAKEUP_SIGNAL)
        return 0;
    return drafter_error_set(err, ECANCELED, "interrupted; nothing was made");
}

/* ---- running */

/* Administrators' tools are not in the PATH of others, and work for them nevertheless. */
static int find_tool(const struct image_tool *tool, char **ret_path, struct drafter_error *err)
{
    static const char *const places[] = {"/usr/sbin/", "/sbin/"};

    if (!proc_find(tool->name, ret_path, NULL))
        return 0;
    for (unsigned i = 0; i < 2; i++) {
        cleanup_free char *path = NULL;

        if (asprintf(&path, "%s%s", places[i], tool->name) < 0)
            return drafter_error_set(err, ENOMEM, "out of memory");
        if (access(path, X_OK) == 0) {
            *ret_path = steal(&path);
            return 0;
        }
    }
    return drafter_error_set(err, ENOENT, "%s is missing: apt-get install %s", tool->name,
                             tool->package);
}

/* The last line that says something, in place. */
static char *last_line(char *text)
{
    char *line = text, *message;

    for (char *at, *rest = text; (at = strsep(&rest, "\n"));)
        if (at[strspn(at, " \t\r")])
            line = at + strspn(at, " \t\r");
    message = strstr(line, " msg=\""); /* as logrus has it */
    if (message) {
        line = message + strlen(" msg=\"");
        if ((message = strrchr(line, '"')) != NULL)
            *message = '\0';
    }
    return line;
}

static int describe_end(const struct image_tool *tool, int status, int said, struct drafter_error *err)
{
    char text[4096];
    off_t length = lseek(said, 0, SEEK_END);
    off_t from = length > (off_t)sizeof(text) - 1 ? length - (off_t)sizeof(text) + 1 : 0;
    ssize_t got = pread(said, text, sizeof(text) - 1, from);

    text[got > 0 ? got : 0] = '\0';
    if (WIFSIGNALED(status))
        return drafter_error_set(err, EIO, "%s: killed by signal %d", tool->name, WTERMSIG(status));
    return drafter_error_set(err, EIO, "%s: %.400s", tool->name, last_line(text));
}

static int await(struct image_job *job, const struct image_tool *tool, pid_t pid, int said,
                 struct drafter_error *err)
{
    enum wakeup wakeup;
    int status = 0;

    supervisor_watch(&job->supervisor, pid);
    do
        wakeup = supervisor_wait(&job->supervisor, -1);
    while (wakeup != WAKEUP_SIGNAL && wakeup != WAKEUP_PROCESS);
    supervisor_watch(&job->supervisor, 0);
    if (wakeup == WAKEUP_SIGNAL) {
        kill(-pid, SIGTERM); /* of a script its commands, too */
        proc_stop(pid, ENDING_MS);
        return drafter_error_set(err, ECANCELED, "interrupted; nothing was made");
    }
    if (proc_wait(pid, ENDING_MS, &status))
        return drafter_error_set(err, EIO, "%s: cannot learn how it ended", tool->name);
    if (WIFEXITED(status) && WEXITSTATUS(status) <= tool->good_status)
        return 0;
    return describe_end(tool, status, said, err);
}

int image_run(struct image_job *job, const struct image_tool *tool, const char *const *arguments,
              struct drafter_error *err)
{
    cleanup_free char *path = NULL;
    cleanup_close int said = memfd_create("said", MFD_CLOEXEC);
    const char *argv[ARGUMENTS_MAX + 2] = {NULL};
    const int keep[] = {tool->keep_fd, -1};
    const struct proc_spec spec = {.argv = argv,
                                   .stdin_fd = -1,
                                   .stdout_fd = tool->stdout_fd,
                                   .stderr_fd = said,
                                   .keep_fds = keep,
                                   .new_process_group = true,
                                   .die_with_parent = true};
    const struct rlimit largest = {job->options.max_size, job->options.max_size};
    pid_t pid;
    int rc = find_tool(tool, &path, err);

    if (rc)
        return rc;
    if (said < 0)
        return drafter_error_errno(err, errno, "%s: no memory for its messages", tool->name);
    argv[0] = path;
    for (unsigned i = 0; i < ARGUMENTS_MAX && arguments[i]; i++)
        argv[i + 1] = arguments[i];
    rc = proc_spawn(&spec, &pid, err);
    if (!rc)
        prlimit(pid, RLIMIT_FSIZE, &largest, NULL); /* what fails ends with it, or by itself */
    return rc ? rc : await(job, tool, pid, said, err);
}

/* ---- trees */

char *image_path(const char *directory, const char *name)
{
    char *path;

    return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

int image_workplace(const char *path, char **ret_directory, struct drafter_error *err)
{
    cleanup_free char *directory = NULL;
    size_t length = strlen(path);

    while (length > 1 && path[length - 1] == '/')
        length--;
    if (asprintf(&directory, "%.*s.part-XXXXXX", (int)length, path) < 0) {
        directory = NULL;
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    if (!mkdtemp(directory))
        return drafter_error_errno(err, errno, "%s: cannot make a directory beside it", path);
    *ret_directory = steal(&directory);
    return 0;
}

void image_workplace_release(char **directory)
{
    struct drafter_error err = {0};

    if (*directory && (image_open_tree(*directory, NULL, &err) || io_remove_tree(*directory, &err)))
        log_warning("image", "%s is left: %s", *directory, err.message);
    free(*directory);
    *directory = NULL;
}

/* What is added to a sorted list while it is searched waits in another. */
struct opening {
    const char *root;
    struct owners *owners, added;
    struct drafter_error *err;
};

static int note_mode(struct opening *opening, const char *path, mode_t mode)
{
    struct owner *known = owners_find(opening->owners, path);
    const struct owner owner = {.mode = (int)mode, .is_found = true};

    if (!known)
        return owners_add(&opening->added, &owner, path, opening->err);
    known->mode = (int)mode;
    return 0;
}

/* umoci leaves an empty file where without root it cannot make a device. */
static bool stands_for_device(const struct opening *opening, const FTSENT *entry, const char *path)
{
    const struct owner *owner = opening->owners ? owners_find(opening->owners, path) : NULL;

    return owner && owner->is_device && entry->fts_info == FTS_F && !entry->fts_statp->st_size;
}

static int open_entry(struct opening *opening, const FTSENT *entry, const char *path)
{
    const mode_t mode = entry->fts_statp->st_mode & 07777;
    const mode_t needed = entry->fts_info == FTS_F ? 0600 : 0700;

    if (stands_for_device(opening, entry, path)) {
        log_warning("image", "device /%s is left out: containers get theirs in /dev", path);
        if (unlink(entry->fts_accpath))
            return drafter_error_errno(opening->err, errno, "%s", entry->fts_path);
        return 0;
    }
    /* umoci's own note of an owner; where it could not be set it is not there. */
    lremovexattr(entry->fts_accpath, "user.rootlesscontainers");
    if ((mode & needed) == needed)
        return 0;
    if (chmod(entry->fts_accpath, mode | needed))
        return drafter_error_errno(opening->err, errno, "%s", entry->fts_path);
    return opening->owners ? note_mode(opening, path, mode) : 0;
}

static int take_entry(struct opening *opening, const FTSENT *entry)
{
    const char *path = entry->fts_path + strlen(opening->root);
    struct owner *owner;

    path = *path ? path + 1 : ".";
    if (opening->owners && (owner = owners_find(opening->owners, path)))
        owner->is_found = true;
    switch (entry->fts_info) {
    case FTS_D:
    case FTS_F:
        return open_entry(opening, entry, path);
    case FTS_ERR:
    case FTS_NS:
        return drafter_error_errno(opening->err, entry->fts_errno, "%s", entry->fts_path);
    default:
        return 0;
    }
}

static int take_added(struct opening *opening, int rc)
{
    for (size_t i = 0; !rc && i < opening->added.count; i++)
        rc = owners_add(opening->owners, &opening->added.list[i], opening->added.list[i].path,
                        opening->err);
    owners_release(&opening->added);
    if (opening->owners) {
        owners_sort(opening->owners);
        owners_prune(opening->owners);
    }
    return rc;
}

int image_open_tree(const char *path, struct owners *owners, struct drafter_error *err)
{
    char *const paths[] = {(char *)path, NULL};
    struct opening opening = {.root = path, .owners = owners, .err = err};
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    FTSENT *entry;
    int rc = 0;

    if (!tree)
        return drafter_error_errno(err, errno, "%s", path);
    while (!rc && (errno = 0, entry = fts_read(tree)) != NULL)
        rc = take_entry(&opening, entry);
    if (!rc && errno)
        rc = drafter_error_errno(err, errno, "%s", path);
    fts_close(tree);
    return take_added(&opening, rc);
}
