/* SPDX-License-Identifier: BSD-2-Clause */
#include "command.h"
#include "config/config.h"
#include "config/flags.h"
#include "image/image.h"
#include "options.h"
#include "plugin/describe.h"
#include "util/log.h"

#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 3 /* a verb and its two arguments */

#define OPTION(key_, type_, field_, default_, help_)                                               \
    {.key = key_, .type = DRAFTER_OPTION_##type_,                                                    \
     .offset = offsetof(struct image_options, field_), .default_value = default_, .help = help_}

const struct drafter_option image_option_table[] = {
    OPTION("arch", STRING, arch, NULL,
           "unpack, build: which of an image's architectures, as in amd64, in place of this host's"),
    OPTION("hostname", STRING, hostname, "drafterguest", "unpack, build: the container's"),
    {.key = "ready-port", .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct image_options, ready_port), .default_value = "0", .maximum = 65535,
     .help = "unpack, build: the guest tells that it lives when this TCP port of it answers; 0: when the "
             "container was started"},
    OPTION("max-size", SIZE, max_size, "16G", "unpack, pack, build: what is larger is refused"),
    OPTION("free", SIZE, free, "256M", "pack, build: room for what the container writes"),
    OPTION("size", SIZE, size, "0", "pack, build, os: of the file system in all; 0: what it needs"),
    OPTION("cache", PATH, cache, NULL,
           "os: where Debian's packages are kept, in place of DIRECTORY/cache"),
    DRAFTER_OPTION_END,
};

struct verb {
    const char *name, *first, *second, *summary;
    int (*run)(struct image_job *job, const char *first, const char *second, struct drafter_error *err);
};

static int run_os(struct image_job *job, const char *directory, const char *none,
                  struct drafter_error *err)
{
    (void)none;
    return image_os(job, directory, err);
}

static const struct verb verbs[] = {
    {"build", "IMAGE", "FILE", "makes a VM's disk of an OCI image: unpack and pack", image_build},
    {"unpack", "IMAGE", "BUNDLE", "makes a runtime bundle, to be edited, of an OCI image or of a disk",
     image_unpack},
    {"pack", "BUNDLE", "FILE", "makes a disk of a runtime bundle", image_pack},
    {"os", "DIRECTORY", NULL, "makes the guest that runs such disks of Debian's packages", run_os},
};
enum { VERB_COUNT = sizeof(verbs) / sizeof(verbs[0]) };

void command_image_help(void)
{
    printf("Usage:");
    for (unsigned i = 0; i < VERB_COUNT; i++)
        printf("%s drafter image %s %s%s%s\n", i ? "      " : "", verbs[i].name, verbs[i].first,
               verbs[i].second ? " " : "", verbs[i].second ? verbs[i].second : "");
    putchar('\n');
    for (unsigned i = 0; i < VERB_COUNT; i++)
        printf("  %-8s %s\n", verbs[i].name, verbs[i].summary);
    printf("\nIMAGE is the path of an OCI layout (with :TAG where it has several) or of an archive of one,\n"
           "or a name as skopeo has them: docker://HOST/NAME:TAG, docker-archive:PATH.\n\n");
    describe_options_text(image_option_table, stdout);
}

static int usage(struct drafter_error *err)
{
    return drafter_error_set(err, EINVAL,
                             "write: drafter image build IMAGE FILE, unpack IMAGE BUNDLE, pack BUNDLE "
                             "FILE, or os DIRECTORY; see drafter image --help");
}

/* Every flag has a value. */
static int split(char *const *arguments, const char **words, char **flags, struct drafter_error *err)
{
    unsigned word_count = 0, flag_count = 0;

    for (; *arguments; arguments++) {
        if (**arguments == '-' && (*arguments)[1]) {
            flags[flag_count++] = *arguments;
            if (!strchr(*arguments, '=') && arguments[1])
                flags[flag_count++] = *++arguments;
        } else if (word_count == WORDS_MAX) {
            return usage(err);
        } else {
            words[word_count++] = *arguments;
        }
    }
    return 0;
}

/* NULL: there is none of that name, or it takes other words. */
static const struct verb *find_verb(const char *const *words)
{
    for (unsigned i = 0; words[0] && i < VERB_COUNT; i++) {
        const struct verb *verb = &verbs[i];

        if (!strcmp(verb->name, words[0]))
            return words[1] && *words[1] && !words[2] == !verb->second && (!words[2] || *words[2])
                       ? verb
                       : NULL;
    }
    return NULL;
}

/* The configuration has the strings, and lives as long as what is done with them. */
static int run_verb(const struct verb *verb, const char *const *words, struct config *config,
                    struct drafter_error *err)
{
    struct image_job job = {0};
    int rc = config_apply(config_section(config, "image", ""), image_option_table, NULL, &job.options,
                          sizeof(job.options), err);

    if (rc)
        return rc;
    rc = supervisor_init(&job.supervisor, err);
    if (!rc)
        rc = verb->run(&job, words[1], words[2], err);
    supervisor_release(&job.supervisor);
    return rc;
}

int command_image(const struct options *options, struct drafter_error *err)
{
    static const struct drafter_option none[] = {DRAFTER_OPTION_END};
    const struct config_flags known = {.role = "image", .options = image_option_table, .node = none};
    const char *words[WORDS_MAX + 1] = {NULL};
    char **flags = calloc((size_t)options->rest_count + 1, sizeof(*flags));
    struct config *config = config_new("command line");
    const struct verb *verb = NULL;
    int rc = flags && config ? 0 : drafter_error_set(err, ENOMEM, "out of memory");

    if (!rc && options->config)
        rc = drafter_error_set(err, EINVAL, "image has no configuration");
    if (!rc)
        rc = split(options->rest, words, flags, err);
    if (!rc)
        rc = (verb = find_verb(words)) ? 0 : usage(err);
    if (!rc)
        rc = config_set_flags(config, &known, flags, err);
    if (!rc)
        rc = run_verb(verb, words, config, err);
    config_free(config);
    free(flags);
    return rc;
}
