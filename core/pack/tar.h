/* SPDX-License-Identifier: BSD-2-Clause */
/* Where an entry of a plain tar archive is, so that it can be read at random. */
#ifndef PACK_TAR_H
#define PACK_TAR_H

#include "pack/format.h"
#include "pack/source.h"

/*
 * -ENOENT: it has no such file; -ENOTSUP: the source is no tar archive, or its entry is none that lies there byte for
 * byte (sparse, a link).
 */
int pack_tar_find(const struct pack_source *source, const char *name, uint64_t *ret_offset,
                  uint64_t *ret_size);

#endif
