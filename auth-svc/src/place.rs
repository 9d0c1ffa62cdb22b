//! Roughly where an address is, from a database in `MaxMind`'s format that the operator names. Without one nothing is said;
//! an address that is in none, or a private one, has no place either. It is for people who look at their sessions, and
//! decides nothing.

use std::{net::IpAddr, path::Path};

use maxminddb::{Reader, geoip2};

use crate::store::OpenError;

/// How much of a place is kept, in characters.
const PLACE_CHARS_MAX: usize = 100;

/// The database, if there is one.
#[derive(Default)]
pub struct Places(Option<Reader<Vec<u8>>>);

impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Places").field(&self.0.is_some()).finish()
    }
}

impl Places {
    /// Reads the database of this path; none for an empty one.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if path.as_os_str().is_empty() {
            return Ok(Self::default());
        }
        let reader = Reader::open_readfile(path).map_err(|error| {
            let path = path.display();
            OpenError(format!("auth.places {path} is no database of places in MaxMind's format: {error}"))
        })?;
        Ok(Self(Some(reader)))
    }

    /// `Paris, FR`, or the country alone; empty when it is not known.
    #[must_use]
    pub fn of(&self, address: &str) -> String {
        self.found(address).unwrap_or_default()
    }

    fn found(&self, address: &str) -> Option<String> {
        let address: IpAddr = address.parse().ok()?;
        // A database that is damaged in one place still knows the others.
        let city: geoip2::City<'_> = self.0.as_ref()?.lookup(address).ok()?.decode().ok()??;
        let country = city.country.iso_code.or(city.registered_country.iso_code);
        let parts: Vec<_> = [city.city.names.english, country].into_iter().flatten().collect();
        Some(parts.join(", ").chars().filter(|c| !c.is_control()).take(PLACE_CHARS_MAX).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(out: &mut Vec<u8>, text: &str) {
        out.push((2 << 5) | u8::try_from(text.len()).expect("a short text"));
        out.extend_from_slice(text.as_bytes());
    }

    fn map(out: &mut Vec<u8>, pairs: u8) {
        out.push((7 << 5) | pairs);
    }

    /// A number of one byte; its type says how large it could be.
    fn number(out: &mut Vec<u8>, key: &str, value: u8) {
        let kind = if key == "node_count" { 6 } else { 5 };
        text(out, key);
        out.extend_from_slice(&[(kind << 5) | 1, value]);
    }

    /// A database with one node: the lower half of IPv4 is in Paris, the upper half nowhere.
    fn database() -> Vec<u8> {
        let mut data = Vec::new();
        map(&mut data, 2);
        text(&mut data, "city");
        map(&mut data, 1);
        text(&mut data, "names");
        map(&mut data, 1);
        text(&mut data, "en");
        text(&mut data, "Paris");
        text(&mut data, "country");
        map(&mut data, 1);
        text(&mut data, "iso_code");
        text(&mut data, "FR");
        // The left branch leads to the first record of the data, 16 behind the one node; the right one to nothing.
        let mut file = vec![0, 0, 17, 0, 0, 1];
        file.extend_from_slice(&[0; 16]);
        file.extend_from_slice(&data);
        file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
        map(&mut file, 9);
        number(&mut file, "node_count", 1);
        number(&mut file, "record_size", 24);
        number(&mut file, "ip_version", 4);
        number(&mut file, "binary_format_major_version", 2);
        number(&mut file, "binary_format_minor_version", 0);
        text(&mut file, "database_type");
        text(&mut file, "Test-City");
        text(&mut file, "languages");
        // An empty array, an empty map, a 64-bit number of no bytes.
        file.extend_from_slice(&[0, 4]);
        text(&mut file, "description");
        map(&mut file, 0);
        text(&mut file, "build_epoch");
        file.extend_from_slice(&[0, 2]);
        file
    }

    #[test]
    fn an_address_is_placed_roughly_and_an_unknown_one_not_at_all() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("places.mmdb");
        std::fs::write(&path, database()).expect("written");
        let places = Places::open(&path).expect("opened");
        assert_eq!(places.of("1.2.3.4"), "Paris, FR");
        for nowhere in ["200.1.1.1", "::1", "", "no address"] {
            assert_eq!(places.of(nowhere), "", "{nowhere}");
        }
    }

    #[test]
    fn without_a_database_nothing_is_said_and_a_bad_one_is_named() {
        assert_eq!(Places::open(Path::new("")).expect("none").of("1.2.3.4"), "");
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("places.mmdb");
        assert!(Places::open(&path).expect_err("missing").to_string().contains("places.mmdb"));
        std::fs::write(&path, "this is a letter").expect("written");
        assert!(Places::open(&path).expect_err("damaged").to_string().contains("auth.places"));
    }
}
