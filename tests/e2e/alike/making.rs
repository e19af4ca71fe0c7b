//! What make itself does about failures, by its options, prefixes and special targets.

use mesh_tests::{Mode, Project, Trial, With};

use super::trials;

/// Compiles three sources, the second of which is broken; then what needs them.
const THREE: &str = "
all: one two three
one: ok.o
    cp ok.o one
two: bad.o
    cp bad.o two
three: main.o
    gcc main.o -o three
%.o: %.c
    gcc -c $< -o $@
";

fn three(commands: &[&str]) -> Trial {
    Trial::makefile(THREE).builds(commands)
}

/// A failure in the middle of a recipe, below some lines of Makefile.
fn failing(head: &str) -> Trial {
    Trial::makefile(&format!(
        "{head}\nout: bad.c\n    echo begun > out\n    gcc -c bad.c\n    echo done > out\n\
         after: out\n    gcc -c ok.c -o after\n"
    ))
    .builds(&["make after"])
}

trials! {
    stops: three(&["make"]);
    ignores: three(&["make -i"]);
    keeps_going: three(&["make -k"]);
    keeps_going_at_once: three(&["make -k -j3"]).in_any_order();
    ignores_at_once: three(&["make -i -j2"]).in_any_order();
    keeps_going_in_groups: three(&["make -k -j2 -Otarget"]).in_any_order();
    silent: three(&["make -s"]);
    only_prints: three(&["make -n", "make -k", "make -n"]);
    asks: three(&["make -q", "make -k", "make -q", "make -q one", "make -q two"]);
    always: three(&["make -B -k", "make one"]);
    touches: three(&["make -k", "make -t", "make"]).fix("echo 'int a;' > bad.c; rm -f two");
    what_if: three(&["make -k", "make -k -W ok.c"]);
    old_file: three(&["make -k", "make -k -o bad.o"]);
    load_limit: three(&["make -k -l 1000"]);
    tells_why: three(&["make -k --debug=b"]);
    together: three(&["make"]).together();
    keeps_going_together: three(&["make -k"]).together();
    ignores_together: three(&["make -i"]).together();
    one_goal_then_all: three(&["make one", "make two", "make three", "make"]);

    prefix_ignores: Trial::recipe("-gcc -c bad.c\ngcc -c ok.c\ntouch out");
    prefix_ignores_silently: Trial::recipe("-@gcc -c bad.c\n@gcc -c ok.c\n@touch out");
    prefix_silences: Trial::recipe("@gcc -c ok.c\n@gcc -c bad.c\n@touch out");
    prefix_ignores_last: Trial::recipe("gcc -c ok.c -o out\n-gcc -c bad.c");
    prefix_ignores_all: Trial::recipe("-gcc -c bad.c\n-gcc -c missing.c\n-gcc ok.c -o out");
    prefix_always: Trial::recipe("+gcc -c bad.c\ntouch out").builds(&["make -n", "make"]);
    ignored_target: failing(".IGNORE: out");
    ignored_all: failing(".IGNORE:");
    deleted_on_error: failing(".DELETE_ON_ERROR:");
    kept_on_error: failing("");
    silenced_target: failing(".SILENT: out");
    silenced_all: failing(".SILENT:");
    posix: failing(".POSIX:");
    precious: failing(".DELETE_ON_ERROR:\n.PRECIOUS: out");
    no_builtins: failing("MAKEFLAGS += -rR");
    one_shell: failing(".ONESHELL:");
    one_shell_strict: failing(".ONESHELL:\n.SHELLFLAGS = -ec");
    other_shell: failing("SHELL = /bin/bash\n.SHELLFLAGS = -euo pipefail -c");
    phony: failing(".PHONY: after");
    not_at_once: failing(".NOTPARALLEL:").builds(&["make -j4 after"]);
    deleted_object: Trial::makefile("
.DELETE_ON_ERROR:
out.o: bad.c
    gcc -c ok.c -o out.o
    gcc -c bad.c
");
    old_output_deleted: Trial::makefile("
.DELETE_ON_ERROR:
out: bad.c
    cat bad.c > out
    gcc -c bad.c -o bad.o
").file("bad.c", "int a;\n").fix("echo 'int a(' > bad.c");
    old_object_stays_or_goes: Trial::recipe("gcc -c bad.c -o out")
        .file("bad.c", "int a;\n").fix("echo 'int a(' > bad.c");
    old_program_stays_or_goes: Trial::recipe("gcc main.c bad.c -o out")
        .file("bad.c", "int a;\n").fix("echo 'int a(' > bad.c");
    old_program_fails_to_link: Trial::recipe("gcc main.c bad.c -o out")
        .file("bad.c", "int a;\n").fix("echo 'int main;' > bad.c");
    intermediates: Trial::makefile("
out: bad.x
    gcc -c ok.c -o $@
%.x: %.y
    gcc -c $*.c -o $@
%.y: %.c
    gcc -E $< -o $@
");
    secondary: Trial::makefile("
.SECONDARY:
out: bad.x
    cp $< $@
%.x: %.y
    gcc -c $*.c -o $@
%.y: %.c
    gcc -E $< -o $@
");
    order_only: Trial::makefile("
out: ok.o | made
    gcc main.c ok.o -o out
ok.o: ok.c | made
    gcc -c ok.c
made: bad.c
    mkdir -p made
    gcc -c bad.c -o made/bad.o
    touch made
");
    double_colon: Trial::makefile("
out:: bad.c
    -gcc -c bad.c
    echo one >> out
out:: ok.c
    gcc -c ok.c
    echo two >> out
").builds(&["make", "make -k"]);
    grouped: Trial::makefile("
all: a.o b.o
a.o b.o &: bad.c ok.c
    gcc -c ok.c -o a.o
    gcc -c bad.c -o b.o
");
    implicit_rules: Trial::makefile("
all: ok.o bad.o main.o
").builds(&["make", "make -k", "make -i"]);
    implicit_archive: Trial::makefile("
lib.a: lib.a(ok.o) lib.a(bad.o)
").builds(&["make -k"]);
    dependencies: Trial::makefile("
out: ok.o missing.o
    cat ok.o missing.o > out
%.o: %.c
    gcc -MMD -MP -c $< -o $@
-include ok.d missing.d
");
    included: Trial::makefile("
out: ok.o
    cp ok.o out
include made.mk
made.mk: bad.c
    gcc -c bad.c
    echo 'ok.o: main.c' > made.mk
");
    included_if_there: Trial::makefile("
out: ok.o
    cp ok.o out
-include made.mk
made.mk: bad.c
    gcc -c bad.c
    echo 'ok.o: main.c' > made.mk
");
    asked_by_make: Trial::makefile("
HAVE := $(shell gcc -c bad.c 2>/dev/null && echo yes || echo no)
out: bad.c
    echo $(HAVE) > out
");
    status_for_make: Trial::makefile("
SAID := $(shell gcc -c bad.c 2>&1)
STATUS := $(.SHELLSTATUS)
out: bad.c
    echo '$(STATUS)' > out
");
    recursive: Trial::makefile("
all:
    $(MAKE) -C sub
    gcc -c ok.c
").file("sub/Makefile", "out: ../bad.c\n\tgcc -c ../bad.c\n\ttouch out\n");
    recursive_ignored: Trial::makefile("
all:
    -$(MAKE) -C sub
    gcc -c ok.c
").file("sub/Makefile", "out: ../bad.c\n\tgcc -c ../bad.c\n\ttouch out\n");
    recursive_asked: Trial::makefile("
out: bad.c
    if $(MAKE) bad.o; then echo HAVE > out; else echo NOT > out; fi
");
    recursive_keeps_going: Trial::makefile("
all: one two
one two:
    $(MAKE) -C $@-dir
").file("one-dir/Makefile", "all: a b\na:\n\tgcc -c ../bad.c -o a\nb:\n\tgcc -c ../ok.c -o b\n")
        .file("two-dir/Makefile", "all: c\nc:\n\tgcc -c ../main.c -o c\n")
        .builds(&["make -k"]);
    recursive_in_loop: Trial::makefile("
all:
    for d in one two; do $(MAKE) -C $$d || exit 1; done
").file("one/Makefile", "a: ../bad.c\n\tgcc -c ../bad.c -o a\n")
        .file("two/Makefile", "b: ../ok.c\n\tgcc -c ../ok.c -o b\n");
    clean_after: three(&["make -k", "make -k clean all"]).file(
        "GNUmakefile", "include Makefile\nclean:\n\trm -f *.o one two three\n");
    search_path: Trial::makefile("
VPATH = src
out: inner.o bad.o
    cat $^ > out
%.o: %.c
    gcc -c $< -o $@
").file("src/inner.c", "int inner;\n");
}

/// The first build fails; nothing is repeated by the second but what plain make repeats.
#[test]
fn what_failed_is_tried_again_and_nothing_else() {
    for mode in [Mode::Lazy, Mode::Eager] {
        let trial = three(&["make -k", "make -k", "make"]);
        trial.check(mode);
    }
}

/// `mesh make` is `mesh build -- make`, also with a failure.
#[test]
fn mesh_make_ends_as_make() {
    let project = Project::made([("Makefile", "out:\n\tgcc -c bad.c\n"), ("bad.c", "int a(\n")]);
    let plain = project.build(With::Plain, "make");
    let mesh = mesh_tests::Mesh::new();
    let mut command = project.command(mesh_tests::binary());
    command.env("MESH_HOME", mesh.home()).arg("make");
    let made = mesh_tests::finished(command.output().unwrap());
    assert_eq!(made.code, plain.finished.code, "{made:#?}");
    assert_eq!(made.stdout, plain.finished.stdout);
    plain.snapshot.differences(&project.snapshot(), &[]).assert_none("mesh make");
}
