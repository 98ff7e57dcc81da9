//! Shamir's secret sharing over GF(2^8): a secret of 32 bytes in up to 255 shares, of which a threshold gives it back
//! and fewer say nothing about it.
//!
//! Each byte of the secret is the constant term of a polynomial of its own, whose other coefficients are uniformly
//! random; a share is the index `x` and the values at `x`. The field is that of AES (`x^8 + x^4 + x^3 + x + 1`).
//! Nothing here branches on a secret or looks one up in a table. Shares are not authenticated: whoever keeps them adds a
//! checksum or seals them.

use std::fmt;

use ring::rand::SecureRandom;
use zeroize::{Zeroize as _, Zeroizing};

/// The length of a secret, and of a share's values.
pub const SECRET_BYTES: usize = 32;

/// The most shares of a secret.
pub const MAX_SHARES: usize = 255;

/// One share.
#[derive(Clone)]
pub struct Share {
    index: u8,
    values: Zeroizing<[u8; SECRET_BYTES]>,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// Why a secret was not split or not combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SharingError {
    /// The threshold is 0 or above the number of shares, or there are too many shares.
    #[error(
        "{threshold} of {count} shares: give 1 to 255 shares, and a threshold of at least 1 and at most as many"
    )]
    Threshold {
        /// How many are needed.
        threshold: usize,
        /// How many there are to be.
        count: usize,
    },
    /// An index is 0, where the secret itself is.
    #[error("a share has the index 0")]
    Index,
    /// An index occurs twice.
    #[error("the share {index} occurs twice")]
    Twice {
        /// The index.
        index: u8,
    },
    /// No share.
    #[error("there is no share")]
    Empty,
    /// No randomness.
    #[error("no randomness")]
    Random,
}

impl Share {
    /// A share from its parts.
    ///
    /// # Errors
    /// [`SharingError::Index`] for the index 0.
    pub fn new(index: u8, values: Zeroizing<[u8; SECRET_BYTES]>) -> Result<Self, SharingError> {
        if index == 0 {
            return Err(SharingError::Index);
        }
        Ok(Self { index, values })
    }

    /// Which share: 1 to 255.
    #[must_use]
    pub const fn index(&self) -> u8 {
        self.index
    }

    /// Its values, as secret as the secret.
    #[must_use]
    pub fn expose(&self) -> &[u8; SECRET_BYTES] {
        &self.values
    }
}

/// Splits a secret into `count` shares, numbered from 1, of which any `threshold` give it back.
///
/// # Errors
/// [`SharingError::Threshold`], [`SharingError::Random`].
pub fn split(
    secret: &[u8; SECRET_BYTES],
    threshold: usize,
    count: usize,
    random: &dyn SecureRandom,
) -> Result<Vec<Share>, SharingError> {
    if threshold == 0 || threshold > count || count > MAX_SHARES {
        return Err(SharingError::Threshold { threshold, count });
    }
    // The coefficients of x, x^2, … for all bytes of the secret.
    let mut coefficients = Vec::new();
    for _ in 1..threshold {
        let mut row = Zeroizing::new([0; SECRET_BYTES]);
        random
            .fill(row.as_mut_slice())
            .map_err(|_| SharingError::Random)?;
        coefficients.push(row);
    }
    (1..=count)
        .map(|index| {
            let index = u8::try_from(index).map_err(|_| SharingError::Index)?;
            let mut values = Zeroizing::new([0; SECRET_BYTES]);
            // Horner's rule, from the highest coefficient to the secret.
            for row in coefficients.iter().rev().map(|row| &**row).chain([secret]) {
                for (value, coefficient) in values.iter_mut().zip(row) {
                    *value = multiply(*value, index) ^ coefficient;
                }
            }
            Share::new(index, values)
        })
        .collect()
}

/// The secret of as many shares as the threshold it was split with, or more. Of fewer, or of shares of different
/// secrets, it makes a value that is no secret of anyone.
///
/// # Errors
/// [`SharingError::Empty`], [`SharingError::Twice`].
pub fn combine(shares: &[Share]) -> Result<Zeroizing<[u8; SECRET_BYTES]>, SharingError> {
    if shares.is_empty() {
        return Err(SharingError::Empty);
    }
    for (i, share) in shares.iter().enumerate() {
        let earlier = shares.get(..i).unwrap_or(&[]);
        if earlier.iter().any(|other| other.index == share.index) {
            return Err(SharingError::Twice { index: share.index });
        }
    }
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    for share in shares {
        // Lagrange's basis polynomial of this share at 0.
        let mut basis = 1;
        for other in shares.iter().filter(|other| other.index != share.index) {
            let difference = other.index ^ share.index;
            basis = multiply(basis, multiply(other.index, invert(difference)));
        }
        for (byte, value) in secret.iter_mut().zip(share.values.iter()) {
            let mut term = multiply(*value, basis);
            *byte ^= term;
            term.zeroize();
        }
    }
    Ok(secret)
}

