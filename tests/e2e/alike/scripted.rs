//! Build commands that are no make: Python, Perl, awk and shell scripts that ask compilers.

use mesh_tests::Trial;

use super::trials;

trials! {
    check_call: Trial::python("
import subprocess
try:
    subprocess.check_call(['gcc', '-c', 'bad.c'])
    print('made')
except subprocess.CalledProcessError as error:
    print(error)
");
    check_call_uncaught: Trial::python("
import subprocess, sys
sys.tracebacklimit = 0
subprocess.check_call(['gcc', '-c', 'ok.c'])
subprocess.check_call(['gcc', '-c', 'bad.c'])
open('after', 'w').write('after')
");
    captured: Trial::python("
import subprocess
done = subprocess.run(['gcc', '-c', 'bad.c'], capture_output=True, text=True)
print(done.returncode, done.stdout, done.stderr)
");
    captured_and_checked: Trial::python("
import subprocess
try:
    subprocess.run(['gcc', '-c', 'bad.c'], capture_output=True, check=True)
    open('have', 'w').write('1')
except subprocess.CalledProcessError as error:
    open('not', 'wb').write(error.stderr)
");
    captured_in_one_slot: Trial::python("
import subprocess
for name in ['a.c', 'bad.c']:
    print(subprocess.run(['cc', '-c', name], capture_output=True))
").file("a.c", "int a;\n").mesh_option("--slots=1");
    return_code: Trial::python("
import subprocess
codes = [subprocess.call(['gcc', '-c', name]) for name in ['ok.c', 'bad.c', 'main.c']]
open('codes', 'w').write(str(codes))
");
    opened_to_file: Trial::python("
import subprocess
with open('log', 'w') as log:
    process = subprocess.Popen(['gcc', '-c', 'bad.c'], stdout=log, stderr=subprocess.STDOUT)
    print(process.wait())
print(open('log').read())
");
    opened_at_once: Trial::python("
import subprocess
names = ['ok.c', 'bad.c', 'main.c', 'missing.c']
running = [subprocess.Popen(['gcc', '-c', n], stderr=subprocess.PIPE) for n in names]
for name, process in zip(names, running):
    said = process.communicate()[1]
    print(name, process.returncode, said.decode())
").times_vary();
    polled: Trial::python("
import subprocess
process = subprocess.Popen(['gcc', '-c', 'bad.c'], stderr=subprocess.DEVNULL)
while process.poll() is None:
    pass
print(process.returncode)
");
    in_threads: Trial::python("
import subprocess
from concurrent.futures import ThreadPoolExecutor
def build(name):
    return subprocess.run(['gcc', '-c', name], capture_output=True, text=True)
names = ['ok.c', 'bad.c', 'main.c', 'warned.c', 'missing.c']
with ThreadPoolExecutor(4) as pool:
    for name, done in zip(names, pool.map(build, names)):
        print(name, done.returncode, done.stderr)
").times_vary();
    by_system: Trial::python("
import os
print(os.waitstatus_to_exitcode(os.system('gcc -c bad.c 2> log')))
print(os.popen('gcc -c missing.c 2>&1').read())
");
    by_fork: Trial::python("
import os
child = os.fork()
if child == 0:
    os.execvp('gcc', ['gcc', '-c', 'bad.c'])
print(os.waitpid(child, 0)[1])
");
    by_spawn: Trial::python("
import os
pid = os.posix_spawnp('gcc', ['gcc', '-c', 'bad.c'], os.environ)
print(os.waitpid(pid, 0)[1])
");
    asks_for_the_object: Trial::python("
import os, subprocess
for name in ['ok', 'bad']:
    subprocess.call(['gcc', '-c', name + '.c'], stderr=subprocess.DEVNULL)
    print(name, os.path.exists(name + '.o'), os.path.isfile(name + '.o'))
print(sorted(n for n in os.listdir('.') if n.endswith('.o')))
");
    in_temporary_directory: Trial::python("
import os, shutil, subprocess, tempfile
def works(text):
    place = tempfile.mkdtemp(dir='.')
    try:
        source = os.path.join(place, 'test.c')
        open(source, 'w').write(text)
        return subprocess.call(['gcc', source, '-o', os.path.join(place, 'test')],
                               stderr=subprocess.DEVNULL) == 0
    finally:
        shutil.rmtree(place)
print(works('int main(void) { return 0; }'), works('int main(void) { return x; }'))
");
    limited_by_python: Trial::python("
import subprocess
print(subprocess.run(['gcc', '-c', 'bad.c'], timeout=50).returncode)
");
    perl_system: Trial::of(&[("bad.c", "int a(\n"), ("ask.pl", "
my $status = system('gcc', '-c', 'bad.c');
print $status >> 8, \"\\n\";
")]).builds(&["perl ask.pl"]).needs("perl");
    perl_backticks: Trial::of(&[("bad.c", "int a(\n"), ("ask.pl", "
my $said = `gcc -c bad.c 2>&1`;
print $? >> 8, \" $said\";
open(my $pipe, '-|', 'gcc -c bad.c 2>&1') or die;
print while <$pipe>;
close $pipe; print $? >> 8, \"\\n\";
")]).builds(&["perl ask.pl"]).needs("perl");
    perl_dies: Trial::of(&[("bad.c", "int a(\n"), ("ask.pl", "
system('gcc', '-c', 'bad.c') == 0 or die \"no compiler\\n\";
open(my $f, '>', 'after'); print $f 'after';
")]).builds(&["perl ask.pl"]).needs("perl");
    awk_system: Trial::script(
        "awk 'BEGIN { s = system(\"gcc -c bad.c\"); print \"status\", s; exit s }'\n");
    awk_pipe: Trial::script(
        "awk 'BEGIN { while ((\"gcc -c bad.c 2>&1\" | getline line) > 0) n++; print n > \"n\" }'\n");
    script_stops: Trial::script("set -e\ngcc -c ok.c\ngcc -c bad.c\necho linked > linked\n");
    script_goes_on: Trial::script("gcc -c ok.c\ngcc -c bad.c\necho $? > status\ngcc -c main.c\n");
    script_exits_with_it: Trial::script("gcc -c ok.c\ngcc -c bad.c\n");
    script_exits_otherwise: Trial::script("gcc -c bad.c || exit 42\n");
    script_substitutes: Trial::script("out=$(gcc -c bad.c 2>&1); echo \"status $?: $out\"\n");
    script_reads: Trial::script(
        "gcc -c bad.c 2>&1 | while read -r line; do echo \"> $line\"; done\n");
    script_ends_by_signal: Trial::script("gcc -c bad.c || kill -TERM $$\n");
    compiler_itself: Trial::of(&[("bad.c", "int a(\n")]).builds(&["gcc -c bad.c"]);
    compiler_itself_with_words: Trial::of(&[("bad.c", "int f(int x) { int u; return x; }\n")])
        .builds(&["gcc -Wall -c bad.c"]).fix("echo 'int a(' > bad.c");
    link_itself: Trial::of(&[("main.c", "int main(void) { return g(); }\n")])
        .builds(&["gcc -w main.c -o prog"]).fix("echo 'int g(void) { return 1; }' >> main.c");
    bash_status_of_pipe: Trial::of(&[("bad.c", "int a(\n"), ("ask.sh",
        "gcc -c bad.c 2>&1 | cat | cat > log\necho \"${PIPESTATUS[@]}\"\n")])
        .builds(&["bash ask.sh"]);
    bash_process_substitution: Trial::of(&[("bad.c", "int a(\n"), ("ask.sh",
        "gcc -c bad.c 2> >(cat > log); echo $?; wait $!; cat log\n")])
        .builds(&["bash ask.sh"]);
    bash_coprocess: Trial::of(&[("bad.c", "int a(\n"), ("ask.sh",
        "mapfile -t lines < <(gcc -c bad.c 2>&1); echo \"${#lines[@]}: ${lines[0]}\"\n")])
        .builds(&["bash ask.sh"]);
}
