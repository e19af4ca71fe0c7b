//! What a random project consists of: steps, the flags of make, and an edit.

use mesh_tests::Random;

/// Steps of a project.
const STEPS_MAX: u64 = 30;

/// Steps that one step may need.
const NEEDS_MAX: u64 = 3;

/// A project and what is done with it.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) flags: Flags,
    pub(super) edit: Edit,
    pub(super) delete_on_error: bool,
}

/// How make is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) text: &'static str,
    /// Commands run at once: steps keep to files of their own, and lines come in any order.
    pub(super) at_once: bool,
    /// Make stops at the first failure. Where commands run at once, nobody knows what else is
    /// done by then, so nothing fails.
    pub(super) stops: bool,
}

impl Flags {
    /// May the words of a linker that fails come in between others?
    pub(super) fn tears(self) -> bool {
        self.at_once && !self.stops && !self.text.ends_with("-O")
    }
}

const FLAGS: &[Flags] = &[
    Flags { text: "", at_once: false, stops: true },
    Flags { text: "-k", at_once: false, stops: false },
    Flags { text: "-i", at_once: false, stops: false },
    Flags { text: "-s", at_once: false, stops: true },
    Flags { text: "-j2", at_once: true, stops: true },
    Flags { text: "-j4", at_once: true, stops: true },
    Flags { text: "-k -j3", at_once: true, stops: false },
    Flags { text: "-k -j3 -O", at_once: true, stops: false },
    Flags { text: "-i -j2 -O", at_once: true, stops: false },
];

/// One rule of the Makefile. Its files begin with `s` and its number.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) number: usize,
    pub(super) kind: Kind,
    pub(super) source: Source,
    pub(super) options: &'static str,
    /// Earlier steps whose targets are prerequisites.
    pub(super) needs: Vec<usize>,
    pub(super) after: Option<usize>,
    pub(super) prefix: &'static str,
    pub(super) wrap: Wrap,
    pub(super) aside: Vec<Aside>,
    pub(super) phony: bool,
}

/// What a step makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An object.
    Compile,
    /// A program of its own source and the objects and archives that it needs.
    Link,
    /// An archive of its own object and those that it needs.
    Archive,
    /// A program that writes a header, and the header.
    Header,
    /// A program that writes a source, the source, and its object.
    Generate,
    /// A compile, and an empty file that says that it was done.
    Stamp,
    /// A compile that succeeds or fails, and a file that says which.
    Question,
    /// What the preprocessor says, through a pipe.
    Preprocess,
    /// Copies of what it needs.
    Copy,
    /// A symbolic link to what it needs first.
    SoftLink,
    /// The sizes of what it needs.
    Sizes,
    /// What the programs that it needs print.
    Run,
    /// A directory with a Makefile of its own.
    Recurse,
}

const KINDS: &[Kind] = &[
    Kind::Compile,
    Kind::Compile,
    Kind::Compile,
    Kind::Link,
    Kind::Link,
    Kind::Archive,
    Kind::Header,
    Kind::Generate,
    Kind::Stamp,
    Kind::Stamp,
    Kind::Question,
    Kind::Preprocess,
    Kind::Copy,
    Kind::SoftLink,
    Kind::Sizes,
    Kind::Run,
    Kind::Recurse,
];

/// What is in a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Good,
    /// With `-Wall`, something to say.
    Warns,
    Syntax,
    MissingHeader,
    HashError,
    /// It compiles, and cannot be linked.
    Undefined,
}

impl Source {
    pub(super) fn is_bad(self) -> bool {
        BAD.contains(&self)
    }
}

const GOOD: &[Source] = &[Source::Good, Source::Good, Source::Warns];
const BAD: &[Source] =
    &[Source::Syntax, Source::MissingHeader, Source::HashError, Source::Undefined];

/// What stands around a compiler's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrap {
    None,
    OrTrue,
    If,
    Pipe,
    ToLog,
    Background,
}

const WRAPS: &[Wrap] = &[
    Wrap::None,
    Wrap::None,
    Wrap::None,
    Wrap::None,
    Wrap::OrTrue,
    Wrap::If,
    Wrap::Pipe,
    Wrap::ToLog,
    Wrap::Background,
];

