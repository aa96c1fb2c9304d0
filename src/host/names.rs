//! Texts and names of peers, fit for lists and logs.

/// Longest name of a device, in characters.
pub const MAX_DEVICE_NAME: usize = 64;

/// A peer's text fit for a log and a terminal: without control characters, of at most `limit` characters.
#[must_use]
pub fn clean_text(text: &str, limit: usize) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(limit)
        .collect()
}

/// A device's name: letters, digits, `.`, `_`, `@`, `+`, `-` and single spaces, beginning with a letter or digit, of at most
/// [`MAX_DEVICE_NAME`] characters. So no name looks like an option, or like more than a name in a list.
#[must_use]
pub fn clean_name(name: &str) -> String {
    let fit = |c: char| {
        if c.is_alphanumeric() || "._@+-".contains(c) {
            c
        } else {
            ' '
        }
    };
    let name: String = name.chars().take(4 * MAX_DEVICE_NAME).map(fit).collect();
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let name = name.trim_start_matches(|c: char| !c.is_alphanumeric());
    let name: String = name.chars().take(MAX_DEVICE_NAME).collect();
    match name.trim_end() {
        "" => "device".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::clean_name;

    #[test]
    fn names_lose_what_a_terminal_would_obey() {
        assert_eq!(clean_name("la\x1b[31mptop\n"), "la 31mptop");
        // Nor what reads like an option, another line, or rights that it does not have.
        assert_eq!(clean_name("--directory"), "directory");
        assert_eq!(
            clean_name("a, of this user: may write"),
            "a of this user may write"
        );
        assert_eq!(clean_name("a\u{202e}`b`\\\"c"), "a b c");
        assert_eq!(clean_name("Jörg's.laptop-2"), "Jörg s.laptop-2");
        assert_eq!(clean_name(" \t "), "device");
        assert_eq!(clean_name(&"ü".repeat(100)).chars().count(), 64);
    }
}
