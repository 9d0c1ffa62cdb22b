//! Files that are followed while a process runs: looked at again and again, and what they hold now counts once it is whole.
//! What cannot be used, such as a certificate whose key is not written yet, changes nothing and is told once. What the files
//! are and what is made of them is their [`Source`]'s.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;

use crate::{keys::KeyError, time::Millis};

/// Files with certificates, and what is made of them.
pub(super) trait Source: Send + Sync + 'static {
    /// What they hold.
    type Contents: PartialEq + Send + Sync;
    /// What counts.
    type Made: Send + Sync;

    fn read(&self) -> Result<Self::Contents, KeyError>;

    fn make(&self, contents: &Self::Contents) -> Result<Self::Made, KeyError>;

    /// When each certificate expires, by the names that metrics have for them; this process' own first.
    fn expire(&self, made: &Self::Made) -> Vec<(&'static str, Millis)>;
}

/// What they held, and what counts.
type Current<S> = (<S as Source>::Contents, <S as Source>::Made);

/// The files and what they held when they were last good.
pub(super) struct Followed<S: Source> {
    pub(super) source: S,
    pub(super) current: ArcSwap<Current<S>>,
    /// Why the files cannot be used as they are, so that it is told once.
    pub(super) problem: Mutex<Option<String>>,
}

impl<S: Source> Followed<S> {
    /// Reads them once.
    pub(super) fn read(source: S) -> Result<Arc<Self>, KeyError> {
        let contents = source.read()?;
        let made = source.make(&contents)?;
        let current = ArcSwap::from_pointee((contents, made));
        Ok(Arc::new(Self { source, current, problem: Mutex::default() }))
    }

    /// Looks at them this often for as long as somebody has use for it. To be called in a runtime.
    pub(super) fn keep_looking(self: &Arc<Self>, every: Duration) {
        self.measure();
        tokio::spawn(keep_looking(Arc::downgrade(self), every));
    }

    /// Looks whether they have changed, and takes up what they hold now.
    pub(super) fn look(&self) {
        let read = self.changed();
        // Nothing that could panic runs under this lock.
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *problem, read.as_ref().err().map(ToString::to_string));
        let outcome = match read {
            Ok(None) => None,
            Ok(Some(current)) => {
                let own = self.source.expire(&current.1).first().map_or(0, |(_, at)| at.secs());
                let days = own.saturating_sub(Millis::now().secs()) / (24 * 3600);
                tracing::info!(certificate.days_left = days, "New certificates count for connections from now on");
                self.current.store(Arc::new(current));
                Some("taken")
            }
            Err(_) if before == *problem => None,
            Err(error) => {
                tracing::warn!(error.message = %error, "New certificates cannot be used; those from before stay");
                Some("unusable")
            }
        };
        drop(problem);
        if let Some(outcome) = outcome {
            metrics::counter!("switchboard_certificates_read_total", "outcome" => outcome).increment(1);
        }
        self.measure();
    }

    fn changed(&self) -> Result<Option<Current<S>>, KeyError> {
        let contents = self.source.read()?;
        if contents == self.current.load().0 {
            return Ok(None);
        }
        let made = self.source.make(&contents)?;
        Ok(Some((contents, made)))
    }

    /// Shows how long they are good.
    fn measure(&self) {
        let now = Millis::now();
        for (certificate, expires) in self.source.expire(&self.current.load().1) {
            let left = i32::try_from(expires.secs() - now.secs()).unwrap_or(i32::MAX);
            metrics::gauge!("switchboard_certificate_expires_seconds", "certificate" => certificate).set(left);
        }
    }
}

async fn keep_looking<S: Source>(files: Weak<Followed<S>>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(files) = files.upgrade() else { return };
        // Files are read on a thread that may wait. One that panicked has said so; the next look is another one.
        drop(tokio::task::spawn_blocking(move || files.look()).await);
    }
}
