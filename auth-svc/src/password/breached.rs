//! Passwords that are known to whoever guesses: a list on this machine, as Have I Been Pwned gives it to download
//! (`SHA1:COUNT` a line, in the order of the hashes). It may have many gigabytes, so it is searched where it lies. Nothing
//! is ever sent anywhere.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use aws_lc_rs::digest;

use crate::store::OpenError;

/// Hex digits of a SHA-1.
const HASH_CHARS: usize = 40;
/// No line is longer: a hash, a colon, a count, the end of a line.
const LINE_BYTES_MAX: usize = 64;

/// The list, if there is one.
#[derive(Debug, Default)]
pub(super) struct Breached(Option<(File, u64)>);

impl Breached {
    /// Opens the list at this path; none for an empty one.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        if path.as_os_str().is_empty() {
            return Ok(Self::default());
        }
        let shown = path.display();
        let failed = |error: io::Error| OpenError(format!("auth.breached_passwords {shown} cannot be read: {error}"));
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let list = Self(Some((file, size)));
        match list.line_after(0).map_err(failed)? {
            Some((hash, _)) if hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(list),
            _ => Err(OpenError(format!(
                "auth.breached_passwords {shown} is no list of SHA-1 hashes, one a line, in their order"
            ))),
        }
    }

    /// Whether the list has this password. Bisection by bytes: some forty reads in the largest list there is.
    ///
    /// # Errors
    /// When the list cannot be read any more.
    pub(super) fn has(&self, password: &str) -> io::Result<bool> {
        let Some((_, size)) = &self.0 else { return Ok(false) };
        let wanted = hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes()).as_ref());
        // The line that begins at or after `low` and before `high` is the one that is wanted, if any is.
        let (mut low, mut high) = (0, *size);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.line_after(middle)? {
                Some((hash, next)) => match hash.to_ascii_uppercase().cmp(&wanted) {
                    std::cmp::Ordering::Equal => return Ok(true),
                    std::cmp::Ordering::Less => low = next,
                    std::cmp::Ordering::Greater => high = middle,
                },
                None => high = middle,
            }
        }
        Ok(false)
    }

    /// The hash of the first line that begins at or after a place, and where the line after it begins.
    fn line_after(&self, place: u64) -> io::Result<Option<(String, u64)>> {
        let Some((file, size)) = &self.0 else { return Ok(None) };
        // One byte earlier, so that a line that begins right here is seen to.
        let from = place.saturating_sub(1);
        let mut buffer = [0; 2 * LINE_BYTES_MAX];
        let mut read = 0;
        while read < buffer.len() && from + (read as u64) < *size {
            match file.read_at(&mut buffer[read..], from + read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        let bytes = &buffer[..read];
        let begin = match place {
            0 => 0,
            _ => match bytes.iter().position(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None => return Ok(None),
            },
        };
        let line = &bytes[begin..];
        let end = line.iter().position(|byte| *byte == b'\n').map_or(line.len(), |end| end + 1);
        let hash = line.get(..HASH_CHARS).and_then(|hash| std::str::from_utf8(hash).ok());
        Ok(hash.map(|hash| (hash.to_owned(), from + (begin + end) as u64)))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(lines: &[String], end: &str) -> (tempfile::TempDir, Breached) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("breached.txt");
        std::fs::write(&path, lines.join(end) + end).expect("written");
        let list = Breached::open(&path).expect("a list");
        (folder, list)
    }

    fn hash(password: &str) -> String {
        hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes()).as_ref())
    }

    #[test]
    fn every_password_of_the_list_is_found_and_no_other_whatever_the_lines_look_like() {
        assert_eq!(hash("password"), "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8");
        for (count, end) in [(1, "\n"), (2, "\n"), (300, "\n"), (300, "\r\n")] {
            let mut lines: Vec<_> =
                (0..count).map(|n| format!("{}:{}", hash(&format!("password-{n}")), n * n * n)).collect();
            lines.sort_unstable();
            let (_folder, list) = list(&lines, end);
            for n in 0..count {
                assert!(list.has(&format!("password-{n}")).expect("read"), "{n} of {count}");
                assert!(!list.has(&format!("Password-{n}")).expect("read"), "{n} of {count}");
            }
        }
    }

    #[test]
    fn what_is_no_list_is_named_and_none_is_no_fault() {
        assert!(!Breached::open(Path::new("")).expect("none").has("password").expect("read"));
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("breached.txt");
        assert!(Breached::open(&path).expect_err("missing").to_string().contains("breached.txt"));
        for text in ["", "password\n123456\n"] {
            std::fs::write(&path, text).expect("written");
            assert!(Breached::open(&path).expect_err("no list").to_string().contains("auth.breached_passwords"));
        }
    }
}
