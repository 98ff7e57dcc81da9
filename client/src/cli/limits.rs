//! Limits as people write them: `calls=10/s:20`.

use proto::v1;

/// What is counted: its word, and where it stands among the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Tokens,
    Calls,
    Bytes,
    Exchanges,
}

const ALL: [(Counted, &str); 4] = [
    (Counted::Tokens, "tokens"),
    (Counted::Calls, "calls"),
    (Counted::Bytes, "bytes"),
    (Counted::Exchanges, "exchanges"),
];

const PERIODS: [(u32, &str); 4] = [(1, "s"), (60, "m"), (3_600, "h"), (86_400, "d")];

/// What to write for a limit, for `--help`.
pub(crate) const FORM: &str = "WHAT=AMOUNT/PERIOD[:BURST]";

/// A limit that is to be, or none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LimitChange {
    counted: Counted,
    limit: Option<v1::Limit>,
}

/// The same for a target of a grant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TargetLimitChange {
    target: String,
    change: LimitChange,
}

/// Reads `WHAT=AMOUNT/PERIOD[:BURST]` or `WHAT=none`.
pub(crate) fn limit_change(text: &str) -> Result<LimitChange, String> {
    let wrong = || {
        "must be tokens, calls, bytes or exchanges, then =AMOUNT/PERIOD[:BURST] or =none, as calls=10/s:20 or \
         bytes=5G/d"
            .to_owned()
    };
    let (what, limit) = text.split_once('=').ok_or_else(wrong)?;
    let counted = ALL.iter().find(|(_, word)| *word == what);
    let (counted, _) = counted.ok_or_else(wrong)?;
    let limit = match limit {
        "none" => None,
        limit => Some(parse(limit).ok_or_else(wrong)?),
    };
    Ok(LimitChange {
        counted: *counted,
        limit,
    })
}

/// Reads `TARGET:` and a limit.
pub(crate) fn target_limit_change(text: &str) -> Result<TargetLimitChange, String> {
    let (target, change) = text
        .split_once(':')
        .filter(|(target, _)| !target.is_empty() && !target.contains('='))
        .ok_or_else(|| "must be TARGET:WHAT=AMOUNT/PERIOD[:BURST], as api:calls=10/s".to_owned())?;
    Ok(TargetLimitChange {
        target: target.to_owned(),
        change: limit_change(change)?,
    })
}

fn parse(text: &str) -> Option<v1::Limit> {
    let (amount, rest) = text.split_once('/')?;
    let (period, burst) = match rest.split_once(':') {
        Some((period, burst)) => (period, number(burst)?),
        None => (rest, 0),
    };
    let (period_s, _) = PERIODS.iter().find(|(_, unit)| *unit == period)?;
    let amount = number(amount)?;
    Some(v1::Limit {
        amount,
        period_s: *period_s,
        burst,
    })
}

