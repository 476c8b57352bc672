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
    slotmem_image.lo slotmem_restore.lo slotmem_stream.lo \
    slotmem_serialize.lo slotmem_store.lo \
    slotmem_lock.lo slotmem_directory.lo slotmem_workers.lo slotmem_removal.lo \
    slotmem_names.lo slotmem_beside.lo slotmem_escape.lo

# The sources are C11.
EXTRA_CFLAGS += -std=gnu11

all: local-shared-build $(TOOL) ## Builds the module and slotmem-file (the default).

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

install: install-header install-tool ## Installs the module, its header, slotmem-file and its page.
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

# Directories stay.
uninstall: ## Removes what install has put.
	rm -f $(DESTDIR)$(libexecdir)/mod_slotmem_shm.so \
	    $(DESTDIR)$(includedir)/mod_slotmem_shm.h \
	    $(DESTDIR)$(sbindir)/slotmem-file \
	    $(DESTDIR)$(mandir)/man8/slotmem-file.8

# The same commit gives the same bytes.
VERSION = $(shell sed -n 's/^\#define SLOTMEM_VERSION *"\(.*\)"/\1/p' \
    $(srcdir)/mod_slotmem_shm.h)
DIST = mod_slotmem_shm-$(VERSION)
dist: ## Makes a release of this commit, mod_slotmem_shm-X.Y.Z.tar.gz.
	git -C $(srcdir) archive --prefix=$(DIST)/ HEAD | gzip -9n >$(DIST).tar.gz
	@echo "$(DIST).tar.gz"

distcheck: dist ## Builds, tests and packages that release.
	$(srcdir)/test/dist $(DIST).tar.gz

check: check-exports warnings ## Runs the tests that need no server.
	$(srcdir)/test/contract-lines
	$(srcdir)/test/unit/run
	SLOTMEM_DSO=$(abspath .libs/mod_slotmem_shm.so) APXS=$(APXS) \
	    prove $(srcdir)/test/doc-tests

# test and demo build in the source directory.
test: ## Runs all tests (test/check, 12 minutes).
	$(srcdir)/test/check
demo: ## Shows a balancer that keeps its state.
	$(srcdir)/test/demo

# Reports by line of the contract.
compare: all ## Runs the tests on httpd's own module too.
	$(srcdir)/test/setup.sh check
	$(srcdir)/test/compare --check

httpd-tree: ## Builds and tests in httpd's source tree (6 minutes).
	$(srcdir)/test/httpd-tree

machines: ## Runs the unit tests on other machines, emulated.
	$(srcdir)/test/machines

lint: ## Checks the sources with compilers and linters.
	$(srcdir)/test/lint

# In a clean chroot.
package: ## Builds and tests Debian's package (as root, 3 minutes).
	$(srcdir)/test/package

# Takes 20 minutes for each.
releases: ## Runs test/check in other releases of Debian (as root).
	$(srcdir)/test/releases

ROWS =
bench: all ## Measures this module and httpd's own; ROWS='calls names'.
	$(srcdir)/test/setup.sh bench
	SLOTMEM_DSO=$(abspath .libs/mod_slotmem_shm.so) \
	    $(srcdir)/test/bench/run $(ROWS)

# The exit status 77 of differential says that it was skipped.
campaigns: all ## Runs the campaigns in full (25 minutes).
	for name in faults power damage hostile load changes slots kills storm; do \
	    $(srcdir)/test/campaigns/$$name --full || exit 1; done
	SLOTMEM_DSO=$(abspath .libs/mod_slotmem_shm.so) \
	    $(srcdir)/test/campaigns/differential --full || [ $$? = 77 ]

SECONDS = 60
fuzz: ## Runs the fuzzers for SECONDS=60.
	$(srcdir)/test/campaigns/fuzz --full $(SECONDS)

check-exports: all ## Checks that the module exports its structure alone.
	@exports=`nm -D --defined-only .libs/mod_slotmem_shm.so | sed 's/.* //'`; \
	test "$$exports" = slotmem_shm_module || { echo \
	    "exported: expected slotmem_shm_module, found" $$exports; exit 1; }

# By each of these compilers that is installed.
WARNINGS = -Wall -Wextra -Wshadow -Wconversion -Werror
WARNING_COMPILERS = gcc clang
warnings: ## Compiles with every warning, with gcc and clang.
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

# The text after ## of each target; those of httpd's rules have none.
help: ## Lists the targets.
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1 /p' $(srcdir)/apxs.mk | \
	    while read -r name text; do printf '%-14s %s\n' $$name "$$text"; done
	@printf '%-14s %s\n' clean 'Removes what make has built.' \
	    distclean 'Removes what configure has written, too.'

CTAGS = ctags
tags: ## Writes an index of the C sources for editors, by CTAGS=ctags.
	cd $(srcdir) && $(CTAGS) -o tags *.[ch] support/*.[ch] \
	    $$(find test -name '.[!.]*' -prune -o -name '*.[ch]' -print)

# httpd's rules for clean and distclean run these.
x-local-clean:
	rm -rf $(TOOL) $(TOOL_OBJECTS) support/.libs
x-local-distclean:
	rm -rf test/.build $(srcdir)/tags

.PHONY: install-header install-tool uninstall dist distcheck check test demo \
    compare bench httpd-tree machines lint package releases campaigns fuzz \
    check-exports warnings help tags
