//! Compilers in odd surroundings: variables, file systems' corners, and failures in between.

use mesh_tests::Trial;

use super::trials;

/// Compiles and links with headers and libraries that variables name, each build from scratch.
fn surroundings(lines: &[&str]) -> Trial {
    Trial::makefile(
        "
m.o: force
    gcc -c m.c
    g++ -c m.cc -o mcc.o
    gcc -E m.c -o m.i
lib: force
    gcc -c l1.c -o l1.o && ar rcs lib1/libl.a l1.o
    gcc -c l2.c -o l2.o && ar rcs lib2/libl.a l2.o
prog: force
    gcc main.c -ll -o prog
force:
",
    )
    .file("m.c", "#include \"e.h\"\n#if __has_include(\"opt.h\")\nint o;\n#endif\nint v = V;\n")
    .file("m.cc", "#include <e.h>\nint v = V;\n")
    .file("l1.c", "int l(void) { return 1; }\n")
    .file("l2.c", "int l(void) { return 2; }\n")
    .file("main.c", "int l(void);\nint main(void) { return l(); }\n")
    .file("p1/e.h", "#define V 1\n")
    .file("p2/e.h", "#define V 2\n")
    .file("lib1/README", "")
    .file("lib2/README", "")
    .file("bin/as", "#!/bin/sh\necho wrapped >&2\nexec /usr/bin/as \"$@\"\n")
    .fix("echo > p1/opt.h")
    .builds(lines)
}

/// One recipe of `make -i`, in a directory with files `f.c` and `m.c`.
fn files(recipe: &str) -> Trial {
    Trial::recipe(recipe)
        .file("f.c", "int f(void) { return 1; }\n")
        .file("m.c", MAIN)
        .file("real/README", "")
        .builds(&["make -i"])
        .fix("rm -rf *.o *.a u* out; touch ok.c")
}

const MAIN: &str = "int main(void) { return 0; }\n";

fn clang(recipe: &str) -> Trial {
    Trial::recipe(recipe)
        .file("m.c", "#include \"h.h\"\nint v = V;\nint main(void) { return 0; }\n")
        .file("i/h.h", "#define V 1\n")
        .builds(&["make -i"])
        .fix("echo '#define V 2' > i/h.h; touch ok.c; rm -f out")
        .needs("clang")
}

