//! The examples of the documentation, run as they stand.

/// In front of a block of shell, the line that has it tested.
const MARK: &str = "<!-- tested -->";

/// The blocks of shell in a Markdown text that are marked for testing, in order.
///
/// A block is marked by a line `<!-- tested -->`; between it and the block there may be empty lines.
/// A line of the block that begins with `$ ` is a command, and others then are its output; in a
/// block without such lines all are commands.
///
/// # Panics
/// If a mark has no block behind it.
pub fn tested_blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while lines.by_ref().any(|line| line.trim() == MARK) {
        let fence = lines.by_ref().find(|line| !line.trim().is_empty());
        assert!(fence.is_some_and(|line| line.trim() == "```sh"), "after a mark: {fence:?}");
        let block: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
        blocks.push(commands(&block));
    }
    blocks
}

fn commands(block: &[&str]) -> String {
    let prompted: Vec<&str> = block.iter().filter_map(|line| line.strip_prefix("$ ")).collect();
    let lines = if prompted.is_empty() { block } else { &prompted };
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_blocks_are_found_and_others_are_not() {
        let text = "# T\n```sh\nno\n```\n<!-- tested -->\n\n```sh\none\ntwo\n```\ntext\n\
                    <!-- tested -->\n```sh\n$ three\noutput\n$ four\n```\n";
        assert_eq!(tested_blocks(text), ["one\ntwo\n", "three\nfour\n"]);
        assert_eq!(tested_blocks("```sh\nno\n```\n"), [""; 0]);
    }

    #[test]
    #[should_panic(expected = "after a mark")]
    fn a_mark_without_a_block_is_a_mistake() {
        tested_blocks("<!-- tested -->\ntext\n```sh\nx\n```\n");
    }
}
