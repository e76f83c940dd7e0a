#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The network plugins with namespaces; their makers are killed at fifty moments.
exec ./network soak
