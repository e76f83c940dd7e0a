/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One storage plugin and its defective twins.  Each is this file compiled with one FIXTURE_...
 * defined, the upper-case form of the name in drafter-storage-NAME.so; tests say what the loader
 * makes of each.
 */
#include <drafter/storage.h>
#include <drafter/transport.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIXTURE_SIZE 262144

struct fixture_config {
    const char *text, *secret;
    uint64_t size;
    uint64_t flush_fails_at; /* 0: never */
    int mode;
    bool overreach; /* extent and layer claim more than they were asked about */
    bool silent;    /* create fails without a sentence */
};

struct fixture {
    const struct fixture_config *config;
    char *bytes;
    uint64_t flushes;
    _Atomic int inside;      /* threads in an operation */
    _Atomic bool overlapped; /* more than one was */
};

static int fixture_create(const struct drafter_context *context, const void *config,
                          void **ret_instance, struct drafter_error *err)
{
    const struct fixture_config *options = config;
    struct fixture *fixture;

    (void)context;
    if (options->silent)
        return -EHOSTDOWN;
    if (options->text && strcmp(options->text, "refuse") == 0)
        return drafter_error_set(err, EDOM, "refused as asked");
    fixture = calloc(1, sizeof(*fixture));
    if (!fixture)
        return -ENOMEM;
    fixture->config = options;
    fixture->bytes = calloc(1, FIXTURE_SIZE);
    *ret_instance = fixture;
    return fixture->bytes ? 0 : -ENOMEM;
}

static void fixture_destroy(void *instance)
{
    struct fixture *fixture = instance;

    if (fixture)
        free(fixture->bytes);
    free(fixture);
}

#ifdef FIXTURE_WITH_PROBE
static int fixture_probe(const void *config, struct drafter_probe *ret_probe)
{
    (void)config;
    ret_probe->usable = false;
    memcpy(ret_probe->reason, "the moon is not full", sizeof("the moon is not full"));
    memcpy(ret_probe->remedy, "wait", sizeof("wait"));
    return 0;
}
#endif

/* Stays inside for a while, so that a second thread would be seen. */
static void visit(struct fixture *fixture)
{
    const struct timespec while_ = {.tv_nsec = 200 * 1000};

    if (++fixture->inside > 1)
        fixture->overlapped = true;
    nanosleep(&while_, NULL);
    fixture->inside--;
}

static int fixture_open(void *instance, uint64_t size, unsigned flags, struct drafter_error *err)
{
    (void)instance;
    (void)flags;
    return size > FIXTURE_SIZE ? drafter_error_set(err, ENOSPC, "too large") : 0;
}

static uint64_t fixture_size(void *instance)
{
    (void)instance;
    return FIXTURE_SIZE;
}

static int fixture_pread(void *instance, void *buffer, size_t length, uint64_t offset)
{
    struct fixture *fixture = instance;

    visit(fixture);
    memcpy(buffer, fixture->bytes + offset, length); /* trusts the adapter's check */
    return fixture->overlapped ? -EDEADLK : 0;
}

static int fixture_pwrite(void *instance, const void *buffer, size_t length, uint64_t offset)
{
    struct fixture *fixture = instance;

    visit(fixture);
    memcpy(fixture->bytes + offset, buffer, length);
    return fixture->overlapped ? -EDEADLK : 0;
}

static int fixture_flush(void *instance)
{
    struct fixture *fixture = instance;

    return ++fixture->flushes == fixture->config->flush_fails_at ? -ENOSPC : 0;
}

static int fixture_extent(void *instance, uint64_t offset, uint64_t length,
                          enum drafter_extent_kind *ret_kind, uint64_t *ret_length)
{
    const struct fixture *fixture = instance;

    (void)offset;
    *ret_kind = (enum drafter_extent_kind)77;
    *ret_length = fixture->config->overreach ? length + 4096 : 0;
    return 0;
}

#ifdef FIXTURE_UNDEFINED
int fixture_nobody_has_this(void);
#endif

static const char *const modes[] = {"slow", "fast-forward", NULL};

static const struct drafter_option options[] = {
    {.key = "text",
     .type = DRAFTER_OPTION_STRING,
     .offset = offsetof(struct fixture_config, text),
     .default_value = "none",
     .help = "any text"},
    {.key = "secret",
     .type = DRAFTER_OPTION_STRING,
     .flags = DRAFTER_OPTION_SECRET,
     .offset = offsetof(struct fixture_config, secret),
     .help = "not for every eye"},
    {.key = "limit",
     .type = DRAFTER_OPTION_SIZE,
     .offset = offsetof(struct fixture_config, size),
     .default_value = "4k",
     .minimum = 512,
     .maximum = 1048576,
     .help = "a size"},
    {.key = "flush-fails-at",
     .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct fixture_config, flush_fails_at),
     .help = "number of the flush"},
    {.key = "mode",
     .type = DRAFTER_OPTION_ENUM,
     .offset = offsetof(struct fixture_config, mode),
     .choices = modes,
     .default_value = "slow",
     .help = "one of two"},
    {.key = "overreach",
     .type = DRAFTER_OPTION_BOOL,
     .offset = offsetof(struct fixture_config, overreach),
     .help = "claim too much"},
    {.key = "silent",
     .type = DRAFTER_OPTION_BOOL,
     .offset = offsetof(struct fixture_config, silent),
     .help = "fail without a word"},
