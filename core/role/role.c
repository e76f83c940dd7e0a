/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/role.h"

const char *const role_names[] = {"peer", NULL};

int role_run(const char *role, const struct options *options, struct drafter_error *err)
{
    (void)options;
    return drafter_error_set(err, ENOSYS, "role %s is not built", role ? role : "of the file");
}