/// A number that is not 0, with `k`, `M` or `G` for thousands, millions and thousands of millions.
fn number(text: &str) -> Option<u64> {
    let scales = [("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];
    let scaled = scales.into_iter().find_map(|(unit, scale)| {
        let digits = text.strip_suffix(unit)?;
        Some((digits, scale))
    });
    let (digits, scale) = scaled.unwrap_or((text, 1_u64));
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits.parse::<u64>().ok().filter(|_| plain)?;
    number.checked_mul(scale).filter(|number| *number > 0)
}

/// Makes the changes, the last of each kind last.
pub(crate) fn apply(changes: Vec<LimitChange>, limits: &mut Option<v1::Limits>) {
    for LimitChange { counted, limit } in changes {
        let limits = limits.get_or_insert_default();
        let place = match counted {
            Counted::Tokens => &mut limits.tokens,
            Counted::Calls => &mut limits.calls,
            Counted::Bytes => &mut limits.bytes,
            Counted::Exchanges => &mut limits.exchanges,
        };
        *place = limit;
    }
    if *limits == Some(v1::Limits::default()) {
        *limits = None;
    }
}

/// Makes the changes at the targets that they name.
pub(crate) fn apply_at_targets(changes: Vec<TargetLimitChange>, all: &mut Vec<v1::TargetLimits>) {
    for TargetLimitChange { target, change } in changes {
        let place = all.iter().position(|limits| limits.target == target);
        let mut of_target = match place {
            Some(place) => all.remove(place),
            None => v1::TargetLimits {
                target,
                limits: None,
            },
        };
        apply(vec![change], &mut of_target.limits);
        if of_target.limits.is_some() {
            let place = place.unwrap_or(all.len());
            all.insert(place, of_target);
        }
    }
}

/// Limits as they are written: `calls=10/s:20`.
pub(crate) fn shown(limits: Option<&v1::Limits>) -> Vec<String> {
    let Some(limits) = limits else {
        return Vec::new();
    };
    let limit_of = |counted| match counted {
        Counted::Tokens => limits.tokens.as_ref(),
        Counted::Calls => limits.calls.as_ref(),
        Counted::Bytes => limits.bytes.as_ref(),
        Counted::Exchanges => limits.exchanges.as_ref(),
    };
    ALL.into_iter()
        .filter_map(|(counted, word)| Some(format!("{word}={}", written(limit_of(counted)?))))
        .collect()
}

/// Limits of targets as they are written: `api:calls=10/s`.
pub(crate) fn shown_at_targets(all: &[v1::TargetLimits]) -> Vec<String> {
    all.iter()
        .flat_map(|v1::TargetLimits { target, limits }| {
            let limits = shown(limits.as_ref()).into_iter();
            limits.map(move |limit| format!("{target}:{limit}"))
        })
        .collect()
}

fn written(limit: &v1::Limit) -> String {
    let v1::Limit {
        amount,
        period_s,
        burst,
    } = limit;
    let unit = PERIODS.iter().find(|(seconds, _)| seconds == period_s);
    let period = unit.map_or_else(|| format!("{period_s}s"), |(_, unit)| (*unit).to_owned());
    if [0, *amount].contains(burst) {
        format!("{amount}/{period}")
    } else {
        format!("{amount}/{period}:{burst}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_as_it_is_written() {
        let rows = [
            ("tokens=10/s", Some((10, 1, 0))),
            ("calls=600/m:20", Some((600, 60, 20))),
            ("bytes=5G/d:1M", Some((5_000_000_000, 86_400, 1_000_000))),
            ("exchanges=2k/h", Some((2_000, 3_600, 0))),
            ("calls=none", None),
        ];
        for (text, expected) in rows {
            let limit = limit_change(text).unwrap().limit;
            let limit = limit.map(|limit| (limit.amount, limit.period_s, limit.burst));
            assert_eq!(limit, expected, "{text}");
        }
        for text in [
            "",
            "calls",
            "calls=",
            "calls=10",
            "calls=10/",
            "calls=10/w",
            "calls=0/s",
            "calls=10/s:0",
            "calls=10/s:",
            "calls=+1/s",
            "calls=-1/s",
            "calls=1e3/s",
            "calls=k/s",
            "calls=99999999999999999999/s",
            "calls=99999999999999999G/s",
            "requests=1/s",
            "Calls=1/s",
        ] {
            let said = limit_change(text).unwrap_err();
            assert!(said.starts_with("must be tokens, calls"), "{text}: {said}");
        }
        for text in ["", "api", ":calls=1/s", "calls=1/s:20"] {
            let said = target_limit_change(text).unwrap_err();
            assert!(said.starts_with("must be TARGET:"), "{text}: {said}");
        }
    }

    #[test]
    fn changes_leave_the_rest_and_are_shown_as_they_are_written() {
        let change = |text| limit_change(text).unwrap();
        let mut limits = None;
        apply(vec![change("calls=none")], &mut limits);
        assert_eq!(limits, None);
        apply(
            vec![change("calls=10/s:20"), change("bytes=5G/d")],
            &mut limits,
        );
        assert_eq!(
            shown(limits.as_ref()),
            ["calls=10/s:20", "bytes=5000000000/d"]
        );
        apply(
            vec![change("calls=none"), change("tokens=1/m")],
            &mut limits,
        );
        assert_eq!(shown(limits.as_ref()), ["tokens=1/m", "bytes=5000000000/d"]);
        let other = v1::Limit {
            amount: 7,
            period_s: 90,
            burst: 7,
        };
        assert_eq!(written(&other), "7/90s");

        let at = |text| target_limit_change(text).unwrap();
        let mut all = Vec::new();
        apply_at_targets(
            vec![at("api:calls=1/s"), at("b:calls=2/s"), at("api:tokens=3/s")],
            &mut all,
        );
        assert_eq!(
            shown_at_targets(&all),
            ["api:tokens=3/s", "api:calls=1/s", "b:calls=2/s"]
        );
        apply_at_targets(vec![at("b:calls=none"), at("c:bytes=none")], &mut all);
        assert_eq!(shown_at_targets(&all), ["api:tokens=3/s", "api:calls=1/s"]);
    }
}
