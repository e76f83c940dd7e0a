/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The plugin descriptor.  A plugin is one shared object that exports exactly one function,
 * drafter_plugin_entry(), which returns a constant descriptor.  See drafter-plugin(3).
 *
 *     #include <drafter/transport.h>
 *
 *     struct carrier_config { const char *path; uint64_t timeout_ms; };
 *
 *     static const struct drafter_option carrier_options[] = {
 *         {.key = "path", .type = DRAFTER_OPTION_STRING, .flags = DRAFTER_OPTION_REQUIRED,
 *          .offset = offsetof(struct carrier_config, path), .help = "..."},
 *         DRAFTER_OPTION_END,
 *     };
 *
 *     static const struct drafter_plugin carrier_plugin = {
 *         DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_TRANSPORT, struct drafter_transport_ops),
 *         .name = "carrier", .version = "1.0", .license = "BSD-2-Clause",
 *         .summary = "carries streams over ...",
 *         .options = carrier_options, .config_size = sizeof(struct carrier_config),
 *         .create = carrier_create, .destroy = carrier_destroy, .ops = &carrier_ops,
 *     };
 *     DRAFTER_PLUGIN_ENTRY(carrier_plugin)
 *
 * Type and instance are separate: a plugin keeps no mutable file-scope state, so that one plugin can
 * be used any number of times in one process.
 *
 * Within a major version this interface only grows at the end: the loader copies the smaller of the
 * plugin's and its own struct sizes and zeroes the rest, so a NULL operation means the documented
 * default.
 */
#ifndef DRAFTER_PLUGIN_H
#define DRAFTER_PLUGIN_H

#include <drafter/common.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DRAFTER_PLUGIN_MAGIC UINT32_C(0x31465244) /* "DRF1" in memory */
#define DRAFTER_ABI_MAJOR 1
#define DRAFTER_ABI_MINOR 3

enum drafter_kind {
    DRAFTER_KIND_TRANSPORT = 1,
    DRAFTER_KIND_STORAGE = 2,
    DRAFTER_KIND_NETWORK = 3,
    DRAFTER_KIND_DEVICE = 4,
    DRAFTER_KIND_VMM = 5,
};

enum drafter_option_type {
    DRAFTER_OPTION_STRING = 1,   /* const char *, NULL when absent; valid until destroy returns */
    DRAFTER_OPTION_PATH = 2,     /* as a string; relative paths are taken from the working directory */
    DRAFTER_OPTION_BOOL = 3,     /* bool; yes/no, true/false, on/off, 1/0 */
    DRAFTER_OPTION_UINT = 4,     /* uint64_t */
    DRAFTER_OPTION_SIZE = 5,     /* uint64_t bytes; suffixes k M G T, powers of 1024 */
    DRAFTER_OPTION_DURATION = 6, /* uint64_t nanoseconds; suffixes ns us ms s m h; a bare number is ns */
    DRAFTER_OPTION_ENUM = 7,     /* int: index into `choices` */
};

#define DRAFTER_OPTION_REQUIRED 0x1u
#define DRAFTER_OPTION_SECRET 0x2u /* the value is never printed or logged */
/*
 * Since 1.2.  The key means something to another plugin of this kind, or did to an earlier program: it is
 * accepted, with a warning that says `help`, and stored nowhere; `offset` is unused.
 */
#define DRAFTER_OPTION_IGNORED 0x4u

/*
 * One configuration key.  The core parses, range-checks, defaults and documents it, and refuses
 * unknown and duplicate keys with file:line.
 */
struct drafter_option {
    const char *key; /* lower-case words joined by '-'; NULL ends the table */
    enum drafter_option_type type;
    unsigned flags;
    size_t offset;             /* of the value in the plugin's config struct */
    const char *default_value; /* in the syntax of the file; NULL leaves zero */
    uint64_t minimum, maximum; /* numbers; both zero means unbounded */
    const char *const *choices; /* DRAFTER_OPTION_ENUM: NULL-terminated */
    const char *unit;          /* for the documentation only */
    const char *help;          /* one sentence, no full stop */
};
#define DRAFTER_OPTION_END {NULL, DRAFTER_OPTION_STRING, 0, 0, NULL, 0, 0, NULL, NULL, NULL}

/* How many threads may be inside one plugin at a time.  The core does the locking. */
enum drafter_thread_model {
    DRAFTER_THREADS_PARALLEL = 0,           /* any operation, any thread, at the same time */
    /* One operation at a time per instance.  Not for transports, whose operations wait for each other. */
    DRAFTER_THREADS_SERIALIZE_INSTANCE = 1,
};

/* What a probe found: can this host do it, and if not, what mends it. */
struct drafter_probe {
    bool usable;
    char reason[256]; /* why not, or a remark; one line */
    char remedy[256]; /* what the operator can do about it; one line */
};

