//! Where a compiler looks for headers by itself.

use std::path::Path;

use super::probe::{Compiler, Prober};
use super::reason::{LocalReason, Step};

/// The languages that have a search path of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SearchLanguage {
    C,
    Cxx,
    Assembler,
}

impl SearchLanguage {
    /// What follows `-x`.
    fn option(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::Cxx => "c++",
            Self::Assembler => "assembler-with-cpp",
        }
    }
}

/// The directories that the compiler adds to the search path, in order, as it spells them; found
/// by one run of `-E -v` per compiler, language and flags that matter.
pub(crate) fn default_directories(
    prober: &Prober<'_>,
    compiler: &Compiler,
    language: SearchLanguage,
    flags: &[String],
) -> Step<Vec<String>> {
    let mut arguments: Vec<&str> = flags.iter().map(String::as_str).collect();
    arguments.extend(["-E", "-v", "-x", language.option(), "/dev/null"]);
    let unclear = || {
        let words = format!("{} does not tell its include path", compiler.program.display());
        LocalReason::Toolchain(words)
    };
    let answer = prober.ask(compiler, &arguments)?;
    let found = directories_in(&answer.stderr).ok_or_else(unclear)?;
    if !found.passed_over.iter().any(|directory| Path::new(directory).is_dir()) {
        return Ok(found.listed);
    }
    // One has appeared since: only the compiler knows its rank.
    let answer = prober.run(&compiler.program, &arguments, Path::new("/"))?;
    Ok(directories_in(&answer.stderr).ok_or_else(unclear)?.listed)
}

struct Directories {
    listed: Vec<String>,
    /// Would be on the list if they existed.
    passed_over: Vec<String>,
}

fn directories_in(text: &str) -> Option<Directories> {
    let mut found = Directories { listed: Vec::new(), passed_over: Vec::new() };
    let mut inside = false;
    let mut ended = false;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("ignoring nonexistent directory \"") {
            found.passed_over.push(rest.trim_end_matches('"').to_owned());
        } else if line.starts_with("#include <...>") {
            inside = true;
        } else if line.starts_with("End of search list") {
            ended = true;
            inside = false;
        } else if inside {
            found.listed.push(line.trim().to_owned());
        }
    }
    ended.then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_gcc() {
        let text = "ignoring nonexistent directory \"/usr/local/include/x\"\n\
                    #include \"...\" search starts here:\n#include <...> search starts here:\n \
                    /usr/lib/gcc/include\n /usr/include\nEnd of search list.\n";
        let found = directories_in(text).unwrap();
        assert_eq!(found.listed, ["/usr/lib/gcc/include", "/usr/include"]);
        assert_eq!(found.passed_over, ["/usr/local/include/x"]);
        assert!(directories_in("gcc: error\n").is_none());
    }
}
