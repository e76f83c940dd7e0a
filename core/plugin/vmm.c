/* SPDX-License-Identifier: BSD-2-Clause */
/* The VMM adapter.  pid() is asked for while a control operation waits, so it never takes the lock.
 */
#include "plugin/vmm.h"

#include "plugin/adapter.h"

#include <string.h>

static const struct drafter_vmm_ops *ops_of(const struct instance *vmm)
{
    return vmm->plugin->ops;
}

/* Facts travel to the peer and into logs: what is not printable ASCII becomes a question mark. */
static void make_printable(char *text, size_t size)
{
    adapter_terminate(text, size);
    for (; *text; text++)
        if (*text < 0x20 || *text > 0x7e)
            *text = '?';
}

int vmm_facts(struct instance *vmm, struct drafter_vmm_facts *ret_facts, struct drafter_error *err)
{
    struct drafter_vmm_facts facts = {0};
    int ret;
    adapter_scope(vmm);

    ret = adapter_result(vmm, "facts", ops_of(vmm)->facts(vmm->data, &facts, err), err);
    if (ret < 0)
        return ret;
    make_printable(facts.name, sizeof(facts.name));
    make_printable(facts.version, sizeof(facts.version));
    make_printable(facts.machine, sizeof(facts.machine));
    make_printable(facts.accelerator, sizeof(facts.accelerator));
    make_printable(facts.cpu_model, sizeof(facts.cpu_model));
    *ret_facts = facts;
    return 0;
}

int vmm_start(struct instance *vmm, const struct drafter_vmm_spec *spec, enum drafter_vmm_start how,
              struct drafter_error *err)
{
    adapter_scope(vmm);

    return adapter_result(vmm, "start", ops_of(vmm)->start(vmm->data, spec, how, err), err);
}

int vmm_launch(struct instance *vmm, const struct drafter_vmm_spec *spec, enum drafter_vmm_start how,
               struct drafter_error *err)
{
    adapter_scope(vmm);

    if (!ops_of(vmm)->launch)
        return 0;
    return adapter_result(vmm, "launch", ops_of(vmm)->launch(vmm->data, spec, how, err), err);
}

int vmm_gather(struct instance *vmm, struct drafter_error *err)
{
    adapter_scope(vmm);

    if (!ops_of(vmm)->gather)
        return 0;
    return adapter_result(vmm, "gather", ops_of(vmm)->gather(vmm->data, err), err);
}

int vmm_describe(struct instance *vmm, char *buffer, size_t size)
{
    int ret;
    adapter_scope(vmm);

    if (size == 0)
        return -EINVAL;
    *buffer = '\0';
    ret = adapter_errno(ops_of(vmm)->describe(vmm->data, buffer, size));
    make_printable(buffer, size);
    return ret;
}

int vmm_pause(struct instance *vmm, struct drafter_error *err)
{
    adapter_scope(vmm);

    return adapter_result(vmm, "pause", ops_of(vmm)->pause(vmm->data, err), err);
}

int vmm_foresee(struct instance *vmm, struct drafter_error *err)
{
    adapter_scope(vmm);

    if (!ops_of(vmm)->foresee)
        return 0;
    return adapter_result(vmm, "foresee", ops_of(vmm)->foresee(vmm->data, err), err);
}

int vmm_save(struct instance *vmm, int fd, struct drafter_error *err)
{
    adapter_scope(vmm);

    return adapter_result(vmm, "save", ops_of(vmm)->save(vmm->data, fd, err), err);
}

int vmm_load(struct instance *vmm, int fd, struct drafter_error *err)
{
    adapter_scope(vmm);

    return adapter_result(vmm, "load", ops_of(vmm)->load(vmm->data, fd, err), err);
}

int vmm_resume(struct instance *vmm, struct drafter_error *err)
{
    adapter_scope(vmm);

    return adapter_result(vmm, "resume", ops_of(vmm)->resume(vmm->data, err), err);
}

int vmm_channel(struct instance *vmm, const char *name, int *ret_fd, struct drafter_error *err)
{
    const struct drafter_vmm_ops *ops = ops_of(vmm);
    adapter_scope(vmm);

    if (!ops->channel)
        return drafter_error_set(err, ENOTSUP, "VMM plugin %s has no channel to the guest",
                                 vmm->plugin->descriptor.name);
    return adapter_result(vmm, "channel", ops->channel(vmm->data, name, ret_fd, err), err);
}

pid_t vmm_pid(struct instance *vmm)
{
    return ops_of(vmm)->pid(vmm->data);
}

void vmm_stop(struct instance *vmm)
{
    adapter_scope(vmm);

    ops_of(vmm)->stop(vmm->data);
}

bool vmm_adoptable(const struct instance *vmm)
{
    return ops_of(vmm)->adopt;
}

int vmm_adopt(struct instance *vmm, const struct drafter_vmm_spec *spec,
              enum drafter_vmm_phase *ret_phase, struct drafter_error *err)
{
    adapter_scope(vmm);

    if (!vmm_adoptable(vmm))
        return drafter_error_set(err, ENOTSUP, "VMM plugin %s cannot take over a VM",
                                 vmm->plugin->descriptor.name);
    return adapter_result(vmm, "adopt", ops_of(vmm)->adopt(vmm->data, spec, ret_phase, err), err);
}
