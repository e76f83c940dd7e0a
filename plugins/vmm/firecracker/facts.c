/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What this host and its Firecracker are.  Which kind it is shows only by asking a running one for a
 * snapshot that a release does not know.
 */
#include "firecracker.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/proc.h"
#include "vmm/common/cpu.h"
#include "vmm/common/socket.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define PROBE_SOCKET "probe.sock"

static int resolve(const char *name, char **ret_path, struct drafter_error *err)
{
    cleanup_free char *found = NULL;
    int result;

    if (*ret_path)
        return 0;
    result = proc_find(name, &found, err);
    if (result < 0)
        return result;
    *ret_path = realpath(found, NULL);
    return *ret_path ? 0 : drafter_error_errno(err, errno, "%s", found);
}

int firecracker_version(struct firecracker *vmm, struct drafter_error *err)
{
    const char *argv[] = {NULL, "--version", NULL};
    cleanup_free char *output = NULL;
    const char *start;
    int result = resolve(vmm->config->binary, &vmm->program, err);

    if (result == 0 && vmm->config->jailer)
        result = resolve(vmm->config->jailer, &vmm->jailer, err);
    if (result < 0 || *vmm->version)
        return result;
    argv[0] = vmm->program;
    result = proc_run(argv, (unsigned)(vmm->config->timeout / 1000000), 4096, &output, err);
    if (result < 0)
        return result;
    start = strstr(output, "Firecracker v");
    if (!start)
        return drafter_error_set(err, EINVAL, "%s does not say its version: is it Firecracker?",
                                 vmm->program);
    start += strlen("Firecracker v");
    snprintf(vmm->version, sizeof(vmm->version), "%.*s", (int)strcspn(start, " \n\r\t"), start);
    return 0;
}

int firecracker_learn_kind(struct firecracker *vmm, struct api *api, struct drafter_error *err)
{
    struct drafter_error answer = {0};
    int result;

    if (vmm->kind != KIND_UNKNOWN)
        return 0;
    result = api_put(api, "/snapshot/create",
                     json_pack("{s:s,s:s,s:s}", "snapshot_type", "Msync", "snapshot_path", "state",
                               "mem_file_path", "memory"),
                     firecracker_deadline(vmm), &answer);
    if (result != -EINVAL)
        return drafter_error_set(err, result < 0 ? -result : EPROTO, "the probe for Msync: %s",
                                 *answer.message ? answer.message : "it was not refused");
    vmm->kind = strstr(answer.message, "unknown variant") ? KIND_STOCK : KIND_FORK;
    return 0;
}

static int await_socket(const char *directory, uint64_t deadline, struct drafter_error *err)
{
    static const struct timespec moment = {.tv_nsec = 500000};
    int fd, result;

    while ((result = socket_connect(directory, PROBE_SOCKET, &fd, err)) < 0) {
        if (drafter_now_ns() > deadline)
            return result;
        nanosleep(&moment, NULL);
    }
    close(fd);
    return 0;
}

static int probe_in(struct firecracker *vmm, const char *directory, struct drafter_error *err)
{
    cleanup_free char *chdir = NULL;
    const char *argv[] = {"env", NULL, vmm->program, "--api-sock", PROBE_SOCKET, "--id", "probe",
                          NULL};
    uint64_t deadline = firecracker_deadline(vmm);
    struct api api = {.curl = NULL};
    pid_t pid;
    int result;

    if (asprintf(&chdir, "--chdir=%s", directory) < 0) {
        chdir = NULL;
        return drafter_error_errno(err, ENOMEM, "probe");
    }
    argv[1] = chdir;
    result = proc_spawn(&(struct proc_spec){.argv = argv,
                                            .stdin_fd = -1,
                                            .stdout_fd = -1,
                                            .stderr_fd = -1,
                                            .new_process_group = true,
                                            .die_with_parent = true},
                        &pid, err);
    if (result < 0)
        return result;
    result = await_socket(directory, deadline, err);
    if (result == 0)
        result = api_open(&api, directory, PROBE_SOCKET, err);
    if (result == 0)
        result = firecracker_learn_kind(vmm, &api, err);
    api_close(&api);
    proc_stop(pid, 0);
    return result;
}

static int probe_kind(struct firecracker *vmm, struct drafter_error *err)
{
    cleanup_free char *directory = NULL;
    int result;

    if (vmm->kind != KIND_UNKNOWN)
        return 0;
    if (asprintf(&directory, "%s/firecracker-probe.XXXXXX", vmm->scratch) < 0) {
        directory = NULL;
        return drafter_error_errno(err, ENOMEM, "probe");
    }
    if (!mkdtemp(directory))
        return drafter_error_errno(err, errno, "%s", directory);
    result = probe_in(vmm, directory, err);
    io_remove_tree(directory, NULL);
    return result < 0 ? drafter_error_wrap(err, "%s", vmm->program) : 0;
}

/* A template makes hosts of different CPUs equal to the guest. */
static void describe_cpu(const struct firecracker *vmm, struct drafter_vmm_facts *facts)
{
    const char *template = vmm->config->cpu_template;
    char name[64];

    cpu_host(name, sizeof(name), &facts->cpu_features);
    if (strcmp(template, "None") == 0) {
        snprintf(facts->cpu_model, sizeof(facts->cpu_model), "host:%s", name);
        return;
    }
    snprintf(facts->cpu_model, sizeof(facts->cpu_model), "%s", template);
    facts->cpu_features = cpu_hash(0, template, strlen(template));
}

int firecracker_facts(void *instance, struct drafter_vmm_facts *ret_facts,
                      struct drafter_error *err)
{
    struct firecracker *vmm = instance;
    struct drafter_vmm_facts facts = {.name = "firecracker"};
    bool pvm = access("/sys/module/kvm_pvm", F_OK) == 0;
    int result = firecracker_version(vmm, err);

    if (result == 0)
        result = probe_kind(vmm, err);
    if (result < 0)
        return result;
    snprintf(facts.version, sizeof(facts.version), "%s", vmm->version);
    snprintf(facts.machine, sizeof(facts.machine), "%s", vmm->kind == KIND_FORK ? "fork" : "stock");
    snprintf(facts.accelerator, sizeof(facts.accelerator), "%s", pvm ? "pvm" : "kvm");
    describe_cpu(vmm, &facts);
    *ret_facts = facts;
    return 0;
}
