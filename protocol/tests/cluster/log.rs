//! What happened, line by line: kept as text when somebody wants to read it, as a count otherwise.

use std::fmt::{Arguments, Write};

#[derive(Default)]
pub(crate) struct Log {
    keep: bool,
    text: String,
    lines: u64,
}

impl Log {
    pub(crate) fn new(keep: bool) -> Self {
        Self { keep, ..Self::default() }
    }

    pub(crate) fn line(&mut self, at_us: u64, text: Arguments<'_>) {
        self.lines += 1;
        if self.keep {
            writeln!(self.text, "{at_us:>10} {text}").expect("a string takes everything");
        }
    }

    pub(crate) fn text(&self) -> String {
        self.text.clone()
    }
}
