//! Days and times as people write them.

const DAY_S: u64 = 86_400;

/// The beginning of a day `YYYY-MM-DD` in UTC, from 1970 on, in seconds of Unix time.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    days(text)
        .map(|days| days.saturating_mul(DAY_S))
        .ok_or_else(|| "must be a day as YYYY-MM-DD, from 1970-01-02 on".to_owned())
}

/// A time that is not 0, as `30d`, `12h`, `5m` or `90s`, in seconds.
pub(crate) fn duration(text: &str) -> Result<u64, String> {
    let units = [("d", DAY_S), ("h", 3_600), ("m", 60), ("s", 1)];
    let parts = units
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let number = |digits: &str| {
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| plain)
    };
    parts
        .and_then(|(digits, seconds)| number(digits)?.checked_mul(seconds))
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| "must be a time as 30d, 12h, 5m or 90s".to_owned())
}

/// The day of a moment in UTC; empty for none.
pub(crate) fn shown(at_s: u64) -> String {
    if at_s == 0 {
        return String::new();
    }
    // Years begin in March: the day that leap years add is their last [Hinnant, chrono-compatible date algorithms].
    let days = at_s.checked_div(DAY_S).unwrap_or(0).saturating_add(719_468);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let leaps = (day_of_era / 36_524).saturating_sub(day_of_era / 146_096);
    let year_of_era = day_of_era
        .saturating_sub(day_of_era / 1_460)
        .saturating_add(leaps)
        / 365;
    let before = year_of_era
        .saturating_mul(365)
        .saturating_add(year_of_era / 4)
        .saturating_sub(year_of_era / 100);
    let day_of_year = day_of_era.saturating_sub(before);
    let month = day_of_year.saturating_mul(5).saturating_add(2) / 153;
    let day = day_of_year
        .saturating_sub(month.saturating_mul(153).saturating_add(2) / 5)
        .saturating_add(1);
    let (month, next) = if month < 10 {
        (month.saturating_add(3), 0)
    } else {
        (month.saturating_sub(9), 1)
    };
    let year = era
        .saturating_mul(400)
        .saturating_add(year_of_era)
        .saturating_add(next);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Days since 1970-01-01.
fn days(text: &str) -> Option<u64> {
    let mut parts = text.split('-');
    let mut number = |digits: usize| {
        let part = parts.next()?;
        let plain = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u64>().ok().filter(|_| plain)
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    if !(1_970..=9_999).contains(&year) || !(1..=12).contains(&month) || parts.next().is_some() {
        return None;
    }
    let early = month <= 2;
    let year = year.checked_sub(u64::from(early))?;
    let month = if early {
        month.checked_add(9)?
    } else {
        month.checked_sub(3)?
    };
    let day_of_year = month
        .checked_mul(153)?
        .checked_add(2)?
        .checked_div(5)?
        .checked_add(day)?
        .checked_sub(1)?;
    let days = year
        .checked_mul(365)?
        .checked_add(year / 4)?
        .checked_sub(year / 100)?
        .checked_add(year / 400)?
        .checked_add(day_of_year)?
        .checked_sub(719_468)?;
    // A day that the month does not have comes back as another.
    let at_s = days.checked_mul(DAY_S)?;
    (shown(at_s) == text).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_and_shown() {
        for (day, at_s) in [
            ("1970-01-02", 86_400),
            ("2000-02-29", 951_782_400),
            ("2000-03-01", 951_868_800),
            ("2026-11-29", 1_795_910_400),
            ("2028-02-29", 1_835_395_200),
            ("2100-02-28", 4_107_456_000),
            ("2100-03-01", 4_107_542_400),
            ("9999-12-31", 253_402_214_400),
        ] {
            assert_eq!(parse(day), Ok(at_s), "{day}");
            assert_eq!(shown(at_s), day);
            assert_eq!(shown(at_s + 86_399), day);
        }
        assert_eq!(shown(0), "");
        for text in [
            "",
            "none",
            "1970-01-01",
            "1969-12-31",
            "2026-02-29",
            "2100-02-29",
            "2026-04-31",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "2026-1-1",
            "26-01-01",
            "2026-01-01-01",
            "2026-01-01T00:00:00Z",
            "+026-01-01",
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.starts_with("must be a day"), "{text}");
        }
    }

    #[test]
    fn each_day_of_a_long_time_comes_back() {
        let days = (1..200_000_u64).step_by(7);
        for day in days {
            assert_eq!(super::days(&shown(day * DAY_S)), Some(day));
        }
    }

    #[test]
    fn times_are_read_with_their_unit() {
        for (text, seconds) in [
            ("30d", 2_592_000),
            ("12h", 43_200),
            ("5m", 300),
            ("90s", 90),
        ] {
            assert_eq!(duration(text), Ok(seconds), "{text}");
        }
        for text in [
            "",
            "d",
            "30",
            "0d",
            "-1d",
            "+1d",
            "1w",
            "1.5h",
            "99999999999999999999d",
        ] {
            let said = duration(text).unwrap_err();
            assert!(said.starts_with("must be a time"), "{text}");
        }
    }
}
