//! The pretty form of JSON (FORMAT.md, "Pretty form"): programs write the same values compactly or with line breaks,
//! and what they have in common is seen only where the white space is alike.

/// `text` with the white space of pretty JSON: lines, two spaces a level, a space after colons. All other bytes stay as
/// they are, be they JSON or not. `None` where the result would be longer than `limit`.
pub(super) fn pretty(text: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    // Inside of a string, behind a backslash, behind an opening bracket.
    let (mut quoted, mut escaped, mut opened) = (false, false, false);
    let mut depth = 0usize;
    for &byte in text {
        if quoted {
            quoted = byte != b'"' || escaped;
            escaped = byte == b'\\' && !escaped;
            out.push(byte);
        } else if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            let closes = matches!(byte, b'}' | b']');
            depth = depth.saturating_sub(usize::from(closes));
            if opened != closes {
                new_line(&mut out, depth);
            }
            out.push(byte);
            opened = matches!(byte, b'{' | b'[');
            depth += usize::from(opened);
            match byte {
                b'"' => quoted = true,
                b':' => out.push(b' '),
                b',' => new_line(&mut out, depth),
                _ => {}
            }
        }
        // What the next byte may add, at most.
        if out.len() + 2 * (depth + 2) > limit {
            return None;
        }
    }
    Some(out)
}

fn new_line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.resize(out.len() + 2 * depth, b' ');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn it_is_what_serde_json_prints() {
        let texts = [
            r#"{"a":1,"b":[],"c":{},"d":[1,[2.5,{"e":null}],-1e-12],"f":"x, y: {z}"}"#,
            r#"[[],[[]],{"\"":"\\"},"\\\"[,"]"#,
            r#" { "é" : true } "#,
            "3",
            "[]",
        ];
        for text in texts {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let found = pretty(text.as_bytes(), 1 << 20).unwrap();
            assert_eq!(
                String::from_utf8(found.clone()).unwrap(),
                serde_json::to_string_pretty(&value).unwrap()
            );
            assert_eq!(pretty(&found, 1 << 20).unwrap(), found);
        }
    }

    #[test]
    fn numbers_and_escapes_stay_as_they_are() {
        assert_eq!(pretty(br#"{"\u00e9":1.50}"#, 100).unwrap(), b"{\n  \"\\u00e9\": 1.50\n}");
    }

    #[test]
    fn any_bytes_have_one_within_the_limit() {
        for text in ["", "}}]]", "\"", "\"\\", "[[[[", ",,,", "{]", "a b", "\u{0}"] {
            pretty(text.as_bytes(), 1 << 10).unwrap();
        }
        let deep = "[".repeat(10_000);
        assert_eq!(pretty(deep.as_bytes(), 1 << 20), None);
        assert_eq!(pretty(b"[1, 2]", 10), None);
    }
}
