/* SPDX-License-Identifier: BSD-2-Clause */
#include "storage-s3.h"
#include "storage.h"

#include "util/io.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned port;
static bool failed;

/* The child ends when the pipe to its standard input closes, that is with this program. */
static int spawn_server(int input, int output)
{
    const char *source = getenv("abs_top_srcdir"), *other = getenv("S3_SERVER");
    char path[600];
    pid_t child = fork();

    if (child != 0)
        return child < 0 ? -errno : 0;
    snprintf(path, sizeof path, "%s%s", other ? other : source ? source : "../..",
             other ? "" : "/tests/s3/server.py");
    dup2(input, 0);
    dup2(output, 1);
    execlp("python3", "python3", path, NULL);
    _exit(127);
}

bool storage_s3_start(void)
{
    int input[2], output[2];
    char line[16] = "";

    if (port || failed)
        return port != 0;
    setenv("AWS_ACCESS_KEY_ID", "AKTEST", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "SKTEST/secret+key", 1);
    /* No test runs yet, so nothing can be asserted. */
    if (pipe2(input, O_CLOEXEC) == 0 && pipe2(output, O_CLOEXEC) == 0 &&
        spawn_server(input[0], output[1]) == 0) {
        close(input[0]);
        close(output[1]);
        for (size_t n = 0; !port && n < sizeof line - 1 && read(output[0], line + n, 1) == 1; n++)
            if (line[n] == '\n')
                port = (unsigned)strtoul(line, NULL, 10);
        close(output[0]);
    }
    failed = port == 0;
    if (failed)
        printf("s3: left out: tests/s3/server.py cannot be started with python3\n");
    return port != 0;
}

static int connect_server(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

json_t *s3_server(const char *path, const char *body)
{
    cleanup_free char *request = NULL, *answer = calloc(1, 8 << 20);
    size_t length = 0;
    const char *content;
    ssize_t n;
    int fd = connect_server();

    ck_assert_int_gt(asprintf(&request, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                                        "Content-Length: %zu\r\n\r\n%s",
                              body ? "POST" : "GET", path, body ? strlen(body) : 0, body ? body : ""),
                     0);
    ck_assert_int_eq(io_write_full(fd, request, strlen(request)), 0);
    while (length < (8 << 20) - 1 && (n = read(fd, answer + length, (8 << 20) - 1 - length)) > 0)
        length += (size_t)n;
    close(fd);
    content = strstr(answer, "\r\n\r\n");
    ck_assert_ptr_nonnull(content);
    return json_loads(content + 4, 0, NULL);
}

void storage_s3_clear(void)
{
    if (port)
        json_decref(s3_server("/_clear", ""));
}

unsigned s3_count(const char *fragment)
{
    json_t *objects = s3_server("/_objects", NULL), *size;
    const char *name;
    unsigned count = 0;

    json_object_foreach (objects, name, size)
        count += strstr(name, fragment) != NULL;
    json_decref(objects);
    return count;
}

unsigned s3_uploads(void)
{
    json_t *uploads = s3_server("/_uploads", NULL);
    unsigned count = (unsigned)json_array_size(uploads);

    json_decref(uploads);
    return count;
}

unsigned s3_requests(const char *method, const char *fragment)
{
    json_t *log = s3_server("/_log", NULL), *entry;
    unsigned count = 0;
    size_t i;

    json_array_foreach (log, i, entry)
        count += strcmp(json_string_value(json_array_get(entry, 0)), method) == 0 &&
                 strstr(json_string_value(json_array_get(entry, 1)), fragment);
    json_decref(log);
    return count;
}

struct instance *storage_s3(struct instance *next, const char *name, const char *const *more)
{
    char endpoint[64], prefix[96];
    const char *options[64] = {"endpoint", endpoint, "bucket", "test", "prefix", prefix, "block-size",
                               "16k", "page-size", "4k", "cache-size", "1M", "timeout", "10s",
                               "check-period", "10ms", "max-age", "10ms"};
    size_t n = 0;

    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", port);
    snprintf(prefix, sizeof prefix, "%s/", name);
    while (options[n])
        n += 2;
    for (; more && more[0]; more += 2) {
        size_t at = 0;

        while (at < n && strcmp(options[at], more[0]) != 0)
            at += 2;
        options[at] = more[0];
        options[at + 1] = more[1];
        n = at == n ? n + 2 : n;
    }
    return storage_make("s3", options, next);
}
