//! Is a point on P-256? [FIPS 186-5; SEC 1 §3.2.2.1]
//!
//! `ring` checks this too, but only inside a verification, where it cannot be told from a wrong
//! signature; and a key that is registered or pinned is not used at once. Public values only, so nothing
//! here needs constant time. Arithmetic is Montgomery's with R = 2^256; limbs are least significant first.

type Limbs = [u64; 4];

/// p = 2^256 - 2^224 + 2^192 + 2^96 - 1. Its lowest limb makes -p^-1 mod 2^64 equal one, which
/// [`montgomery_product`] relies on.
const P: Limbs = [
    0xffff_ffff_ffff_ffff,
    0x0000_0000_ffff_ffff,
    0,
    0xffff_ffff_0000_0001,
];

/// R^2 mod p, which brings a number into Montgomery form.
const R_SQUARED: Limbs = [
    3,
    0xffff_fffb_ffff_ffff,
    0xffff_ffff_ffff_fffe,
    0x0000_0004_ffff_fffd,
];

/// The curve's b in Montgomery form.
const B_MONTGOMERY: Limbs = [
    0xd89c_df62_29c4_bddf,
    0xacf0_05cd_7884_3090,
    0xe5a2_20ab_f721_2ed6,
    0xdc30_061d_0487_4834,
];

/// Whether the big-endian coordinates are below p and satisfy y^2 = x^3 - 3x + b.
pub(crate) fn is_on_curve(x: &[u8; 32], y: &[u8; 32]) -> bool {
    let (x, y) = (limbs(x), limbs(y));
    if !is_below_p(&x) || !is_below_p(&y) {
        return false;
    }
    let x = montgomery_product(&x, &R_SQUARED);
    let y = montgomery_product(&y, &R_SQUARED);
    let x_cubed = montgomery_product(&montgomery_product(&x, &x), &x);
    let three_x = add(&add(&x, &x), &x);
    // y^2 + 3x = x^3 + b, so that nothing is subtracted.
    add(&montgomery_product(&y, &y), &three_x) == add(&x_cubed, &B_MONTGOMERY)
}

fn limbs(bytes: &[u8; 32]) -> Limbs {
    let mut limbs = [0; 4];
    for (limb, chunk) in limbs.iter_mut().zip(bytes.rchunks_exact(8)) {
        *limb = chunk
            .iter()
            .fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    }
    limbs
}

fn is_below_p(value: &Limbs) -> bool {
    value.iter().rev().lt(P.iter().rev())
}

/// `a + b * c + carry`, which fits two limbs: low, high.
fn multiply_add(a: u64, b: u64, c: u64, carry: u64) -> (u64, u64) {
    let wide = u128::from(b)
        .wrapping_mul(u128::from(c))
        .wrapping_add(u128::from(a))
        .wrapping_add(u128::from(carry));
    (wide as u64, (wide >> 64) as u64)
}

/// `a - b`, and whether it borrowed.
fn subtract(a: &Limbs, b: &Limbs) -> (Limbs, bool) {
    let mut difference = [0; 4];
    let mut borrow = false;
    for (out, (a, b)) in difference.iter_mut().zip(a.iter().zip(b)) {
        let (partial, first) = a.overflowing_sub(*b);
        let (value, second) = partial.overflowing_sub(u64::from(borrow));
        *out = value;
        borrow = first || second;
    }
    (difference, borrow)
}

/// Brings `carry * 2^256 + value`, which is below 2p, below p.
fn reduce_once(value: &Limbs, carry: bool) -> Limbs {
    let (reduced, borrow) = subtract(value, &P);
    if borrow && !carry { *value } else { reduced }
}

/// `a + b` mod p, for both below p.
fn add(a: &Limbs, b: &Limbs) -> Limbs {
    let mut sum = [0; 4];
    let mut carry = 0;
    for (out, (a, b)) in sum.iter_mut().zip(a.iter().zip(b)) {
        (*out, carry) = multiply_add(*a, *b, 1, carry);
    }
    reduce_once(&sum, carry != 0)
}

