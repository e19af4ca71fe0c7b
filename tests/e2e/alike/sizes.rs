//! Programs that look at what compilers have made without opening it, and some that open it.

use mesh_tests::Trial;

use super::trials;

/// A recipe that makes `out` and works in the sources as they come; then a source changes.
fn looks(lines: &str) -> Trial {
    Trial::recipe(&format!("gcc -c ok.c\n{lines}")).fix("echo 'int more = 1;' >> ok.c")
}

trials! {
    stat: looks("stat -c '%n %s %a %h %F' ok.o > out");
    stat_blocks: looks("[ $$(stat -c %b ok.o) -gt 0 ] && echo some > out");
    stat_of_link: looks("ln -sf ok.o l.o; stat -L -c %s l.o > out; stat -c %s l.o >> out");
    test_size: looks("test -s ok.o && echo full > out || echo empty > out");
    test_newer: looks("[ ok.o -nt ok.c ] && echo newer > out || echo older > out");
    test_older: looks("[ ok.o -ot ok.c ] && echo older > out || echo newer > out");
    test_newer_of_two: looks("gcc -O2 -c main.c; [ main.o -nt ok.o ] && echo yes > out || echo no > out");
    test_same: looks("ln -f ok.o same.o; [ ok.o -ef same.o ] && echo same > out");
    test_executable: looks("gcc main.c -o prog; [ -x prog ] && [ ! -x ok.o ] && echo both > out");
    find_size: looks("find . -name '*.o' -size +500c > out");
    find_size_exact: looks("find . -name '*.o' -printf '%f %s\\n' > out");
    find_newer: looks("find . -name '*.o' -newer ok.c > out");
    find_empty: looks("find . -name '*.o' -empty > out");
    ls_long: looks("ls -l ok.o | cut -d' ' -f1,2,5,9 > out");
    ls_by_size: looks("gcc main.c -o prog; ls -S prog ok.o > out");
    ls_by_time: looks("gcc -c main.c; gcc hello.c -o prog; ls -tr ok.c ok.o main.o prog > out");
    du_bytes: looks("du -b ok.o > out");
    wc: looks("wc -c < ok.o > out; wc -c ok.o >> out");
    size: looks("size ok.o > out");
    readelf: looks("gcc main.c -o prog; readelf -d prog > out; readelf -S ok.o >> out");
    nm: looks("nm ok.o > out");
    objdump: looks("objdump -h ok.o > out");
    ldd: looks("gcc main.c -o prog; ldd prog | sed 's/(0x.*//' > out");
    cmp: looks("cp ok.o old.o; gcc -O2 -c ok.c; cmp -s ok.o old.o && echo same > out || echo new > out");
    diff_of_objects: looks("gcc -g -c ok.c -o g.o; diff -q ok.o g.o > out; true");
    checksum: looks("sha256sum ok.o > out; cksum ok.o >> out");
    head: looks("head -c 4 ok.o > out");
    tail: looks("tail -c 16 ok.o > out");
    dd: looks("dd if=ok.o of=out bs=64 count=1 2>/dev/null");
    split: looks("split -b 300 ok.o part.; cat part.* > out");
    base64: looks("base64 ok.o > out");
    gzip: looks("gzip -9nc ok.o > out");
    tar: looks("tar cf out --mtime=@0 --owner=0 --group=0 ok.o");
    tar_listing: looks("tar cf all.tar ok.o; tar tvf all.tar | awk '{print $$3, $$6}' > out")
        .stamped(&["all.tar"]);
    cpio_by_ar: looks("ar rc lib.a ok.o; ar tv lib.a > out");
    concatenated: looks("gcc -c main.c; cat ok.o main.o > out");
    copied: looks("cp ok.o copy.o; stat -c %s copy.o > out");
    copied_sparse: looks("cp --sparse=always ok.o copy.o; cmp ok.o copy.o && touch out");
    linked_then_measured: looks("ln -f ok.o l.o; stat -c '%s %h' l.o > out");
    renamed_then_measured: looks("mv ok.o r.o; stat -c %s r.o > out");
    limited: looks("if [ $$(stat -c %s ok.o) -gt 100000 ]; then echo big; exit 1; fi\ntouch out");
    too_big: Trial::recipe(
        "gcc -c ok.c\nif [ $$(stat -c %s ok.o) -gt 600 ]; then echo too big >&2; exit 1; fi\ntouch out")
        .fix("sed -i 's/600/60000/' Makefile");
    archive: looks("gcc -c main.c; ar rcs lib.a ok.o main.o; stat -c %s lib.a > out");
    program: looks("gcc main.c ok.o -o prog; stat -c '%s %a' prog > out");
    stripped: looks("gcc -g main.c -o prog; strip prog; stat -c %s prog > out");
    shared: looks("gcc -shared -fPIC ok.c -o libok.so; stat -c %s libok.so > out");
    dependencies: looks("gcc -MMD -c ok.c; stat -c %s ok.d > out");
    python_size: looks("python3 -c 'import os; print(os.path.getsize(\"ok.o\"))' > out")
        .needs("python3");
    python_scan: looks(
        "python3 -c 'import os; print(sorted((e.name, e.stat().st_size) for e in os.scandir(\".\") \
         if e.name.endswith(\".o\")))' > out").needs("python3");
    python_map: looks(
        "python3 -c 'import mmap; f = open(\"ok.o\", \"rb\"); \
         print(len(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)))' > out").needs("python3");
    python_tar: looks("python3 pack.py").needs("python3").file("pack.py", "
import tarfile
def plain(info):
    info.mtime = 0
    return info
with tarfile.open('out', 'w') as tar:
    tar.add('ok.o', filter=plain)
");
    python_zip: looks("python3 pack.py").needs("python3").file("pack.py", "
import zipfile
with zipfile.ZipFile('out', 'w') as archive:
    info = zipfile.ZipInfo('ok.o')
    archive.writestr(info, open('ok.o', 'rb').read())
");
    python_copy: looks("python3 -c 'import shutil; shutil.copy2(\"ok.o\", \"out\")'").needs("python3");
    perl_size: looks("perl -e 'print -s \"ok.o\", \"\\n\"' > out").needs("perl");
    // It compares whole seconds.
    perl_newer: looks("touch -d 2020-01-01 ok.c; perl -e 'print -M \"ok.o\" < -M \"ok.c\" ? 1 : 0' > out").needs("perl");
    awk: looks("awk 'END { print NR > 0 }' ok.o > out");
}
