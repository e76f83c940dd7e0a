# SPDX-License-Identifier: BSD-2-Clause
# What the Makefile.am of every plugin begins with; set POD to the man page source(s) after it.
PLUGIN_CPPFLAGS = $(AM_CPPFLAGS)
PLUGIN_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared \
	-Wl,--version-script=$(top_srcdir)/plugins/plugin.syms
EXTRA_DIST = $(POD)
SUFFIXES = .pod .7
if MAN_PAGES
dist_man7_MANS = $(POD:.pod=.7)
endif
MAINTAINERCLEANFILES = $(dist_man7_MANS)

.pod.7:
	$(AM_V_GEN)$(POD2MAN) --utf8 --section=7 --center="Drafter plugins" --release="drafter $(VERSION)" \
	    --name=$(*F) $< $@.tmp && mv $@.tmp $@

# Programs load the .so by name; nothing reads libtool's .la of a plugin.
install-data-hook:
	cd '$(DESTDIR)$(plugindir)' && rm -f $(plugin_LTLIBRARIES)
uninstall-local:
	rm -f $(plugin_LTLIBRARIES:%.la='$(DESTDIR)$(plugindir)/%.so')
