//! The clients that are compared: their variants, and how their drivers are built.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::building::{Paths, Program, run_quietly};

/// The name under which our client is measured.
pub const OURS: &str = "ours";
/// Our client once more, to see what the method makes of no difference.
pub const OURS_AGAIN: &str = "ours-control";
/// No client: what the drivers themselves cost.
pub const EMPTY: &str = "control";

/// How a driver comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// A package of the comparison's workspace, with this change of features.
    Cargo {
        /// The package and its binary.
        package: &'static str,
        /// Further arguments to `cargo build`.
        features: &'static [&'static str],
    },
    /// A folder of `clients/` with a `build.sh`, which says how the driver is started: a word a line on stdout.
    Scripts {
        /// The folder.
        folder: &'static str,
    },
}

/// One row of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// What it is called in results, and to its driver.
    pub name: &'static str,
    /// How its driver is built.
    pub recipe: Recipe,
    /// Whether it is somebody else's client, which ours is measured against.
    pub peer: bool,
    /// Whether it compiles itself while it runs, so that it needs a long warm-up.
    pub slow: bool,
}

const fn cargo(name: &'static str, package: &'static str, peer: bool) -> Client {
    Client { name, recipe: Recipe::Cargo { package, features: &[] }, peer, slow: false }
}

const fn scripts(name: &'static str, slow: bool) -> Client {
    Client { name, recipe: Recipe::Scripts { folder: name }, peer: true, slow }
}

/// Every row of the tables.
pub const CLIENTS: [Client; 12] = [
    cargo(OURS, "ours", false),
    cargo(OURS_AGAIN, "ours", false),
    Client {
        recipe: Recipe::Cargo { package: "ours", features: &["--no-default-features"] },
        ..cargo("ours-zstd-rust", "ours", false)
    },
    cargo(EMPTY, "control", false),
    cargo("rdkafka-future", "rdkafka-driver", true),
    cargo("rdkafka-base", "rdkafka-driver", true),
    cargo("krafka", "krafka-driver", true),
    cargo("kacrab", "kacrab-driver", true),
    cargo("confluent-kafka", "confluent-driver", true),
    cargo("rskafka", "rskafka-driver", true),
    scripts("java", true),
    scripts("franz-go", false),
];

/// The client of that name.
pub fn find(name: &str) -> Option<&'static Client> {
    CLIENTS.iter().find(|client| client.name == name)
}

impl Client {
    /// Builds the driver; gives its program.
    ///
    /// # Errors
    /// It cannot be built here, for the reason given: the last lines of what the build said.
    pub fn build(&self, paths: &Paths) -> Result<Program, String> {
        match self.recipe {
            Recipe::Cargo { package, features } => {
                let program = self.program(paths);
                run_quietly(
                    Command::new("nice")
                        .args(["cargo", "build", "--release", "--locked", "-p", package, "--manifest-path"])
                        .arg(paths.compare.join("Cargo.toml"))
                        .args(features),
                )?;
                // A copy for each row: the next build may give the same program other features.
                let built = paths.compare.join("target/release").join(package);
                fs::create_dir_all(programs(paths))
                    .and_then(|()| fs::copy(&built, &program))
                    .map_err(|error| format!("{}: {error}", built.display()))?;
                Ok(program.into())
            }
            Recipe::Scripts { folder } => {
                let folder = paths.compare.join("clients").join(folder);
                let script = folder.join("build.sh");
                if !script.exists() {
                    return Err(format!("{} is not there", script.display()));
                }
                let said = run_quietly(Command::new("nice").arg(&script).current_dir(&folder))?;
                let mut words = said.lines();
                let file = words.next().ok_or_else(|| format!("{} named no program", script.display()))?;
                Ok(Program { file: file.into(), arguments: words.map(str::to_owned).collect() })
            }
        }
    }

    /// The program as it was built before, if it was. Scripts see for themselves what is to be done, and are quick.
    pub fn as_built(&self, paths: &Paths) -> Option<Program> {
        match self.recipe {
            Recipe::Cargo { .. } => {
                Some(self.program(paths)).filter(|program| program.exists()).map(Program::from)
            }
            Recipe::Scripts { .. } => None,
        }
    }

    fn program(&self, paths: &Paths) -> PathBuf {
        programs(paths).join(self.name)
    }
}

fn programs(paths: &Paths) -> PathBuf {
    paths.compare.join("target/programs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_can_be_found_and_peers_are_not_ours() {
        for client in &CLIENTS {
            assert_eq!(find(client.name).unwrap().name, client.name);
            assert!(!(client.peer && client.name.starts_with(OURS)));
        }
        assert!(find("nobody").is_none());
    }
}
