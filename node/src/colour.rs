//! What programs write for terminals only.

/// Takes colours out again (ECMA-48 control sequences, and OSC 8 hyperlinks).
pub fn without_colour(text: &[u8]) -> Vec<u8> {
    const ESCAPE: u8 = 0x1b;
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after.first()) {
            (&ESCAPE, Some(b'[')) => {
                let end = after[1..].iter().position(|byte| (0x40..=0x7e).contains(byte));
                end.map_or(&[][..], |at| &after[at + 2..])
            }
            (&ESCAPE, Some(b']')) => after_operating_system_command(after),
            _ => {
                plain.push(*first);
                after
            }
        };
    }
    plain
}

/// It ends with BEL or ESC `\`.
fn after_operating_system_command(text: &[u8]) -> &[u8] {
    for (at, byte) in text.iter().enumerate() {
        match byte {
            0x07 => return &text[at + 1..],
            b'\\' if text[at - 1] == 0x1b => return &text[at + 1..],
            _ => {}
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_and_words_stay() {
        let coloured =
            b"\x1b[01m\x1b[Ka.c:1:\x1b[m\x1b[K \x1b]8;;https://x\x07warning\x1b]8;;\x1b\\ [-W]\n";
        assert_eq!(without_colour(coloured), b"a.c:1: warning [-W]\n");
        assert_eq!(without_colour(b"plain \x1b"), b"plain \x1b");
    }
}
