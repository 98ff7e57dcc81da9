//! Collateral: Intel's statements about a platform, from JSON, and the dates that they carry.

use dcap_qvl::QuoteCollateralV3;
use serde::Deserialize;

use crate::time::UnixTime;

/// The most collateral may have; Intel's has about 20 KB.
pub const MAX_COLLATERAL_BYTES: usize = 128 * 1024;

/// Why bytes are no collateral.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CollateralProblem {
    /// There is none.
    #[error("the collateral is missing")]
    Missing,
    /// Larger than [`MAX_COLLATERAL_BYTES`].
    #[error("the collateral has {found_bytes} bytes, at most {MAX_COLLATERAL_BYTES} are read")]
    TooLarge {
        /// Its size.
        found_bytes: usize,
    },
    /// Not one JSON object with the members of a collateral: TCB info, QE identity, lists and chains.
    #[error("the collateral is not of the form of Intel's")]
    Json,
}

/// Reads collateral.
pub(super) fn parse(json: Option<&[u8]>) -> Result<QuoteCollateralV3, CollateralProblem> {
    let json = json.ok_or(CollateralProblem::Missing)?;
    if json.len() > MAX_COLLATERAL_BYTES {
        return Err(CollateralProblem::TooLarge {
            found_bytes: json.len(),
        });
    }
    serde_json::from_slice(json).map_err(|_| CollateralProblem::Json)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dated {
    issue_date: String,
}

/// When the older of TCB info and QE identity was issued. Their signatures must have been verified before.
pub(super) fn issued_at(collateral: &QuoteCollateralV3) -> Option<UnixTime> {
    let issued = |json: &str| {
        let Dated { issue_date } = serde_json::from_str(json).ok()?;
        utc(&issue_date)
    };
    let tcb_info = issued(&collateral.tcb_info)?;
    let qe_identity = issued(&collateral.qe_identity)?;
    Some(tcb_info.min(qe_identity))
}

/// Reads `YYYY-MM-DDThh:mm:ssZ`, the form of all of Intel's dates.
pub(super) fn utc(text: &str) -> Option<UnixTime> {
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        let digits = text.get(range)?;
        digits
            .bytes()
            .all(|digit| digit.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let shape: Vec<u8> = [4usize, 7, 10, 13, 16, 19]
        .iter()
        .filter_map(|at| text.as_bytes().get(*at).copied())
        .collect();
    if text.len() != 20 || shape != b"--T::Z" {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if !(1970..).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 0000-03-01, so that a leap day is the last of its year (Hinnant, "chrono-compatible date algorithms").
    let shifted = if month > 2 {
        year
    } else {
        year.checked_sub(1)?
    };
    let month_from_march = if month > 2 {
        month.checked_sub(3)?
    } else {
        month.checked_add(9)?
    };
    let day_of_year = month_from_march
        .checked_mul(153)?
        .checked_add(2)?
        .checked_div(5)?
        .checked_add(day)?
        .checked_sub(1)?;
    let leap_days = shifted
        .checked_div(4)?
        .checked_sub(shifted.checked_div(100)?)?
        .checked_add(shifted.checked_div(400)?)?;
    let days = shifted
        .checked_mul(365)?
        .checked_add(leap_days)?
        .checked_add(day_of_year)?
        .checked_sub(719_468)?;
    let seconds = days
        .checked_mul(86_400)?
        .checked_add(number(11..13)?.checked_mul(3_600)?)?
        .checked_add(number(14..16)?.checked_mul(60)?)?
        .checked_add(number(17..19)?)?;
    Some(UnixTime::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_intels_form_are_read() {
        let rows = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2024-02-29T12:00:01Z", Some(1_709_208_001)),
            ("2025-02-13T03:50:41Z", Some(1_739_418_641)),
            ("2026-12-31T23:59:59Z", Some(1_798_761_599)),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("2026-12-31 23:59:59Z", None),
            ("2026-12-31T23:59:59", None),
            ("2026-12-31T23:59:+9Z", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(utc(text).map(UnixTime::secs), expected, "{text}");
        }
    }
}
