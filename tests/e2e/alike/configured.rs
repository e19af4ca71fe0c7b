//! Configuring: CMake, Meson and a script of autoconf's shape ask the compiler many questions.

use mesh_tests::Trial;

use super::trials;

const CMAKE: &str = r#"
cmake_minimum_required(VERSION 3.16)
project(asks C)
include(CheckCSourceCompiles)
include(CheckCSourceRuns)
include(CheckIncludeFile)
include(CheckSymbolExists)
include(CheckTypeSize)
include(CheckCCompilerFlag)
check_c_source_compiles("int main(void) { return x; }" BAD)
check_c_source_compiles("int main(void) { return 0; }" GOOD)
check_c_source_runs("int main(void) { return 1; }" RUNS_BADLY)
check_c_source_runs("int main(void) { return 0; }" RUNS_WELL)
check_include_file("stdio.h" HAVE_STDIO_H)
check_include_file("nowhere.h" HAVE_NOWHERE_H)
check_symbol_exists(puts "stdio.h" HAVE_PUTS)
check_symbol_exists(no_such_function "stdio.h" HAVE_NO_SUCH_FUNCTION)
check_type_size("long" LONG)
check_type_size("no_such_type" NO_SUCH_TYPE)
check_c_compiler_flag(-Wall HAVE_WALL)
check_c_compiler_flag(-no-such-flag HAVE_NO_SUCH_FLAG)
try_compile(TRIED_BAD ${CMAKE_BINARY_DIR}/tried ${CMAKE_SOURCE_DIR}/bad.c OUTPUT_VARIABLE words)
string(REGEX MATCHALL "error:" errors "${words}")
try_compile(TRIED_MAIN ${CMAKE_BINARY_DIR}/tried ${CMAKE_SOURCE_DIR}/main.c)
try_run(RAN COMPILED ${CMAKE_BINARY_DIR}/tried ${CMAKE_SOURCE_DIR}/main.c)
file(WRITE ${CMAKE_BINARY_DIR}/answers.txt
  "${BAD} ${GOOD} ${RUNS_BADLY} ${RUNS_WELL} ${HAVE_STDIO_H} ${HAVE_NOWHERE_H} ${HAVE_PUTS}\n"
  "${HAVE_NO_SUCH_FUNCTION} ${LONG} ${NO_SUCH_TYPE} ${HAVE_WALL} ${HAVE_NO_SUCH_FLAG}\n"
  "${TRIED_BAD} ${errors} ${TRIED_MAIN} ${RAN} ${COMPILED}\n")
add_executable(asks main.c)
add_library(broken OBJECT bad.c)
"#;

/// Configures and builds with a generator of CMake, one command at a time.
fn cmake(configure: &'static str, build: &'static str) -> Trial {
    Trial::of(&[("CMakeLists.txt", CMAKE), ("bad.c", "int a(\n"), ("main.c", MAIN)])
        .builds(&[configure, build])
        .ignore(&[
            // Times.
            "build/.ninja_log",
            "build/.ninja_deps",
            // Names of temporary directories.
            "build/CMakeFiles/CMakeOutput.log",
            "build/CMakeFiles/CMakeError.log",
            "build/CMakeFiles/CMakeConfigureLog.yaml",
            // Targets that do not depend on each other come in any order.
            "build/CMakeFiles/Makefile2",
        ])
        .needs("cmake")
}

const MAIN: &str = "int main(void) { return 0; }\n";

const MESON: &str = "
project('asks', 'c')
cc = meson.get_compiler('c')
bad = cc.compiles('int main(void) { return x; }', name: 'bad')
good = cc.compiles('int main(void) { return 0; }', name: 'good')
links = cc.links('int f(void); int main(void) { return f(); }', name: 'links')
run = cc.run('int main(void) { return 3; }', name: 'run')
header = cc.has_header('nowhere.h')
function = cc.has_function('puts')
size = cc.sizeof('long')
flag = cc.has_argument('-no-such-flag')
message(bad, good, links, run.returncode(), header, function, size, flag)
configuration = configuration_data({'BAD': bad, 'GOOD': good, 'LINKS': links, 'SIZE': size})
configure_file(output: 'config.h', configuration: configuration)
executable('asks', 'main.c', 'bad.c')
";

/// What `configure` does, in the shape that autoconf gives it: `conftest.c`, errors to a file and
/// from there to a log, and a look whether the object is there.
const CONFIGURE: &str = r##"#!/bin/sh
ac_cv_failed=no
exec 5>config.log
rm -f confdefs.h conftest*; : > confdefs.h
ac_compile='$CC -c $CFLAGS conftest.c >&5'
ac_link='$CC -o conftest $CFLAGS conftest.c $LIBS >&5'
ac_cpp='$CC -E $CFLAGS conftest.c'
CC=gcc; CFLAGS=${CFLAGS-"-g -O2"}; LIBS=

