//! Which files a compiler driver leaves beside the one that was asked for.
//!
//! GCC manual, "Overall Options" (`-dumpdir`, `-dumpbase`) and "Preprocessor Options" (`-MD`):
//! for `-c` and `-S` the names follow the output, or the source if none is given; in a link each
//! source has its own, behind the program's name.

use super::options::{Invocation, Language, Mode, SourceFile};

/// One expected file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) tag: &'static str,
    pub(crate) path: String,
    pub(crate) required: bool,
    /// Of the source that it is made of.
    pub(crate) language: Language,
}

/// Everything that the driver leaves but the program of a link.
pub(crate) fn expected(call: &Invocation) -> Vec<Expected> {
    let mut all = Vec::new();
    for source in &call.sources {
        let base = auxiliary_base(call, source);
        if call.mode != Mode::Link && !call.prints() {
            let path = call.output.clone().unwrap_or_else(|| main_name(call, source));
            let language = source.language;
            all.push(Expected { tag: "out", path, required: true, language });
        }
        all.extend(beside(call, source, &base));
    }
    all
}

fn beside(call: &Invocation, source: &SourceFile, base: &str) -> Vec<Expected> {
    let mut all = Vec::new();
    let language = source.language;
    let mut add = |tag, suffix: &str, required| {
        all.push(Expected { tag, path: format!("{base}.{suffix}"), required, language });
    };
    let compiled = !source.language.is_assembler() && call.mode != Mode::Preprocess;
    if compiled && call.coverage_notes {
        // A source without a function has none.
        add("gcno", "gcno", false);
    }
    if compiled && call.stack_usage && !call.link_time {
        add("su", "su", false);
    }
    if call.split_debug && !matches!(call.mode, Mode::Preprocess | Mode::Assembly) {
        add("dwo", "dwo", true);
    }
    let preprocessed = !matches!(
        source.language,
        Language::Assembler | Language::CPreprocessed | Language::CxxPreprocessed
    );
    if call.dependencies && preprocessed {
        let path = dependency_file(call, source);
        all.push(Expected { tag: "d", path, required: true, language });
    }
    all
}

fn main_name(call: &Invocation, source: &SourceFile) -> String {
    let suffix = if call.mode == Mode::Assembly { "s" } else { "o" };
    format!("{}.{suffix}", stem(&source.path))
}

/// Where the names of auxiliary files begin.
fn auxiliary_base(call: &Invocation, source: &SourceFile) -> String {
    let own = stem(&source.path);
    match (call.mode, &call.output) {
        (Mode::Link, None) => format!("a-{own}"),
        (Mode::Link, Some(output)) => format!("{}-{own}", without_exe(output)),
        (_, None) => own.to_owned(),
        (_, Some(output)) => without_suffix(output).to_owned(),
    }
}

fn dependency_file(call: &Invocation, source: &SourceFile) -> String {
    match (&call.dependency_file, &call.output) {
        (Some(file), _) => file.clone(),
        (None, Some(output)) => format!("{}.d", without_suffix(output)),
        (None, None) => format!("{}.d", auxiliary_base(call, source)),
    }
}

fn without_exe(output: &str) -> &str {
    output.strip_suffix(".exe").or_else(|| output.strip_suffix(".out")).unwrap_or(output)
}

/// The name of a file without directory and last suffix.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    without_suffix(name)
}

/// A path without its last suffix; a name that is all suffix (`.o`) stays.
fn without_suffix(path: &str) -> &str {
    let start = path.rfind('/').map_or(0, |at| at + 1);
    match path[start..].rfind('.') {
        Some(0) | None => path,
        Some(at) => &path[..start + at],
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::parse;
    use super::*;

    fn paths(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let mut paths: Vec<String> =
            expected(&parse(&words, false).unwrap()).into_iter().map(|e| e.path).collect();
        paths.sort();
        paths
    }

    /// What GCC 12 was seen to leave.
    #[test]
    fn names_of_outputs() {
        let all = "-g -gsplit-dwarf -fstack-usage --coverage -MD";
        for (line, wanted) in [
            ("-c s.c", "s.o"),
            ("-c -g -gsplit-dwarf d/s.c", "s.dwo s.o"),
            ("-c ALL s.c -o d/x.o", "d/x.d d/x.dwo d/x.gcno d/x.o d/x.su"),
            ("-c ALL s.c -o d/x", "d/x d/x.d d/x.dwo d/x.gcno d/x.su"),
            ("-c ALL s.c -o d/x.y.o", "d/x.y.d d/x.y.dwo d/x.y.gcno d/x.y.o d/x.y.su"),
            ("-c -MD s.c u.c", "s.d s.o u.d u.o"),
            ("ALL s.c -o d/prog", "d/prog-s.dwo d/prog-s.gcno d/prog-s.su d/prog.d"),
            ("ALL s.c", "a-s.d a-s.dwo a-s.gcno a-s.su"),
            ("ALL -MF d/z.d s.c", "a-s.dwo a-s.gcno a-s.su d/z.d"),
            ("-S ALL s.c", "s.d s.gcno s.s s.su"),
            ("-S ALL s.c -o d/q.s", "d/q.d d/q.gcno d/q.s d/q.su"),
            ("-E -MD s.c -o d/q.i", "d/q.d d/q.i"),
            ("-c -Wp,-MD,d/x.d s.c", "d/x.d s.o"),
            ("-c -Wp,-MMD,d/x.d s.c -o d/s.o", "d/s.o d/x.d"),
            ("-shared -g -gsplit-dwarf s.c -o d/libx.so", "d/libx.so-s.dwo"),
            ("-c --coverage s.c -o d/.o", "d/.o d/.o.gcno"),
            ("-c -MD -fstack-usage s.s", "s.o"),
        ] {
            let wanted: Vec<&str> = wanted.split_whitespace().collect();
            assert_eq!(paths(&line.replace("ALL", all)), wanted, "{line}");
        }
    }
}
