/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An NBD server for the devices of one VM, and the kernel's NBD client as its foremost client.
 *
 *   nbd.c        the plugin: options, start, expose, withdraw, stop, reclaim, adopt
 *   export.c     one device: reads and writes that keep to its bounds, and its end
 *   negotiate.c  fixed newstyle negotiation
 *   transmit.c   requests and replies of one connection
 *   pool.c       the threads on which requests that may wait are served
 *   listen.c     clients that come over UNIX and TCP sockets
 *   attach.c     a device of the kernel: its connections, and their renewal
 *   netlink.c    how the kernel is told
 *   keep.c       which device of the kernel belongs to what, for a successor
 *
 * Locks: server.lock, export.lock, conn.lock, conn.send_lock, pool.lock; a thread that holds one takes
 * only a later one of this list.  None but conn.send_lock is held across I/O, and that one only across
 * the I/O of its socket; none across a backend call.
 */
#ifndef NBD_SERVER_H
#define NBD_SERVER_H

#include "../node.h"
#include "../served.h"
#include "protocol.h"

#include <drafter/device.h>
#include <pthread.h>
#include <stdatomic.h>

#define SERVER_CHUNK ((size_t)1 << 20)       /* what a thread moves at a time */
#define SERVER_REQUEST_MAX ((uint32_t)32 << 20) /* of a read or write, as clients expect it */
#define SERVER_LISTENERS 2
#define SERVER_CONNECTIONS_MAX 16
#define CONN_JOBS 128 /* requests of a connection that may wait at once: what the kernel sends */

enum server_attach { ATTACH_KERNEL = 0, ATTACH_NONE = 1 };

struct server_config {
    int attach; /* enum server_attach */
    const char *listen;
    uint64_t connections, threads, clients;
    uint64_t timeout_ns, reconnect_ns;
};

struct server;
struct conn;

/* A write, trim or zeroing that is going on. */
struct change {
    uint64_t begin, end;
    struct change *next;
};

struct export {
    /* constant once it can be seen */
    struct server *server;
    char name[DRAFTER_NAME_MAX + 1];
    uint64_t bytes; /* of the device */
    uint64_t size;  /* as clients see it: `bytes` rounded up; what is beyond them reads as zeros */
    unsigned flags;
    struct drafter_device_backend backend;
    struct node node;   /* of the kernel's device; node.fd is -1 when there is none */
    int index;          /* of /dev/nbdINDEX; -1 */
    struct link *links; /* connections of the kernel */
    unsigned link_count;

    atomic_bool settling;   /* a read that would wait fails: the kernel looks for partitions */
    atomic_int write_error; /* the first errno of a write since the last sync; the kernel says EIO */

    pthread_mutex_t lock; /* protects what follows */
    pthread_cond_t change;
    unsigned busy;           /* threads inside the backend */
    unsigned users;          /* clients that chose it, and jobs */
    bool withdrawn;          /* nobody enters any more */
    struct change *changes;  /* going on */
    struct export *next;     /* protected by server.lock */
};

/* A request that waits for a thread of the pool, or has one. */
struct job {
    struct conn *conn;
    struct nbd_request request;
    struct job *next; /* free: protected by conn.lock; queued: by pool.lock */
};

struct pool {
    struct worker *workers;
    unsigned count; /* of the thread that starts and stops */

    pthread_mutex_t lock; /* protects what follows */
    struct queue {
        pthread_cond_t filled;
        struct job *first, *last;
    } queues[2]; /* enum pool_class */
    bool stopping;
};

/* A connection: made for a socket, freed when nobody has it any more. */
struct conn {
    struct server *server;
    struct export *export; /* once chosen; others than its threads read it under server.lock */
    int fd;
    bool pooled;     /* waiting requests go to the pool; else all are served one by one */
    bool view;       /* read-only, and sees what the VMM sees */
    bool structured; /* structured replies were agreed upon */
    char *buffer;    /* SERVER_CHUNK bytes of the thread that receives */

    pthread_mutex_t lock; /* protects what follows */
    pthread_cond_t change;
    unsigned holders;
    struct job *free;
    struct job jobs[CONN_JOBS];

    pthread_mutex_t send_lock; /* of the socket's way out */
    atomic_bool broken;        /* nothing is sent or begun any more */
};

struct client {
    struct conn *conn;
    pthread_t thread;
    atomic_bool ended;
    struct client *next;
};

struct listener {
    struct server *server;
    int fd;
    bool view;
    char *path; /* of a UNIX socket, or NULL */
    pthread_t thread;
};

