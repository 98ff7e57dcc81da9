//! A copy of the repository with every fault in it, behind switches, and its build.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::plan::Plan;
use crate::plant::Source;

/// How often the build is tried without what did not compile.
const TRIES: u32 = 40;

/// A folder with a copy.
pub struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

/// A binary with tests in it.
#[derive(Debug)]
pub struct Binary {
    /// The file.
    pub file: PathBuf,
    /// Where it runs.
    pub folder: PathBuf,
}

/// What the compiler says of one try.
#[derive(Debug, Default)]
struct Built {
    /// Where errors are: the file and the place in it.
    errors: Vec<(String, Range<usize>)>,
    binaries: Vec<Binary>,
    /// For a person, if it is none of the faults.
    rendered: Vec<String>,
}

impl Copy {
    /// Copies what git knows of, below `work`.
    pub fn of(repository: &Path, work: &Path) -> Result<Self> {
        let tree = work.join("tree");
        let listed = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(repository)
            .output()?;
        if !listed.status.success() {
            bail!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
        }
        for name in String::from_utf8(listed.stdout)?.split_terminator('\0') {
            let (from, to) = (repository.join(name), tree.join(name));
            // What is the same keeps its time, so that it is not built again.
            let Ok(bytes) = std::fs::read(&from) else {
                continue;
            };
            write(&to, &bytes)?;
        }
        let target = work.join("target");
        Ok(Self { tree, target })
    }

    /// Plants all that compiles, and builds the tests.
    pub fn build(&self, plan: &Plan, sources: &mut [Source]) -> Result<Vec<Binary>> {
        for try_number in 1..=TRIES {
            let pieces = self.plant(plan, sources)?;
            // The library alone is quicker to refuse.
            let mut built = self.cargo(plan, &["check", "--lib"])?;
            if built.errors.is_empty() && built.rendered.is_empty() {
                built = self.cargo(plan, &["test", "--lib", "--tests", "--no-run"])?;
            }
            if built.errors.is_empty() && built.rendered.is_empty() {
                return Ok(built.binaries);
            }
            let culprits = culprits(&pieces, &built.errors);
            eprintln!(
                "mutants: build {try_number}: {} errors, {} faults that do not compile",
                built.errors.len(),
                culprits.len()
            );
            if culprits.is_empty() {
                bail!("the copy does not compile:\n{}", built.rendered.concat());
            }
            for mutant in sources.iter_mut().flat_map(|source| &mut source.mutants) {
                mutant.dropped |= culprits.contains(&mutant.id);
            }
        }
        bail!("the copy does not compile after {TRIES} tries")
    }

    fn plant(&self, plan: &Plan, sources: &[Source]) -> Result<Vec<(String, u32, Range<usize>)>> {
        let mut all = Vec::new();
        let mut last = 0;
        for source in sources {
            let dropped: BTreeSet<u32> = source
                .mutants
                .iter()
                .filter(|mutant| mutant.dropped)
                .map(|mutant| mutant.id)
                .collect();
            last = source
                .mutants
                .iter()
                .map(|mutant| mutant.id)
                .fold(last, u32::max);
            let new = source
                .rewrite
                .apply(&source.text, |id| dropped.contains(&id));
            write(&self.tree.join(&source.path), new.text.as_bytes())?;
            let pieces = new.pieces.into_iter();
            all.extend(pieces.map(|(id, range)| (source.path.clone(), id, range)));
        }
        let switch = format!(
            "{}const COUNT: usize = {};\n",
            include_str!("switch.rs.in"),
            last + 1
        );
        for part in plan.package.values() {
            let folder = self.tree.join(&part.folder).join("src");
            write(&folder.join("mutant_switch.rs"), switch.as_bytes())?;
            let lib = folder.join("lib.rs");
            let text = std::fs::read_to_string(&lib)?;
            if !text.contains("mod mutant_switch;") {
                let text =
                    format!("{text}\n#[doc(hidden)]\n#[allow(warnings)]\npub mod mutant_switch;\n");
                write(&lib, text.as_bytes())?;
            }
        }
        Ok(all)
    }

    fn cargo(&self, plan: &Plan, arguments: &[&str]) -> Result<Built> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.args(arguments).arg("--message-format=json");
        for package in plan.package.keys() {
            command.args(["--package", package]);
        }
        let output = command
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .stderr(Stdio::piped())
            .output()
            .context("cargo")?;
        let mut built = Built::default();
        for line in output.stdout.split(|byte| *byte == b'\n') {
            let Ok(message) = serde_json::from_slice::<Value>(line) else {
                continue;
            };
            built.add(&message);
        }
        if !output.status.success() && built.errors.is_empty() && built.rendered.is_empty() {
            bail!("cargo: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(built)
    }
}

impl Built {
    fn add(&mut self, message: &Value) {
        if let (Some(file), Some(true)) = (
            message["executable"].as_str(),
            message["profile"]["test"].as_bool(),
        ) {
            let manifest = Path::new(message["manifest_path"].as_str().unwrap_or_default());
            self.binaries.push(Binary {
                file: file.into(),
                folder: manifest.parent().unwrap_or(manifest).to_owned(),
            });
        }
        let inner = &message["message"];
        if inner["level"] != "error" {
            return;
        }
        let mut spans = Vec::new();
        all_spans(inner, &mut spans);
        if spans.is_empty() && inner["code"].is_null() {
            // "aborting due to …"
            return;
        }
        self.errors.extend(spans);
        let rendered = inner["rendered"].as_str().unwrap_or_default();
        self.rendered.push(rendered.to_owned());
    }
}

fn all_spans(message: &Value, spans: &mut Vec<(String, Range<usize>)>) {
    for span in message["spans"].as_array().into_iter().flatten() {
        let place = |name: &str| span[name].as_u64().and_then(|at| usize::try_from(at).ok());
        let (file, primary) = (span["file_name"].as_str(), span["is_primary"] == true);
        if let (Some(file), Some(start), Some(end), true) =
            (file, place("byte_start"), place("byte_end"), primary)
        {
            spans.push((file.to_owned(), start..end));
        }
    }
}

/// Which faults an error is about: those whose own text it touches, else the nearest that is around it.
fn culprits(
    pieces: &[(String, u32, Range<usize>)],
    errors: &[(String, Range<usize>)],
) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for (file, error) in errors {
        let here = || pieces.iter().filter(|(path, _, _)| path == file);
        // Errors lie within what was planted, or around one whole wrap.
        let touched: BTreeSet<u32> = here()
            .filter(|(_, _, piece)| piece.start < error.end && error.start < piece.end)
            .map(|(_, id, _)| *id)
            .collect();
        let inside: BTreeSet<u32> = here()
            .filter(|(_, _, piece)| piece.start <= error.start && error.end <= piece.end)
            .map(|(_, id, _)| *id)
            .collect();
        if !inside.is_empty() {
            found.extend(inside);
        } else if !touched.is_empty() {
            found.extend(touched);
        } else {
            let around = here()
                .filter(|(_, _, piece)| piece.end <= error.start)
                .max_by_key(|(_, _, piece)| piece.end);
            found.extend(around.map(|(_, id, _)| *id));
        }
    }
    found
}

/// Writes what differs.
fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(file).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    std::fs::create_dir_all(file.parent().context("a folder")?)?;
    std::fs::write(file, bytes).with_context(|| file.display().to_string())
}
