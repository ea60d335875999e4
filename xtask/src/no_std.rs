//! `cargo xtask no-std`: builds the mesh stack for a microcontroller, which has no standard library to fall back on.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

/// A Cortex-M4 with a floating-point unit, as in most Bluetooth chips.
const TARGET: &str = "thumbv7em-none-eabihf";

/// Builds `no_std/`, which has its own allocator and panic handler, and so nothing of an operating system.
pub(crate) fn run(root: &Path, install: bool) -> anyhow::Result<()> {
    if !is_installed()? {
        ensure!(
            install || std::env::var_os("CI").is_some(),
            "the compiler has no library for {TARGET}; add --install, or run `rustup target add {TARGET}`"
        );
        let added = Command::new("rustup").args(["target", "add", TARGET]).status();
        ensure!(added.context("cannot start rustup")?.success(), "rustup cannot add {TARGET}");
    }
    let folder = root.join("no_std");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--release", "--locked", "--target", TARGET]).current_dir(&folder);
    build.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    ensure!(build.status()?.success(), "the mesh stack does not build without the standard library");
    let library = folder.join("target").join(TARGET).join("release/libno_std.a");
    let kilobytes = fs::metadata(&library)?.len() / 1024;
    println!(
        "{TARGET}: clock, mesh-crypto, mesh-wire, mesh-proto and mesh-models build ({kilobytes} kB archive)"
    );
    Ok(())
}

fn is_installed() -> anyhow::Result<bool> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .context("cannot start rustc")?;
    let folder = String::from_utf8(output.stdout)?;
    Ok(Path::new(folder.trim()).is_dir())
}
