//! Runs the tests that reach a fault, with the fault on, until one fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::copy::Binary;
use crate::plant::Mutant;

/// A test that runs this much longer than without a fault hangs.
const PATIENCE: u32 = 20;
const LEAST_PATIENCE: Duration = Duration::from_secs(20);

/// What became of each fault, by its key.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Verdicts(BTreeMap<String, Verdict>);

/// What became of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// By this test.
    Noticed(String),
    /// All tests that reach it passed.
    Survived,
    /// No test reaches it.
    Unreached,
}

impl Verdicts {
    /// Those of an earlier run, if there was one.
    pub fn read(file: &Path) -> Result<Self> {
        match std::fs::read(file) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(_) => Ok(Self::default()),
        }
    }

    fn write(&self, file: &Path) -> Result<()> {
        Ok(std::fs::write(file, serde_json::to_vec_pretty(self)?)?)
    }

    /// Those that no test noticed.
    pub fn survivors<'a>(&self, mutants: &[&'a Mutant]) -> Vec<&'a Mutant> {
        let survived = |mutant: &&&Mutant| {
            !mutant.dropped
                && matches!(
                    self.0.get(&mutant.key()),
                    Some(Verdict::Survived | Verdict::Unreached)
                )
        };
        mutants.iter().filter(survived).copied().collect()
    }
}

struct Test<'a> {
    binary: &'a Binary,
    name: String,
    took: Duration,
    reaches: Vec<u32>,
}

/// Judges every fault in files whose path contains `filter`; only those that nothing noticed yet if `rest`.
pub fn all(
    mutants: &[&Mutant],
    binaries: &[Binary],
    filter: &str,
    rest: bool,
    verdicts: &mut Verdicts,
    work: &Path,
) -> Result<()> {
    let file = work.join("verdicts.json");
    let chosen: Vec<&&Mutant> = mutants
        .iter()
        .filter(|mutant| !mutant.dropped && mutant.file.contains(filter))
        .filter(|mutant| {
            !rest || !matches!(verdicts.0.get(&mutant.key()), Some(Verdict::Noticed(_)))
        })
        .collect();
    let mut tests = traced(binaries, work)?;
    tests.sort_by_key(|test| test.took);
    eprintln!(
        "mutants: {} tests, {} faults to judge",
        tests.len(),
        chosen.len()
    );
    for (number, mutant) in chosen.iter().enumerate() {
        let reaching: Vec<&Test> = tests
            .iter()
            .filter(|test| test.reaches.contains(&mutant.id))
            .collect();
        let mut verdict = if reaching.is_empty() {
            Verdict::Unreached
        } else {
            Verdict::Survived
        };
        for test in reaching {
            if !passes(test, mutant.id)? {
                verdict = Verdict::Noticed(test.name.clone());
                break;
            }
        }
        if !matches!(verdict, Verdict::Noticed(_)) {
            eprintln!("mutants: {number} {verdict:?}: {}", mutant.place());
        }
        verdicts.0.insert(mutant.key(), verdict);
        if number % 20 == 0 {
            verdicts.write(&file)?;
        }
    }
    verdicts.write(&file)
}

/// Every test, and which faults it reaches.
fn traced<'a>(binaries: &'a [Binary], work: &Path) -> Result<Vec<Test<'a>>> {
    let mut tests = Vec::new();
    for binary in binaries {
        let listed = Command::new(&binary.file).arg("--list").output()?;
        let ignored = Command::new(&binary.file)
            .args(["--list", "--ignored"])
            .output()?;
        let ignored = String::from_utf8(ignored.stdout)?;
        let listed = String::from_utf8(listed.stdout)?;
        for name in listed
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
        {
            if ignored
                .lines()
                .any(|line| line.strip_suffix(": test") == Some(name))
            {
                continue;
            }
            let trace = work.join("trace");
            std::fs::write(&trace, "")?;
            let start = Instant::now();
            let status = command(binary, name)
                .env("TOKENKEEP_MUTANT_TRACE", &trace)
                .status()?;
            let took = start.elapsed();
            if !status.success() {
                bail!("{} {name} fails without a fault", binary.file.display());
            }
            let reached = std::fs::read_to_string(&trace)?;
            tests.push(Test {
                binary,
                name: name.to_owned(),
                took,
                reaches: reached.lines().map(str::parse).collect::<Result<_, _>>()?,
            });
        }
    }
    Ok(tests)
}

fn command(binary: &Binary, name: &str) -> Command {
    let mut command = Command::new(&binary.file);
    command
        .args(["--exact", name, "--test-threads", "1"])
        .current_dir(&binary.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn passes(test: &Test<'_>, id: u32) -> Result<bool> {
    let patience = (test.took * PATIENCE).max(LEAST_PATIENCE);
    let mut child = command(test.binary, &test.name)
        .env("TOKENKEEP_MUTANT", id.to_string())
        .spawn()
        .context("a test")?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(ExitStatus::success(&status));
        }
        if start.elapsed() > patience {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