#ifdef FIXTURE_BAD_OPTION
    {.key = "outside",
     .type = DRAFTER_OPTION_UINT,
     .offset = sizeof(struct fixture_config),
     .help = "lies behind the struct"},
#endif
#ifdef FIXTURE_BAD_DEFAULT
    {.key = "number",
     .type = DRAFTER_OPTION_UINT,
     .offset = 0,
     .default_value = "many",
     .help = "has a default that is no number"},
#endif
    DRAFTER_OPTION_END,
};

/* A defect is an initialiser behind the right one. */
#pragma GCC diagnostic ignored "-Woverride-init"
#ifdef __clang__
#pragma GCC diagnostic ignored "-Winitializer-overrides"
#endif

#ifdef FIXTURE_NEWER
/* As a later minor version would grow: at the end. */
struct ops {
    struct drafter_storage_ops ops;
    int (*later[8])(void *instance);
};
static const struct ops ops_storage = {.ops = {
#else
static const struct drafter_storage_ops ops_storage = {
#endif
                                           .open = fixture_open,
                                           .size = fixture_size,
                                           .pread = fixture_pread,
                                           .pwrite = fixture_pwrite,
                                           .flush = fixture_flush,
                                           .extent = fixture_extent,
#ifdef FIXTURE_MISSING_OP
                                           .flush = NULL,
#endif
#ifdef FIXTURE_NEWER
                                       }};
#else
};
#endif

#ifdef FIXTURE_NEWER
static const struct {
    struct drafter_plugin plugin;
    const void *later[8];
} larger = {.plugin = {
#else
static const struct drafter_plugin plugin = {
#endif
                .magic = DRAFTER_PLUGIN_MAGIC,
                .abi_major = DRAFTER_ABI_MAJOR,
                .abi_minor = DRAFTER_ABI_MINOR,
                .struct_size = sizeof(struct drafter_plugin),
                .kind = DRAFTER_KIND_STORAGE,
                .ops_size = sizeof(ops_storage),
                .version = "1.2",
                .license = "BSD-2-Clause",
                .summary = "a fixture of the tests",
                .options = options,
                .config_size = sizeof(struct fixture_config),
                .create = fixture_create,
                .destroy = fixture_destroy,
#ifdef FIXTURE_WITH_PROBE
                .probe = fixture_probe,
#endif
                .ops = &ops_storage,
                .name = FIXTURE_NAME,
/* What follows replaces what stands above. */
#ifdef FIXTURE_OLDER
                .ops_size = offsetof(struct drafter_storage_ops, zero),
#endif
#ifdef FIXTURE_SHORT_OPS
                .ops_size = offsetof(struct drafter_storage_ops, flush),
#endif
#ifdef FIXTURE_NEWER
                .abi_minor = DRAFTER_ABI_MINOR + 7,
                .struct_size = sizeof(larger),
#endif
#ifdef FIXTURE_WRONG_MAGIC
                .magic = 0x21212121,
#endif
#ifdef FIXTURE_WRONG_MAJOR
                .abi_major = DRAFTER_ABI_MAJOR + 1,
#endif
#ifdef FIXTURE_TINY
                .struct_size = 16,
#endif
#ifdef FIXTURE_GIGANTIC
                .struct_size = 1u << 30,
#endif
#ifdef FIXTURE_WRONG_KIND
                .kind = DRAFTER_KIND_TRANSPORT,
#endif
#ifdef FIXTURE_NO_KIND
                .kind = 99,
#endif
#ifdef FIXTURE_WRONG_NAME
                .name = "other",
#endif
#ifdef FIXTURE_NO_NAME
                .name = NULL,
#endif
#ifdef FIXTURE_NO_CREATE
                .create = NULL,
#endif
#ifdef FIXTURE_NO_OPS
                .ops = NULL,
#endif
#ifdef FIXTURE_THREADS
                .thread_model = 7,
#endif
#ifdef FIXTURE_SERIAL
                .thread_model = DRAFTER_THREADS_SERIALIZE_INSTANCE,
#endif
#ifdef FIXTURE_NEWER
            }};
#define plugin larger.plugin
#else
};
#endif

#if defined(FIXTURE_NULL_ENTRY)
__attribute__((visibility("default"))) const struct drafter_plugin *drafter_plugin_entry(void);
const struct drafter_plugin *drafter_plugin_entry(void)
{
    return NULL;
}
static const void *const unused __attribute__((used)) = &plugin;
#elif defined(FIXTURE_NO_ENTRY)
static const void *const unused __attribute__((used)) = &plugin;
#elif defined(FIXTURE_UNDEFINED)
    __attribute__((visibility("default"))) const struct drafter_plugin *drafter_plugin_entry(void);
const struct drafter_plugin *drafter_plugin_entry(void)
{
    return fixture_nobody_has_this() ? &plugin : NULL;
}
#else
    DRAFTER_PLUGIN_ENTRY(plugin)
#endif