/// The product in GF(2^8), in the same steps for all inputs.
const fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut b, mut product) = (a, b, 0);
    let mut bit = 0;
    while bit < 8 {
        product ^= a & 0u8.wrapping_sub(b & 1);
        let carry = 0u8.wrapping_sub(a >> 7);
        a = (a << 1) ^ (carry & 0x1b);
        b >>= 1;
        bit = bit_after(bit);
    }
    product
}

const fn bit_after(bit: u8) -> u8 {
    bit.wrapping_add(1)
}

/// The inverse of what is not 0: `a^254`.
const fn invert(a: u8) -> u8 {
    // 254 = 0b1111_1110: the product of a^2, a^4, … a^128.
    let (mut square, mut product) = (multiply(a, a), 1);
    let mut bit = 1;
    while bit < 8 {
        product = multiply(product, square);
        square = multiply(square, square);
        bit = bit_after(bit);
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    #[test]
    fn the_field_is_that_of_aes() {
        // [FIPS 197 §4.2]: {57} · {83} = {c1}, {57} · {13} = {fe}; {53} · {ca} = {01}.
        assert_eq!(multiply(0x57, 0x83), 0xc1);
        assert_eq!(multiply(0x57, 0x13), 0xfe);
        assert_eq!(invert(0x53), 0xca);
        for a in 1..=255u8 {
            assert_eq!(multiply(a, invert(a)), 1, "{a}");
            assert_eq!((multiply(a, 0), multiply(a, 1)), (0, a));
        }
    }

    fn known() -> [u8; SECRET_BYTES] {
        let mut secret = [0; SECRET_BYTES];
        for (at, byte) in secret.iter_mut().enumerate() {
            *byte = u8::try_from(at).unwrap();
        }
        secret
    }

    #[test]
    fn shares_lie_on_the_polynomial_by_hand() {
        // f(x) = s + c·x with s = 0x2a, c = 0x57: f(1) = 0x7d, f(2) = 0x2a ^ 0xae = 0x84, f(3) = 0x2a ^ 0xf9 = 0xd3.
        let share = |index, byte| Share::new(index, Zeroizing::new([byte; SECRET_BYTES])).unwrap();
        let shares = [share(1, 0x7d), share(2, 0x84), share(3, 0xd3)];
        for pair in [[0, 1], [0, 2], [1, 2]] {
            let pair = pair.map(|at: usize| shares[at].clone());
            assert_eq!(*combine(&pair).unwrap(), [0x2a; SECRET_BYTES]);
        }
    }

    #[test]
    fn any_threshold_of_shares_gives_the_secret_and_fewer_do_not() {
        let random = SystemRandom::new();
        for (threshold, count) in [(1, 1), (1, 3), (2, 3), (3, 5), (5, 5), (200, 255)] {
            let shares = split(&known(), threshold, count, &random).unwrap();
            assert_eq!(shares.len(), count);
            let last = &shares[count - threshold..];
            assert_eq!(*combine(last).unwrap(), known(), "{threshold} of {count}");
            assert_eq!(*combine(&shares).unwrap(), known());
            if threshold > 1 {
                let few = &shares[..threshold - 1];
                assert_ne!(*combine(few).unwrap(), known(), "{threshold} of {count}");
            }
        }
    }

    #[test]
    fn one_share_of_two_is_as_likely_for_every_secret() {
        // The value of one share takes all 256 values about as often, whatever the secret: 8,192 bytes, 32 a value.
        let random = SystemRandom::new();
        for secret in [[0; SECRET_BYTES], [0xff; SECRET_BYTES]] {
            let mut seen = [0u32; 256];
            for _ in 0..256 {
                let shares = split(&secret, 2, 2, &random).unwrap();
                for value in shares[0].expose() {
                    seen[usize::from(*value)] += 1;
                }
            }
            assert!(
                seen.iter().all(|count| (4..=90).contains(count)),
                "{seen:?}"
            );
        }
    }

    #[test]
    fn each_misuse_is_named() {
        let random = SystemRandom::new();
        for (threshold, count) in [(0, 3), (4, 3), (2, 256), (0, 0)] {
            let error = split(&known(), threshold, count, &random).unwrap_err();
            assert_eq!(error, SharingError::Threshold { threshold, count });
        }
        let shares = split(&known(), 2, 3, &random).unwrap();
        let twice = [shares[1].clone(), shares[1].clone()];
        assert_eq!(
            combine(&twice).unwrap_err(),
            SharingError::Twice { index: 2 }
        );
        assert_eq!(combine(&[]).unwrap_err(), SharingError::Empty);
        let zero = Share::new(0, Zeroizing::new([0; SECRET_BYTES]));
        assert_eq!(zero.unwrap_err(), SharingError::Index);
    }

    #[test]
    fn debug_shows_no_value() {
        let share = Share::new(3, Zeroizing::new([0xa5; SECRET_BYTES])).unwrap();
        assert_eq!(format!("{share:?}"), "Share { index: 3, .. }");
    }
}
