//! Compiles the interposer (`interposer/main.rs`), which `mesh` carries inside.
//!
//! Cargo cannot: a program without the standard library needs `panic = "abort"` and a link without
//! libc, and Cargo has these for a whole workspace only.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// No libc, no dynamic linker, and no relocations: all that takes time at each start. That its
/// addresses are known costs little: it listens to nobody but its user's supervisor.
const OPTIONS: &[&str] = &[
    "--edition=2024",
    "--crate-name=interposer",
    "--crate-type=bin",
    "-Dwarnings",
    "-Copt-level=2",
    "-Cpanic=abort",
    "-Crelocation-model=static",
    "-Ctarget-feature=+crt-static",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-no-pie",
    "-Clink-arg=-Wl,--build-id=none",
    "-Cstrip=symbols",
];

#[allow(clippy::disallowed_macros)] // cargo reads it to the end.
fn main() {
    println!("cargo::rerun-if-changed=interposer");
    if let Err(problem) = compile() {
        println!("cargo::error=compiling the interposer: {problem}");
    }
}

fn compile() -> Result<(), String> {
    let mut command = Command::new(variable("RUSTC")?);
    command.args(OPTIONS).arg("--target").arg(variable("TARGET")?).arg("interposer/main.rs");
    command.arg("-o").arg(Path::new(&variable("OUT_DIR")?).join("interposer"));
    if let Ok(linker) = variable("RUSTC_LINKER") {
        let mut option = OsString::from("-Clinker=");
        option.push(linker);
        command.arg(option);
    }
    let status = command.status().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(status.to_string()) }
}

/// What Cargo tells a build script.
fn variable(name: &str) -> Result<OsString, String> {
    std::env::var_os(name).ok_or_else(|| format!("Cargo does not set {name}"))
}
