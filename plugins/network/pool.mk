# SPDX-License-Identifier: BSD-2-Clause
# What the plugins with namespaces share.
POOL = \
	../address.c \
	../claim.c \
	../forward.c ../forward.h \
	../host.c \
	../layout-init.c \
	../layout.c ../layout.h \
	../namespace.c ../namespace.h \
	../netlink-dump.c \
	../netlink-internal.h \
	../netlink-link.c \
	../netlink.c ../netlink.h \
	../pool-config.h \
	../pool-forward.c \
	../pool-make.c \
	../pool-open.c \
	../pool-remove.c \
	../pool.c ../pool.h \
	../presence.c \
	../probe.c \
	../rules.h \
	../sysctl.c ../sysctl.h \
	../table.c ../table.h
