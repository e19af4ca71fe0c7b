# Builds that fail or complain, which they have to do in the same words.

TROUBLE = fails fails-at-link fails-late fails-deep fails-in-archive warns missing-header \
  missing-source bad-option ignored keep-going deleted-header deleted-and-dropped werror

fails: out/fails/broken.o
out/fails/broken.o: broken.c
	$(DIR)
	$(CC) $(CFLAGS) -c -o $@ broken.c

fails-at-link: out/fails-at-link/main
out/fails-at-link/main: main.c greet.h
	$(DIR)
	$(CC) $(CFLAGS) -c -o $(@D)/main.o main.c
	$(CC) -o $@ $(@D)/main.o

# What comes after the failure must not count as made.
fails-late: out/fails-late/greet
out/fails-late/greet: out/fails-late/broken.o out/fails-late/greet.o out/fails-late/main.o
	$(CC) -o $@ $^
	echo linked > out/fails-late/note
out/fails-late/%.o: %.c
	$(DIR)
	$(CC) $(CFLAGS) -c -o $@ $<

fails-deep:
	$(MAKE) -C sub OUT=$(CURDIR)/out/fails-deep CC='$(CC)' broken

fails-in-archive: out/fails-in-archive/lib.a
out/fails-in-archive/lib.a: greet.c
	$(DIR)
	$(CC) $(CFLAGS) -c -o $(@D)/greet.o greet.c
	ar rcs $@ $(@D)/greet.o $(@D)/nothing.o

warns: out/warns/warned.o
out/warns/warned.o: warned.c
	$(DIR)
	$(CC) -Wall -Wextra -c -o $@ warned.c

werror: out/werror/warned.o
out/werror/warned.o: warned.c
	$(DIR)
	$(CC) -Wall -Wextra -Werror -c -o $@ warned.c

missing-header: out/missing-header/main.o
out/missing-header/main.o: main.c
	$(DIR)
	$(CC) $(CFLAGS) -DMISSING -c -o $@ main.c

missing-source:
	mkdir -p out/missing-source
	$(CC) $(CFLAGS) -c -o out/missing-source/x.o no-such-file.c

bad-option:
	mkdir -p out/bad-option
	$(CC) $(CFLAGS) --no-such-option -c -o out/bad-option/x.o greet.c

# A failure that make is told to ignore.
ignored: out/ignored/greet.o
out/ignored/greet.o: broken.c greet.c
	$(DIR)
	-$(CC) $(CFLAGS) -c -o $@ broken.c
	$(CC) $(CFLAGS) -c -o $@ greet.c

# With -k all but what depends on the failure is made.
keep-going: out/keep-going/one.o out/keep-going/needs out/keep-going/three.o
out/keep-going/one.o: greet.c
	$(DIR)
	$(CC) $(CFLAGS) -c -o $@ greet.c
out/keep-going/two.o: broken.c
	$(DIR)
	$(CC) $(CFLAGS) -c -o $@ broken.c
out/keep-going/needs: out/keep-going/two.o
	$(CC) -o $@ $^
out/keep-going/three.o: main.c
	$(DIR)
	$(CC) $(CFLAGS) -c -o $@ main.c

# The tests delete the header that dependent.c includes, with and without the #include.
deleted-header: out/deleted-header/dependent.o
out/deleted-header/dependent.o: dependent.c Makefile
	$(DIR)
	$(CC) $(CFLAGS) -c -o $@ dependent.c

deleted-and-dropped: out/deleted-and-dropped/dependent.o
out/deleted-and-dropped/dependent.o: dependent.c
	$(DIR)
	$(CC) $(CFLAGS) -MMD -MP -c -o $@ dependent.c
-include $(wildcard out/deleted-and-dropped/*.d)
