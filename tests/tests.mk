# SPDX-License-Identifier: BSD-2-Clause
# What the Makefile.am of every test directory begins with.
#
#   TESTS       needs no root, no network, no KVM; part of `make check`
#   ROOT_TESTS  needs root; run by `make check-root` (and by `make check` never)
#   SOAK_TESTS  takes long; run by `make soak`
#   BENCHES     prints figures; run by `make bench`
#
# A test is a program or a script *.sh.  Exit status 77 is a skip; the reason is its last line of
# output.  Tests find the tree through the variables below.  A test program that loads plugins links
# with $(HOST_LDFLAGS) and $(top_builddir)/core/libcore.la.
# Check's own limit for a test, 4 s, is too short for a busy machine; a hang is one after 60 s, too.
# A thread that was cancelled leaves marks on its stack that ASan would trip over at its end: so no
# signal stack.
AM_TESTS_ENVIRONMENT = \
	DRAFTER_PLUGIN_PATH='$(abs_top_builddir)/plugins/loadable'; export DRAFTER_PLUGIN_PATH; \
	DRAFTER='$(abs_top_builddir)/core/drafter'; export DRAFTER; \
	abs_top_srcdir='$(abs_top_srcdir)'; export abs_top_srcdir; \
	abs_top_builddir='$(abs_top_builddir)'; export abs_top_builddir; \
	CC='$(CC)'; export CC; SANITIZERS='$(SANITIZERS)'; export SANITIZERS; \
	CK_DEFAULT_TIMEOUT=60; export CK_DEFAULT_TIMEOUT; \
	ASAN_OPTIONS=use_sigaltstack=0; export ASAN_OPTIONS; \
	UBSAN_OPTIONS=print_stacktrace=1; export UBSAN_OPTIONS; \
	TSAN_OPTIONS=suppressions=$(abs_top_srcdir)/tests/tsan.supp; export TSAN_OPTIONS;
TEST_EXTENSIONS = .sh .py
# No test runs for ever: it is ended after so many seconds, and has then failed.
TEST_SECONDS = 300
LOG_COMPILER = timeout -k 20 $(TEST_SECONDS)
SH_LOG_COMPILER = $(LOG_COMPILER)
PY_LOG_COMPILER = $(LOG_COMPILER)

ROOT_TESTS =
SOAK_TESTS =
BENCHES =

# Runs the programs of TESTS again under valgrind (scripts start other programs: of no use there).
VALGRIND_LOG_COMPILER = $(VALGRIND) --quiet --error-exitcode=99 --leak-check=full \
	--show-leak-kinds=definite --errors-for-leak-kinds=definite \
	--trace-children=no --suppressions=$(top_srcdir)/tests/valgrind.supp

check-root: all
	@test -z '$(ROOT_TESTS)' || $(MAKE) check TESTS='$(ROOT_TESTS)'
soak: all
	@test -z '$(SOAK_TESTS)' || $(MAKE) check TESTS='$(SOAK_TESTS)' TEST_SECONDS=86400
# The lines are gathered also where a benchmark failed: those of the others are worth having.
bench: all
	@test -z '$(BENCHES)' || { \
	    VERBOSE=1 $(MAKE) check TESTS='$(BENCHES)' TEST_SECONDS=7200; status=$$?; \
	    mkdir -p '$(abs_top_builddir)/out'; \
	    for bench in $(BENCHES); do \
	        ! test -f $${bench%.*}.log || grep '^{"bench"' $${bench%.*}.log || :; \
	    done >'$(abs_top_builddir)/out/bench.jsonl'; \
	    wc -l '$(abs_top_builddir)/out/bench.jsonl'; exit $$status; }
check-valgrind: all
	@programs=`for t in $(TESTS); do case $$t in *.sh | *.py) ;; *) echo $$t;; esac; done`; \
	test -z "$$programs" || CK_TIMEOUT_MULTIPLIER=10 \
	    $(MAKE) check TESTS="$$programs" LOG_COMPILER='$(VALGRIND_LOG_COMPILER)'

.PHONY: check-root soak bench check-valgrind
