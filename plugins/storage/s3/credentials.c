/* SPDX-License-Identifier: BSD-2-Clause */
#include "credentials.h"

#include "util/cleanup.h"
#include <fcntl.h>
#include <ini.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_LIMIT 65536

/* A regular file that nobody else can read, whole and NUL-terminated; wiped and freed by the caller. */
static int read_secret(const char *path, char **ret_text, struct drafter_error *err)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0)
        return drafter_error_errno(err, errno, "%s: cannot open", path);
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_LIMIT)
        return drafter_error_set(err, EINVAL, "%s: not a file of at most 64 KiB", path);
    if (st.st_mode & 077)
        return drafter_error_set(err, EPERM, "%s: others may read it; chmod 600 it", path);
    *ret_text = calloc(1, FILE_LIMIT + 1);
    if (!*ret_text)
        return drafter_error_set(err, ENOMEM, "no memory");
    n = read(fd, *ret_text, FILE_LIMIT);
    if (n >= 0)
        return 0;
    n = errno;
    free(*ret_text);
    return drafter_error_errno(err, (int)n, "%s: cannot read", path);
}

static void wipe(char *text)
{
    sodium_memzero(text, strlen(text));
    free(text);
}

struct search {
    const char *profile;
    struct sign_credentials *credentials;
    bool too_long;
};

static int take(struct search *search, char *field, size_t size, const char *value)
{
    int n = snprintf(field, size, "%s", value);

    search->too_long |= n < 0 || (size_t)n >= size;
    return 1;
}

static int on_line(void *opaque, const char *section, const char *name, const char *value)
{
    struct search *search = opaque;
    struct sign_credentials *to = search->credentials;

    if (strcmp(section, search->profile) != 0 || !value)
        return 1;
    if (strcmp(name, "aws_access_key_id") == 0)
        return take(search, to->access_key, sizeof to->access_key, value);
    if (strcmp(name, "aws_secret_access_key") == 0)
        return take(search, to->secret_key, sizeof to->secret_key, value);
    if (strcmp(name, "aws_session_token") == 0)
        return take(search, to->session_token, sizeof to->session_token, value);
    return 1;
}

static void from_environment(struct search *search)
{
    static const char *const names[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
                                        "AWS_SESSION_TOKEN"};
    static const char *const keys[] = {"aws_access_key_id", "aws_secret_access_key",
                                       "aws_session_token"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i]))
            on_line(search, search->profile, keys[i], getenv(names[i]));
}

int credentials_load(const char *path, const char *profile, struct sign_credentials *credentials,
                     struct drafter_error *err)
{
    struct search search = {.profile = profile, .credentials = credentials};
    const char *where = path ? path : "the environment";

    memset(credentials, 0, sizeof *credentials);
    if (path) {
        char *text;
        int rc = read_secret(path, &text, err);

        if (rc)
            return rc;
        ini_parse_string(text, on_line, &search);
        wipe(text);
    } else {
        from_environment(&search);
    }
    if (search.too_long)
        return drafter_error_set(err, EINVAL, "s3: %s: a credential is too long", where);
    if (*credentials->access_key && *credentials->secret_key)
        return 0;
    if (path)
        return drafter_error_set(err, EINVAL,
                                 "%s: [%s] lacks aws_access_key_id or aws_secret_access_key", path,
                                 profile);
    return drafter_error_set(err, EINVAL,
                             "s3: no credentials: set credentials = FILE, or AWS_ACCESS_KEY_ID and "
                             "AWS_SECRET_ACCESS_KEY in the environment");
}

int credentials_load_key(const char *path, uint8_t key[CODEC_KEY], struct drafter_error *err)
{
    const char *end;
    size_t n;
    char *text;
    int rc = read_secret(path, &text, err);

    if (rc)
        return rc;
    rc = sodium_hex2bin(key, CODEC_KEY, text, strlen(text), NULL, &n, &end);
    rc = rc || n != CODEC_KEY || strspn(end, " \t\r\n") != strlen(end);
    wipe(text);
    return rc ? drafter_error_set(err, EINVAL, "%s: not 64 hexadecimal digits", path) : 0;
}