trials! {
    cpath: surroundings(&[
        "env CPATH=p1 make", "env CPATH=p2 make", "env CPATH=p1:p2 make", "env CPATH=:p1 make"]);
    asking_macros: Trial::recipe(
        "gcc -c q.c; gcc '-DCOND=__has_include(\"x.h\")' -c c.c; gcc '-DQ(x)=__has_include(x)' -c d.c
        gcc -include q.h -c e.c; gcc -imacros i/r.h -c f.c; g++ -std=c++20 -c q.cc; gcc -c g.c
        nm *.o")
        .file("q.h", "#define HAVE(x) __has_include(x)\n#define ALSO HAVE\n#define X \"x.h\"\n")
        .file("i/r.h", "#define ASK __has_include(\"x.h\")\n")
        .file("q.c", "#include \"q.h\"\n#if HAVE(<sys/quota.h>) && ALSO ( X )\nint y;\n#endif\nint n;\n")
        .file("c.c", "#if COND\nint y;\n#endif\nint n;\n")
        .file("d.c", "#if Q(\"x.h\")\nint y;\n#endif\nint n;\n")
        .file("e.c", "#if HAVE(X)\nint y;\n#endif\nint n;\n")
        .file("f.c", "#if ASK\nint y;\n#endif\nint n;\n")
        .file("g.c", "#include \"i/r.h\"\n#define H(d) __has_include(<d/r.h>)\n#if H(i) || ASK\nint y;\n#endif\nint n;\n")
        .file("q.cc", "#include \"q.h\"\n#if HAVE(<sys/quota.h>) && HAVE(\"x.h\")\nint y;\n#endif\nint n;\n")
        .file("x.h", "\n")
        .builds(&["make -i", "make -i"])
        .fix("rm -f x.h *.o");
    cpath_missing: surroundings(&["make", "env CPATH=nowhere make", "env CPATH=p1 make"]);
    cpath_of_mesh: surroundings(&["make"]).set("CPATH", "p1");
    include_paths: surroundings(&["env C_INCLUDE_PATH=p2 CPLUS_INCLUDE_PATH=p1 make"]);
    library_path: surroundings(&[
        "make lib", "make prog", "env LIBRARY_PATH=lib1 make prog", "env LIBRARY_PATH=lib2 make prog"]);
    run_path: surroundings(&["make lib", "env LD_RUN_PATH=/x/y LIBRARY_PATH=lib2 make prog"]);
    dependencies_output: surroundings(&["env CPATH=p1 DEPENDENCIES_OUTPUT=dep.out make"]);
    sun_dependencies: surroundings(&["make"]).set("CPATH", "p1").set("SUNPRO_DEPENDENCIES", "sun.out");
    no_temporary_directory: surroundings(&["env CPATH=p1 TMPDIR=/nonexistent make"]);
    wrapped_assembler: surroundings(&["env CPATH=p1 COMPILER_PATH=bin make"]);
    wrapped_by_path: Trial::recipe("PATH=$$PWD/bin:$$PATH gcc -c bad.c; gcc -c ok.c -o out")
        .file("bin/gcc", "#!/bin/sh\necho wrapped >&2\nexec /usr/bin/gcc \"$@\"\n");
    wrong_prefix: surroundings(&["env CPATH=p1 GCC_EXEC_PREFIX=/nope/ make"]);
    epoch: surroundings(&["env CPATH=p1 SOURCE_DATE_EPOCH=5 make"]);
    language: surroundings(&["env CPATH=p1 LANG=de_DE.UTF-8 LC_ALL= make", "env LC_ALL=C make -k"]);
    preloaded: surroundings(&["env CPATH=p1 LD_PRELOAD=libm.so.6 make"]);
    memory_perturbed: surroundings(&["env CPATH=p1 MALLOC_PERTURB_=3 make"]);

    umask_narrow: files("umask 077; gcc -c f.c -o u77.o; gcc m.c -o u77");
    umask_wide: files("umask 002; gcc -c f.c -o u02.o; ar rc u02.a u02.o; gcc bad.c");
    umask_none: files("umask 0; gcc -MMD -c f.c -o u0.o; gcc m.c -o u0");
    umask_all: files("umask 777; gcc -c f.c -o u777.o; true");
    over_hard_link: files("gcc -c f.c -o hl.o; ln hl.o hl2.o; gcc -DX -O2 -c f.c -o hl.o");
    failure_over_hard_link: files("gcc -c f.c -o hl.o; ln hl.o hl2.o; gcc -c bad.c -o hl.o");
    through_link: files("gcc -c f.c -o real/x.o; ln -s real/x.o sl.o; gcc -O2 -c f.c -o sl.o");
    failure_through_link: files("gcc -c f.c -o real/x.o; ln -s real/x.o sl.o; gcc -c bad.c -o sl.o");
    through_dangling_link: files("ln -s real/none.o dang.o; gcc -c f.c -o dang.o");
    source_is_link: files("ln -s f.c linked.c; gcc -g -MMD -c linked.c");
    directory_is_link: files("ln -s real rl; gcc -g -c f.c -o rl/viadir.o");
    over_read_only: files("gcc -c f.c -o ro.o; chmod 444 ro.o; gcc -O3 -c f.c -o ro.o");
    failure_over_read_only: files("gcc -c f.c -o ro.o; chmod 444 ro.o; gcc -c bad.c -o ro.o");
    program_over_linked: files("gcc m.c -o prog; ln -f prog prog2; chmod 700 prog; gcc -O2 m.c -o prog");
    over_other_mode: files("gcc -c f.c -o mode.o; chmod 600 mode.o; gcc -O2 -c f.c -o mode.o");
    over_executable: files("gcc -c f.c -o exe.o; chmod 755 exe.o; gcc -O2 -c f.c -o exe.o");
    to_pipe: files("rm -f ff; mkfifo ff; (cat ff > fifo.out & gcc -S f.c -o ff; wait)");
    through_parent: files("mkdir -p dd; gcc -c f.c -o dd/../dd/./n.o");
    over_open_for_appending: files("echo old > a.i; exec 4>>a.i; gcc -E f.c -o a.i; echo app >&4");
    over_open_for_reading: files("echo old > a.s; exec 3<a.s;  gcc -S f.c -o a.s; cat <&3 > read");
    dependencies_over_open: files("exec 6<>d.d; gcc -MMD -MF d.d -c f.c; cat <&6; echo x >&6; cat d.d");
    no_such_directory: files("gcc -c f.c -o nowhere/n.o || echo NOT > out");
    directory_in_the_way: files("mkdir -p way.o; gcc -c f.c -o way.o || echo NOT > out");
    archive_over_linked: files(
        "gcc -c f.c -o a.o; ar rc al.a a.o; ln -f al.a al2.a; gcc -O2 -c f.c -o b.o; ar rc al.a b.o");
    archive_fails_over_old: files("gcc -c f.c -o a.o; ar rc al.a a.o; ar rc al.a bad.o");
    strip_of_linked: files("gcc -g -c f.c -o st.o; ln st.o st2.o; strip st.o");
    dependencies_over_linked: files(
        "gcc -MMD -MF hd.d -c f.c -o hd.o; ln -f hd.d hd2.d; gcc -MMD -MF hd.d -O2 -c f.c -o hd.o; \
         mv hd.d hd3.d");
    partition_none: Trial::recipe(
        "gcc -frandom-seed=1 -O2 -flto -flto-partition=none m.c g.c -o prog\n./prog; echo $$? > out")
        .file("m.c", "int g(int);\nint main(void) { return g(3); }\n")
        .file("g.c", "int g(int x) { return x * 2; }\n").fix("touch ok.c");
    once_of_other_times: Trial::makefile("
m.o: m.c
    touch -d 2020-01-01 a/all.h; touch -d 2021-01-01 b/all.h
    gcc -c m.c
    nm m.o
").file("m.c", "#include \"a/all.h\"\n#include \"b/all.h\"\n")
        .file("a/all.h", "#pragma once\nint a;\n").file("b/all.h", "#pragma once\nint a;\n")
        .fix("echo '#pragma once' > b/all.h; touch m.c");
    several_sources_one_bad: Trial::recipe("gcc -c ok.c bad.c main.c; ls *.o > out");
    failure_with_dependencies: Trial::recipe("gcc -MMD -c bad.c; ls *.d > out; true");
    failure_with_listing: Trial::recipe("gcc -Wa,-al=list -c bad.c; gcc -Wa,-al=list -c ok.c; touch out").stamped(&["list"]);
    many_failures: Trial::recipe("for i in 1 2 3 4 5 6 7 8 9; do gcc -DI=$$i -c bad.c; done; touch out");
    same_output_twice: Trial::recipe("gcc -c ok.c -o x.o; gcc -c bad.c -o x.o; ls > out");

    clang_fails: clang("clang -c bad.c || echo NOT > out");
    clang_warns: clang("clang -Wall -Wextra -c warned.c 2>&1 | grep -c warning > out");
    clang_database: clang("clang -Ii -MMD -MJ cdb.json -c m.c -o m.o; cat cdb.json > out");
    clang_split: clang("clang -Ii -g -gsplit-dwarf -c m.c -o m.o; ls *.dwo > out");
    clang_trace: clang("clang -Ii -ftime-trace -c m.c -o m.o; ls m.json > out")
        .stamped(&["m.json"]);
    clang_llvm: clang("clang -Ii -emit-llvm -c m.c -o m.bc; clang -Ii -emit-llvm -S m.c -o m.ll; \
        clang -c m.ll -o out.o; clang m.bc -o prog; ./prog && touch out");
    clang_analyses: clang("clang --analyze -Ii m.c warned.c; clang -Ii -fsyntax-only m.c && touch out");
    clang_pch: clang("clang -x c-header i/h.h -o h.pch; clang -include-pch h.pch -c ok.c -o out")
        .stamped(&["h.pch", "out"]);
    clang_unknown_option: clang("clang -Wfoo -c ok.c; clang --no-such -c ok.c; echo $$? > out");
}
