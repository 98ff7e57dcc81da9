//! Small changes of an input, the same ones on every run.

/// Makes mutations of seeds from a number; equal numbers make equal mutations.
#[derive(Debug)]
pub struct Mutator {
    state: u64,
}

/// Bytes at which parsers change their minds.
const BYTES: [u8; 20] = [
    0, 1, 0x7f, 0x80, 0xff, b' ', b'\n', b'"', b'\\', b'.', b'/', b'%', b'{', b'}', b'[', b']',
    b'=', b'-', b'0', b'9',
];

/// The longest mutation.
const MAX_BYTES: usize = 64 * 1024;

impl Mutator {
    /// Starts at a number.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// One of the seeds with one to four changes.
    #[must_use]
    pub fn next(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut input, seeds);
        }
        input.truncate(MAX_BYTES);
        input
    }

    /// xorshift64*.
    fn number(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to `bound`, `bound` excluded; 0 if that is 0.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from((self.number() >> 11) % bound).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.number().to_be_bytes()[1]
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len());
        let end = (at + 1 + self.below(32)).min(input.len());
        match self.below(10) {
            0 if !input.is_empty() => input[at] ^= 1 << self.below(8),
            1 if !input.is_empty() => input[at] = self.byte(),
            2 if !input.is_empty() => input[at] = BYTES[self.below(BYTES.len())],
            3 => input.insert(at, BYTES[self.below(BYTES.len())]),
            4 if !input.is_empty() => drop(input.drain(at..end)),
            5 => input.truncate(at),
            6 if !input.is_empty() => {
                let piece = input[at..end].to_vec();
                let to = self.below(input.len());
                input.splice(to..to, piece);
            }
            7 if !input.is_empty() => {
                let (byte, count) = (input[at], self.below(600));
                input.splice(at..at, std::iter::repeat_n(byte, count));
            }
            8 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len());
                let tail = other[from..].to_vec();
                input.truncate(at);
                input.extend(tail);
            }
            _ => {
                let count = self.below(16);
                let bytes: Vec<u8> = (0..count).map(|_| self.byte()).collect();
                input.splice(at..at, bytes);
            }
        }
    }
}
