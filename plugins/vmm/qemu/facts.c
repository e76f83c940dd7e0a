/* SPDX-License-Identifier: BSD-2-Clause */
/* What this host and its QEMU are. */
#include "qemu.h"
#include "util/cleanup.h"
#include "util/proc.h"
#include "vmm/common/cpu.h"
#include <stdio.h>
#include <string.h>

#define VERSION_TIMEOUT_MS 10000

int qemu_version(struct qemu_vmm *vmm, struct drafter_error *err)
{
    const char *const argv[] = {vmm->config->binary, "--version", NULL};
    cleanup_free char *output = NULL;
    const char *start;
    int result;

    if (*vmm->version)
        return 0;
    result = proc_run(argv, VERSION_TIMEOUT_MS, 4096, &output, err);
    if (result < 0)
        return result;
    start = strstr(output, "version ");
    if (!start)
        return drafter_error_set(err, EINVAL, "%s does not say its version: is it QEMU?",
                                 vmm->config->binary);
    start += strlen("version ");
    snprintf(vmm->version, sizeof(vmm->version), "%.*s", (int)strspn(start, "0123456789."), start);
    return 0;
}

const char *qemu_cpu(const struct qemu_config *config, bool kvm)
{
    if (config->cpu)
        return config->cpu;
    return kvm ? "host" : "max";
}

int qemu_accelerator(struct qemu_vmm *vmm, bool *ret_kvm, struct drafter_error *err)
{
    (void)err;
    if (vmm->config->accelerator != ACCELERATOR_AUTO) {
        *ret_kvm = vmm->config->accelerator == ACCELERATOR_KVM;
        return 0;
    }
    if (!*vmm->accel.reason) {
        accel_probe(vmm->config->binary, qemu_cpu(vmm->config, true), &vmm->accel);
        drafter_log(DRAFTER_LOG_INFO, vmm->id, "accelerator %s: %s", vmm->accel.kvm ? "kvm" : "tcg",
                    vmm->accel.reason);
    }
    *ret_kvm = vmm->accel.kvm;
    return 0;
}

int qemu_facts(void *instance, struct drafter_vmm_facts *ret_facts, struct drafter_error *err)
{
    struct qemu_vmm *vmm = instance;
    struct drafter_vmm_facts facts = {.name = "qemu"};
    bool kvm;
    int result = qemu_version(vmm, err);

    if (result == 0)
        result = qemu_accelerator(vmm, &kvm, err);
    if (result < 0)
        return result;
    snprintf(facts.version, sizeof(facts.version), "%s", vmm->version);
    snprintf(facts.machine, sizeof(facts.machine), "%s", vmm->config->machine);
    snprintf(facts.accelerator, sizeof(facts.accelerator), "%s", kvm ? "kvm" : "tcg");
    snprintf(facts.cpu_model, sizeof(facts.cpu_model), "%s", qemu_cpu(vmm->config, kvm));
    if (kvm) {
        char name[64];
        size_t used = strlen(facts.cpu_model);

        cpu_host(name, sizeof(name), &facts.cpu_features);
        snprintf(facts.cpu_model + used, sizeof(facts.cpu_model) - used, ":%s", name);
    } else {
        /* The emulated CPU is a matter of QEMU's version alone. */
        facts.cpu_features = cpu_hash(0, facts.cpu_model, strlen(facts.cpu_model));
        facts.cpu_features = cpu_hash(facts.cpu_features, facts.version, strlen(facts.version));
    }
    *ret_facts = facts;
    return 0;
}
