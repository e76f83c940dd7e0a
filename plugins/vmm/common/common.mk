# SPDX-License-Identifier: BSD-2-Clause
# What plugins with a process of their own share; include it after plugin.mk.
VMM_COMMON = ../common/board.c ../common/board.h ../common/cpu.c ../common/cpu.h \
	../common/description.c ../common/description.h ../common/process.c ../common/process.h \
	../common/socket.c ../common/socket.h ../common/state.c ../common/state.h
