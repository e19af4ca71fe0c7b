//! The `mesh` command.

#[expect(dead_code, unused_imports, reason = "the supervisor that uses them is being built")]
mod build;

fn main() {}