/// `a * b / R` mod p, for both below p; word by word (CIOS).
fn montgomery_product(a: &Limbs, b: &Limbs) -> Limbs {
    let [a0, a1, a2, a3] = *a;
    let [p0, p1, p2, p3] = P;
    let [mut t0, mut t1, mut t2, mut t3, mut t4] = [0_u64; 5];
    for word in *b {
        let (s0, carry) = multiply_add(t0, a0, word, 0);
        let (s1, carry) = multiply_add(t1, a1, word, carry);
        let (s2, carry) = multiply_add(t2, a2, word, carry);
        let (s3, carry) = multiply_add(t3, a3, word, carry);
        let (s4, s5) = t4.overflowing_add(carry);
        // The multiple of p that clears the lowest word is that word itself.
        let (_, carry) = multiply_add(s0, s0, p0, 0);
        (t0, t1, t2, t3) = (s1, s2, s3, s4);
        let carry_out;
        (t0, carry_out) = multiply_add(t0, s0, p1, carry);
        let carry = carry_out;
        let carry_out;
        (t1, carry_out) = multiply_add(t1, s0, p2, carry);
        let carry = carry_out;
        let carry_out;
        (t2, carry_out) = multiply_add(t2, s0, p3, carry);
        let (low, overflow) = t3.overflowing_add(carry_out);
        t3 = low;
        t4 = u64::from(s5).wrapping_add(u64::from(overflow));
    }
    reduce_once(&[t0, t1, t2, t3], t4 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::{agreement, rand::SystemRandom, signature::KeyPair as _};

    fn generated() -> ([u8; 32], [u8; 32]) {
        let rng = SystemRandom::new();
        let alg = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = ring::signature::EcdsaKeyPair::generate_pkcs8(alg, &rng).unwrap();
        let pair = ring::signature::EcdsaKeyPair::from_pkcs8(alg, pkcs8.as_ref(), &rng).unwrap();
        let point = pair.public_key().as_ref();
        (
            point[1..33].try_into().unwrap(),
            point[33..].try_into().unwrap(),
        )
    }

    /// `ring`'s own opinion: key agreement checks the peer's point.
    fn ring_accepts(x: &[u8; 32], y: &[u8; 32]) -> bool {
        let own =
            agreement::EphemeralPrivateKey::generate(&agreement::ECDH_P256, &SystemRandom::new())
                .unwrap();
        let point = [&[4_u8][..], x, y].concat();
        let peer = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, point);
        agreement::agree_ephemeral(own, &peer, |_| ()).is_ok()
    }

    #[test]
    fn points_of_real_keys_are_on_the_curve() {
        for _ in 0..200 {
            let (x, y) = generated();
            assert!(is_on_curve(&x, &y));
        }
    }

    #[test]
    fn a_flipped_bit_leaves_the_curve_as_ring_says() {
        let (x, y) = generated();
        for bit in 0..256 {
            let mut other = x;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_on_curve(&other, &y), "x bit {bit}");
            assert_eq!(ring_accepts(&other, &y), is_on_curve(&other, &y));
            let mut other = y;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_on_curve(&x, &other), "y bit {bit}");
        }
    }

    #[test]
    fn coordinates_at_the_edges_agree_with_ring() {
        let bytes = |limbs: Limbs| -> [u8; 32] {
            let mut out = [0; 32];
            for (chunk, limb) in out.rchunks_exact_mut(8).zip(limbs) {
                chunk.copy_from_slice(&limb.to_be_bytes());
            }
            out
        };
        let p_plus = |n: u64| bytes([P[0].wrapping_add(n), P[1] + u64::from(n > 0), P[2], P[3]]);
        let p_minus_1 = bytes([P[0] - 1, P[1], P[2], P[3]]);
        // x = 0 is on the curve: y is the square root of b.
        let root_of_b = [
            0x66, 0x48, 0x5c, 0x78, 0x0e, 0x2f, 0x83, 0xd7, 0x24, 0x33, 0xbd, 0x5d, 0x84, 0xa0,
            0x6b, 0xb6, 0x54, 0x1c, 0x2a, 0xf3, 0x1d, 0xae, 0x87, 0x17, 0x28, 0xbf, 0x85, 0x6a,
            0x17, 0x4f, 0x93, 0xf4,
        ];
        assert!(is_on_curve(&[0; 32], &root_of_b));
        let edges = [
            [0; 32],
            [0xff; 32],
            p_plus(0),
            p_plus(1),
            p_minus_1,
            root_of_b,
        ];
        for x in &edges {
            for y in &edges {
                assert_eq!(is_on_curve(x, y), ring_accepts(x, y), "{x:?} {y:?}");
            }
        }
        // The same point under x + p is another text of the same key, and refused.
        assert!(!is_on_curve(&p_plus(0), &root_of_b));
    }
}
