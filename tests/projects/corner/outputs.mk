# What a compiler writes, and where.

OUTPUTS = dependencies debug split-dwarf coverage several-sources no-output-name preprocess \
  assembly save-temps standard-input versions date-fixed umask same-path-twice moved stack-usage \
  install syntax written-over
SPECIAL += clang-written-over date timestamp pch lto-random coverage-random

dependencies: out/dependencies/done
out/dependencies/done: main.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -MD -c -o $(@D)/default.o main.c
	$(CC) $(CFLAGS) -MMD -MP -MF $(@D)/user.d -MT first -MT 'second $$x' -c -o $(@D)/named.o main.c
	$(CC) $(CFLAGS) -MD -MQ 'quoted $$x' -c -o $(@D)/quoted.o main.c
	$(CC) $(CFLAGS) -Wp,-MMD,$(@D)/through.d -c -o $(@D)/through.o main.c
	$(CC) $(CFLAGS) -M main.c > $(@D)/printed.d
	$(CC) $(CFLAGS) -MM -MG -MF $(@D)/guessed.d -DMISSING main.c
	$(CC) $(CFLAGS) -MD -E -o $(@D)/preprocessed.i main.c
	cd $(@D) && $(CC) $(CFLAGS) -I../.. -MMD -c ../../main.c
	touch $@

debug: out/debug/greet out/debug/g3.o
out/debug/greet: main.c greet.c greet.h
	$(DIR)
	$(CC) -g -o $@ main.c greet.c
out/debug/g3.o: greet.c greet.h
	$(DIR)
	$(CC) -g3 -gdwarf-4 -gz -c -o $@ greet.c

split-dwarf: out/split-dwarf/greet
out/split-dwarf/greet: main.c greet.c greet.h
	$(DIR)
	$(CC) -g -gsplit-dwarf -c -o $(@D)/main.o main.c
	$(CC) -g -gsplit-dwarf -c -o $(@D)/greet.o greet.c
	$(CC) -o $@ $(@D)/main.o $(@D)/greet.o
	$(CC) -g -gsplit-dwarf -o $(@D)/direct main.c greet.c
	$(CC) -gsplit-dwarf -c -o $(@D)/alone.o greet.c
	$(CC) -g -gsplit-dwarf -gno-split-dwarf -c -o $(@D)/whole.o greet.c
	$(CC) -fstack-usage -flto -frandom-seed=1 -c -o $(@D)/late.o greet.c
	ls $(@D) > $(@D)/listed

# With a seed, what is otherwise random is not.
coverage: out/coverage/report
out/coverage/report: main.c greet.c greet.h
	$(DIR)
	$(CC) -frandom-seed=1 --coverage -c -o $(@D)/main.o main.c
	$(CC) -frandom-seed=1 -fprofile-arcs -ftest-coverage -c -o $(@D)/greet.o greet.c
	$(CC) --coverage -o $(@D)/greet $(@D)/main.o $(@D)/greet.o
	cd $(@D) && ./greet > /dev/null && gcov -t main.o | sed '/^ *-:.*Runs:/d' > report

# Its stamps differ from build to build: what has to hold is that notes and counts fit together.
coverage-random: out/coverage-random/report
out/coverage-random/report: main.c greet.c greet.h
	$(DIR)
	$(CC) --coverage -o $(@D)/greet main.c greet.c
	cd $(@D) && ./greet > /dev/null && gcov -t *main.gcno > report

several-sources: out/several-sources/direct out/several-sources/main.o
out/several-sources/direct: main.c greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -o $@ main.c greet.c
out/several-sources/main.o: main.c greet.c greet.h
	$(DIR)
	cd $(@D) && $(CC) $(CFLAGS) -I../.. -c ../../main.c ../../greet.c

no-output-name: out/no-output-name/a.out
out/no-output-name/a.out: main.c greet.c greet.h
	$(DIR)
	cd $(@D) && $(CC) $(CFLAGS) ../../main.c ../../greet.c
	cd $(@D) && $(CC) $(CFLAGS) -c ../../greet.c && $(CC) $(CFLAGS) -S ../../main.c

preprocess: out/preprocess/greet.i
out/preprocess/greet.i: greet.c greet.h
	$(DIR)
	$(CC) -E greet.c > $@
	$(CC) -E -P -dD -C -o $(@D)/named.i greet.c
	$(CC) -E -o - greet.c | grep -c puts > $(@D)/count

