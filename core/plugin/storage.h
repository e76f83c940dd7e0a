/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls into storage plugins; contracts as in drafter/storage.h, defaults filled in. */
#ifndef PLUGIN_STORAGE_H
#define PLUGIN_STORAGE_H

#include "plugin/plugin.h"
#include <drafter/storage.h>

int storage_open(struct instance *storage, uint64_t size, unsigned flags, struct drafter_error *err);
uint64_t storage_size(struct instance *storage);
int storage_read(struct instance *storage, void *buffer, size_t length, uint64_t offset);
int storage_write(struct instance *storage, const void *buffer, size_t length, uint64_t offset);
int storage_flush(struct instance *storage);
/* A flush has failed: every later one does, as nobody knows what the disk holds of what was written before. */
bool storage_flush_failed(const struct instance *storage);
int storage_zero(struct instance *storage, uint64_t length, uint64_t offset);
int storage_trim(struct instance *storage, uint64_t length, uint64_t offset);
int storage_extent(struct instance *storage, uint64_t offset, uint64_t length,
                   enum drafter_extent_kind *ret_kind, uint64_t *ret_length);
int storage_layer(struct instance *storage, uint64_t offset, uint64_t length, bool *ret_own,
                  uint64_t *ret_length);
int storage_check(struct instance *storage, void (*report)(void *, const char *), void *opaque,
                  struct drafter_error *err);
int storage_verify(struct instance *storage, void (*report)(void *, const char *), void *opaque,
                   struct drafter_error *err);
int storage_digest(struct instance *storage, uint64_t offset, uint64_t length, uint8_t hash[16]);
void storage_settled(struct instance *storage);

#endif
