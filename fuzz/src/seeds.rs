//! Seeds of a fuzz target, as files to start from.

use std::path::PathBuf;
use std::{env, fs};

use tests::fuzz::Target;

/// Names a directory that the seeds of a target are written to before it starts.
const SEED_DIR: &str = "TOKENKEEP_FUZZ_SEED_DIR";

/// Writes the seeds of a target, one file each, if the environment says where.
///
/// # Panics
/// If they can't be written.
pub fn write_seeds(target: Target) {
    let Some(dir) = env::var_os(SEED_DIR).map(PathBuf::from) else {
        return;
    };
    fs::create_dir_all(&dir).expect("the directory of the seeds can be made");
    for (number, seed) in (target.seeds)().into_iter().enumerate() {
        fs::write(dir.join(format!("seed-{number}")), seed).expect("a seed can be written");
    }
}
