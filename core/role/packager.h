/* SPDX-License-Identifier: BSD-2-Clause */
/* The packager: puts the devices of a VM into one file, and takes them out again. */
#ifndef ROLE_PACKAGER_H
#define ROLE_PACKAGER_H

#include "config/flags.h"
#include "role/node.h"

/* [packager] */
struct packager_options {
    const char *package_path, *reuse, *sign;
    bool extract;
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

/* `signer` as the reader of a package has it, `vm` what the package is to be here; `package` for messages. */
int signature_admit(enum signature_rule rule, const char *package, const char *signer,
                    const char *vm, struct drafter_error *err);

#endif
