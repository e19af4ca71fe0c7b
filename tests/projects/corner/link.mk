# Archives, linking, and the other binary utilities.

LINK = archive archive-update thin-archive archive-script shared static-link linker assembler-only \
  strip lto lto-partition linker-script relocatable response-link names-only
SPECIAL += libtool

archive: out/archive/greet
out/archive/greet: main.c greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -c -o $(@D)/main.o main.c
	$(CC) $(CFLAGS) -c -o $(@D)/greet.o greet.c
	ar rc $(@D)/libgreet.a $(@D)/greet.o
	ranlib $(@D)/libgreet.a
	$(CC) -o $@ $(@D)/main.o -L$(@D) -lgreet

# The archive is there already when it is written to again.
archive-update: out/archive-update/lib.a
out/archive-update/lib.a: main.c greet.c greet.h
	$(DIR)
	rm -f $@
	$(CC) $(CFLAGS) -c -o $(@D)/main.o main.c
	$(CC) $(CFLAGS) -c -o $(@D)/greet.o greet.c
	ar q $@ $(@D)/main.o
	ar r $@ $(@D)/greet.o
	ar t $@ > $(@D)/listed
	ar d $@ main.o
	ar s $@
	nm -s $@ > $(@D)/symbols

thin-archive: out/thin-archive/greet
out/thin-archive/greet: main.c greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -c -o $(@D)/greet.o greet.c
	ar rcT $(@D)/libgreet.a $(@D)/greet.o
	$(CC) $(CFLAGS) -o $@ main.c $(@D)/libgreet.a

archive-script: out/archive-script/all.a
out/archive-script/all.a: main.c greet.c greet.h
	$(DIR)
	cd $(@D) && $(CC) $(CFLAGS) -I../.. -c ../../main.c ../../greet.c
	cd $(@D) && ar rc one.a main.o && ar rc two.a greet.o
	cd $(@D) && printf 'create all.a\naddlib one.a\naddlib two.a\nsave\nend\n' | ar -M

shared: out/shared/main
out/shared/libgreet.so.1: greet.c greet.h exports.map
	$(DIR)
	$(CC) $(CFLAGS) -fPIC -shared -Wl,-soname,libgreet.so.1 -Wl,--version-script=exports.map -o $@ greet.c
	ln -sf libgreet.so.1 $(@D)/libgreet.so
out/shared/main: main.c greet.h out/shared/libgreet.so.1
	$(CC) $(CFLAGS) -o $@ main.c -L$(@D) -lgreet -Wl,-rpath,'$$ORIGIN' -Wl,--as-needed -lm
	$@ > $(@D)/said

static-link: out/static-link/greet
out/static-link/greet: main.c greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -static -Wl,--gc-sections -Wl,-Map=$(@D)/map -o $@ main.c greet.c

linker: out/linker/start
out/linker/start: start.s
	$(DIR)
	as -o $(@D)/start.o start.s
	ld -o $@ $(@D)/start.o
	ld -r -o $(@D)/partial.o $(@D)/start.o
	ld --build-id=sha1 -o $(@D)/identified $(@D)/partial.o
	$@ > $(@D)/said

assembler-only: out/assembler-only/start.o
out/assembler-only/start.o: start.s
	$(DIR)
	as -o $@ start.s
	as -al=$(@D)/listing -o $(@D)/listed.o start.s
	as -o $(@D)/from-stdin.o < start.s
	$(CC) -c -Wa,--noexecstack -o $(@D)/driven.o start.s

strip: out/strip/greet.stripped
out/strip/greet.stripped: main.c greet.c greet.h
	$(DIR)
	$(CC) -g -o $(@D)/greet main.c greet.c
	strip -o $@ $(@D)/greet
	objcopy --only-keep-debug $(@D)/greet $(@D)/greet.debug
	cp $(@D)/greet $(@D)/in-place
	strip --strip-unneeded $(@D)/in-place
	cd $(@D) && objcopy --add-gnu-debuglink=greet.debug in-place linked
	$(CC) -g -s -o $(@D)/never main.c greet.c
	$(CC) -g -c -o $(@D)/greet.o greet.c
	ar rcs $(@D)/lib.a $(@D)/greet.o
	strip -g $(@D)/lib.a

lto: out/lto/greet
out/lto/greet: main.c greet.c greet.h
	$(DIR)
	$(CC) -O2 -flto -frandom-seed=main -c -o $(@D)/main.o main.c
	$(CC) -O2 -flto -ffat-lto-objects -frandom-seed=greet -c -o $(@D)/greet.o greet.c
	gcc-ar rcs $(@D)/libgreet.a $(@D)/greet.o
	$(CC) -O2 -flto -frandom-seed=link -o $@ $(@D)/main.o $(@D)/libgreet.a

lto-partition: out/lto-partition/none
out/lto-partition/none: main.c greet.c greet.h
	$(DIR)
	for how in none one max 1to1; do \
	  $(CC) -frandom-seed=1 -O2 -flto -flto-partition=$$how -o $(@D)/$$how main.c greet.c || exit 1; \
	done
	$(CC) -frandom-seed=1 -O2 -flto=auto -flto-compression-level=3 -o $(@D)/auto main.c greet.c
	$(CC) -frandom-seed=1 -O2 -flto -fno-lto -o $(@D)/no main.c greet.c
	$(CC) -frandom-seed=1 -O2 -flto -fuse-linker-plugin -fwhole-program -o $(@D)/plugin main.c greet.c

linker-script: out/linker-script/start
out/linker-script/start: start.s start.ld
	$(DIR)
	as -o $(@D)/start.o start.s
	ld -T start.ld -o $@ $(@D)/start.o
	echo 'INPUT(start.o)' > $(@D)/libstart.so
	ld -L$(@D) -o $(@D)/through-script -lstart

relocatable: out/relocatable/greet
out/relocatable/greet: main.c greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -r -nostdlib -o $(@D)/both.o main.c greet.c
	$(CC) -no-pie -o $@ $(@D)/both.o

response-link: out/response-link/greet
out/response-link/greet: main.c greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -c -o $(@D)/main.o main.c
	$(CC) $(CFLAGS) -c -o $(@D)/greet.o greet.c
	echo "$(@D)/main.o '$(@D)/greet.o'" > $(@D)/objects
	$(CC) -o $@ @$(@D)/objects
	$(CC) -o $(@D)/again -Wl,@$(@D)/objects -Xlinker -s

names-only: out/names-only/listed
out/names-only/listed: greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -c -o $(@D)/greet.o greet.c
	nm $(@D)/greet.o > $@
	size $(@D)/greet.o > $(@D)/sizes
	readelf -h $(@D)/greet.o > $(@D)/header
	objdump -d $(@D)/greet.o > $(@D)/code

# Needs Debian's libtool.
libtool: out/libtool/main
out/libtool/main: main.c greet.c greet.h
	$(DIR)
	libtool --quiet --tag=CC --mode=compile $(CC) $(CFLAGS) -c -o $(@D)/greet.lo greet.c
	libtool --quiet --tag=CC --mode=link $(CC) -rpath /usr/lib -o $(@D)/libgreet.la $(@D)/greet.lo
	libtool --quiet --tag=CC --mode=compile $(CC) $(CFLAGS) -c -o $(@D)/main.lo main.c
	libtool --quiet --tag=CC --mode=link $(CC) -static -o $@ $(@D)/main.lo $(@D)/libgreet.la
