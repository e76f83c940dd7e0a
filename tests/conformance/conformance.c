/* SPDX-License-Identifier: BSD-2-Clause */
#include "conformance.h"

#include "plugin/storage.h"
#include "plugin/transport.h"
#include "util/io.h"
#include <dirent.h>
#include <stdio.h>
#include <time.h>

/* Plugins may call these, so that they must be in this program though nothing here calls them. */
void *const conformance_exports[] = {
    (void *)drafter_error_set,      (void *)drafter_error_errno,  (void *)drafter_error_wrap,
    (void *)drafter_log,            (void *)drafter_now_ns,       (void *)drafter_next_storage,
    (void *)drafter_next_transport, (void *)drafter_trust_find,
};

static char directory[256];
static pid_t directory_owner; /* tests are forked: only the first process removes it */

static void remove_directory(void)
{
    if (getpid() == directory_owner)
        io_remove_tree(directory, NULL);
}

const char *conformance_directory(void)
{
    const char *base = getenv("TMPDIR");

    if (directory[0])
        return directory;
    snprintf(directory, sizeof(directory), "%s/conformance.XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(directory)) {
        perror(directory);
        abort();
    }
    directory_owner = getpid();
    atexit(remove_directory);
    return directory;
}

const char *conformance_path(const char *name)
{
    static _Thread_local char path[512];

    snprintf(path, sizeof(path), "%s/%s", conformance_directory(), name);
    return path;
}

static bool listed(const char *variable, const char *name, bool otherwise)
{
    const char *list = getenv(variable);
    size_t length = strlen(name);

    if (!list || !*list)
        return otherwise;
    for (const char *at = list; (at = strstr(at, name)); at += length)
        if ((at == list || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
            return true;
    return false;
}

bool conformance_available(enum drafter_kind kind, const char *name)
{
    struct drafter_error err = {0};
    struct plugin *plugin;

    if (!listed("CONFORMANCE_ONLY", name, true))
        return false;
    if (plugin_load(kind, name, &plugin, &err) == 0) {
        plugin_unload(plugin);
        return true;
    }
    printf("%s %s is not tested: %s\n", plugin_kind_name(kind), name, err.message);
    if (listed("CONFORMANCE_REQUIRE", name, false))
        exit(EXIT_FAILURE);
    return false;
}

struct instance *conformance_instance(enum drafter_kind kind, const char *plugin,
                                      const char *const *overrides)
{
    struct drafter_error err = {0};
    struct instance *instance = NULL;
    int rc = instance_new(kind, NULL, plugin, overrides, plugin, conformance_directory(), NULL,
                          &instance, &err);

    ck_assert_msg(rc == 0, "%s: %s", plugin, err.message);
    return instance;
}

int conformance_refused(enum drafter_kind kind, const char *plugin, const char *const *overrides,
                        struct drafter_error *err)
{
    struct instance *instance = NULL;
    int rc = instance_new(kind, NULL, plugin, overrides, plugin, conformance_directory(), NULL,
                          &instance, err);

    ck_assert_msg(rc < 0, "%s: an instance was made where none was expected", plugin);
    return rc;
}

unsigned conformance_open_fds(void)
{
    DIR *fds = opendir("/proc/self/fd");
    unsigned count = 0;

    ck_assert_ptr_nonnull(fds);
    while (readdir(fds))
        count++;
    closedir(fds);
    return count;
}

uint64_t conformance_now_ms(void)
{
    return drafter_now_ns() / 1000000;
}

void conformance_sleep_ms(unsigned ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    while (nanosleep(&left, &left) < 0)
        ;
}

static unsigned char pattern(uint64_t seed, uint64_t offset)
{
    uint64_t x = (offset >> 3) * UINT64_C(0x9e3779b97f4a7c15) + seed * UINT64_C(0xd1b54a32d192ed03);

    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return (unsigned char)(x >> (8 * (offset & 7)));
}

void conformance_fill(void *buffer, size_t length, uint64_t seed, uint64_t offset)
{
    for (size_t i = 0; i < length; i++)
        ((unsigned char *)buffer)[i] = pattern(seed, offset + i);
}

bool conformance_matches(const void *buffer, size_t length, uint64_t seed, uint64_t offset)
{
    for (size_t i = 0; i < length; i++)
        if (((const unsigned char *)buffer)[i] != pattern(seed, offset + i))
            return false;
    return true;
}

pthread_t conformance_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, run, argument), 0);
    return thread;
}

void *conformance_join(pthread_t thread)
{
    void *result = NULL;

    ck_assert_int_eq(pthread_join(thread, &result), 0);
    return result;
}

void conformance_expect_error(int rc, int code, const struct drafter_error *err,
                              const char *fragment)
{
    ck_assert_msg(rc == -code && err->code == code, "expected %s, found %d (%s)", strerror(code),
                  rc, err->message);
    ck_assert_msg(strstr(err->message, fragment), "\"%s\" does not say \"%s\"", err->message,
                  fragment);
}

int conformance_run(Suite *suite, unsigned available)
{
    SRunner *runner = srunner_create(suite);
    int failed;

    setbuf(stdout, NULL);
    if (!available) {
        srunner_free(runner);
        printf("no plugin of this kind was built\n");
        return 77;
    }
    conformance_directory();
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
