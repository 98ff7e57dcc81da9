//! Planted secrets, and the search for them in whatever a process left behind.

use std::{fmt, fs, io, path::Path, path::PathBuf};

use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding as _};
use ring::digest::{SHA256, digest};

/// Directories below the searched one, at most.
const MAX_DEPTH: usize = 64;

/// A secret that nobody but its planter should ever see again.
///
/// 43 characters of base64url, unlike anything else; it can stand for a token, a key or a password.
pub struct Canary {
    value: String,
    needles: Vec<(Encoding, Vec<u8>)>,
}

/// How a found canary was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// Base64 [RFC 4648 §4], inside a longer text: its bytes begin at this place modulo 3.
    Base64 {
        /// 0, 1 or 2.
        alignment: u8,
    },
    /// Base64url [RFC 4648 §5], as above.
    Base64Url {
        /// 0, 1 or 2.
        alignment: u8,
    },
    /// Hexadecimal, either case or mixed.
    Hex,
    /// Every byte, or some, percent-encoded [RFC 3986 §2.1].
    Percent,
    /// UTF-16, either byte order.
    Utf16,
}

/// Where a canary was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// How it was written there; in the file's name if [`Finding::in_name`].
    pub encoding: Encoding,
    /// Whether the name shows it, not the content.
    pub in_name: bool,
}

impl Canary {
    /// The canary that belongs to `seed`; two seeds never give the same.
    #[must_use]
    pub fn new(seed: &[u8]) -> Self {
        let mut input = b"testkit canary 1 ".to_vec();
        input.extend_from_slice(seed);
        let value = Base64UrlUnpadded::encode_string(digest(&SHA256, &input).as_ref());
        Self::of(&value)
    }

    /// Watches for a secret that something else made, for example a provider's token. Nothing
    /// shorter than 16 bytes is told from chance.
    #[must_use]
    pub fn of(value: &str) -> Self {
        let mut canary = Self::of_bytes(value.as_bytes());
        let little: Vec<u8> = value.encode_utf16().flat_map(u16::to_le_bytes).collect();
        // Big-endian text holds the same bytes from its second on.
        canary.needles.push((
            Encoding::Utf16,
            little
                .get(..little.len().saturating_sub(1))
                .unwrap_or_default()
                .to_vec(),
        ));
        value.clone_into(&mut canary.value);
        canary
    }

