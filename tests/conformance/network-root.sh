#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The network plugins with namespaces.
exec ./network root
