/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls into VMM plugins; contracts as in drafter/vmm.h. */
#ifndef PLUGIN_VMM_H
#define PLUGIN_VMM_H

#include "plugin/plugin.h"
#include <drafter/vmm.h>

int vmm_facts(struct instance *vmm, struct drafter_vmm_facts *ret_facts, struct drafter_error *err);
int vmm_start(struct instance *vmm, const struct drafter_vmm_spec *spec, enum drafter_vmm_start how,
              struct drafter_error *err);
int vmm_describe(struct instance *vmm, char *buffer, size_t size);
int vmm_foresee(struct instance *vmm, struct drafter_error *err);
int vmm_pause(struct instance *vmm, struct drafter_error *err);
int vmm_save(struct instance *vmm, int fd, struct drafter_error *err);
int vmm_load(struct instance *vmm, int fd, struct drafter_error *err);
int vmm_resume(struct instance *vmm, struct drafter_error *err);
int vmm_channel(struct instance *vmm, const char *name, int *ret_fd, struct drafter_error *err);
pid_t vmm_pid(struct instance *vmm);
void vmm_stop(struct instance *vmm);
/* Nothing happens, and that is success, where the plugin leaves all to start. */
int vmm_launch(struct instance *vmm, const struct drafter_vmm_spec *spec, enum drafter_vmm_start how,
               struct drafter_error *err);
/* Nothing to do, and that is success, where the VMM maps memory shared. */
int vmm_gather(struct instance *vmm, struct drafter_error *err);
bool vmm_adoptable(const struct instance *vmm);
int vmm_adopt(struct instance *vmm, const struct drafter_vmm_spec *spec,
              enum drafter_vmm_phase *ret_phase, struct drafter_error *err);

#endif
