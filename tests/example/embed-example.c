/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program that runs VMs by libdrafter: it starts one, moves it from a first node to a second, and stops it there.
 *
 *     cc -o embed-example embed-example.c $(pkg-config --cflags --libs libdrafter) -pthread
 *     embed-example DRAFTER FIRST.ini SECOND.ini ADDRESS
 *
 * FIRST.ini is a peer whose devices are files of a package, SECOND.ini one whose `connect` is ADDRESS.  Both nodes
 * are on this host here; on two hosts, each half is in the program of its host.
 */
#include <drafter/embed.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 60000

struct move {
    const char *program, *first_config, *second_config, *address;
    struct drafter_node *first, *second;
};

/* In the library's thread: no more than a line for each event. */
static void tell(void *opaque, const struct drafter_event *event)
{
    if (*event->name)
        printf("%s: %s\n", (const char *)opaque, event->name);
    else if (event->level == DRAFTER_LOG_ERROR || !event->json)
        fprintf(stderr, "%s: %s\n", (const char *)opaque, event->text);
}

static int start(const struct move *move, const char *config, const char *name,
                 struct drafter_node **ret_node, struct drafter_error *err)
{
    const char *const arguments[] = {"--config", config, NULL};
    struct drafter_node_options options = {0};

    options.struct_size = sizeof(options);
    options.program = move->program;
    options.arguments = arguments;
    options.event = tell;
    options.opaque = (void *)name;
    return drafter_node_start(&options, ret_node, err);
}

/* The other host: a node that connects when the door is open. */
static void *receive(void *opaque)
{
    struct move *move = opaque;
    struct drafter_error err = {0};
    int rc = drafter_node_await(move->first, "listening", 0, PATIENCE_MS, NULL, &err);

    if (!rc)
        rc = start(move, move->second_config, "second", &move->second, &err);
    if (!rc)
        rc = drafter_node_await(move->second, "arrived", 0, PATIENCE_MS, NULL, &err);
    if (!rc)
        return NULL;
    fprintf(stderr, "second: %s\n", err.message);
    drafter_node_ask(move->first, "cancel", NULL, PATIENCE_MS, NULL, NULL);
    return move;
}

static int run(struct move *move, struct drafter_error *err)
{
    char state[32], *status = NULL;
    void *failed = NULL;
    pthread_t receiver;
    int rc = start(move, move->first_config, "first", &move->first, err);

    if (!rc)
        rc = drafter_node_await(move->first, "resumed", 0, PATIENCE_MS, NULL, err);
    if (!rc && pthread_create(&receiver, NULL, receive, move))
        return -EAGAIN;
    if (rc)
        return rc;
    rc = drafter_node_migrate(move->first, move->address, PATIENCE_MS, err);
    pthread_join(receiver, &failed);
    if (!rc)
        rc = drafter_node_wait(move->first, PATIENCE_MS, err); /* it has given the VM away */
    if (!rc && failed)
        rc = -ECANCELED;
    if (!rc)
        rc = drafter_node_ask(move->second, "status", NULL, PATIENCE_MS, &status, err);
    if (!rc && !drafter_json_text(status, "state", state, sizeof(state)))
        printf("second is %s\n", state);
    free(status);
    return rc;
}

/* Whichever has the VM saves it.  A node that cannot is left alone: killing it would lose what it has. */
static int stop(struct drafter_node *node, const char *name)
{
    struct drafter_error err = {0};
    int rc = node && drafter_node_exit_status(node) < 0 ? drafter_node_stop(node, PATIENCE_MS, &err) : 0;

    if (rc)
        fprintf(stderr, "%s: %s\n", name, err.message);
    drafter_node_free(node);
    return rc;
}

int main(int argc, char **argv)
{
    struct drafter_error err = {0};
    struct move move = {0};
    int rc;

    if (argc != 5) {
        fprintf(stderr, "Usage: %s DRAFTER FIRST.ini SECOND.ini ADDRESS\n", argv[0]);
        return 2;
    }
    move.program = argv[1];
    move.first_config = argv[2];
    move.second_config = argv[3];
    move.address = argv[4];
    rc = run(&move, &err);
    if (rc)
        fprintf(stderr, "%s\n", err.code ? err.message : strerror(-rc));
    rc = stop(move.second, "second") || rc;
    rc = stop(move.first, "first") || rc;
    return rc ? 1 : 0;
}
