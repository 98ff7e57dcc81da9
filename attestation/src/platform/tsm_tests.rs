//! Requests to a fake configfs: real files in a real directory, and a script of what goes wrong.

#![allow(clippy::arithmetic_side_effects, reason = "small numbers of a test")]

use super::*;
use std::sync::Mutex;

/// What goes wrong at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// The system's error.
    Errno(i32),
    /// Somebody else writes his own blob to our directory just before.
    Race,
    /// The attribute reads as this.
    Reads(&'static str),
    /// The attribute has this many bytes.
    Long(usize),
}

const EINTR: i32 = 4;
const EIO: i32 = 5;
const EAGAIN: i32 = 11;
const EACCES: i32 = 13;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const EFBIG: i32 = 27;

#[derive(Debug)]
struct FakeConfigfs {
    base: PathBuf,
    /// Attribute (or `mkdir`) and what goes wrong there, once each, or always if `forever`.
    script: Mutex<Vec<(&'static str, Wrong)>>,
    forever: bool,
    made: Mutex<u32>,
    with_auxblob: bool,
}

impl FakeConfigfs {
    fn new(script: &[(&'static str, Wrong)]) -> Self {
        static NEXT_BASE: AtomicU64 = AtomicU64::new(0);
        let number = NEXT_BASE.fetch_add(1, Ordering::Relaxed);
        let name = format!("tokenkeep-fake-configfs-{}-{number}", std::process::id());
        let base = std::env::temp_dir().join(name);
        std::fs::create_dir(&base).unwrap();
        Self {
            base,
            script: Mutex::new(script.to_vec()),
            forever: false,
            made: Mutex::new(0),
            with_auxblob: true,
        }
    }

    fn next_wrong(&self, what: &str) -> Option<Wrong> {
        let mut script = self.script.lock().unwrap();
        let place = script.iter().position(|(name, _)| *name == what)?;
        Some(if self.forever {
            script[place].1
        } else {
            script.remove(place).1
        })
    }

    /// What the kernel does when somebody wrote `inblob`.
    fn generate(&self, dir: &Path, inblob: &[u8]) {
        let generation: u64 = std::fs::read_to_string(dir.join("generation"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        std::fs::write(dir.join("generation"), format!("{}\n", generation + 1)).unwrap();
        std::fs::write(dir.join("outblob"), [b"report over ", inblob].concat()).unwrap();
        if self.with_auxblob {
            std::fs::write(dir.join("auxblob"), b"table").unwrap();
        }
    }

    fn left_over(&self) -> usize {
        std::fs::read_dir(&self.base).unwrap().count()
    }
}

impl Drop for FakeConfigfs {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.base).unwrap();
    }
}

impl ReportFiles for &FakeConfigfs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        *self.made.lock().unwrap() += 1;
        if let Some(Wrong::Errno(errno)) = self.next_wrong("mkdir") {
            return Err(io::Error::from_raw_os_error(errno));
        }
        KernelFiles.create_dir(dir)?;
        std::fs::write(dir.join("provider"), "sev_guest\n")?;
        std::fs::write(dir.join("generation"), "0\n")?;
        std::fs::write(dir.join("inblob"), "")
    }

