//! The table with the result.

use std::fmt;

/// A title, and rows of a label, a figure and a remark.
pub(crate) struct Table {
    title: String,
    rows: Vec<[String; 3]>,
}

impl Table {
    pub(crate) fn new(title: String) -> Self {
        Self { title, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, label: &str, figure: impl Into<String>, remark: impl Into<String>) {
        self.rows.push([label.to_owned(), figure.into(), remark.into()]);
    }
}

/// Labels and remarks are aligned to the left, figures to the right.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [label, figure, remark] = [0, 1, 2]
            .map(|column| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
        let width = (label + figure + remark + 4).max(self.title.chars().count());
        writeln!(f, "{}\n{}", self.title, "─".repeat(width))?;
        for [a, b, c] in &self.rows {
            writeln!(f, "{}", format!("{a:label$}  {b:>figure$}  {c}").trim_end())?;
        }
        write!(f, "{}", "─".repeat(width))
    }
}

/// The number with commas, as in `12,345`.
pub(crate) fn grouped(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
