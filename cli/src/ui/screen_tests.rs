//! What goes out, write by write, and what a terminal makes of it.

use std::io;
use std::sync::{Arc, Mutex};

use super::*;

/// Remembers each write.
#[derive(Clone, Default)]
pub(in crate::ui) struct Writes(Arc<Mutex<Vec<String>>>);

impl Write for Writes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Writes {
    pub(in crate::ui) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn screen() -> (Screen, Writes) {
    let writes = Writes::default();
    (Screen::new(Box::new(writes.clone())), writes)
}

#[test]
fn without_a_block_bytes_go_out_as_they_are() {
    let (mut screen, writes) = screen();
    screen.print(b"half a ");
    screen.print(b"line");
    screen.print(b"");
    screen.print_line("mesh: a note\n");
    screen.print_line("mesh: another\n");
    assert_eq!(writes.take(), ["half a ", "line", "\nmesh: a note\n", "mesh: another\n"]);
}

#[test]
fn each_change_is_one_write_that_erases_and_draws_again() {
    let (mut screen, writes) = screen();
    screen.draw("status\n step\n".to_owned());
    assert_eq!(writes.take(), ["status\n step\n"]);
    screen.draw("status\n step\n".to_owned());
    assert!(writes.take().is_empty(), "nothing is new");
    screen.print(b"warning\n");
    assert_eq!(writes.take(), ["\r\x1b[2A\x1b[Jwarning\nstatus\n step\n"]);
    screen.print(b"no end");
    assert_eq!(writes.take(), ["\r\x1b[2A\x1b[Jno end"], "it may be a prompt");
    screen.draw("other\n".to_owned());
    assert!(writes.take().is_empty());
    screen.print(b"ing\n");
    screen.draw("other\n".to_owned());
    assert_eq!(writes.take(), ["ing\n", "other\n"]);
    screen.close();
    assert_eq!(writes.take(), ["\r\x1b[1A\x1b[J"]);
    screen.draw("too late\n".to_owned());
    screen.close();
    assert!(writes.take().is_empty());
    screen.print(b"the end");
    assert_eq!(writes.take(), ["the end"]);
}

#[test]
fn a_block_never_begins_behind_other_words() {
    let (mut screen, writes) = screen();
    screen.print(b"no end");
    screen.draw("status\n".to_owned());
    assert_eq!(writes.take(), ["no end"]);
    screen.print_line("mesh: a note\n");
    screen.draw("status\n".to_owned());
    assert_eq!(writes.take(), ["\nmesh: a note\n", "status\n"]);
}

#[test]
fn the_block_makes_room_for_others() {
    let (mut screen, writes) = screen();
    screen.draw("status\n".to_owned());
    let mut other = writes.clone();
    screen.aside(|| other.write_all(b"{}\n")).unwrap();
    assert_eq!(writes.take(), ["status\n", "\r\x1b[1A\x1b[J", "{}\n", "status\n"]);
}