assembly: out/assembly/greet
out/assembly/greet: main.c greet.c greet.h start.s
	$(DIR)
	$(CC) -O2 -S -fverbose-asm -o $(@D)/greet.s greet.c
	$(CC) -O2 -S -o - main.c > $(@D)/main.s
	as -o $(@D)/greet.o $(@D)/greet.s
	$(CC) -c -o $(@D)/main.o $(@D)/main.s
	as --64 -g -I. -o $(@D)/start.o start.s
	$(CC) -o $@ $(@D)/main.o $(@D)/greet.o

save-temps: out/save-temps/greet.o
out/save-temps/greet.o: greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -save-temps=obj -c -o $@ greet.c
	cd $(@D) && $(CC) $(CFLAGS) -save-temps -c -o cwd.o ../../greet.c

standard-input: out/standard-input/greet
out/standard-input/greet: main.c greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -x c -c -o $(@D)/greet.o - < greet.c
	cat main.c | $(CC) $(CFLAGS) -x c - -x none $(@D)/greet.o -o $@

# The name by which the driver was called and the flags of make are all that may differ.
versions: out/versions/gcc
out/versions/gcc: Makefile
	$(DIR)
	$(CC) --version > $@
	$(CC) -v 2>&1 | sed '/^COLLECT_GCC=/d; /^MAKEFLAGS=/d' > $(@D)/verbose
	$(CC) -dumpmachine > $(@D)/machine
	$(CC) -print-search-dirs > $(@D)/dirs
	$(CC) -print-file-name=libc.so > $(@D)/libc
	$(CC) -E -v -x c /dev/null 2>&1 | sed '/^COLLECT_GCC=/d; /^MAKEFLAGS=/d' > $(@D)/search
	echo | $(CC) -dM -E - > $(@D)/macros
	ld --version > $(@D)/ld
	ar --version > $(@D)/ar
	as --version < /dev/null > $(@D)/as

date-fixed: out/date-fixed/when
out/date-fixed/when: when.c
	$(DIR)
	SOURCE_DATE_EPOCH=1000000000 $(CC) $(CFLAGS) -o $@ when.c
	$@ > $(@D)/said

# These name the moment of the build: the tests look at what the programs say.
date: out/date/when
out/date/when: when.c
	$(DIR)
	$(CC) $(CFLAGS) -c -o $(@D)/when.o when.c
	$(CC) -o $@ $(@D)/when.o

timestamp: out/timestamp/stamp
out/timestamp/stamp: stamp.c
	$(DIR)
	$(CC) $(CFLAGS) -o $@ stamp.c

pch: out/pch/greet.o
out/pch/greet.h.gch: greet.h
	$(DIR)
	$(CC) $(CFLAGS) -o $@ greet.h
out/pch/greet.o: greet.c out/pch/greet.h.gch
	$(CC) $(CFLAGS) -Winvalid-pch -Iout/pch -include greet.h -c -o $@ greet.c

umask: out/umask/greet
out/umask/greet: main.c greet.c greet.h
	$(DIR)
	umask 077 && $(CC) $(CFLAGS) -MD -c -o $(@D)/greet.o greet.c
	umask 007 && $(CC) $(CFLAGS) -c -o $(@D)/main.o main.c
	umask 027 && $(CC) -o $@ $(@D)/main.o $(@D)/greet.o
	umask 077 && ar rcs $(@D)/libgreet.a $(@D)/greet.o
	umask 777 && $(CC) $(CFLAGS) -c -o $(@D)/denied.o greet.c || true
	rm -f $(@D)/denied.o

# One path, two objects in turn, each used before it is overwritten.
same-path-twice: out/same-path-twice/greet
out/same-path-twice/greet: main.c greet.c greet.h
	$(DIR)
	rm -f $(@D)/lib.a
	$(CC) $(CFLAGS) -c -o $(@D)/t.o main.c
	ar rc $(@D)/lib.a $(@D)/t.o
	mv $(@D)/t.o $(@D)/main.o
	$(CC) $(CFLAGS) -c -o $(@D)/t.o greet.c
	cp $(@D)/t.o $(@D)/u.o
	ar rcs $(@D)/lib.a $(@D)/u.o
	$(CC) -o $@ $(@D)/main.o $(@D)/lib.a
	rm $(@D)/t.o

