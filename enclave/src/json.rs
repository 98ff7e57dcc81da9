//! JSON that is made for each request.

use serde::Serialize;

/// Most of it is shorter: to grow on the way means to copy what is there, and to overwrite where it was.
const USUAL_BYTES: usize = 1_024;

/// A value as JSON.
///
/// # Errors
/// A map whose keys are no strings, or what the value's own `Serialize` fails for.
pub(crate) fn to_vec(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut json = Vec::with_capacity(USUAL_BYTES);
    serde_json::to_writer(&mut json, value)?;
    Ok(json)
}
