//! Why a call runs on this machine, as if `mesh` were absent.

use std::path::PathBuf;

use thiserror::Error;

/// One phrase for each reason; it ends up in the build's report.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LocalReason {
    /// `--version`, `-v`, `-print-*`, `-###` and their like.
    #[error("asks the tool about itself ({0})")]
    Question(String),
    /// `-E`, `-M`, `-S -o -`, `ar p`: the result is what it prints.
    #[error("writes its result to standard output ({0})")]
    StandardOutput(String),
    /// The source is `-`.
    #[error("reads standard input")]
    StandardInput,
    /// A probe of a configure script.
    #[error("configure probe")]
    Conftest,
    /// A header is compiled, or one that was compiled stands in the way.
    #[error("precompiled header ({0})")]
    PrecompiledHeader(String),
    /// The date ends up in the object.
    #[error("uses {macro_name} without SOURCE_DATE_EPOCH ({file})")]
    Clock {
        /// `__DATE__` or `__TIME__`.
        macro_name: &'static str,
        /// Where.
        file: String,
    },
    /// A file's modification time ends up in the object.
    #[error("uses __TIMESTAMP__ ({0})")]
    Timestamp(String),
    /// An option that has effects which are not modelled.
    #[error("option {0} is not modelled")]
    Option(String),
    /// An option that nobody here knows.
    #[error("option {0} is not known")]
    UnknownOption(String),
    /// An option without its argument, or with one that makes no sense.
    #[error("option {0} lacks its argument")]
    MissingArgument(String),
    /// A response file that cannot be read or understood.
    #[error("response file {0} cannot be read")]
    ResponseFile(String),
    /// An environment variable with effects that are not modelled.
    #[error("environment variable {0} is set")]
    Environment(String),
    /// A source in a temporary directory: a probe, gone in a moment.
    #[error("source in a temporary directory ({0})")]
    TemporarySource(String),
    /// The result goes to a device.
    #[error("output is not a regular file ({0})")]
    SpecialOutput(String),
    /// The directory of an output does not exist.
    #[error("the directory of output {0} does not exist")]
    NoOutputDirectory(String),
    /// The tool has no permission to write there.
    #[error("output {0} cannot be written")]
    UnwritableOutput(String),
    /// The permissions of a program do not follow from the umask there.
    #[error("the directory of output {0} has a default ACL")]
    DefaultAcl(String),
    /// Only the tool itself writes into such a file as it does.
    #[error("output {0} is there, and {1}")]
    PresentOutput(String, &'static str),
    /// Nothing to do, or a combination that only the tool can complain about.
    #[error("{0}")]
    Unclear(&'static str),
    /// A language whose compiler is not modelled.
    #[error("language of {0} is not modelled")]
    Language(String),
    /// Its inputs and outputs, together, are no thunk.
    #[error("{0}")]
    Thunk(String),
    /// A file that the call names is not there: the tool will say so.
    #[error("{0} does not exist")]
    Missing(String),
    /// An include whose name comes from a macro that cannot be resolved.
    #[error("an include or embedded file with a computed name ({0})")]
    ComputedInclude(String),
    /// In a sandbox the compiler would take two files for one.
    #[error("{0} and {1} have the same content: in a sandbox they may count as one file")]
    Twins(String, String),
    /// The archive is thin, its members lie elsewhere.
    #[error("thin archive ({0})")]
    ThinArchive(String),
    /// The tool stamps the time into its result.
    #[error("{0} is not deterministic here")]
    NotDeterministic(String),
    /// The compiler is a script.
    #[error("{0} is a script")]
    Script(String),
    /// Part of the toolchain was not found, or not where it can be shown.
    #[error("toolchain: {0}")]
    Toolchain(String),
    /// `-march=native` could not be replaced.
    #[error("{0} cannot be spelled out for this compiler")]
    Native(String),
    /// A path that is no UTF-8 or too long.
    #[error("path {0:?} cannot be named in a thunk")]
    Path(PathBuf),
    /// The file system, or the store, failed.
    #[error("{0}")]
    Failed(String),
}

/// Why planning stops without a thunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It has to run here.
    Local(LocalReason),
    /// These placeholders have to become files first.
    NeedReal(Vec<PathBuf>),
}

impl From<LocalReason> for Stop {
    fn from(reason: LocalReason) -> Self {
        Self::Local(reason)
    }
}

/// Something found out on the way to a plan.
pub(crate) type Step<T> = Result<T, Stop>;
