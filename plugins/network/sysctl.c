/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The journal: a first line with boot and namespace, for which alone the rest is true, then lines
 * "NAME OLD NEW", each added before its change.
 */
#include "sysctl.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JOURNAL_MAX 16384
#define VALUE_MAX 32
#define NAME_MAX_ 128

struct entry {
    char name[NAME_MAX_], old[VALUE_MAX], new[VALUE_MAX];
};

bool sysctl_get(const char *name, char *buffer, size_t size)
{
    char path[NAME_MAX_ + 16];
    ssize_t length;
    int fd;

    snprintf(path, sizeof(path), "/proc/sys/%s", name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    length = read(fd, buffer, size - 1);
    close(fd);
    if (length < 0)
        return false;
    buffer[length] = '\0';
    buffer[strcspn(buffer, " \t\n")] = '\0';
    return true;
}

void sysctl_boot_id(char *buffer, size_t size)
{
    if (!sysctl_get("kernel/random/boot_id", buffer, size))
        buffer[0] = '\0';
}

static int write_value(const char *name, const char *value, struct drafter_error *err)
{
    char path[NAME_MAX_ + 16];
    int fd, ret = 0;

    snprintf(path, sizeof(path), "/proc/sys/%s", name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        ret = drafter_error_errno(err, errno, "%s: set %s", path, value);
    if (fd >= 0)
        close(fd);
    return ret;
}

static void header_of(const struct sysctl_journal *journal, char *line, size_t size)
{
    snprintf(line, size, "%s %llu %llu\n", journal->boot, (unsigned long long)journal->netns[0],
             (unsigned long long)journal->netns[1]);
}

/* Opens it; what another boot or namespace wrote is forgotten. */
static int open_journal(const struct sysctl_journal *journal, char *text, struct drafter_error *err)
{
    char path[512], header[128];
    ssize_t length;
    int fd;

    snprintf(path, sizeof(path), "%s/sysctl", journal->directory);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || (length = pread(fd, text, JOURNAL_MAX - 1, 0)) < 0) {
        drafter_error_errno(err, errno, "%s", path);
        if (fd >= 0)
            close(fd);
        return -err->code;
    }
    text[length] = '\0';
    header_of(journal, header, sizeof(header));
    if (strncmp(text, header, strlen(header)) == 0)
        return fd;
    if (ftruncate(fd, 0) < 0 || pwrite(fd, header, strlen(header), 0) < 0) {
        drafter_error_errno(err, errno, "%s", path);
        close(fd);
        return -err->code;
    }
    memcpy(text, header, strlen(header) + 1);
    return fd;
}

int sysctl_set(const struct sysctl_journal *journal, const char *name, const char *value,
               struct drafter_error *err)
{
    char text[JOURNAL_MAX], old[VALUE_MAX], line[NAME_MAX_ + 2 * VALUE_MAX];
    struct drafter_error error = {0};
    int fd, ret = 0, length;

    if (!sysctl_get(name, old, sizeof(old)))
        return drafter_error_errno(err, errno, "/proc/sys/%s", name);
    if (strcmp(old, value) == 0)
        return 0;
    fd = open_journal(journal, text, &error);
    if (fd < 0) {
        if (err)
            *err = error;
        return fd;
    }
    length = snprintf(line, sizeof(line), "%s %s %s\n", name, old, value);
    if (strlen(text) + (size_t)length >= JOURNAL_MAX)
        ret = drafter_error_set(err, ENOSPC, "%s/sysctl is full", journal->directory);
    else if (pwrite(fd, line, (size_t)length, (off_t)strlen(text)) != length)
        ret = drafter_error_errno(err, errno, "%s/sysctl", journal->directory);
    if (ret == 0)
        ret = write_value(name, value, err);
    close(fd);
    return ret;
}

static void restore_line(const char *line)
{
    struct drafter_error error = {0};
    struct entry entry;
    char now[VALUE_MAX];

    if (sscanf(line, "%127s %31s %31s", entry.name, entry.old, entry.new) != 3 ||
        strstr(entry.name, "..") || !sysctl_get(entry.name, now, sizeof(now)) ||
        strcmp(now, entry.new) != 0)
        return;
    if (write_value(entry.name, entry.old, &error) < 0)
        drafter_log(DRAFTER_LOG_WARNING, "network", "%s", error.message);
}

int sysctl_restore(const struct sysctl_journal *journal, struct drafter_error *err)
{
    struct drafter_error error = {0};
    char text[JOURNAL_MAX], path[512];
    int fd;

    snprintf(path, sizeof(path), "%s/sysctl", journal->directory);
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return 0;
    fd = open_journal(journal, text, &error);
    if (fd < 0) {
        if (err)
            *err = error;
        return fd;
    }
    /* Backwards; the first line is no entry. */
    for (size_t end = strlen(text); end > 0;) {
        size_t begin = end - 1;

        text[end - 1] = '\0';
        while (begin > 0 && text[begin - 1] != '\n')
            begin--;
        if (begin > 0)
            restore_line(text + begin);
        end = begin;
    }
    unlink(path);
    close(fd);
    return 0;
}
