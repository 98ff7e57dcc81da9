//! `store check` and `store stats`.

use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

use super::command::{Look, Told};
use super::ground::{Ground, OfflineError};
use crate::host_config::HostConfig;
use crate::store::{Checked, Damage, FileMedium, OpenError, Stats, check as check_file};

/// What is told of a store.
#[derive(Serialize)]
struct Findings<'a> {
    ok: bool,
    path: &'a Path,
    #[serde(flatten)]
    stats: Amounts,
    torn: Option<Place>,
    damage: Option<DamageFound>,
}

#[derive(Serialize)]
struct Amounts {
    file_bytes: u64,
    live_bytes: u64,
    authentic_bytes: u64,
    frames: u64,
    records: u64,
    control_leaves: u64,
    issuance_leaves: u64,
    compactions: u64,
    compaction_due: bool,
}

#[derive(Serialize)]
struct Place {
    offset: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct DamageFound {
    offset: u64,
    frame: u64,
    what: String,
}

impl<'a> Findings<'a> {
    fn of(checked: &Checked, path: &'a Path, host: &HostConfig) -> Self {
        let Checked {
            stats,
            authentic_bytes,
            torn,
            damage,
        } = checked;
        let Stats {
            file_bytes,
            live_bytes,
            frames,
            records,
            control_leaves,
            issuance_leaves,
            epoch,
        } = *stats;
        Self {
            ok: damage.is_none(),
            path,
            stats: Amounts {
                file_bytes,
                live_bytes,
                authentic_bytes: *authentic_bytes,
                frames,
                records,
                control_leaves,
                issuance_leaves,
                compactions: epoch,
                // What is behind is cut off at the start.
                compaction_due: host.compaction.is_due(*authentic_bytes, live_bytes),
            },
            torn: torn.map(|torn| Place {
                offset: torn.offset,
                bytes: torn.bytes,
            }),
            damage: damage.map(|damage| {
                let Damage {
                    offset,
                    frame,
                    what,
                } = damage;
                DamageFound {
                    offset,
                    frame,
                    what: what.to_string(),
                }
            }),
        }
    }

    fn tell(&self, json: bool, out: &mut dyn Write) -> io::Result<()> {
        if json {
            return writeln!(out, "{}", serde_json::to_string(self)?);
        }
        let Amounts {
            file_bytes,
            live_bytes,
            authentic_bytes,
            frames,
            records,
            control_leaves,
            issuance_leaves,
            compactions,
            compaction_due,
        } = &self.stats;
        writeln!(out, "store      {}", self.path.display())?;
        writeln!(
            out,
            "file       {file_bytes} bytes, {authentic_bytes} of them authentic, in {frames} frames"
        )?;
        let due = if *compaction_due {
            "; the service compacts it at its next write"
        } else {
            ""
        };
        writeln!(
            out,
            "live       {live_bytes} bytes after {compactions} compactions{due}"
        )?;
        writeln!(out, "records    {records}")?;
        writeln!(
            out,
            "leaves     {control_leaves} control, {issuance_leaves} issuance"
        )?;
        if let Some(Place { offset, bytes }) = &self.torn {
            writeln!(
                out,
                "torn       {bytes} bytes from byte {offset} on: a write that was never acknowledged; the service \
                 drops it when it starts"
            )?;
        }
        if let Some(DamageFound {
            offset,
            frame,
            what,
        }) = &self.damage
        {
            writeln!(
                out,
                "damaged    from byte {offset} on (frame {frame}): {what}\n\
                 What stands before is authentic. The service does not start from this file: bring back the newest\n\
                 copy or export that you have; with witnesses, one that is older than they saw is refused."
            )?;
        }
        writeln!(out, "{}", if self.ok { "ok" } else { "refused" })
    }
}

async fn looked(
    ground: &mut Ground<'_>,
) -> Result<Option<(Checked, std::path::PathBuf)>, OfflineError> {
    let Some(found) = ground.open().await? else {
        return Ok(None);
    };
    let path = found.store;
    let medium = FileMedium::open_to_read(&path).map_err(|error| OpenError::Io {
        action: "open",
        path: path.clone(),
        kind: error.kind(),
    })?;
    let checked = check_file(&medium, &path, &found.cipher)?;
    drop(found.dir);
    Ok(Some((checked, path)))
}

pub(super) async fn check(
    mut ground: Ground<'_>,
    look: &Look,
    told: &mut Told<'_>,
) -> Result<bool, OfflineError> {
    let Some((checked, path)) = looked(&mut ground).await? else {
        return Ok(false);
    };
    let findings = Findings::of(&checked, &path, ground.host);
    findings
        .tell(look.json, told.out)
        .map_err(OfflineError::Told)?;
    Ok(findings.ok)
}

/// As a check, but a damaged store has no figures worth telling.
pub(super) async fn stats(
    mut ground: Ground<'_>,
    look: &Look,
    told: &mut Told<'_>,
) -> Result<bool, OfflineError> {
    let Some((checked, path)) = looked(&mut ground).await? else {
        return Ok(false);
    };
    if let Some(Damage { offset, what, .. }) = checked.damage {
        return Err(OpenError::Corrupt { offset, what }.into());
    }
    let findings = Findings::of(&checked, &path, ground.host);
    findings
        .tell(look.json, told.out)
        .map_err(OfflineError::Told)?;
    Ok(true)
}
