//! The codes of authenticator apps (RFC 6238) by `totp-rs`, and the picture that brings the secret to the app. SHA-1, six
//! digits, thirty seconds: what every app speaks. It keeps no count; that each code is good once is the store's.

use std::fmt;

use mesh::time::Millis;
use qrcode::{EcLevel, QrCode, render::svg};
use totp_rs::{Algorithm, Builder, Totp};

use crate::error::Error;

/// 160 bits, as RFC 4226 advises.
const SECRET_BYTES: usize = 20;
/// Clocks may be a step off, either way.
const SKEW_STEPS: u16 = 1;
/// The picture's side in pixels, at least; it is a vector, so this is a wish.
const PICTURE_SIDE: u32 = 240;

/// The secret that an app and we share.
pub struct TotpSecret([u8; SECRET_BYTES]);

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(…)")
    }
}

/// What an app is given, once.
#[derive(Clone)]
pub struct Enrolment {
    /// The secret in base32, to type in.
    pub secret: String,
    /// The same with names.
    pub otpauth_uri: String,
    /// The same as a picture.
    pub qr_svg: String,
}

impl fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Enrolment(…)")
    }
}

impl TotpSecret {
    /// A new one.
    ///
    /// # Panics
    /// Never while the system has a random source.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).expect("invariant: the system has a random source");
        Self(bytes)
    }

    /// The one that was kept.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "whoever hands over a secret keeps no copy of it")]
    pub fn kept(bytes: Vec<u8>) -> Option<Self> {
        bytes.as_slice().try_into().ok().map(Self)
    }

    /// What is sealed and kept.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What brings it to an app.
    ///
    /// # Errors
    /// [`Error::Internal`] when a name cannot stand in the URI.
    pub fn enrolment(&self, issuer: &str, account: &str) -> Result<Enrolment, Error> {
        let named = self.builder().with_issuer(Some(issuer)).with_account_name(account);
        let totp = named.build().map_err(|error| Error::internal(error.to_string()))?;
        let otpauth_uri = totp.to_url().map_err(|error| Error::internal(error.to_string()))?;
        let code = QrCode::with_error_correction_level(&otpauth_uri, EcLevel::M).map_err(Error::internal)?;
        let qr_svg = code.render::<svg::Color<'_>>().min_dimensions(PICTURE_SIDE, PICTURE_SIDE).build();
        Ok(Enrolment { secret: totp.secret().to_base32(), otpauth_uri, qr_svg })
    }

    /// The time step whose code this is, when it is one of now or of a step beside it.
    #[must_use]
    pub fn step_of(&self, code: &str, now: Millis) -> Option<i64> {
        if !is_shaped_like_a_code(code) {
            return None;
        }
        let step = self.totp().check(code, u64::try_from(now.secs()).ok()?)?;
        i64::try_from(step).ok()
    }

    fn builder(&self) -> Builder {
        let builder = Builder::new().with_algorithm(Algorithm::SHA1).with_digits(6).with_step_duration(30);
        builder.with_skew(SKEW_STEPS).with_secret(self.0)
    }

    fn totp(&self) -> Totp {
        self.builder().build().expect("invariant: 20 bytes, six digits and thirty seconds are RFC 6238's")
    }
}

/// Six digits; anything else is not worth a try.
#[must_use]
pub(super) fn is_shaped_like_a_code(code: &str) -> bool {
    code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> TotpSecret {
        TotpSecret(*b"12345678901234567890")
    }

    #[test]
    fn the_codes_are_those_of_the_rfc() {
        // RFC 6238, appendix B, the last six of its eight digits.
        for (secs, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            assert_eq!(secret().step_of(code, Millis::from_secs(secs)), Some(secs / 30));
        }
    }

    #[test]
    fn a_code_is_good_a_step_before_and_after_and_tells_its_own_step() {
        let at = |secs| secret().step_of("287082", Millis::from_secs(secs));
        assert_eq!(
            [at(29), at(30), at(59), at(60), at(89), at(90)],
            [Some(1), Some(1), Some(1), Some(1), Some(1), None]
        );
        assert_eq!(secret().step_of("287082", Millis(0)), Some(1));
        for bad in ["", "28708", "2870822", "28708a", "２８７０８２", "287 082"] {
            assert_eq!(secret().step_of(bad, Millis::from_secs(59)), None, "{bad}");
        }
    }

    #[test]
    fn an_app_gets_the_secret_with_both_names_as_text_and_as_a_picture() {
        let enrolment = secret().enrolment("Switch board", "ada").expect("made");
        assert_eq!(enrolment.secret, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let uri = &enrolment.otpauth_uri;
        assert!(uri.starts_with("otpauth://totp/Switch%20board:ada?"), "{uri}");
        assert!(
            uri.contains("secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ") && uri.contains("issuer=Switch%20board"),
            "{uri}"
        );
        assert!(enrolment.qr_svg.starts_with("<?xml") && enrolment.qr_svg.contains("<svg"), "{}", enrolment.qr_svg);
        assert!(!format!("{enrolment:?}{:?}", secret()).contains("GEZD"));
    }
}
