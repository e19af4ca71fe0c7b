# What a compiler reads: search paths, options, the environment.

COMPILE = plain search-order include-option spaces response macro-include has-include incbin \
  include-next environment native embedded-paths generated-header rewritten-header \
  removed-source odd-language once symlinks unicode cxx launcher-script compiler-link other-names
SPECIAL += clang clang-twins clang-assembler clang-split embed ccache-in-recipe

plain: out/plain/greet
out/plain/greet: out/plain/main.o out/plain/greet.o
	$(CC) -o $@ $^
out/plain/%.o: %.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -c -o $@ $<

# The tests put a header into search/early, where there was none.
search-order: out/search-order/order
out/search-order/order: order.c
	$(DIR)
	$(CC) $(CFLAGS) -Isearch/early -Isearch/late -o $@ $<

include-option: out/include-option/forced.o
out/include-option/forced.o: forced.c forced.h macros.h
	$(DIR)
	$(CC) $(CFLAGS) -include forced.h -imacros macros.h -c -o $@ $<

spaces: out/spaces/spaced.o
out/spaces/spaced.o: dir\ with\ spaces/spaced.c
	$(DIR)
	$(CC) $(CFLAGS) -I"dir with spaces" -c -o "out/spaces/spaced object.o" "dir with spaces/spaced.c"
	$(CC) $(CFLAGS) -I dir\ with\ spaces -MD -MF "out/spaces/spaced object.d" -c -o $@ "dir with spaces/spaced.c"

response: out/response/greet.o
out/response/greet.o: greet.c flags.rsp more.rsp
	$(DIR)
	$(CC) @flags.rsp -c -o $@ greet.c

macro-include: out/macro-include/one.o out/macro-include/two.o
out/macro-include/one.o: chosen.c chosen.h
	$(DIR)
	$(CC) $(CFLAGS) -DCHOSEN='"chosen.h"' -c -o $@ chosen.c
out/macro-include/two.o: chosen.c chosen.h
	$(DIR)
	$(CC) $(CFLAGS) -DDIRECTORY=. -c -o $@ chosen.c

# The tests add maybe.h and take it away.
has-include: out/has-include/maybe
out/has-include/maybe: maybe.c
	$(DIR)
	$(CC) $(CFLAGS) -o $@ maybe.c

incbin: out/incbin/blob.o out/incbin/blob-c.o out/incbin/searched.o
out/incbin/blob.o: blob.S blob.bin
	$(DIR)
	$(CC) -c -o $@ blob.S
out/incbin/blob-c.o: blob.c blob.bin
	$(DIR)
	$(CC) $(CFLAGS) -c -o $@ blob.c
out/incbin/searched.o: searched.c search/late/late.bin
	$(DIR)
	$(CC) $(CFLAGS) -Wa,-Isearch/late -c -o $@ searched.c

# Only where the compiler is new enough: the tests set EMBED_CC.
embed: out/embed/embed.o
out/embed/embed.o: embed.c blob.bin
	$(DIR)
	$(EMBED_CC) -std=c23 -c -o $@ embed.c

include-next: out/include-next/next.o
out/include-next/next.o: next.c
	$(DIR)
	$(CC) $(CFLAGS) -iquote search/late -isystem lib -idirafter search/spare -c -o $@ next.c

environment: out/environment/path.o out/environment/c-path out/environment/cxx.o
out/environment/path.o: order.c
	$(DIR)
	CPATH=search/late $(CC) $(CFLAGS) -c -o $@ order.c
out/environment/c-path: order.c
	$(DIR)
	C_INCLUDE_PATH=:search/late LIBRARY_PATH=lib $(CC) $(CFLAGS) -o $@ order.c
out/environment/cxx.o: order.c
	$(DIR)
	CPLUS_INCLUDE_PATH=$(CURDIR)/search/late DEPENDENCIES_OUTPUT="out/environment/written.d target" \
	  $(CXX) $(CFLAGS) -c -o $@ order.c

native: out/native/greet.o
out/native/greet.o: greet.c greet.h
	$(DIR)
	$(CC) -O2 -march=native -mtune=native -g -grecord-gcc-switches -c -o $@ greet.c

# __FILE__ and the working directory end up in what is made.
embedded-paths: out/embedded-paths/here out/embedded-paths/mapped.o
out/embedded-paths/here: here.c
	$(DIR)
	cd out/embedded-paths && $(CC) -g -o here $(CURDIR)/here.c && ./here > said
out/embedded-paths/mapped.o: here.c
	$(DIR)
	$(CC) -g -ffile-prefix-map=$(CURDIR)=/nowhere -c -o $@ $(CURDIR)/here.c

generated-header: out/generated-header/value.o
out/generated-header/value.h: Makefile
	$(DIR)
	echo '#define VALUE 7' > $@
