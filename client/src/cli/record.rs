//! Named values, shown to people as lines or a table and to programs as a JSON object.

use serde_json::Value;

/// Names and values in the order in which people read them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record(Vec<(&'static str, Value)>);

impl Record {
    pub(crate) fn new<const N: usize>(fields: [(&'static str, Value); N]) -> Self {
        Self(fields.into())
    }

    pub(crate) fn to_json(&self) -> Value {
        self.0
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// `name  value` lines with the values below each other.
    pub(crate) fn lines(&self) -> Vec<String> {
        let width = self.0.iter().map(|(name, _)| name.len()).max();
        let width = width.unwrap_or_default();
        self.0
            .iter()
            .map(|(name, value)| format!("{name:width$}  {}", text(value)))
            .collect()
    }

    /// A table of records with equal names: a head line, then one line each.
    pub(crate) fn table(records: &[Self]) -> Vec<String> {
        let Some(Self(first)) = records.first() else {
            return Vec::new();
        };
        let head: Vec<String> = first.iter().map(|(name, _)| name.to_uppercase()).collect();
        let rows = records
            .iter()
            .map(|Self(fields)| fields.iter().map(|(_, value)| text(value)).collect());
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..first.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths);
            let padded: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            padded.join("  ").trim_end().to_owned()
        };
        rows.iter().map(line).collect()
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn people_and_programs_see_the_same() {
        let record = Record::new([
            ("id", json!("acme")),
            ("frozen", json!(false)),
            ("scopes", json!(["a", "b"])),
            ("cause", json!("")),
        ]);
        assert_eq!(
            record.lines(),
            ["id      acme", "frozen  no", "scopes  a, b", "cause   -"]
        );
        assert_eq!(
            record.to_json(),
            json!({"id": "acme", "frozen": false, "scopes": ["a", "b"], "cause": ""})
        );
        let other = Record::new([
            ("id", json!("a-longer-one")),
            ("frozen", json!(true)),
            ("scopes", json!([])),
            ("cause", json!("revoked")),
        ]);
        assert_eq!(
            Record::table(&[record, other]),
            [
                "ID            FROZEN  SCOPES  CAUSE",
                "acme          no      a, b    -",
                "a-longer-one  yes     -       revoked",
            ]
        );
    }
}