    fn read(&self, file: &Path, max_bytes: usize) -> io::Result<Vec<u8>> {
        let name = file.file_name().unwrap().to_str().unwrap();
        match self.next_wrong(name) {
            Some(Wrong::Errno(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Some(Wrong::Race) => self.generate(file.parent().unwrap(), &[0xEE; 64]),
            Some(Wrong::Reads(text)) => std::fs::write(file, text)?,
            Some(Wrong::Long(bytes)) => std::fs::write(file, vec![7; bytes])?,
            None => {}
        }
        KernelFiles.read(file, max_bytes)
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        match self.next_wrong("inblob") {
            Some(Wrong::Errno(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Some(Wrong::Race) => self.generate(file.parent().unwrap(), &[0xEE; 64]),
            Some(Wrong::Reads(_) | Wrong::Long(_)) => panic!("inblob is not read"),
            None => {}
        }
        KernelFiles.write(file, bytes)?;
        self.generate(file.parent().unwrap(), &std::fs::read(file)?);
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        // In configfs the attributes go with the directory.
        std::fs::remove_dir_all(dir)
    }
}

/// Opens without faults, then asks with them.
fn ask(fake: &FakeConfigfs, script: &[(&'static str, Wrong)]) -> Result<TsmReport, TsmError> {
    let tsm = Tsm::open(&fake.base, fake).unwrap();
    assert_eq!(tsm.provider(), Provider::SevGuest);
    *fake.script.lock().unwrap() = script.to_vec();
    *fake.made.lock().unwrap() = 0;
    let report = tsm.report(&[0xAA; 64]);
    assert_eq!(fake.left_over(), 0, "{script:?}");
    report
}

fn expected() -> TsmReport {
    TsmReport {
        outblob: [b"report over ".as_slice(), &[0xAA; 64]].concat(),
        auxblob: Some(b"table".to_vec()),
    }
}

#[test]
fn a_report_comes_with_what_belongs_to_it_and_leaves_nothing_behind() {
    let fake = FakeConfigfs::new(&[]);
    assert_eq!(ask(&fake, &[]).unwrap(), expected());
    assert_eq!(*fake.made.lock().unwrap(), 1);
    let mut bare = FakeConfigfs::new(&[]);
    bare.with_auxblob = false;
    let without = TsmReport {
        auxblob: None,
        ..expected()
    };
    assert_eq!(ask(&bare, &[]).unwrap(), without);
}

#[test]
fn what_passes_by_itself_is_tried_again_in_a_new_directory() {
    let rows: [&[(&'static str, Wrong)]; 9] = [
        &[("inblob", Wrong::Errno(EBUSY))],
        &[("outblob", Wrong::Errno(EBUSY))],
        &[("outblob", Wrong::Errno(EAGAIN))],
        &[("auxblob", Wrong::Errno(EAGAIN))],
        &[("generation", Wrong::Errno(EINTR))],
        &[("mkdir", Wrong::Errno(EEXIST))],
        // Another's blob after ours, and before ours: both times what is read may be his.
        &[("outblob", Wrong::Race)],
        &[("auxblob", Wrong::Race)],
        &[("inblob", Wrong::Race)],
    ];
    for row in rows {
        let fake = FakeConfigfs::new(&[]);
        assert_eq!(ask(&fake, row).unwrap(), expected(), "{row:?}");
        assert_eq!(*fake.made.lock().unwrap(), 2, "{row:?}");
    }
    let fake = FakeConfigfs::new(&[]);
    let four = [("outblob", Wrong::Errno(EAGAIN)); 4];
    assert_eq!(ask(&fake, &four).unwrap(), expected());
    assert_eq!(*fake.made.lock().unwrap(), MAX_ATTEMPTS);
}

#[test]
fn a_race_without_end_is_given_up() {
    for (name, wrong, step) in [
        ("outblob", Wrong::Race, Step::Generation),
        ("outblob", Wrong::Errno(EAGAIN), Step::Outblob),
        ("inblob", Wrong::Errno(EBUSY), Step::Inblob),
    ] {
        let mut fake = FakeConfigfs::new(&[]);
        fake.forever = true;
        match ask(&fake, &[(name, wrong)]) {
            Err(TsmError::Disturbed { step: found }) => assert_eq!(found, step),
            other => panic!("{other:?}"),
        }
        assert_eq!(*fake.made.lock().unwrap(), MAX_ATTEMPTS, "{name}");
    }
}

#[test]
fn what_does_not_pass_is_told_at_once() {
    let rows: [(&'static str, Wrong, &str); 14] = [
        ("mkdir", Wrong::Errno(EACCES), "Kernel Create 13"),
        ("provider", Wrong::Errno(EIO), "Kernel Provider 5"),
        ("inblob", Wrong::Errno(EINVAL), "Kernel Inblob 22"),
        ("outblob", Wrong::Errno(EIO), "Kernel Outblob 5"),
        ("auxblob", Wrong::Errno(EIO), "Kernel Auxblob 5"),
        ("outblob", Wrong::Errno(EFBIG), "TooLarge Outblob"),
        (
            "outblob",
            Wrong::Long(MAX_BLOB_BYTES + 1),
            "Unbounded Outblob",
        ),
        (
            "auxblob",
            Wrong::Long(MAX_BLOB_BYTES + 1),
            "Unbounded Auxblob",
        ),
        ("provider", Wrong::Long(65), "Unbounded Provider"),
        ("generation", Wrong::Reads("x\n"), "Malformed Generation"),
        ("generation", Wrong::Reads("-1\n"), "Malformed Generation"),
        ("generation", Wrong::Reads(""), "Malformed Generation"),
        (
            "provider",
            Wrong::Reads("arm_cca_guest\n"),
            "Provider arm_cca_guest",
        ),
        (
            "provider",
            Wrong::Reads("tdx_guest\n"),
            "OtherProvider TdxGuest",
        ),
    ];
    for (name, wrong, expected) in rows {
        let fake = FakeConfigfs::new(&[]);
        let found = match ask(&fake, &[(name, wrong)]) {
            Err(TsmError::Kernel { step, error }) => {
                format!("Kernel {step:?} {}", error.raw_os_error().unwrap())
            }
            Err(TsmError::TooLarge { step }) => format!("TooLarge {step:?}"),
            Err(TsmError::Unbounded { step }) => format!("Unbounded {step:?}"),
            Err(TsmError::Malformed { step }) => format!("Malformed {step:?}"),
            Err(TsmError::Provider { found }) => format!("Provider {found}"),
            Err(TsmError::OtherProvider { found, .. }) => format!("OtherProvider {found:?}"),
            other => panic!("{name} {wrong:?}: {other:?}"),
        };
        assert_eq!(found, expected);
        assert_eq!(*fake.made.lock().unwrap(), 1, "{expected}");
    }
}

#[test]
fn a_blob_of_the_greatest_length_is_read_whole() {
    let fake = FakeConfigfs::new(&[]);
    let report = ask(&fake, &[("outblob", Wrong::Long(MAX_BLOB_BYTES))]).unwrap();
    assert_eq!(report.outblob.len(), MAX_BLOB_BYTES);
}

#[test]
fn a_machine_without_configfs_tsm_says_so() {
    let fake = FakeConfigfs::new(&[]);
    match Tsm::open(&fake.base.join("absent"), KernelFiles) {
        Err(TsmError::Kernel { step, error }) => {
            assert_eq!(step, Step::Create);
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
        other => panic!("{other:?}"),
    }
}
