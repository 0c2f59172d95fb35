//! `secured-files DIR` writes what a cluster with security is started with, and its clients: certificates, keys, users.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1) else {
        eprintln!("usage: secured-files DIR");
        return ExitCode::FAILURE;
    };
    match e2e::secured::Secured::write_files(dir.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("secured-files: {error}");
            ExitCode::FAILURE
        }
    }
}
