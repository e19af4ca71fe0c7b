# Builds that look at their own outputs before they are over.

LOOKS = generator grep-object objcopy-object extract recursive probe sums touched removed \
  test-flags tar redirect background
# Differs by design: not part of a whole build.
SPECIAL += stat-size

generator: out/generator/table
out/generator/make-table: make_table.c
	$(DIR)
	$(CC) $(CFLAGS) -o $@ make_table.c
out/generator/table.c: out/generator/make-table
	out/generator/make-table 12 > $@
out/generator/table: out/generator/table.c
	$(CC) $(CFLAGS) -o $@ $<
	$@ > $(@D)/said

grep-object: out/grep-object/found
out/grep-object/found: greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -c -o $(@D)/greet.o greet.c
	if grep -q 'good day' $(@D)/greet.o; then echo yes > $@; else echo no > $@; fi

objcopy-object: out/objcopy-object/main
out/objcopy-object/main: main.c greet.c greet.h blob.bin
	$(DIR)
	$(CC) $(CFLAGS) -c -o $(@D)/greet.o greet.c
	objcopy --redefine-sym greet=salute $(@D)/greet.o $(@D)/salute.o
	objcopy -I binary -O elf64-x86-64 blob.bin $(@D)/blob.o
	$(CC) $(CFLAGS) -Dgreet=salute -o $@ main.c $(@D)/salute.o $(@D)/blob.o

extract: out/extract/main
out/extract/main: main.c greet.c greet.h
	$(DIR)
	cd $(@D) && $(CC) $(CFLAGS) -I../.. -c ../../main.c ../../greet.c
	cd $(@D) && ar rcs lib.a main.o greet.o && rm main.o greet.o
	cd $(@D) && ar x lib.a && $(CC) -o main main.o greet.o

recursive:
	@$(MAKE) -C sub OUT=$(CURDIR)/out/recursive CC='$(CC)'

# What configure scripts do: the compiler's exit status decides.
probe: out/probe/found
out/probe/found: broken.c greet.c
	$(DIR)
	rm -f $@
	if $(CC) -c -o $(@D)/a.o broken.c 2> $(@D)/why; then echo broken.c >> $@; fi
	$(CC) -c -o $(@D)/b.o greet.c && echo greet.c >> $@
	$(CC) -o $(@D)/c main.c 2> /dev/null || echo no link >> $@
	-$(CC) -c -o $(@D)/d.o broken.c 2> /dev/null
	test -e $(@D)/a.o || echo no object >> $@

sums: out/sums/sums
out/sums/sums: main.c greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -c -o $(@D)/greet.o greet.c
	$(CC) $(CFLAGS) -o $(@D)/greet main.c $(@D)/greet.o
	sha256sum $(@D)/greet.o $(@D)/greet > $@

touched: out/touched/done
out/touched/done: greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -c -o $(@D)/greet.o greet.c
	$(CC) $(CFLAGS) -c -o $(@D)/other.o greet.c
	touch -d '2001-02-03 04:05:06' $(@D)/greet.o
	chmod 600 $(@D)/greet.o
	printf x >> $(@D)/other.o
	touch $@

removed: out/removed/greet
out/removed/greet: main.c greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -c -o $(@D)/greet.o greet.c
	$(CC) $(CFLAGS) -o $@ main.c $(@D)/greet.o
	rm $(@D)/greet.o
	$(CC) $(CFLAGS) -c -o $(@D)/never.o greet.c
	rm $(@D)/never.o

# Asks for the size without opening the file.
stat-size: out/stat-size/size
out/stat-size/size: main.c greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -o $(@D)/greet main.c greet.c
	stat -c '%s %a' $(@D)/greet > $@
	find $(@D) -name greet -size -2000c >> $@

test-flags: out/test-flags/flags
out/test-flags/flags: main.c greet.c greet.h
	$(DIR)
	rm -f $@
	$(CC) $(CFLAGS) -c -o $(@D)/greet.o greet.c
	$(CC) $(CFLAGS) -o $(@D)/greet main.c $(@D)/greet.o
	test -x $(@D)/greet && echo executable >> $@
	test -x $(@D)/greet.o || echo not executable >> $@
	test -s $(@D)/greet.o && echo not empty >> $@
	test $(@D)/greet -nt $(@D)/greet.o && echo newer >> $@

tar: out/tar/all.tar
out/tar/all.tar: main.c greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -c -o $(@D)/greet.o greet.c
	$(CC) $(CFLAGS) -o $(@D)/greet main.c $(@D)/greet.o
	tar --mtime=@0 --owner=0 --group=0 --numeric-owner -C $(@D) -cf $@ greet.o greet

redirect: out/redirect/main.o
out/redirect/main.o: main.c greet.h
	$(DIR)
	$(CC) -E main.c > $(@D)/main.i
	$(CC) $(CFLAGS) -x c -c - -o $@ < $(@D)/main.i
	cat $@ > $(@D)/copy.o
	dd if=$@ of=$(@D)/head bs=16 count=1 2> /dev/null

# Two compilers of one recipe at once.
background: out/background/greet
out/background/greet: main.c greet.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -c -o $(@D)/main.o main.c & \
	$(CC) $(CFLAGS) -c -o $(@D)/greet.o greet.c & \
	wait
	$(CC) -o $@ $(@D)/main.o $(@D)/greet.o