echo_of() { echo "configure: $*" >&5; }
fail() { echo "configure: failed program was:" >&5; sed 's/^/| /' conftest.c >&5; }
try_compile() {
    rm -f conftest.err conftest.o
    if { { ac_try="$ac_compile"; eval echo_of "\"$ac_try\""; (eval "$ac_compile") 2>conftest.err
           ac_status=$?
           if test -s conftest.err; then
               grep -v '^ *+' conftest.err >conftest.er1; cat conftest.er1 >&5
               mv -f conftest.er1 conftest.err
           fi
           echo_of "\$? = $ac_status"; test $ac_status = 0; } && test -s conftest.o; }; then
        ac_retval=0
    else
        fail; ac_retval=1
    fi
    return $ac_retval
}
try_link() {
    rm -f conftest.err conftest
    if { (eval "$ac_link") 2>conftest.err; ac_status=$?
         sed 's,/tmp/cc[A-Za-z0-9]*,/tmp/cc,' conftest.err >&5
         test $ac_status = 0; } && test -s conftest && test -x conftest; then
        ac_retval=0
    else
        fail; ac_retval=1
    fi
    rm -rf conftest.dSYM
    return $ac_retval
}
try_run() { try_link && { ./conftest; ac_status=$?; test $ac_status = 0; }; }
try_cpp() { { (eval "$ac_cpp") 2>conftest.err; ac_status=$?; cat conftest.err >&5
              test $ac_status = 0; } > conftest.i && test ! -s conftest.err; }
check() { # name, kind, text
    printf 'checking %s... ' "$1"
    cat confdefs.h - <<_ACEOF >conftest.c
$3
_ACEOF
    if $2; then
        echo yes; echo "#define HAVE_$1 1" >> confdefs.h
    else
        echo no
    fi
    rm -f core conftest.err conftest.o conftest conftest.i conftest.c
}
check COMPILER try_compile 'int main(void) { return 0; }'
check BROKEN try_compile 'int main(void) { return x; }'
check STDIO_H try_cpp '#include <stdio.h>'
check NOWHERE_H try_cpp '#include <nowhere.h>'
check PUTS try_link 'char puts(); int main(void) { return puts(); }'
check NOWHERE try_link 'char nowhere(); int main(void) { return nowhere(); }'
check RUN try_run 'int main(void) { return 0; }'
check BAD_RUN try_run 'int main(void) { return 1; }'
check SIZE_4 try_compile 'int a[sizeof(long) == 4 ? 1 : -1];'
check SIZE_8 try_compile 'int a[sizeof(long) == 8 ? 1 : -1];'
CFLAGS="$CFLAGS -Werror -Wall" check UNUSED try_compile 'static int unused;'
check OLD_BAD try_compile "#include \"bad.c\""
printf 'checking for byte order... '
echo 'short s[] = { 0x4249, 0x4765, 0x6e44, 0x6961, 0x6e53, 0x7953, 0 };' > conftest.c
if (eval "$ac_compile") && grep BIGenDianSyS conftest.o >/dev/null; then echo big; else echo little; fi
rm -f conftest*
cat > config.status <<'END'
#!/bin/sh
sed 's/^#define/#define/' confdefs.h > config.h.new
if test -f config.h && cmp -s config.h config.h.new; then
    echo "config.status: config.h is unchanged"; rm -f config.h.new
else
    mv config.h.new config.h
fi
echo 'all: prog' > Makefile
echo 'prog: main.c bad.c config.h' >> Makefile
printf '\tgcc -include config.h main.c bad.c -o prog\n' >> Makefile
END
chmod +x config.status
./config.status
"##;

fn configure() -> Trial {
    Trial::of(&[("configure", CONFIGURE), ("bad.c", "int a(\n"), ("main.c", MAIN)])
}

trials! {
    cmake_for_make: cmake("cmake -S . -B build", "make -C build -k");
    cmake_for_ninja: cmake("cmake -S . -B build -G Ninja", "ninja -C build -j1 -k0").needs("ninja");
    cmake_that_requires: Trial::of(&[("CMakeLists.txt", "
cmake_minimum_required(VERSION 3.16)
project(asks C)
include(CheckIncludeFile)
set(CMAKE_REQUIRED_INCLUDES ${CMAKE_SOURCE_DIR})
check_include_file(needed.h HAVE_NEEDED_H)
if(NOT HAVE_NEEDED_H)
  message(FATAL_ERROR \"needed.h is needed\")
endif()
")]).builds(&["cmake -S . -B build"]).fix("rm -r build; echo > needed.h")
        .ignore(&["build/CMakeFiles/CMakeOutput.log", "build/CMakeFiles/CMakeError.log",
            "build/CMakeFiles/CMakeConfigureLog.yaml", "build/CMakeFiles/Makefile2"]).needs("cmake");
    meson: Trial::of(&[("meson.build", MESON), ("bad.c", "int a(\n"), ("main.c", MAIN)])
        .builds(&["meson setup build", "ninja -C build -j1 -k0"])
        // Pickled objects, logs with times and names of temporary directories.
        .ignore(&["build/.ninja_log", "build/.ninja_deps", "build/meson-private",
            "build/meson-logs", "build/meson-info"])
        .needs("meson").needs("ninja");
    autoconf: configure().builds(&["./configure", "make"]);
    autoconf_and_make_at_once: configure().builds(&["sh -c ./configure&&make"]);
    autoconf_quietly: configure().file("ask.sh", "./configure > said 2>&1 && make -s 2>&1 | tee made\n")
        .builds(&["sh ask.sh"]);
    autoconf_optimised: configure().builds(&["./configure", "make -k"]).set("CFLAGS", "-O1");
}
