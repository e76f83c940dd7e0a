/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests that run over all transports share: the subjects and the fixture. */
#ifndef CONFORMANCE_TRANSPORT_SUBJECTS_H
#define CONFORMANCE_TRANSPORT_SUBJECTS_H

#include "transport.h"

struct subject {
    const char *plugin;
    const char *below; /* of a layer: the plugin that it lies over, else NULL */
    const char *address;         /* to listen at; %s stands for the scratch directory */
    const char *nothing;         /* an address at which nothing listens */
    const char *const *small;    /* options (of `below` if there is one) that make the buffers small */
};

extern const struct subject *subjects[]; /* those that were built */
extern unsigned subject_count;

/* Of the test that runs; made by the fixture. */
extern struct instance *instance;
extern struct transport_listener *listener;
extern char address[512];   /* of the listener */
extern bool was_open[256];  /* descriptors, before the instance was made */
extern unsigned loop_index; /* the subject */

void transport_begin(const char *const *overrides);
void transport_end(void);

/* An instance of the subject, with the one that it lies over; freed by subject_free, which takes NULL. */
struct instance *subject_instance(const struct subject *subject, const char *const *overrides);
void subject_free(struct instance *made);

/* Puts the scratch directory into an address of the table. */
void format_address(char *buffer, size_t size, const char *format);

/* A stream to the listener of the fixture, with timeouts of 10 s. */
struct stream open_here(void);

/* One piece through readv or writev. */
ssize_t read_some(struct transport_connection *connection, void *buffer, size_t length);
ssize_t write_some(struct transport_connection *connection, const void *buffer, size_t length);

/* A thread that accepts once. */
struct accepting {
    struct transport_listener *listener;
    struct transport_connection *connection;
    struct drafter_error err;
    int rc;
};

void *accept_one(void *argument);

/* A test over all subjects, with the instance and the listener of the fixture. */
#define TRANSPORT_TEST(name, overrides)                                                            \
    static void name##_body(void);                                                                 \
    START_TEST(name)                                                                               \
    {                                                                                              \
        loop_index = (unsigned)_i;                                                                 \
        transport_begin(overrides);                                                                \
        name##_body();                                                                             \
        transport_end();                                                                           \
    }                                                                                              \
    END_TEST                                                                                       \
    static void name##_body(void)

#define SMALL (subjects[loop_index]->small)

#define ADD(tests, name) tcase_add_loop_test(tests, name, 0, (int)subject_count)

void transport_add_bytes(TCase *tests);
void transport_add_waiting(TCase *tests);
void transport_add_shutdown(TCase *tests);
void transport_add_names(TCase *tests);
void transport_add_several(TCase *tests);

#endif