# What automake writes: the dependency file gets its name only when it is complete.
moved: out/moved/greet
out/moved/greet: out/moved/main.o out/moved/greet.o
	$(CC) -o $@T $^ && mv -f $@T $@
out/moved/%.o: %.c
	@mkdir -p $(@D)/.deps
	$(CC) $(CFLAGS) -MT $@ -MD -MP -MF $(@D)/.deps/$*.Tpo -c -o $@ $<
	mv -f $(@D)/.deps/$*.Tpo $(@D)/.deps/$*.Po
-include $(wildcard out/moved/.deps/*.Po)

stack-usage: out/stack-usage/greet.o
out/stack-usage/greet.o: greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -fstack-usage -fdump-tree-optimized=$(@D)/dump -c -o $@ greet.c
	$(CC) $(CFLAGS) -fstack-usage -c -o $(@D)/other.o greet.c

install: out/install/root/bin/greet
out/install/greet: main.c greet.c greet.h
	$(DIR)
	$(CC) -g -o $@ main.c greet.c
out/install/root/bin/greet: out/install/greet
	install -d $(@D)
	install -m 750 $< $@
	install -m 750 -s $< $@-stripped
	cp -p $< $@-copied
	ln -f $< $@-linked

syntax: out/syntax/done
out/syntax/done: greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -fsyntax-only greet.c
	$(CC) $(CFLAGS) -c -o /dev/null greet.c
	touch $@

# The objects' sections bear random names; the program does not.
lto-random: out/lto-random/greet
out/lto-random/greet: main.c greet.c greet.h
	$(DIR)
	$(CC) -O2 -flto -c -o $(@D)/main.o main.c
	$(CC) -O2 -flto -c -o $(@D)/greet.o greet.c
	$(CC) -O2 -flto=2 -o $@ $(@D)/main.o $(@D)/greet.o

# What was there keeps its inode, links and permissions, or is replaced: each tool has its own way.
WRITE_OVER = cd $(@D) && for old in 600 751 linked empty; do \
    for file in x.s x.i x.d x.o x.su x.map x; do echo old > $$old.$$file; done; \
    case $$old in \
      empty) rm empty.x; for file in empty.*; do : > $$file; ln $$file reserved.$$file; done ;; \
      linked) for file in linked.*; do ln $$file other.$$file; done ;; \
      *) chmod $$old $$old.* ;; \
    esac; \
    $(1) $(CFLAGS) -S -o $$old.x.s ../../greet.c && $(1) -E -o $$old.x.i ../../greet.c && \
    $(1) $(CFLAGS) -fstack-usage -MMD -MF $$old.x.d -c -o $$old.x.o ../../greet.c && \
    $(1) -o $$old.x -Wl,-Map=$$old.x.map ../../main.c ../../greet.c || exit 1; \
  done

written-over: out/written-over/lib.a
out/written-over/lib.a: main.c greet.c greet.h
	$(DIR)
	$(call WRITE_OVER,$(CC))
	cd $(@D) && rm *.map
	cd $(@D) && $(CC) $(CFLAGS) -c -o read-only.o ../../main.c && chmod 444 read-only.o && \
	  $(CC) -g -c -o read-only.o ../../main.c
	cd $(@D) && $(CC) -g -c -o main.o ../../main.c && ln main.o stripped.o && strip stripped.o && \
	  $(CC) -g -o program ../../main.c ../../greet.c && ln program second && chmod 711 program && \
	  strip program && strip -o second program
	cd $(@D) && ar rc lib.a main.o && ln lib.a linked.a && chmod 640 lib.a && \
	  ar rc lib.a read-only.o && ranlib lib.a

clang-written-over: out/clang-written-over/done
out/clang-written-over/done: main.c greet.c greet.h
	$(DIR)
	$(call WRITE_OVER,clang)
	cd $(@D) && rm *.map
	cd $(@D) && echo old > split.dwo && ln split.dwo other.dwo && \
	  clang -g -gsplit-dwarf -c -o split.o ../../greet.c
	cd $(@D) && echo old > assembled.o && ln assembled.o other.o && \
	  clang -c -o assembled.o ../../start.s
	touch $@
