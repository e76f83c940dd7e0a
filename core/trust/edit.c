/* SPDX-License-Identifier: BSD-2-Clause */
/* Changes to the trust file: its text is kept but for the section in question. */
#include "trust/trust.h"

#include "util/cleanup.h"
#include "util/io.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define FILE_MAX (4u << 20)
#define LOCK_WAIT_NS UINT64_C(5000000000)

static bool name_valid(const char *name)
{
    return *name && strlen(name) <= DRAFTER_NAME_MAX && !strpbrk(name, " \t\r\n[]:;#");
}

/* The text, or "" when there is no file yet. */
static int read_text(const char *path, char **ret_text, struct drafter_error *err)
{
    size_t length;

    if (access(path, F_OK) == 0)
        return io_read_file(path, FILE_MAX, ret_text, &length, err);
    if (errno != ENOENT)
        return drafter_error_errno(err, errno, "%s", path);
    *ret_text = calloc(1, 1);
    return *ret_text ? 0 : drafter_error_set(err, ENOMEM, "out of memory");
}

/* Whether the path still names the open file, rather than one that took its place. */
static bool is_named(int fd, const char *path)
{
    struct stat here, there;

    return fstat(fd, &here) == 0 && stat(path, &there) == 0 && here.st_dev == there.st_dev &&
           here.st_ino == there.st_ino;
}

static int take_lock(int fd, const char *path, uint64_t deadline, struct drafter_error *err)
{
    static const struct timespec pause = {0, 5000000};

    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return 0; /* a file system without locks: there is nothing better */
        if (drafter_now_ns() > deadline)
            return drafter_error_set(err, EBUSY, "%s: another process keeps it locked", path);
        nanosleep(&pause, NULL);
    }
    return 0;
}

/*
 * Of two that change the file at a time, the second would bring back what the first removed.  A descriptor to
 * close after the change, or a negative errno; `flags` may be O_CREAT.
 */
static int lock_file(const char *path, int flags, struct drafter_error *err)
{
    uint64_t deadline = drafter_now_ns() + LOCK_WAIT_NS;

    for (;;) {
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags, 0600);
        int rc;

        if (fd < 0)
            return drafter_error_errno(err, errno, "%s", path);
        rc = take_lock(fd, path, deadline, err);
        if (rc)
            return rc;
        if (is_named(fd, path))
            return steal_fd(&fd);
    }
}

struct wanted {
    const char *name, *identity;
};

static int refuse_double(void *opaque, const struct trust_key *key, struct drafter_error *err)
{
    const struct wanted *wanted = opaque;

    if (!strcmp(key->name, wanted->name))
        return drafter_error_set(err, EEXIST, "%s is there already; remove it first", key->name);
    if (!strcmp(key->identity, wanted->identity))
        return drafter_error_set(err, EEXIST, "the key is there already, as %s", key->name);
    return 0;
}

int trust_add(const char *path, const struct trust_key *key, struct drafter_error *err)
{
    struct wanted wanted = {key->name, key->identity};
    cleanup_free char *text = NULL, *longer = NULL;
    cleanup_close int lock = -1;
    unsigned rights;
    int length, rc;

    if (!name_valid(key->name))
        return drafter_error_set(err, EINVAL, "\"%s\" is no name for a key", key->name);
    if (!trust_identity_valid(key->identity))
        return drafter_error_set(err, EINVAL, "\"%s\" is no identity; drafter keygen prints it",
                                 key->identity);
    if (!key->vms[strspn(key->vms, " \t,")])
        return drafter_error_set(err, EINVAL, "no pattern of names of VMs; * is any");
    if (strpbrk(key->may, "\r\n;#") || strpbrk(key->vms, "\r\n;#"))
        return drafter_error_set(err, EINVAL, "rights and names of VMs are words");
    rc = trust_parse_rights(key->may, &rights, err);
    if (!rc)
        rc = lock = lock_file(path, O_CREAT, err);
    if (rc >= 0)
        rc = trust_check_mode(path, err);
    if (!rc)
        rc = read_text(path, &text, err);
    if (!rc && *text)
        rc = trust_visit(path, refuse_double, &wanted, err);
    if (rc)
        return rc;
    length = asprintf(&longer, "%s%s[key:%s]\nidentity = %s\nmay = %s\nvms = %s\n", text,
                      *text ? "\n" : "", key->name, key->identity, key->may, key->vms);
    if (length < 0) {
        longer = NULL;
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    return io_replace_file(path, longer, (size_t)length, 0600, err);
}

/* The line after `line`. */
static char *next_line(char *line)
{
    char *end = strchr(line, '\n');

    return end ? end + 1 : line + strlen(line);
}

static bool is_header(const char *line, const char *name)
{
    char header[DRAFTER_NAME_MAX + 16];
    int length = snprintf(header, sizeof(header), "[key:%s]", name);

    line += strspn(line, " \t");
    return length < (int)sizeof(header) && !strncmp(line, header, (size_t)length);
}

static bool is_comment(const char *line)
{
    line += strspn(line, " \t");
    return *line == ';' || *line == '#';
}

/* Where the comments begin that are directly above `line`, and belong to it; not above `first`. */
static char *comments_of(char *line, char *first)
{
    char *begin = line;

    for (char *at = first; at < line; at = next_line(at))
        if (!is_comment(at))
            begin = line;
        else if (begin == line)
            begin = at;
    return begin;
}

int trust_remove(const char *path, const char *name, struct drafter_error *err)
{
    cleanup_free char *text = NULL;
    cleanup_close int lock = lock_file(path, 0, err);
    char *header, *begin, *end;
    int rc = lock < 0 ? lock : trust_check_mode(path, err); /* a change must not make good what anybody wrote */

    if (!rc)
        rc = read_text(path, &text, err);
    if (rc)
        return rc;
    header = text;
    while (*header && !is_header(header, name))
        header = next_line(header);
    if (!*header)
        return drafter_error_set(err, ENOENT, "%s has no key called %s", path, name);
    end = next_line(header);
    while (*end && end[strspn(end, " \t")] != '[')
        end = next_line(end);
    if (*end)
        end = comments_of(end, next_line(header));
    begin = comments_of(header, text);
    if (begin == text) /* those are of the file */
        begin = header;
    memmove(begin, end, strlen(end) + 1);
    return io_replace_file(path, text, strlen(text), 0600, err);
}
