//! Random bytes, from the generator of the TLS provider.

/// The generator gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random generator failed")]
pub struct RandomError;

/// Fills `out` with bytes that nobody can guess.
///
/// # Errors
/// When the generator fails; nothing may then be used.
pub fn fill(out: &mut [u8]) -> Result<(), RandomError> {
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(out)
        .map_err(|_| RandomError)
}

/// `N` random bytes.
///
/// # Errors
/// As [`fill`].
pub fn bytes<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut out = [0; N];
    fill(&mut out)?;
    Ok(out)
}

/// `N` random bytes as `2 * N` hexadecimal digits.
///
/// # Errors
/// As [`fill`].
pub fn hex<const N: usize>() -> Result<String, RandomError> {
    Ok(data_encoding::HEXLOWER.encode(&bytes::<N>()?))
}
