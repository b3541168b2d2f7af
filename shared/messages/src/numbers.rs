//! Numbers that do not survive a way through Step Functions.

/// Decimal digits that every double keeps.
const DIGITS: usize = f64::DIGITS as usize;

/// Whether a JSON text holds a number that may be another one after a state machine has passed it on.
///
/// Its query language reads numbers as doubles, and `$string` writes them with 15 significant digits,
/// as the specification asks for. A number with more digits, or one beyond the range of doubles, can come
/// out changed. <https://docs.jsonata.org/string-functions#string>
///
/// The text must be valid JSON: what is neither in a string nor a structural character or a literal
/// is a number.
pub(crate) fn holds_fragile_number(json: &str) -> bool {
    let bytes = json.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b'-' | b'0'..=b'9' => {
                let end = end_of_number(bytes, at);
                if is_fragile(&json[at..end]) {
                    return true;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    false
}

/// The index behind the closing quotation mark of the string that opens at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

fn end_of_number(bytes: &[u8], start: usize) -> usize {
    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let rest = bytes.get(start..).unwrap_or_default();
    start + rest.iter().take_while(|byte| is_part(byte)).count()
}

fn is_fragile(number: &str) -> bool {
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    // Most numbers are short, and need no closer look.
    if number.len() <= DIGITS && mantissa.len() == number.len() {
        return false;
    }
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    let is_zero = |digit: &u8| *digit == b'0';
    let leading = digits.iter().take_while(|digit| is_zero(digit)).count();
    if leading == digits.len() {
        // Zero, however it is written.
        return false;
    }
    let trailing = digits.iter().rev().take_while(|digit| is_zero(digit)).count();
    digits.len() - leading - trailing > DIGITS || !number.parse().is_ok_and(f64::is_normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_double_keeps_is_not_fragile() {
        for number in [
            "0",
            "-0",
            "1.5",
            "100",
            "123456789012345",
            "-0.000123456789012345",
            "1234567890123450000000",
            "1e300",
            "1.0000000000000000000",
            "0.00000000000000000000",
            "0e999",
            "2.3E-308",
        ] {
            assert!(!holds_fragile_number(number), "{number}");
        }
    }

    #[test]
    fn what_a_double_or_fifteen_digits_may_change_is_fragile() {
        for number in [
            "1763672400123456",
            "9007199254740993",
            "-1234567890123456",
            "0.1234567890123456",
            "12345678901234567890",
            "1.000000000000001",
            "1e309",
            "-1e309",
            "1e-320",
            "1234567890.123456",
        ] {
            assert!(holds_fragile_number(number), "{number}");
        }
    }

    #[test]
    fn only_numbers_are_looked_at() {
        for json in [
            r#""1763672400123456""#,
            r#"{"1763672400123456":"\"1763672400123456\\","a\\":true}"#,
            r#"["\u00311763672400123456", null, -1]"#,
        ] {
            assert!(!holds_fragile_number(json), "{json}");
        }
        for json in [
            r#"{"a\\":1763672400123456}"#,
            r#"["\"", 1763672400123456]"#,
            "[1,\n\t1763672400123456\n]",
        ] {
            assert!(holds_fragile_number(json), "{json}");
        }
    }
}
