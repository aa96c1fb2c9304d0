//! Values with a unit or a form: sizes, periods, addresses, names of shares.

use crate::model::limits::{MAX_BLOCK, MAX_SHARE_NAME, MIN_BLOCK};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A text that is not the value it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found `{}`", found.escape_debug())]
pub struct ValueError {
    /// What the value should have been.
    pub expected: String,
    /// What it was.
    pub found: String,
}

fn refuse(expected: &str, found: impl fmt::Display) -> ValueError {
    ValueError {
        expected: expected.to_owned(),
        found: found.to_string(),
    }
}

/// A number of bytes. Written as `"64 MiB"`, `"64 MB"` (64,000,000 bytes) or a bare number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

const SIZE: &str = "a size such as \"64 MiB\" or a number of bytes";

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let size: bytesize::ByteSize = text.parse().map_err(|_| refuse(SIZE, text))?;
        Ok(Self(size.as_u64()))
    }
}

impl fmt::Display for Size {
    /// The largest binary unit that gives a whole number, so that what is printed reads back as the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{} {unit}", self.0 >> shift);
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// A length of time. Written as `"50ms"`, `"30s"`, `"1h 30m"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Period(pub Duration);

const PERIOD: &str = "a length of time such as \"50ms\", \"30s\" or \"1h\"";

impl FromStr for Period {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let period = humantime::parse_duration(text).map_err(|_| refuse(PERIOD, text))?;
        Ok(Self(period))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// `HOST:PORT`: a name, an IPv4 address or an IPv6 address in brackets, and a port (0 lets the system choose one).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address(String);

const ADDRESS: &str = "an address HOST:PORT such as \"127.0.0.1:7440\"";

impl Address {
    /// `127.0.0.1:7440`, the default of both sides.
    #[must_use]
    pub fn loopback() -> Self {
        Self("127.0.0.1:7440".to_owned())
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Address {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (host, port) = text.rsplit_once(':').ok_or_else(|| refuse(ADDRESS, text))?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let host_is_good = match bracketed {
            Some(inner) => inner.parse::<core::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
            }
        };
        let port_is_good =
            port.parse::<u16>().is_ok() && port.bytes().all(|digit| digit.is_ascii_digit());
        if host_is_good && port_is_good {
            Ok(Self(text.to_owned()))
        } else {
            Err(refuse(ADDRESS, text))
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a share: one component of a path, at most 64 bytes, letters, digits, `.`, `-`, `_`, no leading dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShareName(String);

impl ShareName {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ShareName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let good = !text.is_empty()
            && text.len() <= MAX_SHARE_NAME
            && !text.starts_with('.')
            && text
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
        if good {
            Ok(Self(text.to_owned()))
        } else {
            let expected = format!(
                "a name of at most {MAX_SHARE_NAME} bytes made of letters, digits, `.`, `-` and `_` that does not start with a dot"
            );
            Err(refuse(&expected, text))
        }
    }
}

impl fmt::Display for ShareName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The size of the blocks that are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BlockSize {
    /// Chosen by the size of the file.
    #[default]
    Auto,
    /// So many bytes for every file: a power of two from 4 KiB to 1 MiB.
    Fixed(u32),
}

const BLOCK_SIZE: &str = "\"auto\" or a power of two from \"4 KiB\" to \"1 MiB\"";

impl FromStr for BlockSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let size: Size = text.parse().map_err(|_| refuse(BLOCK_SIZE, text))?;
        Self::fixed(size).ok_or_else(|| refuse(BLOCK_SIZE, text))
    }
}

impl BlockSize {
    fn fixed(size: Size) -> Option<Self> {
        u32::try_from(size.0)
            .ok()
            .filter(|bytes| bytes.is_power_of_two() && (MIN_BLOCK..=MAX_BLOCK).contains(bytes))
            .map(Self::Fixed)
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(bytes) => Size(u64::from(*bytes)).fmt(f),
        }
    }
}

/// How fast something may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Rate {
    /// As fast as it can.
    #[default]
    Unlimited,
    /// So many bytes a second, at least 64 KiB.
    Limited(u64),
}

const RATE: &str = "\"unlimited\" or bytes a second, from \"64 KiB\" on";
/// Slower than this, a single message could take so long that the peer seems to be gone.
const MIN_RATE: u64 = 64 * 1024;

