/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * UNIX sockets in a directory, however long its path is: socket addresses hold 107 characters.
 *
 * QEMU is handed sockets that listen already: a connection to them succeeds before QEMU accepts it,
 * so that nobody has to look again and again whether it is there yet.
 */
#ifndef VMM_SOCKET_H
#define VMM_SOCKET_H

#include <drafter/common.h>
#include <sys/un.h>

/* Names a socket through the directory's descriptor, which must stay open while the address is used. */
int socket_address(const char *directory, const char *name, int *ret_directory_fd,
                   struct sockaddr_un *ret_address, struct drafter_error *err);

/* Takes the place of what has that name. */
int socket_listen(const char *directory, const char *name, int backlog, int *ret_fd,
                  struct drafter_error *err);

int socket_connect(const char *directory, const char *name, int *ret_fd, struct drafter_error *err);

#endif
