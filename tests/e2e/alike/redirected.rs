//! Where the words of a compiler go: files, pipes, nowhere.

use mesh_tests::Trial;

use super::trials;

trials! {
    words_on_both_streams: Trial::recipe(
        "gcc -c ok.c; rm -f l.a; ar rv l.a ok.o > out 2>&1; cat out
        rm -f m.a; ar rv m.a ok.o 2>&1 | cat
        rm -f n.a; echo `ar rv n.a ok.o 2>&1`").fix("rm out; touch ok.c bad.c");
    to_file: Trial::recipe("gcc -c bad.c > log 2>&1\ntouch out");
    to_file_ignored: Trial::recipe("-gcc -c bad.c > log 2>&1\ntouch out");
    to_two_files: Trial::recipe("gcc -c bad.c > out.log 2> err.log; echo $$? > out");
    errors_to_file: Trial::recipe("gcc -c bad.c 2> log || cat log\ntouch out");
    errors_added: Trial::recipe("gcc -c bad.c 2>> log; gcc -c missing.c 2>> log; cp log out")
        .times_vary();
    warnings_to_file: Trial::recipe("gcc -Wall -c warned.c 2> log; cat log; cp log out")
        .times_vary();
    warnings_to_pipe: Trial::recipe("gcc -Wall -c warned.c 2>&1 | cat > out")
        .times_vary();
    warnings_counted: Trial::recipe("gcc -Wall -c warned.c 2>&1 | grep -c warning: > out")
        .times_vary();
    warnings_shown: Trial::recipe("gcc -Wall -c warned.c\ngcc -Wall -Wextra -c warned.c\ntouch out");
    warnings_and_failure: Trial::recipe("gcc -Wall -c warned.c\ngcc -Wall -c bad.c\ntouch out");
    warnings_in_order: Trial::recipe(
        "echo one; gcc -Wall -c warned.c; echo two; gcc -Wextra -c warned.c; echo three; touch out")
        .together();
    failure_in_order: Trial::recipe(
        "-echo one; gcc -c bad.c; echo two >&2; gcc -c missing.c; echo three; touch out").together();
    tee: Trial::recipe("gcc -c bad.c 2>&1 | tee log\ntouch out");
    tee_of_warnings: Trial::recipe("gcc -Wall -c warned.c 2>&1 | tee log > out")
        .times_vary();
    tee_of_make: Trial::script("make -k -f all.mk 2>&1 | tee log
")
        .file("all.mk", "all: one two
one:
	gcc -c bad.c
two:
	gcc -Wall -c warned.c
")
        .together().times_vary();
    log_of_make: Trial::script("make bad.o ok.o > log 2>&1; echo $? >> log\n\
        make -k bad.o main.o >> log 2>&1; echo $? >> log\n")
        .times_vary();
    thrown_away: Trial::recipe("gcc -c bad.c > /dev/null 2>&1; echo $$? > out");
    errors_closed: Trial::recipe("gcc -c bad.c 2>&-; echo $$? > out");
    other_descriptor: Trial::recipe("exec 3> log; gcc -c bad.c 2>&3; echo $$? > out");
    swapped: Trial::recipe("gcc -c bad.c 3>&1 1>&2 2>&3 | cat > log; cp log out");
    whole_shell: Trial::recipe("exec > log 2>&1; gcc -c bad.c; gcc -Wall -c warned.c; touch out")
        .times_vary();
    group: Trial::recipe("{ gcc -c ok.c; gcc -c bad.c; gcc -Wall -c warned.c; } > out 2>&1")
        .times_vary();
    output_to_stdout: Trial::recipe("gcc -E ok.c > out");
    assembly_to_stdout: Trial::recipe("gcc -S ok.c -o - > out");
    failed_to_stdout: Trial::recipe("gcc -S bad.c -o - > out");
    failed_in_target: Trial::recipe("gcc -E missing.c > out");
    dependencies_to_stdout: Trial::recipe("gcc -MM ok.c missing.c > out");
    first_line: Trial::recipe("gcc -c bad.c 2>&1 | head -1 > out");
    into_source: Trial::recipe(
        "gcc -c bad.c 2> log; printf '#define ERRORS %d\\n' $$(wc -l < log) > count.h\n\
         gcc -include count.h -c ok.c -o out");
    preprocessed_to_pipe: Trial::recipe("gcc -E -P ok.c -o - | cat > out");
    environment: Trial::recipe("GCC_COLORS= gcc -fdiagnostics-color=always -c bad.c 2> out; true");
    one_pipe_for_all: Trial::recipe(
        "(gcc -c bad.c; echo between; gcc -Wall -c warned.c; echo after) 2>&1 | cat > out").together()
        .times_vary();
}
