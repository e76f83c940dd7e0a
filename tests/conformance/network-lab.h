/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Three hosts on one machine, in network namespaces of the test's own:
 *
 *     client eth0 192.0.2.2 2001:db8::2 -- eth0 192.0.2.1 2001:db8::1 host -- slots -- guests
 *
 * The test's thread is in the host's.  A guest is a namespace with a network stack of its own behind
 * the slot's tap: a thread carries frames between two taps, as a VMM does.  Client and guests echo what they
 * get on port 7, TCP and UDP.  All of it goes with the process.
 */
#ifndef NETWORK_LAB_H
#define NETWORK_LAB_H

#include <drafter/network.h>
#include <stdbool.h>

#define LAB_PORT 7

/* Why it cannot be here; NULL: it can. */
const char *lab_obstacle(void);

/* Makes host and client; the calling thread, the only one, is then in the host's namespace, and in a
 * mount namespace with a /run of its own. */
void lab_setup(void);

/* Runs ip(8), nft(8) ... with `arguments` split at blanks; fails the test when that fails. */
void lab_run(const char *command);
/* Its output; the caller frees. */
char *lab_output(const char *command);

enum lab_place { LAB_HOST, LAB_CLIENT };

/* A guest in a claimed slot; returns its namespace. */
int lab_guest(const struct drafter_network_slot *slot);
int lab_client(void);
int lab_host(void);

/* Echoes in the thread's namespace from now on; client and guests do already. */
void lab_echo(void);

/* Moves the calling thread. */
void lab_enter(int netns);

/*
 * From a namespace, sends to the echo at address and port and gets it back: 0 or a negative errno. `protocol`
 * as in struct drafter_network_forward.  `ret_peer` may be NULL, else has room for 64: whom the echo
 * saw (TCP only).
 */
int lab_talk(int netns, uint8_t protocol, const char *address, uint16_t port, char *ret_peer);

/* The same, again and again for some seconds until it succeeds. */
int lab_reach(int netns, uint8_t protocol, const char *address, uint16_t port, char *ret_peer);

/* Sends large packets from a namespace until it knows the path to `address` as `wanted` bytes wide, or for some
 * seconds; what it believes then. */
int lab_path_mtu(int netns, const char *address, int wanted);

/* A TCP connection to the same, to be used with lab_exchange; negative errno. */
int lab_connect(int netns, const char *address, uint16_t port);
/* As above, UDP. */
int lab_datagrams(int netns, const char *address, uint16_t port);
int lab_exchange(int fd, int timeout_ms);

/* Gives the host rules of its own, in every table and chain that a pool uses. */
void lab_rules(void);

/* All that a pool could leave: rules, links, addresses, routes, neighbours, settings, files.  The
 * caller frees. */
char *lab_snapshot(void);

/* Fails the test with the first line that two snapshots differ in. */
void lab_expect_same(const char *before, const char *after);

#endif
