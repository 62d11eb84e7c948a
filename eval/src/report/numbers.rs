//! How numbers and texts look in the page.

/// `text` as HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// `1,234,567`
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// `40 kB`, `1.5 MB`
pub(super) fn bytes(n: f64) -> String {
    let (value, unit) = match n {
        n if n < 1e3 => (n, "B"),
        n if n < 1e6 => (n / 1e3, "kB"),
        n if n < 1e9 => (n / 1e6, "MB"),
        n => (n / 1e9, "GB"),
    };
    format!("{} {unit}", digits(value))
}

/// About three digits: `0.0042`, `1.25`, `318`, `2.1e-6`.
pub(super) fn digits(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && size < 0.001 {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    let places = if size == 0.0 { 0 } else { (2 - size.log10().floor() as i32).clamp(0, 4) as usize };
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `95.98%`
pub(super) fn percent(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

/// `word` for a shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count).join(" "), "0 999 1,000 1,234,567");
        assert_eq!([999.0, 40_000.0, 1_500_000.0].map(bytes).join(", "), "999 B, 40 kB, 1.5 MB");
        assert_eq!(
            [0.0, 0.0042, 1.25, 318.4, 0.0000021, 1e-5].map(digits).join(" "),
            "0 0.0042 1.25 318 2.1e-6 1e-5"
        );
        assert_eq!(quoted("a b's"), r"'a b'\''s'");
    }
}
