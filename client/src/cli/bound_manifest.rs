//! What `verify` says of the manifest: who can open the state, and who would notice that it was put back.

use attestation::manifest::{Keyholder, Keyholders, Manifest, Witnesses, recovery_set};
use serde_json::{Value, json};

use super::verify::entry;

/// The manifest, or why it is not known.
pub(crate) type Found = Result<Manifest, String>;

/// What one keyholder's operator means for confidentiality, in words.
fn against_the_operator(keyholders: &Keyholders) -> String {
    let own = keyholders.run_by_operator();
    if keyholders.operator_has_quorum() {
        return "the operator runs a quorum and can open the state alone: nothing here is confidential against the \
                operator"
            .to_owned();
    }
    match keyholders.quorum.saturating_sub(own) {
        1 => "the operator can't open the state without one that somebody else runs".to_owned(),
        others => {
            format!("the operator can't open the state without {others} that somebody else runs")
        }
    }
}

fn keyholder_line(keyholder: &Keyholder) -> String {
    let Keyholder {
        name,
        url,
        key: _,
        run_by,
    } = keyholder;
    format!("{name}, run by {}, {url}", described(run_by.as_str()))
}

fn described(run_by: &str) -> &str {
    match run_by {
        "operator" => "the operator",
        "tenant" => "a tenant",
        "third-party" => "a third party",
        other => other,
    }
}

/// The section of the text.
pub(crate) fn lines(found: &Found) -> Vec<String> {
    let manifest = match found {
        Ok(manifest) => manifest,
        Err(why) => {
            return vec![
                "Who can open the state".to_owned(),
                entry("not known", &format!("the manifest: {why}")),
            ];
        }
    };
    let mut lines = vec![format!(
        "Who can open the state, by the manifest that the evidence binds (sequence {})",
        manifest.sequence()
    )];
    match manifest.keyholders() {
        Some(keyholders) => {
            let Keyholders {
                quorum,
                off_chip,
                keyholders: all,
            } = keyholders;
            let chip = if *off_chip {
                "on any chip"
            } else {
                "on its own chip only"
            };
            let quorum = format!("{quorum} of {}, {chip}", all.len());
            lines.push(entry("keyholders", &quorum));
            let each = all.iter().map(keyholder_line);
            lines.extend(each.map(|line| entry("keyholder", &line)));
            lines.push(entry("", &against_the_operator(keyholders)));
        }
        None => lines.push(entry("keyholders", "none")),
    }
    let recovery = manifest.recovery().map(|recovery| {
        format!(
            "set {}: a threshold of its shares opens the state too",
            hex::encode(recovery_set(&recovery.key))
        )
    });
    lines.push(entry("recovery", recovery.as_deref().unwrap_or("none")));
    let witnesses = manifest.witnesses().map(|witnesses| {
        let Witnesses {
            quorum,
            lease_s,
            witnesses,
        } = witnesses;
        let names: Vec<&str> = witnesses.iter().map(|one| one.name.as_str()).collect();
        format!(
            "{quorum} of {}, every {lease_s} s at least: {}",
            names.len(),
            names.join(", ")
        )
    });
    let none = "none: a disk that is put back is not found out";
    lines.push(entry("witnesses", witnesses.as_deref().unwrap_or(none)));
    lines
}

/// The same as JSON.
pub(crate) fn to_json(found: &Found) -> Value {
    let manifest = match found {
        Ok(manifest) => manifest,
        Err(why) => return json!({ "problem": why }),
    };
    let keyholders = manifest.keyholders().map(|table| {
        let Keyholders {
            quorum,
            off_chip,
            keyholders,
        } = table;
        let each = keyholders.iter().map(|keyholder| {
            let Keyholder {
                name,
                url,
                key,
                run_by,
            } = keyholder;
            json!({
                "name": name,
                "url": url,
                "key": hex::encode(key),
                "run_by": run_by.as_str(),
            })
        });
        json!({
            "quorum": quorum,
            "off_chip": off_chip,
            "keyholders": each.collect::<Vec<_>>(),
            "run_by_operator": table.run_by_operator(),
            "confidential_against_operator": !table.operator_has_quorum(),
            "meaning": against_the_operator(table),
        })
    });
    let witnesses = manifest.witnesses().map(|table| {
        let names: Vec<&str> = table
            .witnesses
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        json!({ "quorum": table.quorum, "lease_s": table.lease_s, "witnesses": names })
    });
    json!({
        "sequence": manifest.sequence(),
        "keyholders": keyholders,
        "recovery_set": manifest
            .recovery()
            .map(|recovery| hex::encode(recovery_set(&recovery.key))),
        "witnesses": witnesses,
        "problem": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use attestation::manifest::RunBy;

    fn table(quorum: usize, run_by: &[RunBy]) -> Keyholders {
        let keyholder = |(number, run_by): (usize, &RunBy)| Keyholder {
            name: format!("k{number}"),
            url: format!("http://k{number}.test"),
            key: [u8::try_from(number).unwrap(); 32],
            run_by: *run_by,
        };
        Keyholders {
            quorum,
            off_chip: true,
            keyholders: run_by.iter().enumerate().map(keyholder).collect(),
        }
    }

    #[test]
    fn a_quorum_of_the_operators_keeps_nothing_from_the_operator() {
        use RunBy::{Operator, Tenant, ThirdParty};
        let rows: [(usize, &[RunBy], &str); 5] = [
            (1, &[Operator], "can open the state alone"),
            (1, &[Tenant, Operator], "can open the state alone"),
            (2, &[Operator, Tenant, Operator], "can open the state alone"),
            (
                2,
                &[Operator, Tenant, ThirdParty],
                "without one that somebody",
            ),
            (3, &[Tenant, Tenant, ThirdParty], "without 3 that somebody"),
        ];
        for (quorum, run_by, expected) in rows {
            let said = against_the_operator(&table(quorum, run_by));
            assert!(said.contains(expected), "{quorum} {run_by:?}: {said}");
        }
    }
}