/// A line of a recipe that changes something else, before or after its compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aside {
    pub(super) change: Change,
    pub(super) first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Append,
    Remove,
    Rename,
    RenameOver,
    HardLink,
    SymbolicLink,
    Mode,
    Time,
    Directory,
    Truncate,
    InPlace,
    CopyArchive,
    /// Removes what the step needs first.
    RemoveNeeded,
    /// Appends to a log of all steps.
    AppendToAll,
    Fail,
}

const CHANGES: &[Change] = &[
    Change::Append,
    Change::Remove,
    Change::Rename,
    Change::RenameOver,
    Change::HardLink,
    Change::SymbolicLink,
    Change::Mode,
    Change::Time,
    Change::Directory,
    Change::Truncate,
    Change::InPlace,
    Change::CopyArchive,
];

/// With these, steps touch the same files: not at once.
const SHARED_CHANGES: &[Change] = &[Change::RemoveNeeded, Change::AppendToAll, Change::AppendToAll];

/// What happens between the builds. Numbers are those of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    None,
    FixAll,
    Fix(usize),
    Break(usize),
    Change(usize),
    Touch(usize),
    Delete(usize),
}

impl Plan {
    pub(super) fn draw(random: &mut Random) -> Self {
        let flags = *random.choose(FLAGS);
        let may_fail = !(flags.at_once && flags.stops);
        let most = 1 + random.below(STEPS_MAX);
        let count = 1 + random.below(most) as usize;
        let mut steps = Vec::with_capacity(count);
        for number in 0..count {
            let step = Step::draw(random, number, flags, may_fail);
            steps.push(step);
        }
        let edit = Edit::draw(random, count, may_fail);
        Self { steps, flags, edit, delete_on_error: random.below(4) == 0 }
    }
}

impl Step {
    fn draw(random: &mut Random, number: usize, flags: Flags, may_fail: bool) -> Self {
        let mut needs: Vec<usize> = Vec::new();
        for _ in 0..random.below(NEEDS_MAX + 1).min(number as u64) {
            let need = random.below(number as u64) as usize;
            if !needs.contains(&need) {
                needs.push(need);
            }
        }
        let after = (number > 0 && random.below(6) == 0)
            .then(|| random.below(number as u64) as usize)
            .filter(|after| !needs.contains(after));
        let bad = may_fail && random.below(4) == 0;
        let source = *random.choose(if bad { BAD } else { GOOD });
        let aside = (0..random.below(3)).map(|_| Aside::draw(random, flags, may_fail)).collect();
        let kind = *random.choose(KINDS);
        if kind == Kind::SoftLink {
            // Make sees the time of what a link leads to, which may be older than another need.
            needs.truncate(1);
        }
        let wrap = match *random.choose(WRAPS) {
            // The linker's words have names of temporary files in them.
            Wrap::ToLog if matches!(kind, Kind::Link | Kind::Header | Kind::Generate) => Wrap::None,
            wrap => wrap,
        };
        Self {
            number,
            kind,
            source,
            options: random.choose::<&str>(&["", "-O2", "-g", "-Wall", "-Wall -O1", "-MMD"]),
            needs,
            after,
            prefix: random.choose::<&str>(&["", "", "", "", "@", "-", "-@"]),
            wrap,
            aside,
            phony: random.below(10) == 0,
        }
    }
}

impl Aside {
    fn draw(random: &mut Random, flags: Flags, may_fail: bool) -> Self {
        let change = match random.below(10) {
            0 | 1 if !flags.at_once => *random.choose(SHARED_CHANGES),
            2 if may_fail => Change::Fail,
            _ => *random.choose(CHANGES),
        };
        Self { change, first: random.below(2) == 0 }
    }
}

impl Edit {
    fn draw(random: &mut Random, count: usize, may_fail: bool) -> Self {
        let step = random.below(count as u64) as usize;
        match random.below(8) {
            0 => Self::None,
            1 | 2 => Self::FixAll,
            3 => Self::Fix(step),
            4 if may_fail => Self::Break(step),
            5 => Self::Touch(step),
            6 => Self::Delete(step),
            _ => Self::Change(step),
        }
    }
}
