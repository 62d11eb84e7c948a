//! How numbers look to people. Units are decimal, as in file managers and on the Hub: 1 MB is 1,000,000 bytes.

use std::path::Path;

/// `999 B`, `5.2 MB`, `1.1 GB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64;
    let mut unit = "B";
    for next in UNITS {
        // 999,950 would print as 1000.0 kB.
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bits per weight: `0.874`, and `-` where there are no weights.
pub(crate) fn bpw(bytes: u64, weights: u64) -> String {
    match bits_per_weight(bytes, weights) {
        None => "-".to_owned(),
        Some(bpw) if bpw < 0.1 => format!("{bpw:.4}"),
        Some(bpw) if bpw < 10.0 => format!("{bpw:.3}"),
        Some(bpw) => format!("{bpw:.1}"),
    }
}

/// `8 bytes / weights`; none where there are no weights.
pub(crate) fn bits_per_weight(bytes: u64, weights: u64) -> Option<f64> {
    (weights > 0).then(|| bytes as f64 * 8.0 / weights as f64)
}

/// `17.3x`: how many times smaller `small` is than `large`.
pub(crate) fn ratio(large: u64, small: u64) -> String {
    let ratio = large as f64 / small.max(1) as f64;
    if ratio < 100.0 { format!("{ratio:.1}x") } else { format!("{ratio:.0}x") }
}

/// A relative error: `exact`, `0.0123`, `5.31`, `2.1e-6`.
pub(crate) fn relative_error(error: Option<f64>) -> String {
    match error {
        None => "exact".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(e) if e < 0.001 => format!("{e:.1e}"),
        Some(e) if e < 1.0 => format!("{e:.4}"),
        Some(e) if e < 100.0 => format!("{e:.2}"),
        Some(e) => format!("{e:.0}"),
    }
}

/// A number with `places` decimals, and nothing where there is none.
#[cfg(feature = "eval")]
pub(crate) fn decimals(number: Option<f64>, places: usize) -> String {
    number.map_or(String::new(), |number| format!("{number:.places$}"))
}

/// `0.3 ms`, `12 ms`, `3.4 s`, `2 min 05 s`.
pub(crate) fn seconds(s: f64) -> String {
    if s < 0.00995 {
        format!("{:.1} ms", s * 1e3)
    } else if s < 0.9995 {
        format!("{:.0} ms", s * 1e3)
    } else if s < 100.0 {
        format!("{s:.1} s")
    } else {
        format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor())
    }
}

/// `1.2 GB/s`.
pub(crate) fn speed(n: u64, seconds: f64) -> String {
    format!("{}/s", bytes((n as f64 / seconds.max(1e-9)) as u64))
}

/// A shape as people write it: `384 x 1536`, and `scalar` without dimensions.
pub(crate) fn shape(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".to_owned();
    }
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}

/// `1 tensor`, `2 tensors`.
pub(crate) fn plural(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", count(n as u64), if n == 1 { "" } else { "s" })
}

/// The last component of a path without its extension, also for `.` and `..`; `default` where there is none.
pub(crate) fn stem(path: &Path, default: &str) -> String {
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = if absolute.is_dir() { absolute.file_name() } else { absolute.file_stem() };
    name.map_or_else(|| default.to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 999, 1000, 999_949, 999_950, 5_249_999].map(bytes).join(" "),
            "0 B 999 B 1.0 kB 999.9 kB 1.0 MB 5.2 MB"
        );
        assert_eq!([0, 999, 1000, 1_234_567].map(count).join(" "), "0 999 1,000 1,234,567");
        assert_eq!(bpw(7, 0), "-");
        assert_eq!(ratio(90_900_000, 5_250_000), "17.3x");
        assert_eq!([0.0003, 0.0123, 3.4, 125.0].map(seconds).join(", "), "0.3 ms, 12 ms, 3.4 s, 2 min 05 s");
        assert_eq!(shape(&[2, 3]), "2 x 3");
    }
}
