//! Recipes that ask whether a compiler succeeds, in each way in which a shell can ask.

use mesh_tests::Trial;

use super::trials;

trials! {
    if_then_else: Trial::recipe("if gcc -c bad.c; then echo HAVE > out; else echo NOT > out; fi");
    if_not: Trial::recipe("if ! gcc -c bad.c; then echo NOT > out; else echo HAVE > out; fi");
    elif: Trial::recipe(
        "if gcc -c bad.c; then echo one > out; elif gcc -c ok.c; then echo two > out; fi");
    if_quiet: Trial::recipe(
        "if gcc -c bad.c 2>/dev/null; then echo HAVE > out; else echo NOT > out; fi");
    or_true: Trial::recipe("gcc -c bad.c || true\ngcc -c ok.c\ntouch out");
    or_other: Trial::recipe("gcc -c bad.c -o out || gcc -c ok.c -o out");
    or_exit: Trial::recipe("gcc -c bad.c || { echo gave up > why; exit 7; }\ntouch out");
    and: Trial::recipe("gcc -c bad.c && echo made > out");
    and_of_three: Trial::recipe("gcc -c ok.c && gcc -c bad.c && echo made > out; echo tried > log");
    and_or: Trial::recipe("gcc -c bad.c && echo yes > out || echo no > out");
    not: Trial::recipe("! gcc -c bad.c\ntouch out");
    status: Trial::recipe("gcc -c bad.c; echo status $$? > out");
    status_later: Trial::recipe("gcc -c bad.c; s=$$?; gcc -c ok.c; echo $$s > out; exit $$s");
    status_of_case: Trial::recipe(
        "gcc -c bad.c; case $$? in 0) echo good;; 1) echo bad;; *) echo odd;; esac > out");
    while_loop: Trial::recipe(
        "while ! gcc -c bad.c; do echo 'int a;' > bad.c; done; echo done > out");
    for_loop: Trial::recipe("for f in ok bad main; do gcc -c $$f.c || echo $$f >> out; done");
    for_loop_to_first: Trial::recipe(
        "for f in ok bad main; do gcc -c $$f.c || exit 1; done\ntouch out");
    for_loop_of_last: Trial::recipe("for f in bad ok; do gcc -c $$f.c; done\ntouch out");
    semicolon: Trial::recipe("gcc -c bad.c; gcc -c ok.c\ntouch out");
    set_e: Trial::recipe("set -e; gcc -c ok.c; gcc -c bad.c; echo after > after\ntouch out");
    set_e_in_condition: Trial::recipe(
        "set -e; build() { gcc -c bad.c; echo went on >> log; }; build || echo failed > out");
    trap: Trial::recipe("trap 'echo $$? > trapped' EXIT; gcc -c bad.c && touch out");
    function: Trial::recipe("try() { gcc -c $$1; }; try ok.c && try bad.c; echo $$? > out");
    subshell: Trial::recipe("(gcc -c bad.c); echo $$? > out");
    subshell_elsewhere: Trial::recipe("mkdir -p d; (cd d && gcc -c ../bad.c); echo $$? > out");
    exec: Trial::recipe("(exec gcc -c bad.c) || echo failed > out");
    eval: Trial::recipe("eval 'gcc -c bad.c' || echo failed > out");
    through_env: Trial::recipe("env A=b gcc -c bad.c || echo failed > out");
    through_timeout: Trial::recipe("timeout 50 gcc -c bad.c; echo $$? > out");
    through_nice: Trial::recipe("nice gcc -c bad.c || echo failed > out");
    through_sh: Trial::recipe("sh -c 'gcc -c bad.c' || echo failed > out");
    in_background: Trial::recipe("gcc -c bad.c & wait $$!; echo $$? > out");
    two_in_background: Trial::recipe(
        "gcc -c bad.c & p=$$!; gcc -c ok.c & wait $$!; echo $$? > ok.s; wait $$p; echo $$? > out");

    pipe: Trial::recipe("gcc -c bad.c 2>&1 | cat\ntouch out");
    pipe_to_file: Trial::recipe("gcc -c bad.c 2>&1 | cat > out");
    pipe_counted: Trial::recipe("gcc -c bad.c 2>&1 | wc -l > out");
    pipe_searched: Trial::recipe("gcc -c bad.c 2>&1 | grep -q error && echo failed > out");
    pipe_of_preprocessed: Trial::recipe("gcc -E bad.c | gcc -c -x c - -o out");
    pipe_after_failure: Trial::recipe("-gcc -c bad.c\ngcc -c ok.c 2>&1 | cat\ntouch out");
    pipe_after_ignored_errors: Trial::recipe("gcc -c bad.c; gcc -c ok.c 2>&1 | cat > out");
    pipe_that_must_succeed: Trial::makefile("
SHELL = /bin/bash
.SHELLFLAGS = -o pipefail -c
out: bad.c
    gcc -c bad.c 2>&1 | cat > log
    touch out
");
    pipe_into_loop: Trial::recipe(
        "echo bad ok | tr ' ' '\\n' | while read f; do gcc -c $$f.c || echo $$f >> out; done");

    substitution: Trial::recipe("echo \"$$(gcc -c bad.c 2>&1)\" > out");
    substitution_status: Trial::recipe("said=$$(gcc -c bad.c 2>&1); echo \"$$? $$said\" > out");
    substitution_empty: Trial::recipe(
        "if [ -z \"$$(gcc -c bad.c 2>&1)\" ]; then echo clean > out; else echo dirty > out; fi");
    backticks: Trial::recipe("said=`gcc -c bad.c 2>&1`; echo \"$$? $$said\" > out");
    counted: Trial::recipe("[ $$(gcc -c bad.c 2>&1 | wc -l) -gt 0 ] && echo bad > out || touch out");
    by_its_object: Trial::recipe(
        "rm -f bad.o; gcc -c bad.c; if [ -e bad.o ]; then echo HAVE > out; else echo NOT > out; fi");
    by_listing: Trial::recipe("gcc -c bad.c; gcc -c ok.c; ls *.o > out");
    by_globbing: Trial::recipe("gcc -c bad.c; gcc -c ok.c; echo *.o > out");
    by_finding: Trial::recipe("gcc -c bad.c; gcc -c ok.c; find . -name '*.o' | sort > out");

    xargs: Trial::recipe("echo ok.c bad.c main.c | xargs -n1 gcc -c; echo $$? > out");
    xargs_all: Trial::recipe("echo ok.c bad.c main.c | xargs gcc -c; echo $$? > out");
    xargs_must_succeed: Trial::recipe("echo bad.c ok.c | xargs -n1 gcc -c\ntouch out");
    find_exec: Trial::recipe(
        "find . -name bad.c -exec gcc -c {} ';' ; echo $$? > out");
    find_exec_and: Trial::recipe(
        "find . -name '[bo]*.c' -exec gcc -c {} ';' -print | sort > out");
    find_exec_plus: Trial::recipe("find . -name bad.c -exec gcc -c {} + || echo failed > out");

    missing_header: Trial::recipe("if gcc -c missing.c; then touch out; else echo NOT > out; fi");
    missing_source: Trial::recipe("gcc -c nowhere.c || echo NOT > out");
    unknown_option: Trial::recipe("gcc --no-such-option -c ok.c || echo NOT > out");
    warning_as_error: Trial::recipe("gcc -Wall -Werror -c warned.c || echo NOT > out");
    syntax_only: Trial::recipe("gcc -fsyntax-only bad.c && echo HAVE > out || echo NOT > out");
    link: Trial::recipe("gcc ok.c -o prog || echo no main > out");
    link_of_objects: Trial::recipe("gcc -c ok.c; gcc ok.o -o prog || echo no main > out");
    library: Trial::recipe("gcc main.c -lnowhere -o prog || echo no library > out");
    archive: Trial::recipe("ar rc lib.a nowhere.o || echo NOT > out");
    archive_of_failed: Trial::recipe(
        "gcc -c ok.c; gcc -c bad.c; ar rcs lib.a ok.o bad.o || echo NOT > out");
    strip: Trial::recipe("gcc -c bad.c; strip bad.o || echo NOT > out");
    assembler: Trial::recipe("echo nonsense > bad.s; as bad.s -o bad.o || echo NOT > out");
    plus_plus: Trial::recipe("g++ -c bad.c || echo NOT > out");
    run_it: Trial::recipe("gcc main.c bad.c -o prog; ./prog && echo ran > out || echo NOT > out");
    deep: Trial::recipe(
        "gcc -c ok.c\nif gcc -c bad.c && gcc -c main.c; then echo a > out; else echo b > out; fi\n\
         gcc -c hello.c; gcc -c bad.c && echo c >> out || echo d >> out");
}
