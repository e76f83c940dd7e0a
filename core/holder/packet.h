/* SPDX-License-Identifier: BSD-2-Clause */
/* Sending and receiving one message of message.h; used by both sides. */
#ifndef HOLDER_PACKET_H
#define HOLDER_PACKET_H

#include "holder/message.h"
#include <stddef.h>

/* Room for any message. */
struct holder_packet {
    struct holder_message header;
    char data[HOLDER_DATA_MAX];
    int fds[HOLDER_FDS_MAX]; /* header.fd_count of them; received ones belong to the receiver */
};

/* Sends header, data and descriptors; `fds` stay the caller's.  0 or a negative errno. */
int packet_send(int socket, struct holder_message *header, const void *data, const int *fds);

/* Receives and checks one message.  -EPIPE at the end, -EBADMSG for what is none. */
int packet_receive(int socket, struct holder_packet *packet);

void packet_close_fds(struct holder_packet *packet);

#endif
