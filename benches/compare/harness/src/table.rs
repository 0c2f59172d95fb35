//! Tables that read well in a terminal and are Markdown at once, and numbers that fit into them.

/// A table with a row of headings.
#[derive(Clone, Debug, Default)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings; the first column is aligned to the left.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(|cell| cell.into().replace('|', "\\|")).collect());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as Markdown, its columns padded.
    pub fn markdown(&self) -> String {
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| {
                let cells = self.rows.iter().chain([&self.header]).filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
            })
            .collect();
        let line = |cells: &[String]| {
            let padded: Vec<String> = widths
                .iter()
                .enumerate()
                .map(|(column, &width)| {
                    let cell = cells.get(column).map_or("", String::as_str);
                    let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
                    if column == 0 { format!("{cell}{gap}") } else { format!("{gap}{cell}") }
                })
                .collect();
            format!("| {} |\n", padded.join(" | "))
        };
        let rule: Vec<String> = widths
            .iter()
            .enumerate()
            .map(|(column, &width)| if column == 0 { "-".repeat(width) } else { "-".repeat(width - 1) + ":" })
            .collect();
        let mut text = line(&self.header) + &line(&rule);
        self.rows.iter().for_each(|row| text += &line(row));
        text
    }
}

/// A number with three significant digits, or whole where it is large; what a division by nothing gives, too.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value.is_infinite() {
        if value > 0.0 { "∞".into() } else { "-∞".into() }
    } else if size >= 100.0 {
        thousands(value.round() as i64)
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 || size == 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

fn thousands(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0 { format!("-{text}") } else { text }
}

/// The beginning of a text, on one line.
pub fn shortened(text: &str) -> String {
    const MOST: usize = 160;
    let line = text.replace('\n', " ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_padded_and_numbers_stand_at_the_right() {
        let mut table = Table::new(["client", "a"]);
        table.row(["ours", "0.2"]);
        table.row(["franz-go", "10.6"]);
        let expected = "| client   |    a |\n| -------- | ---: |\n| ours     |  0.2 |\n| franz-go | 10.6 |\n";
        assert_eq!(table.markdown(), expected);
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(number(0.1234), "0.123");
        assert_eq!(number(0.0), "0.00");
        assert_eq!(number(1.987), "1.99");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(f64::INFINITY), "∞");
        assert_eq!(number(1_604_999.7), "1,605,000");
    }
}
