/* opens COUNT FILE: opens and closes the file COUNT times; prints the nanoseconds that took. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    long count = atol(argv[1]);
    long long began = now();
    for (long i = 0; i < count; i++) {
        int file = open(argv[2], O_RDONLY);
        if (file < 0) {
            perror(argv[2]);
            return 1;
        }
        close(file);
    }
    printf("%lld\n", now() - began);
    return 0;
}
