//! What a recipe changes before and after a compiler fails: all of it, or none, as without mesh.

use mesh_tests::Trial;

use super::trials;

/// A recipe of `before`, a compile that fails, `after`; first as it is, then with failures ignored.
fn around(before: &str, after: &str) -> Trial {
    let lines =
        |lines: &str| lines.lines().map(|l| format!("    {}\n", l.trim())).collect::<String>();
    let (before, after) = (lines(before), lines(after));
    Trial::makefile(&format!(
        "all: out ignoring\n\
         out: bad.c\n    gcc -c ok.c\n{before}    gcc -c bad.c\n{after}    touch out\n\
         ignoring: bad.c\n    gcc -c ok.c\n{before}    -gcc -c bad.c\n{after}    touch ignoring\n"
    ))
    .file("precious", "precious\n")
    .file("other", "other\n")
    .builds(&["make", "make ignoring"])
}

fn after(lines: &str) -> Trial {
    around("true", lines)
}

trials! {
    stamp: after("touch stamp");
    stamp_of_two: Trial::makefile("
all: stamp sub.ok
stamp: bad.c
    gcc -c bad.c -o bad.o
    touch stamp
sub.ok: bad.c ok.c
    gcc -c ok.c -o ok.o
    gcc -c bad.c -o bad.o
    echo log > log.txt; echo done > sub.ok
").builds(&["make", "make", "make sub.ok", "make sub.ok", "make -q sub.ok"]);
    append: after("echo deployed >> deploy.log");
    append_to_source: after("echo more >> precious");
    append_twice: around("echo one >> log", "echo two >> log");
    overwrite: after("echo new > precious");
    remove: after("rm -f precious");
    remove_object: after("rm ok.o");
    remove_before: around("rm -f precious", "echo again > precious");
    remove_tree: around("mkdir -p d/e/f; echo a > d/e/f/g", "rm -r d");
    remove_tree_of_objects: around("mkdir -p d/e; gcc -c main.c -o d/e/main.o", "rm -rf d");
    rename: after("mv precious elsewhere; mv elsewhere precious2; cp precious2 precious");
    rename_over: after("cp other third; mv third precious");
    rename_object: after("mv ok.o renamed.o");
    rename_object_over: around("echo old > kept.o", "mv ok.o kept.o");
    rename_failed: after("-mv bad.o renamed.o");
    rename_directory: around("mkdir -p d; gcc -c main.c -o d/main.o", "rm -rf e; mv d e");
    exchange: around("echo a > a; echo b > b", "mv a t; mv b a; mv t b");
    move_if_change: after("cp ok.c new.h; cmp -s new.h old.h && rm new.h || mv new.h old.h");
    hard_link: after("ln -f precious linked");
    hard_link_of_object: after("ln -f ok.o linked.o");
    hard_link_then_change: after("ln -f precious linked; echo more >> linked");
    hard_link_undone: around("ln -f precious linked", "rm linked");
    symbolic_link: after("ln -sf precious linked");
    symbolic_link_of_object: after("ln -sf ok.o linked.o");
    symbolic_link_moved: around("ln -sf precious linked", "ln -sfn other linked");
    symbolic_link_to_directory: around("mkdir -p d", "ln -sfn d e; echo a > e/f");
    symbolic_link_of_failed: after("ln -sf bad.o linked.o");
    mode: after("chmod 600 precious");
    mode_of_object: after("chmod 400 ok.o; chmod 600 ok.o");
    mode_of_directory: around("mkdir -p d", "chmod 700 d; mkdir -p d/e; chmod 2750 d/e");
    mode_read_only: after("chmod a-w precious");
    created_by_umask: after("umask 077; echo a > secret; mkdir -p hidden");
    time: after("touch -d '2001-02-03 04:05:06' precious");
    time_of_object: after("touch -d '2001-02-03 04:05:06' ok.o");
    time_of_other: after("touch -r other precious");
    time_from_object: after("touch -r ok.o stamp");
    time_now: after("touch precious");
    make_directory: after("mkdir -p a/b/c");
    make_directory_for_object: after("mkdir -p obj; gcc -c main.c -o obj/main.o");
    remove_directory: around("mkdir -p empty", "rmdir empty");
    truncate: after("truncate -s 3 precious");
    truncate_to_nothing: after(": > precious");
    truncate_longer: after("truncate -s 5000 precious");
    truncate_object: after("cp ok.o short.o; truncate -s 10 short.o");
    write_inside: after("printf X | dd of=precious bs=1 seek=2 conv=notrunc 2>/dev/null");
    sed_in_place: after("sed -i s/pre/post/ precious");
    sed_with_backup: after("sed -i.orig s/pre/post/ precious");
    perl_in_place: after("perl -pi -e 's/pre/post/' precious").needs("perl");
    copy: after("cp precious copied");
    copy_archive: after("cp -a precious copied");
    copy_archive_of_object: after("cp -a ok.o copied.o");
    copy_over_object: around("cp precious ok.o", "cp other ok.o");
    copy_tree: around("mkdir -p d; gcc -c main.c -o d/main.o", "rm -rf e; cp -a d e");
    copy_linked: after("cp -l -f precious linked");
    install: after("install -D -m 640 precious inst/all/precious");
    install_object: after("install -m 600 ok.o installed.o");
    tar: around("tar cf all.tar precious other", "mkdir -p t; tar xf all.tar -C t")
        .stamped(&["all.tar"]);
    tar_over: around("tar cf all.tar precious; echo new > precious", "tar xf all.tar")
        .stamped(&["all.tar"]);
    tee: after("echo a | tee one two > three");
    here_document: after("printf 'a\\nb\\n' | sort -r > sorted");
    sort_onto_itself: after("sort -o precious precious");
    temporary_files: after("t=$$(mktemp) && cp precious $$t && mv $$t fresh && chmod 644 fresh");
    pipe_made: after("rm -f fifo; mkfifo fifo; cat fifo > read & echo through > fifo; wait");
    by_python: after(
        "python3 -c 'import os; os.rename(\"precious\", \"p\"); open(\"p\", \"a\").write(\"x\")'; \
         cp other precious").needs("python3");
    background: Trial::recipe(
        "rm -f go; (while [ ! -e go ]; do :; done; echo late > late) & \
         gcc -c bad.c; s=$$?; touch go; wait; exit $$s\ntouch out");
    background_ignored: Trial::recipe(
        "-rm -f go; (while [ ! -e go ]; do :; done; echo late >> late) & \
         gcc -c bad.c; s=$$?; touch go; wait; exit $$s\ntouch out");
    earlier_target: Trial::makefile("
all: first second
first: ok.c
    echo first >> log
    gcc -c ok.c -o first
second: first bad.c
    echo second >> log
    gcc -c bad.c -o second
    echo third >> log
");
    log_of_all: Trial::makefile("
all: ok.o bad.o main.o
%.o: %.c
    echo $< >> log
    gcc -c $< -o $@
    echo $@ >> log
").builds(&["make", "make -k", "make -i"]);
    generated: Trial::makefile("
out: gen.o bad.o
    gcc main.c gen.o bad.o -o out
gen.c: gen
    ./gen > gen.c
gen: hello.c
    gcc -DGEN hello.c -o gen
%.o: %.c
    gcc -c $< -o $@
").file("hello.c", "#include <stdio.h>\nint main(void) { return puts(\"int gen;\") < 0; }\n");
    counter: after("n=$$(cat count 2>/dev/null || echo 0); echo $$((n + 1)) > count");
    version_file: after("echo \"v$$(cat precious | wc -c)\" > version.h.tmp; mv version.h.tmp version.h");
    outside: Trial::recipe("mkdir -p ../beside\ngcc -c bad.c\necho a > ../beside/a\ntouch out");
    working_file_of_failed: around("gcc -c ok.c -o bad.o", "true");
    many_files: around(
        "for i in 1 2 3 4 5 6 7 8 9; do echo $$i > f$$i; done",
        "for i in 1 2 3 4 5 6 7 8 9; do mv f$$i g$$i; ln -f g$$i h$$i; done");
}