/* A program to be started; as the fields of the same names in execve(2) and dup2(2). */
struct drafter_spawn {
    uint32_t struct_size;
    const char *const *argv; /* argv[0] is looked up in PATH unless it has a slash */
    int stdin_fd, stdout_fd, stderr_fd; /* -1: /dev/null */
    const int *keep_fds;     /* further descriptors it inherits, same numbers (3 to 511); -1 ends it */
    const char *netns;       /* network namespace path or NULL */
};

/*
 * Since 1.1.  What may outlive this process: a holder, where there is one, keeps descriptors, memory
 * and children of an instance.  When the process dies, or makes room for a newer binary, a new process
 * creates the same instances and tells those plugins with an adopt() operation to go on.  Names are an
 * instance's own; at most 63 characters.  Any thread; all calls are short.
 *
 * Without a holder put() does nothing, take() finds nothing, memory() is ordinary, spawn() answers
 * -ENOTSUP: a plugin need not ask whether there is one.
 */
struct drafter_keeper {
    uint32_t struct_size;
    void *opaque;

    /* Keeps a copy of the descriptor, in place of an earlier one of that name.  Locks of flock(2) stay. */
    int (*put)(void *opaque, const char *name, int fd);

    /* A descriptor that the predecessor put, which the caller closes; -ENOENT: there is none. */
    int (*take)(void *opaque, const char *name, int *ret_fd);

    /*
     * Zeroed shared memory; with *ret_found it is the predecessor's, of the same size, as it was at
     * any instant, even in the middle of a change.  The caller ends it with munmap(2).
     */
    int (*memory)(void *opaque, const char *name, size_t size, void **ret_memory, bool *ret_found);

    /*
     * Starts a program as a child of the holder, which the kernel kills when the holder dies; *ret_pidfd
     * is the caller's.  -ENOTSUP: there is no holder, the caller starts it itself.
     */
    int (*spawn)(void *opaque, const struct drafter_spawn *spawn, pid_t *ret_pid, int *ret_pidfd,
                 struct drafter_error *err);

    /* The wait status of a program that spawn() started and that has ended; -EAGAIN while it runs. */
    int (*status)(void *opaque, pid_t pid, int *ret_status);
};

/* What the core hands to create().  Borrowed until create() returns, except where noted. */
struct drafter_context {
    uint32_t struct_size;
    const char *id;        /* instance id from the configuration; valid until destroy() returns */
    const char *directory; /* private run-time directory of this process; exists, mode 0700 */
    void *next;            /* layers: the instance below, to be used through the drafter_next_*
                              functions of its kind; NULL when there is none */
    /* Since 1.1; valid until destroy() returns.  Never NULL where struct_size says that it is there. */
    const struct drafter_keeper *keeper;
};

/*
 * Life of an instance:  create -> (operations of the kind) -> destroy.
 *
 *   create   may block and may fail; touches nothing outside the process beyond opening what the
 *            configuration names.  `config` lives until destroy() returns.
 *   probe    optional, without an instance: looks at the host without changing it.
 *   destroy  ends everything that create and the operations began; never fails; NULL is allowed.
 *
 * create, probe and destroy are called from one thread.
 */
struct drafter_plugin {
    uint32_t magic;
    uint16_t abi_major, abi_minor;
    uint32_t struct_size;
    uint32_t kind;     /* enum drafter_kind */
    uint32_t ops_size; /* size of the kind's operations table as the plugin knows it */
    uint32_t thread_model;

    const char *name; /* as in the file name drafter-KIND-NAME.so */
    const char *version;
    const char *license; /* SPDX expression */
    const char *summary; /* one line */

    const struct drafter_option *options; /* NULL: none */
    size_t config_size;

    int (*create)(const struct drafter_context *context, const void *config, void **ret_instance,
                  struct drafter_error *err);
    void (*destroy)(void *instance);
    int (*probe)(const void *config, struct drafter_probe *ret_probe); /* optional */

    const void *ops; /* struct drafter_KIND_ops */
};

#define DRAFTER_PLUGIN_HEADER(kind_, ops_type_)                                                    \
    .magic = DRAFTER_PLUGIN_MAGIC, .abi_major = DRAFTER_ABI_MAJOR, .abi_minor = DRAFTER_ABI_MINOR, \
    .struct_size = sizeof(struct drafter_plugin), .kind = (kind_), .ops_size = sizeof(ops_type_)

#define DRAFTER_PLUGIN_ENTRY(descriptor_)                                                          \
    __attribute__((visibility("default"))) const struct drafter_plugin *drafter_plugin_entry(void); \
    const struct drafter_plugin *drafter_plugin_entry(void)                                        \
    {                                                                                              \
        return &(descriptor_);                                                                     \
    }

#ifdef __cplusplus
}
#endif

#endif
