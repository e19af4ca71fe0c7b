//! Programs that are run, loaded or used as interpreters as soon as they are linked, and time.

use mesh_tests::Trial;

use super::trials;

const INTERPRETER: &str = r#"#include <stdio.h>
int main(int count, char **words) {
    char line[64] = "-";
    FILE *file = count > 1 ? fopen(words[count - 1], "r") : 0;
    if (file) fgets(line, sizeof line, file);
    printf("interpreter %d %s\n", count, line);
    return count == 2 ? 0 : 5;
}
"#;

/// Builds an interpreter, then does this.
fn interpreter(lines: &str) -> Trial {
    Trial::recipe(&format!("gcc interpreter.c -o interpreter\n{lines}"))
        .file("interpreter.c", INTERPRETER)
        .file("script", "#!./interpreter\nhi\n")
        .file("script-with-word", "#!./interpreter word\nhi\n")
        .fix("sed -i s/interpreter\\ %d/other\\ %d/ interpreter.c; touch bad.c")
}

/// Links a program, then does this.
fn program(lines: &str) -> Trial {
    Trial::recipe(&format!("gcc hello.c -o prog\n{lines}"))
        .fix("sed -i s/hello/hullo/ hello.c; touch bad.c")
}

/// Writes a program that takes seconds to compile, to its standard output. It counts how much its
/// reader lets it write before it goes.
const GENERATOR: &str = r##"#!/bin/sh
cat <<'END'
#include <stdio.h>
#include <signal.h>
#include <unistd.h>
static int written;
static void gone(int s) { fprintf(stderr, "#define SIZE %d\n", written); _exit(0); }
END
i=0
while [ $i -lt 900 ]; do
    echo "int f$i(int x) { int r = x; for (int i = 0; i < x; i++) r = r * $((i + 3)) + i % $((i + 7)); return r; }"
    i=$((i + 1))
done
echo "int main(void) { char b[128] = {0}; signal(SIGPIPE, gone); $1 }"
"##;

fn slow(makefile: &str) -> Trial {
    Trial::makefile(makefile).file("generate", GENERATOR)
}

trials! {
    shebang: interpreter("./script > out");
    shebang_with_word: interpreter("./script-with-word > out; echo $$? >> out");
    shebang_by_path: interpreter(
        "(echo \"#!$$PWD/interpreter\"; echo hi) > s; chmod +x s; ./s | sed \"s,$$PWD,,\" > out");
    shebang_by_env: interpreter(
        "(echo '#!/usr/bin/env -S ./interpreter'; echo hi) > s; chmod +x s; ./s > out");
    shebang_of_two: interpreter(
        "(echo '#!./script'; echo hi) > s; chmod +x s; ./s > out; echo $$? >> out");
    shebang_through_link: interpreter("ln -sf script s; ./s > out");
    shebang_asked: interpreter("if ./script > said; then cp said out; else echo NOT > out; fi");

    run: program("./prog > out");
    run_of_path: program("PATH=.:$$PATH prog > out");
    run_of_link: program("ln -sf prog p; ./p > out");
    run_of_hard_link: program("ln -f prog p; ./p > out");
    run_of_renamed: program("mv prog p; ./p > out");
    run_of_copy: program("cp prog p; ./p > out");
    run_of_installed: program("install -D prog bin/p; bin/p > out");
    run_stripped: program("strip prog; ./prog > out");
    run_by_loader: program("$$(readelf -p .interp prog | grep -o '/.*') ./prog > out");
    run_by_env: program("env -i ./prog > out");
    run_by_xargs: program("echo | xargs ./prog > out");
    run_by_find: program("find . -name prog -exec {} ';' > out");
    run_in_background: program("./prog > out & wait $$!");
    run_static: program("gcc -static hello.c -o s; ./s > out");
    run_and_count: program("./prog | wc -c > out");
    run_status: Trial::recipe("gcc status.c -o status\n./status; echo $$? > out")
        .file("status.c", "int main(void) { return 42; }\n").fix("sed -i s/42/43/ status.c; touch bad.c");
    run_signal: Trial::recipe("gcc abort.c -o aborts\n./aborts || echo $$? > out")
        .file("abort.c", "int main(void) { __builtin_trap(); }\n");
    run_fails: Trial::recipe("gcc status.c -o status\n./status\ntouch out")
        .file("status.c", "int main(void) { return 3; }\n").fix("sed -i s/3/0/ status.c");
    run_not_made: Trial::recipe("-gcc bad.c main.c -o prog\n./prog\ntouch out");
    run_old_after_failure: Trial::recipe("-gcc main.c bad.c -o prog\n./prog && echo ran > out")
        .file("bad.c", "int a;\n").fix("echo 'int a(' > bad.c");
    preloaded: Trial::recipe(
        "gcc -shared -fPIC preloaded.c -o libpre.so; gcc hello.c -o prog\n\
         LD_PRELOAD=./libpre.so ./prog > out")
        .file("preloaded.c", "#include <unistd.h>\nint puts(const char *s) { return write(1, \"mine\\n\", 5); }\n");
    needed_library: Trial::recipe(
        "gcc -shared -fPIC ok.c -o libok.so; gcc main.c -L. -lok -Wl,-rpath,. -Wl,--no-as-needed -o prog\n\
         ./prog && echo ran > out");
    library_path: Trial::recipe(
        "gcc -shared -fPIC ok.c -o libok.so; gcc -Wl,--no-as-needed main.c -L. -lok -o prog\n\
         LD_LIBRARY_PATH=. ./prog && echo ran > out");
    loaded_by_python: Trial::recipe(
        "gcc -shared -fPIC ok.c -o libok.so\n\
         python3 -c 'import ctypes; print(ctypes.c_int.in_dll(ctypes.CDLL(\"./libok.so\"), \"ok\"))' > out")
        .needs("python3");
    generator_of_source: Trial::recipe(
        "gcc writer.c -o writer\n./writer > made.c\ngcc -c made.c -o out")
        .file("writer.c", "#include <stdio.h>\nint main(void) { return puts(\"int made(\") < 0; }\n")
        .fix("sed -i 's/made(/made;/' writer.c; touch bad.c");
    compiler_of_its_own: Trial::recipe(
        "gcc cc.c -o mycc\n./mycc ok.c -o out.o\ncp out.o out")
        .file("cc.c", "#include <unistd.h>\nint main(int n, char **w) \
            { w[0] = \"gcc\"; return execlp(\"gcc\", \"gcc\", \"-c\", w[1], w[2], w[3], (char *)0); }\n");

    pipe_with_an_end: slow("
size.h: gen
    ./gen 2>size.h | sleep 1
gen: gen.c
    gcc -O2 -o gen gen.c
gen.c: generate
    ./generate 'for (;;) written += write(1, b, 128);' > gen.c
").builds(&["make -s"]);
    time_limit: slow("
check: quick
    timeout 1 ./quick > check
quick: quick.c
    gcc -O2 -o quick quick.c
quick.c: generate
    ./generate 'return 0;' > quick.c
").builds(&["make -s check"]);
    alarm: slow("
check: quick
    perl -e 'alarm 1; exec \"./quick\"' > check
quick: quick.c
    gcc -O2 -o quick quick.c
quick.c: generate
    ./generate 'return 0;' > quick.c
").builds(&["make -s check"]).needs("perl");
    time_of_day_apart: Trial::recipe(
        "date +%s%N > before; gcc -c ok.c; touch after; gcc -c main.c\n\
         [ main.o -nt after ] && echo in order > out").stamped(&["before"]);
}
