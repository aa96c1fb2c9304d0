//! One pattern with wildcards against a path of bytes, as git's `wildmatch` reads them: `?`, `*` and `[…]` match within a
//! name, `**` between slashes matches any number of names.
//!
//! The time is bounded by the product of both lengths, whatever the pattern.

/// A pattern, name by name.
#[derive(Clone, Debug)]
pub struct Glob(Vec<Part>);

/// What stands between two slashes.
#[derive(Clone, Debug)]
enum Part {
    /// Any number of names, also none.
    Names,
    /// One name.
    Name(Vec<Token>),
}

#[derive(Clone, Debug)]
enum Token {
    Byte(u8),
    /// `?`
    One,
    /// `*`
    Any,
    Class {
        members: Vec<Member>,
        negated: bool,
    },
}

#[derive(Clone, Debug)]
enum Member {
    Range(u8, u8),
    Named(fn(&u8) -> bool),
}

impl Glob {
    /// Reads a pattern; none when it ends in an escape or in the middle of a class.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut rest = text.iter().copied();
        let (mut parts, mut name) = (Vec::new(), Vec::new());
        while let Some(byte) = rest.next() {
            match byte {
                b'/' => parts.push(part(std::mem::take(&mut name))),
                b'?' => name.push(Token::One),
                b'*' => name.push(Token::Any),
                b'[' => name.push(class(&mut rest)?),
                b'\\' => match rest.next()? {
                    b'/' => parts.push(part(std::mem::take(&mut name))),
                    byte => name.push(Token::Byte(byte)),
                },
                byte => name.push(Token::Byte(byte)),
            }
        }
        parts.push(part(name));
        if let Some(Part::Names) = parts.last() {
            // What is inside a directory is at least one name.
            parts.push(Part::Name(vec![Token::Any]));
        }
        Some(Self(parts))
    }

    /// Whether it is a whole path.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        wild(
            &self.0,
            &names,
            |part| matches!(part, Part::Names),
            |part, name| match part {
                Part::Names => false,
                Part::Name(tokens) => is_name(tokens, name),
            },
        )
    }
}

fn part(tokens: Vec<Token>) -> Part {
    let stars = tokens.iter().all(|token| matches!(token, Token::Any));
    if tokens.len() > 1 && stars {
        Part::Names
    } else {
        Part::Name(tokens)
    }
}

fn is_name(tokens: &[Token], name: &[u8]) -> bool {
    wild(
        tokens,
        name,
        |token| matches!(token, Token::Any),
        |token, byte| match token {
            Token::Byte(own) => own == byte,
            Token::One => true,
            Token::Any => false,
            Token::Class { members, negated } => {
                members.iter().any(|member| member.has(byte)) != *negated
            }
        },
    )
}

impl Member {
    fn has(&self, byte: &u8) -> bool {
        match self {
            Self::Range(first, last) => (first..=last).contains(&byte),
            Self::Named(is) => is(byte),
        }
    }
}

/// Whether a pattern of items, some of which stand for any number of things, is a whole list of things. Only the last of
/// those has to be tried again: the earlier ones have taken as little as they can.
fn wild<P, T>(
    pattern: &[P],
    things: &[T],
    is_any: impl Fn(&P) -> bool,
    is_one: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut at, mut done) = (0, 0);
    let mut last = None;
    while let Some(thing) = things.get(done) {
        match pattern.get(at) {
            Some(item) if is_any(item) => {
                at += 1;
                last = Some((at, done));
            }
            Some(item) if is_one(item, thing) => {
                at += 1;
                done += 1;
            }
            _ => {
                let Some((after, taken)) = last else {
                    return false;
                };
                last = Some((after, taken + 1));
                at = after;
                done = taken + 1;
            }
        }
    }
    pattern.iter().skip(at).all(is_any)
}

/// Reads a class behind its bracket.
fn class(rest: &mut (impl Iterator<Item = u8> + Clone)) -> Option<Token> {
    let mut byte = rest.next()?;
    let negated = matches!(byte, b'!' | b'^');
    if negated {
        byte = rest.next()?;
    }
    let mut members = Vec::new();
    let mut before = None;
    loop {
        let mut ahead = rest.clone();
        match byte {
            b'\\' => {
                let byte = rest.next()?;
                members.push(Member::Range(byte, byte));
                before = Some(byte);
            }
            b'-' if let (Some(first), Some(next)) =
                (before, ahead.next().filter(|b| *b != b']')) =>
            {
                rest.next();
                let last = if next == b'\\' { rest.next()? } else { next };
                members.push(Member::Range(first, last));
                before = None;
            }
            b'[' if ahead.next() == Some(b':') => {
                let word: Vec<u8> = ahead.by_ref().take_while(|b| *b != b']').collect();
                match word.strip_suffix(b":") {
                    Some(word) => {
                        members.push(Member::Named(named(word)?));
                        *rest = ahead;
                        before = None;
                    }
                    None => {
                        members.push(Member::Range(byte, byte));
                        before = Some(byte);
                    }
                }
            }
            _ => {
                members.push(Member::Range(byte, byte));
                before = Some(byte);
            }
        }
        byte = rest.next()?;
        if byte == b']' {
            return Some(Token::Class { members, negated });
        }
    }
}

fn named(word: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match word {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| byte.is_ascii_graphic() || *byte == b' ',
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| byte.is_ascii_whitespace() || *byte == 0x0b,
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn many_wildcards_take_no_time() {
        let name = [b'a'; 250].repeat(8);
        let glob = Glob::parse(&b"*a".repeat(100)).unwrap();
        assert!(glob.matches(&name));
        let glob = Glob::parse(&[b"*a".repeat(100), b"b".to_vec()].concat()).unwrap();
        assert!(!glob.matches(&name));
        let path = b"a/".repeat(1000);
        let glob = Glob::parse(&[b"**/a/".repeat(100), b"b".to_vec()].concat()).unwrap();
        assert!(!glob.matches(&path));
    }

    #[test]
    fn what_has_no_end_is_no_pattern() {
        for text in [
            "a\\",
            "[",
            "[a",
            "[!",
            "[]",
            "[a-",
            "[[:alpha:]",
            "[[:none:]]",
            "[a\\",
        ] {
            assert!(Glob::parse(text.as_bytes()).is_none(), "{text}");
        }
    }
}
