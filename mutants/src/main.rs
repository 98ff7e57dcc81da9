//! Plants faults in the code that decides, one at a time, and tells which of them no test notices.
//!
//! All of them are compiled into one copy of the repository, each behind a switch, so that a thousand faults cost one
//! build: see [`plant`] for what is planted, [`copy`] for the build, [`judge`] for the runs. `plan.toml` names the
//! files, and each fault that no test can notice, with the reason.

mod copy;
mod judge;
mod plan;
mod plant;
mod rewrite;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::copy::Copy;
use crate::judge::Verdicts;
use crate::plan::Plan;

const USAGE: &str = "usage: tokenkeep-mutants [--list] [--rest] [WORK_DIR] [PATH_FILTER]

  WORK_DIR     where the copy, its build and verdicts.json go; default target/mutants
  PATH_FILTER  only faults in files whose path contains it
  --list       print the faults and do nothing else
  --rest       judge those only that verdicts.json does not call caught";

fn main() -> Result<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let mut flag = |name: &str| {
        let before = words.len();
        words.retain(|word| word != name);
        words.len() < before
    };
    let (list, rest) = (flag("--list"), flag("--rest"));
    if words.len() > 2 || words.iter().any(|word| word.starts_with('-')) {
        bail!("{USAGE}");
    }
    let mut words = words.into_iter();
    let work = PathBuf::from(words.next().unwrap_or_else(|| "target/mutants".to_owned()));
    let filter = words.next().unwrap_or_default();

    let repository = std::env::current_dir()?;
    let plan = Plan::read(&repository.join("mutants/plan.toml"))?;
    let mut sources = plant::sources(&repository, &plan)?;
    if list {
        for mutant in sources.iter().flat_map(|source| &source.mutants) {
            println!("{}", mutant.place());
        }
        return Ok(());
    }
    std::fs::create_dir_all(&work)?;
    let work = work.canonicalize()?;
    let copy = Copy::of(&repository, &work).context("a copy of the repository")?;
    let binaries = copy.build(&plan, &mut sources)?;
    let mutants: Vec<_> = sources.iter().flat_map(|source| &source.mutants).collect();

    let file = work.join("verdicts.json");
    let mut verdicts = Verdicts::read(&file)?;
    judge::all(&mutants, &binaries, &filter, rest, &mut verdicts, &work)?;
    let survivors = verdicts.survivors(&mutants);
    let unexplained = plan.unexplained(&survivors);
    for mutant in &unexplained {
        println!("not noticed: {}", mutant.place());
    }
    let planted = mutants.iter().filter(|mutant| !mutant.dropped).count();
    let caught = planted.saturating_sub(survivors.len());
    println!(
        "mutants: {planted} planted, {caught} noticed, {} explained, {} neither",
        survivors.len().saturating_sub(unexplained.len()),
        unexplained.len()
    );
    if !unexplained.is_empty() {
        bail!("write a test for each, or a reason into mutants/plan.toml");
    }
    Ok(())
}
