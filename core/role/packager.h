/* SPDX-License-Identifier: BSD-2-Clause */
/* The packager: puts the devices of a VM into one file, and takes them out again. */
#ifndef ROLE_PACKAGER_H
#define ROLE_PACKAGER_H

#include "config/flags.h"
#include "role/node.h"

/* [packager] */
struct packager_options {
    const char *package_path, *storage, *reuse, *sign;
    bool extract, send;
    int signature; /* enum signature_rule */
    int progress;  /* enum progress_form */
    uint64_t level, frame_size, threads;
};

/* What a package's signature has to be before anything is taken out of it. */
enum signature_rule {
    SIGNATURE_IGNORE,
    SIGNATURE_CHECK,   /* one that is there is right, and of a key that may give us packages */
    SIGNATURE_REQUIRE, /* and there is one */
};

extern const struct drafter_option packager_option_table[];
extern const struct config_flag packager_flags[];

int packager_run(struct node *node, struct drafter_error *err);

/* Sends the package into its storage. */
int packager_send(struct node *node, const struct packager_options *options,
                  bool (*cancelled)(void *opaque), void *opaque, struct drafter_error *err);

/* Opens the package, in its storage if it has one; -ENOTSUP: a file that is an archive of another tool, perhaps. */
struct pack_reader;
int packager_open(struct node *node, const struct packager_options *options,
                  struct pack_reader *ret_reader, struct drafter_error *err);

/* `signer` as the reader of a package has it, `vm` what the package is to be here; `package` for messages. */
int signature_admit(enum signature_rule rule, const char *package, const char *signer,
                    const char *vm, struct drafter_error *err);

#endif
