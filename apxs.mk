# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
#
# apxs.mk: the rules of a build with apxs, outside of httpd's source tree.
#
# Only the Makefile that configure writes includes this file. It does so in its
# last line, after Makefile.in has brought in httpd's own rules, and after these
# settings, which the rules below take from configure:
#
#   srcdir       the directory of the sources; a build may be in another one
#   APXS         the apxs of the httpd to build for
#   APR_LIBTOOL  the libtool that comes with APR
#   CONFIGURE    the command that writes the Makefile again
#   OBJECTS      the module's objects, as config.m4 lists them
#   TOOL_LIBS    the libraries of the command: APR and APR-util
#
# CC, CFLAGS, CPPFLAGS and LDFLAGS are httpd's, or those given to configure. A
# build in httpd's source tree uses config.m4 and Makefile.in, and never reads
# this file.

# The command. All sources in support/ belong to it, and these objects of the
# module are linked into it.
TOOL = support/slotmem-file
TOOL_SOURCES = $(wildcard $(srcdir)/support/*.c)
TOOL_OBJECTS = $(TOOL_SOURCES:$(srcdir)/%.c=%.o)
TOOL_MODULE_OBJECTS = slotmem_map.lo slotmem_segment.lo slotmem_reader.lo \
    slotmem_image.lo slotmem_restore.lo slotmem_stream.lo slotmem_store.lo \
    slotmem_lock.lo slotmem_directory.lo slotmem_workers.lo slotmem_removal.lo \
    slotmem_names.lo slotmem_beside.lo slotmem_escape.lo

# The sources are C11.
EXTRA_CFLAGS += -std=gnu11

all: local-shared-build $(TOOL)

# httpd's rules do not know which headers a source includes, so each object
# depends on all of ours.
$(OBJECTS): $(wildcard $(srcdir)/*.h) .libs/libtool

# APR's libtool links with the compiler that APR was built with, whatever CC is.
# This copy links with CC. All objects depend on it, and through it on the two
# files that set their flags: the Makefile and this one.
LIBTOOL = .libs/libtool --tag=CC --tag=disable-static
.libs/libtool: Makefile $(srcdir)/apxs.mk
	mkdir -p .libs
	sed 's|^CC=.*|CC="$(CC)"|' $(APR_LIBTOOL) >$@
	chmod +x $@

# CONFIGURE repeats the settings that configure was given. Those of make's own
# command line and environment are for one run only; configure would write them
# into the Makefile if they were not unset. A change of apxs.mk needs no new
# Makefile, because make reads apxs.mk itself.
Makefile: $(srcdir)/configure $(srcdir)/Makefile.in $(srcdir)/config.m4
	unset CC CFLAGS CPPFLAGS LDFLAGS; $(CONFIGURE)

$(TOOL_OBJECTS): %.o: $(srcdir)/%.c \
    $(wildcard $(srcdir)/*.h $(srcdir)/support/*.h) Makefile $(srcdir)/apxs.mk
	mkdir -p support
	$(COMPILE) -I$(srcdir) -c -o $@ $<
$(TOOL): $(TOOL_OBJECTS) $(OBJECTS)
	$(LINK) $(TOOL_OBJECTS) $(TOOL_MODULE_OBJECTS) $(TOOL_LIBS)

install: install-header install-tool
install-tool: $(TOOL)
	$(MKINSTALLDIRS) $(DESTDIR)$(sbindir) $(DESTDIR)$(mandir)/man8
	cp $(TOOL) $(DESTDIR)$(sbindir)/
	chmod 755 $(DESTDIR)$(sbindir)/slotmem-file
	cp $(srcdir)/$(TOOL).8 $(DESTDIR)$(mandir)/man8/
	chmod 644 $(DESTDIR)$(mandir)/man8/slotmem-file.8
install-header:
	$(MKINSTALLDIRS) $(DESTDIR)$(includedir)
	cp $(srcdir)/mod_slotmem_shm.h $(DESTDIR)$(includedir)/
	chmod 644 $(DESTDIR)$(includedir)/mod_slotmem_shm.h

# What install has put, and nothing else: directories stay.
uninstall:
	rm -f $(DESTDIR)$(libexecdir)/mod_slotmem_shm.so \
	    $(DESTDIR)$(includedir)/mod_slotmem_shm.h \
	    $(DESTDIR)$(sbindir)/slotmem-file \
	    $(DESTDIR)$(mandir)/man8/slotmem-file.8

# A release: what git tracks at this commit, as mod_slotmem_shm-X.Y.Z.tar.gz.
# The same commit gives the same bytes.
VERSION = $(shell sed -n 's/^\#define SLOTMEM_VERSION *"\(.*\)"/\1/p' \
    $(srcdir)/mod_slotmem_shm.h)
DIST = mod_slotmem_shm-$(VERSION)
dist:
	git -C $(srcdir) archive --prefix=$(DIST)/ HEAD | gzip -9n >$(DIST).tar.gz
	@echo "$(DIST).tar.gz"

# Builds, tests and packages what is in that file.
distcheck: dist
	$(srcdir)/test/dist $(DIST).tar.gz

# The tests that need no server.
check: check-exports warnings
	$(srcdir)/test/contract-lines
	$(srcdir)/test/unit/run
	SLOTMEM_DSO=$(abspath .libs/mod_slotmem_shm.so) APXS=$(APXS) \
	    prove $(srcdir)/test/doc-tests

# All tests, and the demonstration. Both build in the source directory.
test:
	$(srcdir)/test/check
demo:
	$(srcdir)/test/demo

# The same tests on httpd's own module too, reported by line of the contract.
compare: all
	$(srcdir)/test/setup.sh check
	$(srcdir)/test/compare --check

# Builds an httpd with our files in its source tree, and tests it (6 minutes).
httpd-tree:
	$(srcdir)/test/httpd-tree

# The unit tests on other machines, through cross compilers and emulation.
machines:
	$(srcdir)/test/machines

# Static checks by compilers and linters.
lint:
	$(srcdir)/test/lint

# Builds and tests Debian's package in a clean chroot (as root, 3 minutes).
package:
	$(srcdir)/test/package

# test/check in older and newer releases of Debian (as root, 20 minutes each).
releases:
	$(srcdir)/test/releases

# Measures this module and httpd's own side by side. ROWS selects sections:
# make bench ROWS='calls names'.
ROWS =
bench: all
	$(srcdir)/test/setup.sh bench
	SLOTMEM_DSO=$(abspath .libs/mod_slotmem_shm.so) \
	    $(srcdir)/test/bench/run $(ROWS)

# The campaigns in full (about 25 minutes). The exit status 77 of differential
# says that it was skipped.
campaigns: all
	for name in faults power damage hostile load changes slots kills storm; do \
	    $(srcdir)/test/campaigns/$$name --full || exit 1; done
	SLOTMEM_DSO=$(abspath .libs/mod_slotmem_shm.so) \
	    $(srcdir)/test/campaigns/differential --full || [ $$? = 77 ]

# The fuzzers, for as long as you like: make fuzz SECONDS=3600.
SECONDS = 60
fuzz:
	$(srcdir)/test/campaigns/fuzz --full $(SECONDS)

# The DSO must export its module structure, and nothing else.
check-exports: all
	@exports=`nm -D --defined-only .libs/mod_slotmem_shm.so | sed 's/.* //'`; \
	test "$$exports" = slotmem_shm_module || { echo \
	    "exported: expected slotmem_shm_module, found" $$exports; exit 1; }

# Compiles each source with each of these compilers that is installed.
WARNINGS = -Wall -Wextra -Wshadow -Wconversion -Werror
WARNING_COMPILERS = gcc clang
warnings:
	@found=; for cc in $(WARNING_COMPILERS); do \
	    command -v $$cc >/dev/null || continue; \
	    found="$$found $$cc"; \
	    for file in $(srcdir)/*.c $(srcdir)/support/*.c; do \
		$$cc -std=gnu11 -O2 $(WARNINGS) $(ALL_CPPFLAGS) \
		    $(ALL_INCLUDES) -I$(srcdir) -S -o - $$file >/dev/null || exit 1; \
	    done; \
	done; \
	test -n "$$found" || { echo "none of $(WARNING_COMPILERS)"; exit 1; }; \
	echo "no warning:$$found"

# httpd's rules for clean and distclean run these.
x-local-clean:
	rm -rf $(TOOL) $(TOOL_OBJECTS) support/.libs
x-local-distclean:
	rm -rf test/.build

.PHONY: install-header install-tool uninstall dist distcheck check test demo \
    compare bench httpd-tree machines lint package releases campaigns fuzz \
    check-exports warnings
