dnl SPDX-License-Identifier: BSD-2-Clause

dnl DRAFTER_PLUGIN(KIND, NAME, SUMMARY, [MISSING], [DEFAULT])
dnl
dnl Adds the plugin in plugins/KIND/NAME with a switch --enable-KIND-NAME=yes|no|force.  MISSING is
dnl shell text that expands to what the plugin lacks on this machine, or to nothing; expand
dnl DRAFTER_NEEDS(...) there for libraries.  `yes` builds it if that is possible, `force` fails if it is
dnl not.  Results gather in BUILT_PLUGINS, ALL_PLUGINS and the closing table.
AC_DEFUN([DRAFTER_PLUGIN], [
AC_ARG_ENABLE([$1-$2],
  [AS_HELP_STRING([--enable-$1-$2=yes|no|force], [$3])],
  [], [enable_$1_$2=m4_default([$5], [yes])])
drafter_missing="m4_default([$4], [])"
drafter_missing=`echo $drafter_missing`
AS_CASE([$enable_$1_$2],
  [no], [drafter_state="no   (switched off)"],
  [yes|force], [
    AS_IF([test -z "$drafter_missing"], [drafter_state=yes],
          [test "$enable_$1_$2" = force],
          [AC_MSG_ERROR([--enable-$1-$2=force: missing $drafter_missing])],
          [drafter_state="no   (missing: $drafter_missing)"])],
  [AC_MSG_ERROR([--enable-$1-$2: "$enable_$1_$2" is not yes, no or force])])
AS_IF([test "$drafter_state" = yes], [BUILT_PLUGINS="$BUILT_PLUGINS $1/$2"])
ALL_PLUGINS="$ALL_PLUGINS $1/$2"
AS_VAR_APPEND([drafter_table], ["`printf '  %-22s %s' '$1 $2' "$drafter_state"`
"])
AC_CONFIG_FILES([plugins/$1/$2/Makefile])
])

dnl DRAFTER_LIBRARY(VARIABLE, MODULES): pkg-config, optional; sets have_VARIABLE to yes or no.
AC_DEFUN([DRAFTER_LIBRARY], [
PKG_CHECK_MODULES([$1], [$2], [have_$1=yes], [have_$1=no])
])

dnl DRAFTER_SONAME(VARIABLE, NAME): the file of a library that is loaded when it is first used, as the linker knows it.
AC_DEFUN([DRAFTER_SONAME], [
AC_CACHE_CHECK([for the file of $2], [drafter_cv_soname_$1], [
  drafter_save_LIBS=$LIBS
  LIBS="-Wl,--no-as-needed $$1_LIBS"
  AC_LINK_IFELSE([AC_LANG_PROGRAM()], [drafter_cv_soname_$1=`LC_ALL=C readelf -d conftest$EXEEXT |
    grep -o "$2\.so\.@<:@0-9.@:>@*"`])
  LIBS=$drafter_save_LIBS])
test -n "$drafter_cv_soname_$1" || AC_MSG_ERROR([cannot tell the file of $2])
AC_DEFINE_UNQUOTED([$1_SONAME], ["$drafter_cv_soname_$1"], [The file of $2])
])

dnl DRAFTER_NEEDS(VARIABLE, NAME): NAME when DRAFTER_LIBRARY did not find it, for DRAFTER_PLUGIN.
m4_define([DRAFTER_NEEDS], [`test "$have_$1" = yes || echo "$2"`])

dnl DRAFTER_DEFAULT(SWITCH, DEFINE, VALUE, HELP): the plugin that a configuration means when it names
dnl none.  It is a string in config.h, so that no file of the core names a plugin.
AC_DEFUN([DRAFTER_DEFAULT], [
AC_ARG_WITH([default-$1],
  [AS_HELP_STRING([--with-default-$1=NAME], [$4 (default $3)])], [], [with_default_$1=$3])
AC_DEFINE_UNQUOTED([$2], ["$with_default_$1"], [$4])
AS_VAR_APPEND([drafter_defaults], [" $1=$with_default_$1"])
])

dnl DRAFTER_CLEANUP_ATTRIBUTE: locks and descriptors are released by it, so there is no way without.
AC_DEFUN([DRAFTER_CLEANUP_ATTRIBUTE], [
AC_CACHE_CHECK([whether $CC knows __attribute__((cleanup))], [drafter_cv_cleanup], [
AC_RUN_IFELSE([AC_LANG_PROGRAM([[
static int done;
static void finish(int *value) { done = *value; }
static void scope(void) { __attribute__((cleanup(finish))) int value = 7; (void)value; }]],
[[scope(); return done != 7;]])],
  [drafter_cv_cleanup=yes], [drafter_cv_cleanup=no], [drafter_cv_cleanup=yes])])
AS_IF([test "$drafter_cv_cleanup" = yes], [],
  [AC_MSG_ERROR([the compiler lacks __attribute__((cleanup)), which drafter is built on])])
])