impl FromStr for Rate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        let size: Size = text.parse().map_err(|_| refuse(RATE, text))?;
        Self::limited(size).ok_or_else(|| refuse(RATE, text))
    }
}

impl Rate {
    fn limited(size: Size) -> Option<Self> {
        (size.0 >= MIN_RATE).then_some(Self::Limited(size.0))
    }

    /// Bytes a second; none for no limit.
    #[must_use]
    pub fn bytes(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::Limited(bytes) => Some(bytes),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::Limited(bytes) => Size(*bytes).fmt(f),
        }
    }
}

/// Reads a value from a string, or from a whole number where `number` knows how.
struct Scalar<T> {
    expected: &'static str,
    number: fn(u64) -> Option<T>,
}

impl<T: FromStr<Err = ValueError>> Visitor<'_> for Scalar<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        u64::try_from(number)
            .ok()
            .and_then(self.number)
            .ok_or_else(|| E::custom(refuse(self.expected, number)))
    }
}

macro_rules! deserialize {
    ($type:ty, $expected:expr, $number:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                input.deserialize_any(Scalar {
                    expected: $expected,
                    number: $number,
                })
            }
        }
    };
}

deserialize!(Size, SIZE, |bytes| Some(Size(bytes)));
deserialize!(Period, PERIOD, |_| None);
deserialize!(Address, ADDRESS, |_| None);
deserialize!(ShareName, "the name of a share", |_| None);
deserialize!(Rate, RATE, |bytes| Rate::limited(Size(bytes)));
deserialize!(BlockSize, BLOCK_SIZE, |bytes| BlockSize::fixed(Size(bytes)));

/// A size within bounds, in bytes.
pub(super) fn between<'de, D: Deserializer<'de>, const MIN: u64, const MAX: u64>(
    input: D,
) -> Result<Size, D::Error> {
    let size = Size::deserialize(input)?;
    if (MIN..=MAX).contains(&size.0) {
        return Ok(size);
    }
    let expected = format!("a size from \"{}\" to \"{}\"", Size(MIN), Size(MAX));
    Err(D::Error::custom(refuse(&expected, size)))
}

/// A whole number within bounds.
pub(super) fn number_between<'de, D: Deserializer<'de>, const MIN: u64, const MAX: u64>(
    input: D,
) -> Result<u64, D::Error> {
    let number = i64::deserialize(input)?;
    match u64::try_from(number) {
        Ok(number) if (MIN..=MAX).contains(&number) => Ok(number),
        _ => {
            let expected = format!("a whole number from {MIN} to {MAX}");
            Err(D::Error::custom(refuse(&expected, number)))
        }
    }
}

/// A share of a whole, in percent.
pub(super) fn percent<'de, D: Deserializer<'de>>(input: D) -> Result<u8, D::Error> {
    let number = number_between::<D, 0, 100>(input)?;
    Ok(u8::try_from(number).unwrap_or(100))
}

/// A length of time within bounds, in milliseconds.
pub(super) fn period_between<'de, D: Deserializer<'de>, const MIN: u64, const MAX: u64>(
    input: D,
) -> Result<Period, D::Error> {
    let bounds = [MIN, MAX].map(|ms| Period(Duration::from_millis(ms)));
    let period = Period::deserialize(input)?;
    let [min, max] = bounds;
    if (min..=max).contains(&period) {
        return Ok(period);
    }
    let expected = format!("a length of time from \"{min}\" to \"{max}\"");
    Err(D::Error::custom(refuse(&expected, period)))
}

/// At least one address.
pub(super) fn addresses<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Address>, D::Error> {
    let addresses = Vec::<Address>::deserialize(input)?;
    if addresses.is_empty() {
        return Err(D::Error::custom(refuse("at least one address", "[]")));
    }
    Ok(addresses)
}

/// An address, or an empty string for none.
pub(super) fn optional_address<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<Address>, D::Error> {
    let text = String::deserialize(input)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(D::Error::custom)
}

/// The name of a share, or an empty string for none.
pub(super) fn optional_share<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<ShareName>, D::Error> {
    let text = String::deserialize(input)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests;