out/generated-header/value.o: value.c out/generated-header/value.h
	$(CC) $(CFLAGS) -Iout/generated-header -c -o $@ value.c

# A file means what it said when the compiler was called, not what it says later.
rewritten-header: out/rewritten-header/both
out/rewritten-header/both: value.c
	$(DIR)
	echo '#define VALUE 1' > $(@D)/value.h
	$(CC) $(CFLAGS) -I$(@D) -c -o $(@D)/first.o value.c
	echo '#define VALUE 2' > $(@D)/value.h
	$(CC) $(CFLAGS) -I$(@D) -c -o $(@D)/second.o value.c
	$(CC) $(CFLAGS) -I$(@D) -Dvalue=other -DVALUE_SAYS_MAIN -o $@ value.c
	rm $(@D)/value.h

removed-source: out/removed-source/kept.o
out/removed-source/kept.o: greet.c greet.h
	$(DIR)
	cp greet.c $(@D)/copy.c
	$(CC) $(CFLAGS) -I. -c -o $@ $(@D)/copy.c
	rm $(@D)/copy.c

odd-language: out/odd-language/text.o
out/odd-language/text.o: greet.txt greet.h
	$(DIR)
	$(CC) $(CFLAGS) -pipe -x c -c -o $@ greet.txt
	$(CC) $(CFLAGS) -x c -E -o $(@D)/text.i greet.txt
	$(CC) $(CFLAGS) -c -o $(@D)/again.o $(@D)/text.i
	$(CC) $(CFLAGS) -fsyntax-only -x c greet.txt
	$(CC) $(CFLAGS) -x c -c -o /dev/null greet.txt

# Two headers of one content, which GCC tells apart by their times, and one header of two names.
once: out/once/pragma.o
out/once/pragma.o: Makefile
	mkdir -p $(@D)/a $(@D)/b
	for name in a b; do echo "int from_$$name;" > $(@D)/$$name/n.h; \
	  printf '#pragma once\n#include "n.h"\n' > $(@D)/$$name/all.h; \
	  echo '#include "n.h"' > $(@D)/$$name/every.h; done
	touch -d 2020-01-01 $(@D)/a/*.h
	ln -f $(@D)/a/all.h $(@D)/a/same.h
	printf '#include "a/%s.h"\n#include "%s.h"\n' all b/all every b/every > $(@D)/pragma.c
	printf '#import "%s/every.h"\n' a b > $(@D)/import.c
	printf '#include "a/%s.h"\n' all same > $(@D)/linked.c
	$(CC) $(CFLAGS) -E -o $(@D)/pragma.i $(@D)/pragma.c
	$(CC) $(CFLAGS) -c -o $@ $(@D)/pragma.c
	$(CC) $(CFLAGS) -c -o $(@D)/import.o $(@D)/import.c
	$(CC) $(CFLAGS) -c -o $(@D)/linked.o $(@D)/linked.c

# A source and a header behind links, and a directory of outputs that is one.
symlinks: out/symlinks/linked.o
out/symlinks/linked.o: greet.c greet.h
	$(DIR)
	mkdir -p $(@D)/real
	ln -sfn real $(@D)/link
	ln -sf ../../greet.c $(@D)/source.c
	ln -sf ../../greet.h $(@D)/greet.h
	$(CC) $(CFLAGS) -MD -g -c -o $(@D)/link/greet.o $(@D)/source.c
	ln -sf elsewhere.o $@
	$(CC) $(CFLAGS) -c -o $@ greet.c

unicode: out/unicode/done
out/unicode/done: über.c
	$(DIR)
	$(CC) $(CFLAGS) -MMD -c -o out/unicode/über.o über.c
	$(CC) -o "out/unicode/program of \$$über" out/unicode/über.o
	"out/unicode/program of \$$über" > $@

cxx: out/cxx/shapes
out/cxx/shapes: out/cxx/shapes.o out/cxx/libarea.a
	$(CXX) -o $@ out/cxx/shapes.o -Lout/cxx -larea
out/cxx/%.o: %.cpp shapes.hpp
	$(DIR)
	$(CXX) -std=c++17 -O2 -g -MMD -MP -c -o $@ $<
out/cxx/libarea.a: out/cxx/area.o
	ar rcs $@ $^

clang: out/clang/greet out/clang/shapes.o
out/clang/greet: main.c greet.c greet.h
	$(DIR)
	clang -O1 -g -MD -MF $(@D)/main.d -c -o $(@D)/main.o main.c
	clang -O1 -gsplit-dwarf -g -c -o $(@D)/greet.o greet.c
	clang -o $@ $(@D)/main.o $(@D)/greet.o
	clang -march=native -O2 -S -o $(@D)/greet.s greet.c
	clang -c -o $(@D)/assembled.o $(@D)/greet.s
out/clang/shapes.o: shapes.cpp shapes.hpp
	$(DIR)
	clang++ -std=c++17 -c -o $@ shapes.cpp

# Two large headers of one content: clang knows files by their inodes.
clang-twins: out/clang-twins/twins.i
out/clang-twins/twins.i: Makefile
	mkdir -p $(@D)/a $(@D)/b
	for name in a b; do echo "int from_$$name;" > $(@D)/$$name/n.h; \
	  { echo '#include "n.h"'; seq -f '/* %.0f */' 20000; } > $(@D)/$$name/all.h; done
	printf '#include "%s/all.h"\n' a b > $(@D)/twins.c
	clang -E -o $@ $(@D)/twins.c
	clang -c -MMD -o $(@D)/twins.o $(@D)/twins.c