    /// Watches for a secret that is no text, for example a key. It is exposed in hexadecimal digits.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut needles = vec![(Encoding::Plain, bytes.to_vec())];
        for alignment in 0..3_u8 {
            needles.push((
                Encoding::Base64 { alignment },
                inner(
                    &Base64Unpadded::encode_string(&shifted(bytes, alignment)),
                    bytes,
                    alignment,
                ),
            ));
            needles.push((
                Encoding::Base64Url { alignment },
                inner(
                    &Base64UrlUnpadded::encode_string(&shifted(bytes, alignment)),
                    bytes,
                    alignment,
                ),
            ));
        }
        needles.push((Encoding::Hex, hex::encode(bytes).into_bytes()));
        Self {
            value: hex::encode(bytes),
            needles,
        }
    }

    /// The secret, to be planted.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// The first encoding in which `bytes` show the canary.
    #[must_use]
    pub fn find(&self, bytes: &[u8]) -> Option<Encoding> {
        for (encoding, needle) in &self.needles {
            let found = match encoding {
                Encoding::Hex => contains_ignoring_case(bytes, needle),
                Encoding::Plain
                | Encoding::Base64 { .. }
                | Encoding::Base64Url { .. }
                | Encoding::Percent
                | Encoding::Utf16 => contains(bytes, needle),
            };
            if found {
                return Some(*encoding);
            }
        }
        // Percent forms are many (any subset of the bytes): undo them instead, twice for the
        // doubly encoded.
        let once = percent_decoded(bytes)?;
        if self.plain_or_base64(&once) {
            return Some(Encoding::Percent);
        }
        let twice = percent_decoded(&once)?;
        self.plain_or_base64(&twice).then_some(Encoding::Percent)
    }

    fn plain_or_base64(&self, bytes: &[u8]) -> bool {
        self.needles
            .iter()
            .any(|(encoding, needle)| match encoding {
                Encoding::Plain | Encoding::Base64 { .. } | Encoding::Base64Url { .. } => {
                    contains(bytes, needle)
                }
                Encoding::Hex | Encoding::Percent | Encoding::Utf16 => false,
            })
    }

    /// Every file at or under `root` that shows the canary in its content or its name. Symbolic
    /// links are not followed.
    ///
    /// # Errors
    /// A file or directory cannot be read, or the tree is deeper than 64: an unread file proves nothing.
    pub fn find_in(&self, root: &Path) -> io::Result<Vec<Finding>> {
        let mut findings = Vec::new();
        self.search(root, MAX_DEPTH, &mut findings)?;
        findings.sort();
        Ok(findings)
    }

    fn search(&self, path: &Path, depth: usize, findings: &mut Vec<Finding>) -> io::Result<()> {
        let kind = fs::symlink_metadata(path)?.file_type();
        let mut found = |encoding, in_name| {
            findings.push(Finding {
                path: path.to_owned(),
                encoding,
                in_name,
            });
        };
        if let Some(name) = path.file_name()
            && let Some(encoding) = self.find(name.as_encoded_bytes())
        {
            found(encoding, true);
        }
        if kind.is_file() {
            if let Some(encoding) = self.find(&fs::read(path)?) {
                found(encoding, false);
            }
        } else if kind.is_symlink() {
            if let Some(encoding) = self.find(fs::read_link(path)?.as_os_str().as_encoded_bytes()) {
                found(encoding, false);
            }
        } else if kind.is_dir() {
            let Some(depth) = depth.checked_sub(1) else {
                return Err(io::Error::other("the tree is too deep to search"));
            };
            for entry in fs::read_dir(path)? {
                self.search(&entry?.path(), depth, findings)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Canary(…)")
    }
}

/// `bytes` as they lie in a longer text, `alignment` places after a multiple of three.
fn shifted(bytes: &[u8], alignment: u8) -> Vec<u8> {
    let mut shifted = vec![0; usize::from(alignment)];
    shifted.extend_from_slice(bytes);
    shifted
}

/// The characters of `encoded` that depend on nothing but `bytes`: a character that also holds bits
/// of a neighbour is left out.
fn inner(encoded: &str, bytes: &[u8], alignment: u8) -> Vec<u8> {
    let first_bit = usize::from(alignment).saturating_mul(8);
    let last_bit = first_bit.saturating_add(bytes.len().saturating_mul(8));
    let from = first_bit.div_ceil(6);
    let to = last_bit.checked_div(6).unwrap_or(0);
    encoded
        .as_bytes()
        .get(from..to)
        .unwrap_or_default()
        .to_vec()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else {
        return false;
    };
    let mut left = haystack;
    while let Some(at) = left.iter().position(|byte| byte == first) {
        left = left.get(at.saturating_add(1)..).unwrap_or_default();
        if left.starts_with(rest) {
            return true;
        }
    }
    false
}

fn contains_ignoring_case(haystack: &[u8], needle: &[u8]) -> bool {
    contains(&haystack.to_ascii_lowercase(), &needle.to_ascii_lowercase())
}

/// `bytes` with each `%XX` undone; `None` if there is none.
fn percent_decoded(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut left = bytes;
    let mut any = false;
    while let Some((first, rest)) = left.split_first() {
        let byte = (*first == b'%')
            .then(|| rest.get(..2))
            .flatten()
            .and_then(|digits| hex::decode(digits).ok())
            .and_then(|byte| byte.first().copied());
        match byte {
            Some(byte) => {
                any = true;
                decoded.push(byte);
                left = rest.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                left = rest;
            }
        }
    }
    any.then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary() -> Canary {
        Canary::new(b"tests")
    }

    #[test]
    fn seeds_give_their_own_canaries_again_and_again() {
        assert_eq!(canary().expose(), canary().expose());
        assert_ne!(canary().expose(), Canary::new(b"other").expose());
        assert_eq!(canary().expose().len(), 43);
        assert_eq!(format!("{:?}", canary()), "Canary(…)");
    }

    #[test]
    fn each_encoding_is_found() {
        let value = canary().expose().to_owned();
        let mut rows = vec![
            (
                format!("a log line with {value} in it").into_bytes(),
                Encoding::Plain,
            ),
            (hex::encode(&value).into_bytes(), Encoding::Hex),
            (hex::encode_upper(&value).into_bytes(), Encoding::Hex),
            (
                value
                    .bytes()
                    .map(|byte| format!("%{byte:02X}"))
                    .collect::<String>()
                    .into_bytes(),
                Encoding::Percent,
            ),
            (
                format!(
                    "x={}%{:02x}{}",
                    &value[..5],
                    value.as_bytes()[5],
                    &value[6..]
                )
                .into_bytes(),
                Encoding::Percent,
            ),
            (
                value
                    .bytes()
                    .map(|byte| format!("%25{byte:02X}"))
                    .collect::<String>()
                    .into_bytes(),
                Encoding::Percent,
            ),
            (
                value.encode_utf16().flat_map(u16::to_le_bytes).collect(),
                Encoding::Utf16,
            ),
            (
                value.encode_utf16().flat_map(u16::to_be_bytes).collect(),
                Encoding::Utf16,
            ),
        ];
        // All neighbours differ from what the needle was made with, so only the inner characters hold.
        for prefix in ["", "\u{7f}", "\u{7f}~", "{\"a\":"] {
            let text = format!("{prefix}{value}\u{7f}~}}");
            let alignment = u8::try_from(prefix.len() % 3).unwrap();
            let standard = Base64Unpadded::encode_string(text.as_bytes());
            let url = Base64UrlUnpadded::encode_string(text.as_bytes());
            // ASCII never needs the two characters in which the alphabets differ.
            rows.push((standard.into_bytes(), Encoding::Base64 { alignment }));
            rows.push((url.into_bytes(), Encoding::Base64 { alignment }));
        }
        for (bytes, encoding) in rows {
            assert_eq!(
                canary().find(&bytes),
                Some(encoding),
                "{}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }

    #[test]
    fn the_two_base64_alphabets_are_told_apart_where_they_differ() {
        let binary = Canary::of("ÿÿÿþþþ¿¿¿>>>???ÿÿÿ");
        let standard = Base64Unpadded::encode_string(binary.expose().as_bytes());
        let url = Base64UrlUnpadded::encode_string(binary.expose().as_bytes());
        assert_ne!(standard, url);
        assert_eq!(
            binary.find(standard.as_bytes()),
            Some(Encoding::Base64 { alignment: 0 })
        );
        assert_eq!(
            binary.find(url.as_bytes()),
            Some(Encoding::Base64Url { alignment: 0 })
        );
    }

    #[test]
    fn a_secret_of_bytes_is_found_as_it_is_and_encoded() {
        let bytes: Vec<u8> = (200..=231).collect();
        let canary = Canary::of_bytes(&bytes);
        assert_eq!(canary.find(&bytes), Some(Encoding::Plain));
        assert_eq!(canary.find(&bytes[1..]), None);
        assert_eq!(canary.find(canary.expose().as_bytes()), Some(Encoding::Hex));
        let inside = [b"x", &bytes[..], b"y"].concat();
        let encoded = Base64Unpadded::encode_string(&inside);
        assert_eq!(
            canary.find(encoded.as_bytes()),
            Some(Encoding::Base64 { alignment: 1 })
        );
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        let value = canary().expose().to_owned();
        assert_eq!(canary().find(b""), None);
        assert_eq!(canary().find(b"100 % of %zz %"), None);
        assert_eq!(canary().find(&value.as_bytes()[..42]), None);
        assert_eq!(
            canary().find(Canary::new(b"other").expose().as_bytes()),
            None
        );
    }

    #[test]
    fn a_tree_is_searched_through_names_and_contents() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(root.path().join("clean"), "nothing here").unwrap();
        assert_eq!(canary().find_in(root.path()).unwrap(), []);

        let hit = deep.join("hit");
        fs::write(&hit, format!("token: {}", hex::encode(canary().expose()))).unwrap();
        let named = root.path().join(canary().expose());
        fs::write(&named, "").unwrap();
        let mut expected = vec![
            Finding {
                path: hit,
                encoding: Encoding::Hex,
                in_name: false,
            },
            Finding {
                path: named,
                encoding: Encoding::Plain,
                in_name: true,
            },
        ];
        expected.sort();
        assert_eq!(canary().find_in(root.path()).unwrap(), expected);
    }

    #[test]
    fn a_tree_that_cannot_be_read_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let error = canary().find_in(&root.path().join("absent")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