struct server {
    const struct server_config *config;
    const char *id;
    const struct drafter_keeper *keeper; /* or NULL */
    struct kept *kept;                   /* or NULL */
    bool adopting;                       /* between adopt and serve */
    struct served served;                /* none: not started */
    struct pool pool;
    struct listener listeners[SERVER_LISTENERS];
    unsigned listener_count;
    int stop_fd; /* eventfd: the listeners end */

    pthread_mutex_t lock; /* protects what follows */
    struct export *exports;
    struct client *clients;
    unsigned client_count;
};

/* export.c */
void export_init(struct export *export, struct server *server,
                 const struct drafter_device_spec *spec);
void export_release(struct export *export);
/* The export of that name, or for "" the only one, with a user more, also into *ret_export; NULL. */
struct export *export_use(struct server *server, const char *name, size_t length,
                          struct export **ret_export);
void export_hold(struct export *export); /* a user more */
void export_leave(struct export *export);
/* Lets nobody in any more and waits until all are out. */
void export_close(struct export *export);
/* 0 or a negative errno.  Ranges were checked against export->size. */
int export_read(struct export *export, bool view, void *buffer, size_t length, uint64_t offset);
int export_write(struct export *export, const void *buffer, size_t length, uint64_t offset);
int export_zero(struct export *export, uint64_t length, uint64_t offset);
int export_trim(struct export *export, uint64_t length, uint64_t offset);
int export_flush(struct export *export);
/* Whether a read would not wait. */
bool export_present(struct export *export, uint64_t length, uint64_t offset);
uint16_t export_transmission_flags(const struct export *export, bool view);

/* negotiate.c: 0 with conn->export chosen, or a negative errno (-ECONNRESET: the client left). */
int negotiate(struct conn *conn);

/* transmit.c */
struct conn *conn_new(struct server *server, int fd);
void conn_put(struct conn *conn); /* closes the socket with the last holder */
/* Serves requests until the connection ends; requests that wait may be served on after it. */
void conn_serve(struct conn *conn);
void conn_run_job(struct job *job, char *buffer);
void conn_release_job(struct job *job);
/* 0 or a negative errno; -ECONNRESET: the end of the stream. */
int conn_receive(struct conn *conn, void *buffer, size_t length);
int conn_send(struct conn *conn, const void *head, size_t head_length, const void *data,
              size_t length);

/* pool.c */
enum pool_class { POOL_READS = 0, POOL_OTHERS = 1 };
int pool_start(struct pool *pool, unsigned reads_max, struct drafter_error *err);
void pool_stop(struct pool *pool);
void pool_submit(struct pool *pool, struct job *job, enum pool_class class);
/* Drops the jobs of a connection that no thread has yet. */
void pool_cancel(struct pool *pool, struct conn *conn);
/* Starts a thread of this plugin: no signals, and known to the memory management as one that writes. */
int pool_thread(pthread_t *thread, void *(*run)(void *), void *opaque);
void pool_settle_thread(void);
char *pool_buffer_new(void);
void pool_buffer_free(char *buffer);

/* listen.c */
int listen_start(struct server *server, struct drafter_error *err);
void listen_stop(struct server *server);
/* Ends the clients of an export. */
void listen_drop(struct server *server, struct export *export);

/* attach.c */
int attach_begin(struct export *export, struct drafter_error *err);
void attach_end(struct export *export);
/* Takes a device of a dead process; attach_resume gives it connections. */
int attach_adopt(struct export *export, struct drafter_error *err);
int attach_resume(struct export *export, struct drafter_error *err);
/* Releases the devices that dead processes left in a directory; for served_reclaim. */
int attach_release(void *instance, const char *directory, struct drafter_error *err);

/* netlink.c */
struct netlink_device {
    uint64_t size, timeout_s, reconnect_s, flags;
    const char *identifier;
};
int netlink_probe(struct drafter_error *err);
int netlink_connect(const struct netlink_device *device, const int *fds, unsigned count, int *ret_index,
                    struct drafter_error *err);
/* Whether a device goes when nobody has it open. */
enum netlink_release { RELEASE_AS_IT_IS, RELEASE_ON_CLOSE, RELEASE_BY_HAND };
/* Gives a device connections in place of dead ones. */
int netlink_reconnect(int index, const int *fds, unsigned count, const char *identifier,
                      enum netlink_release release, struct drafter_error *err);
int netlink_disconnect(int index, struct drafter_error *err);

/* keep.c */
int keep_begin(struct server *server, struct drafter_error *err);
int keep_find(struct server *server, struct drafter_error *err);
void keep_end(struct server *server);
int keep_add(struct export *export);
void keep_remove(struct export *export);
/* The device of the kernel that the dead process had for this export, and its descriptor. */
int keep_take(const struct export *export, int *ret_index, int *ret_fd);

#endif