clang-assembler: out/clang-assembler/greet.o
out/clang-assembler/greet.o: greet.c greet.h
	$(DIR)
	clang -fno-integrated-as -c -o $@ greet.c
	clang -no-integrated-as -c -o $(@D)/old.o greet.c
	clang -fno-integrated-as -fintegrated-as -c -o $(@D)/integrated.o greet.c

# Which files are there at once, and not only in the end, is what a lazy build may get wrong.
clang-split: out/clang-split/listed
out/clang-split/listed: greet.c greet.h start.s
	$(DIR)
	for debug in g0 g g1 gz gpubnames gline-tables-only; do \
	  clang -gsplit-dwarf -$$debug -c -o $(@D)/$$debug.o greet.c || exit 1; done
	clang -gsplit-dwarf -c -o $(@D)/none.o greet.c
	clang -g -gsplit-dwarf -gno-split-dwarf -c -o $(@D)/whole.o greet.c
	clang -g -gsplit-dwarf -flto -c -o $(@D)/lto.o greet.c
	clang -gsplit-dwarf -c -o $(@D)/start.o start.s
	clang -gsplit-dwarf -fno-integrated-as -c -o $(@D)/external.o greet.c
	ls $(@D) > $@

# A compiler that is a script, by its path and first in PATH.
launcher-script: out/launcher-script/one.o out/launcher-script/two.o
out/launcher-script/one.o: forced.c bin/gcc
	$(DIR)
	bin/gcc -c -o $@ forced.c
out/launcher-script/two.o: forced.c bin/gcc
	$(DIR)
	PATH=$(CURDIR)/bin:$$PATH gcc -c -o $@ forced.c

# A compiler that is a link, under a compiler's name and under another.
compiler-link: out/compiler-link/two.o
out/compiler-link/two.o: greet.c greet.h
	mkdir -p $(@D)/tools
	ln -sf $$(PATH=/usr/local/bin:/usr/bin:/bin command -v gcc) $(@D)/tools/gcc
	ln -sf gcc $(@D)/tools/translate
	$(@D)/tools/gcc $(CFLAGS) -c -o $(@D)/one.o greet.c
	PATH=$(CURDIR)/$(@D)/tools:$$PATH translate $(CFLAGS) -c -o $@ greet.c

other-names: out/other-names/done
out/other-names/done: greet.c greet.h
	$(DIR)
	cc $(CFLAGS) -c -o $(@D)/cc.o greet.c
	c99 $(CFLAGS) -c -o $(@D)/c99.o greet.c
	$$(gcc -dumpmachine)-gcc $(CFLAGS) -c -o $(@D)/cross.o greet.c
	gcc-$$(gcc -dumpversion) $(CFLAGS) -c -o $(@D)/versioned.o greet.c
	c++ $(CFLAGS) -c -o $(@D)/cxx.o greet.c
	/usr/bin/gcc $(CFLAGS) -c -o $(@D)/absolute.o greet.c
	env gcc $(CFLAGS) -c -o $(@D)/env.o greet.c
	sh -c 'exec gcc $(CFLAGS) -c -o $(@D)/shell.o greet.c'
	touch $@

# ccache in front of the compiler, for one command; its cache is none of the outputs.
ccache-in-recipe: out/ccache-in-recipe/greet.o
out/ccache-in-recipe/greet.o: greet.c greet.h
	$(DIR)
	mkdir -p $(@D)/bin
	ln -sf /usr/bin/ccache $(@D)/bin/gcc
	CCACHE_DIR=$(CURDIR)/.ccache PATH=$(CURDIR)/$(@D)/bin:$$PATH gcc $(CFLAGS) -c -o $@ greet.c
	CCACHE_DIR=$(CURDIR)/.ccache ccache gcc $(CFLAGS) -c -o $(@D)/prefixed.o greet.c
