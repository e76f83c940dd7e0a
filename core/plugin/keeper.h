/* SPDX-License-Identifier: BSD-2-Clause */
/* What a plugin instance may leave to the holder: its names, put behind "KIND/ID/". */
#ifndef PLUGIN_KEEPER_H
#define PLUGIN_KEEPER_H

#include "plugin/plugin.h"

/* Fills instance->keeper; instance->holder is set. */
void keeper_init(struct instance *instance);

#endif
