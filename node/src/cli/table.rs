//! Tables on a terminal: columns as wide as their widest cell, numbers to the right.

/// Lines of a table; `right` says which columns hold numbers.
pub(super) fn render(head: &[&str], right: &[bool], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain(head.get(column).map(|cell| cell.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(column, cell)| {
                let gap = " ".repeat(width(column) - cell.chars().count().min(width(column)));
                if right.get(column).copied().unwrap_or(false) {
                    gap + cell
                } else {
                    cell.clone() + &gap
                }
            })
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let lines: Vec<String> = std::iter::once(line(&head))
        .chain(rows.iter().map(|row| line(row)))
        .collect();
    lines.join("\n")
}

/// A whole number with a thin separator every three digits: 1 234 567.
pub(super) fn thousands(number: i128) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["a".to_owned(), "7".to_owned()],
            vec!["long".to_owned(), "1234".to_owned()],
        ];
        assert_eq!(
            render(&["who", "n"], &[false, true], &rows),
            "who      n\na        7\nlong  1234"
        );
    }

    #[test]
    fn digits_go_in_threes() {
        let shown: Vec<String> = [0, 12, 999, 1_000, -1_234_567]
            .into_iter()
            .map(thousands)
            .collect();
        assert_eq!(shown, ["0", "12", "999", "1 000", "-1 234 567"]);
    }
}
