//! What is said of certificates that are refused: a line each, and a count. Somebody who comes again and again with the same
//! one writes no more than a line in some seconds.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::{CertificateError, Error};

/// At most one line of a kind in this time.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Why no connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// Signed by an authority that is not ours.
    Authority,
    /// Not good any more, or not yet.
    Expired,
    /// Not the name that was expected.
    Name,
    /// There is none.
    None,
    /// The other end refused ours.
    Theirs,
    /// What came was no TLS, or TLS of another kind.
    Protocol,
    /// What came was HTTP without TLS.
    Plain,
    /// It did not come to an end in time.
    Timeout,
}

impl Reason {
    pub(super) fn of(error: &Error) -> Self {
        if let Error::InvalidCertificate(error) = error {
            Self::of_certificate(error)
        } else if matches!(error, Error::NoCertificatesPresented) {
            Self::None
        } else if matches!(error, Error::AlertReceived(_)) {
            Self::Theirs
        } else {
            Self::Protocol
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        let is_time = matches!(
            error,
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        );
        if is_time {
            Self::Expired
        } else if matches!(error, CertificateError::Other(_)) {
            Self::Name
        } else {
            Self::Authority
        }
    }

    /// As metrics call it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Expired => "expired",
            Self::Name => "name",
            Self::None => "none",
            Self::Theirs => "theirs",
            Self::Protocol => "protocol",
            Self::Plain => "plain",
            Self::Timeout => "timeout",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Authority => "its certificate is not of an authority of this mesh",
            Self::Expired => "its certificate has expired, or is not good yet",
            Self::Name => "its certificate has another name than it should",
            Self::None => "it shows no certificate",
            Self::Theirs => "it refuses the certificate of this process",
            Self::Protocol => "it does not speak TLS 1.3",
            Self::Plain => "it does not speak TLS",
            Self::Timeout => "it did not finish the handshake in time",
        }
    }
}

/// Which end the other one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    Caller,
    Callee,
}

/// Tells and counts.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: Mutex<HashMap<(End, Reason), Instant>>,
}

impl Refusals {
    /// A caller was not let in. `claimed` is what its certificate says of itself.
    pub(super) fn caller(&self, reason: Reason, claimed: Option<&str>, cause: &str) {
        if self.count(End::Caller, reason) {
            let words = reason.words();
            tracing::warn!(peer.claims = claimed, error.message = cause, "A caller was not let in: {words}");
        }
    }

    /// A service was not called.
    pub(super) fn callee(&self, reason: Reason, callee: &str, cause: &str) {
        if self.count(End::Callee, reason) {
            let words = reason.words();
            tracing::warn!(peer.service = callee, error.message = cause, "A service was not called: {words}");
        }
    }

    /// Counts it, and says whether it is to be told.
    fn count(&self, end: End, reason: Reason) -> bool {
        let name = match end {
            End::Caller => "caller",
            End::Callee => "callee",
        };
        metrics::counter!("switchboard_tls_refused_total", "end" => name, "reason" => reason.as_str()).increment(1);
        // Nothing that could panic runs under this lock.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let before = told.get(&(end, reason));
        let tell = before.is_none_or(|before| now.duration_since(*before) >= LINE_EVERY);
        if tell {
            told.insert((end, reason), now);
        }
        tell
    }
}
