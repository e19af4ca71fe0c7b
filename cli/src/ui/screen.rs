//! Standard error with a block of lines at its end that is drawn again and again.
//!
//! Whatever is written goes out in one write: the block is erased, the words are put in its place,
//! and the block is drawn below them. Between writes the cursor rests at the start of the line
//! below the block, so that a program that is killed leaves a terminal in order.

use std::io::Write;

/// The owner of the stream.
pub(super) struct Screen {
    out: Box<dyn Write + Send>,
    /// The block as it is shown; each line ends in `\n`.
    block: String,
    /// The last words did not end their line.
    line_open: bool,
    closed: bool,
}

impl Screen {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, block: String::new(), line_open: false, closed: false }
    }

    /// Writes above the block.
    pub(super) fn print(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        self.line_open = *last != b'\n';
        let mut buffer = self.erasure();
        buffer.extend_from_slice(bytes);
        if self.line_open {
            self.block.clear();
        }
        self.redraw(buffer);
    }

    /// Writes lines above the block that begin on a line of their own.
    pub(super) fn print_line(&mut self, line: &str) {
        match self.line_open {
            true => self.print(format!("\n{line}").as_bytes()),
            false => self.print(line.as_bytes()),
        }
    }

    /// Shows another block in place of the last one. Below the beginning of a line, which may be a
    /// prompt, there is none.
    pub(super) fn draw(&mut self, block: String) {
        if !self.closed && block != self.block && (!self.line_open || block.is_empty()) {
            let buffer = self.erasure();
            self.block = block;
            self.redraw(buffer);
        }
    }

    /// Takes the block away while `work` writes lines to the terminal in its own way.
    pub(super) fn aside<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let erasure = self.erasure();
        self.write(&erasure);
        let result = work();
        self.redraw(Vec::new());
        result
    }

    /// Takes the block away for good.
    pub(super) fn close(&mut self) {
        self.draw(String::new());
        self.closed = true;
    }

    /// What takes the block away: up to its first line, and everything from there.
    ///
    /// A terminal that has become narrower may have wrapped the block's lines. What then remains of
    /// it is left: going up further could take words that are not ours.
    fn erasure(&self) -> Vec<u8> {
        match self.block.matches('\n').count() {
            0 => Vec::new(),
            lines => format!("\r\x1b[{lines}A\x1b[J").into_bytes(),
        }
    }

    fn redraw(&mut self, mut buffer: Vec<u8>) {
        buffer.extend_from_slice(self.block.as_bytes());
        self.write(&buffer);
    }

    fn write(&mut self, buffer: &[u8]) {
        if !buffer.is_empty() {
            // Nobody to tell if it fails: it is standard error itself.
            let _ = self.out.write_all(buffer).and_then(|()| self.out.flush());
        }
    }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
pub(super) mod tests;
