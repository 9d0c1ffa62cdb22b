//! Passwords: their rules, and Argon2id on a bounded pool of dedicated threads, so that a storm of logins neither blocks
//! the runtime nor grows memory. A full queue refuses at once. It knows no account; `login.rs` decides what a match
//! means. A new password is judged by what it takes to guess it (zxcvbn, which knows the 30,000 most common ones, names,
//! keyboards and dates) and by a list of breached ones (`password/breached.rs`), never by kinds of characters.

use std::{
    collections::VecDeque,
    fmt,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use argon2::{Algorithm, Argon2, Block, Params, PasswordHash, Version, password_hash::phc};
use mesh::error::FieldViolation;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::oneshot;
use unicode_normalization::UnicodeNormalization as _;

use crate::error::Error;

mod breached;

use breached::Breached;

/// How long an idle thread keeps its working memory, so that it is at hand in busy times and gone in quiet ones.
const IDLE_MEMORY: Duration = Duration::from_secs(10);
/// Bytes of salt, as RFC 9106 advises.
const SALT_BYTES: usize = 16;

/// A password in Unicode's composed form (NFC), so that it does not matter which keyboard composed it.
#[derive(Clone)]
pub struct Password(SecretString);

impl Password {
    /// A new password: 8–128 characters.
    ///
    /// # Errors
    /// A violation that names the limits.
    pub fn parse_new(field: &str, value: String) -> Result<Self, FieldViolation> {
        let password = Self::parse(field, value)?;
        if password.0.expose_secret().chars().count() < 8 {
            return Err(FieldViolation::new(field, "must have 8–128 characters"));
        }
        Ok(password)
    }

    /// A password that is to be compared: not empty, and no longer than one can be.
    ///
    /// # Errors
    /// A violation that names the limit.
    #[expect(clippy::needless_pass_by_value, reason = "whoever hands over a password keeps no copy of it")]
    pub fn parse(field: &str, value: String) -> Result<Self, FieldViolation> {
        let checked = mesh::text::text(field, &value, 128)?;
        if checked.is_empty() {
            return Err(FieldViolation::new(field, "must not be empty"));
        }
        Ok(Self(checked.nfc().collect::<String>().into()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What a hash costs, and how many are made at a time.
#[derive(Clone, Copy, Debug)]
pub struct PasswordLimits {
    /// Argon2id's memory in KiB.
    pub memory_kib: u32,
    /// Its passes over that memory.
    pub passes: u32,
    /// Its lanes.
    pub lanes: u32,
    /// Threads that hash; 0 for one a core.
    pub workers: u32,
    /// Passwords that may wait for a thread.
    pub queue_max: u32,
}

/// What a new password must be.
#[derive(Clone, Debug, Default)]
pub struct PasswordRules {
    /// The least score of zxcvbn, 0–4.
    pub score_min: u8,
    /// A list of breached passwords; none when empty.
    pub breached: PathBuf,
    /// Words that are no secret here, whoever chooses a password: of the organisation, of the product.
    pub words: Vec<String>,
}

/// The rules with their list open.
#[derive(Debug)]
struct Rules {
    score_min: u8,
    breached: Breached,
    words: Vec<String>,
}

impl Rules {
    /// What is wrong with a new password of somebody with these names, if anything.
    fn judge(&self, password: &str, names: &[String]) -> Result<Option<String>, HashError> {
        if self.breached.has(password).map_err(HashError::new)? {
            return Ok(Some("must not be one that is known from a breach".to_owned()));
        }
        let names: Vec<_> = names.iter().chain(&self.words).map(String::as_str).collect();
        let judged = zxcvbn::zxcvbn(password, &names);
        if u8::from(judged.score()) >= self.score_min {
            return Ok(None);
        }
        let why = judged.feedback().and_then(zxcvbn::feedback::Feedback::warning);
        let why = why.map_or_else(|| "add words that do not belong together".to_owned(), |why| why.to_string());
        Ok(Some(format!("is too easy to guess: {}", why.trim_end_matches('.'))))
    }
}

/// The pool. Its threads end when the last clone goes.
#[derive(Clone)]
pub struct Passwords {
    queue: Arc<QueueHandle>,
    params: Params,
    /// The hash of a password that nobody has.
    nobody: Arc<str>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("params", &self.params).finish_non_exhaustive()
    }
}

impl Passwords {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the parameters are none of Argon2's or a thread cannot be started.
    pub fn start(
        limits: PasswordLimits,
        rules: &PasswordRules,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let (score_min, words) = (rules.score_min, rules.words.clone());
        let rules = Arc::new(Rules { score_min, breached: Breached::open(&rules.breached)?, words });
        let params = Params::new(limits.memory_kib, limits.passes, limits.lanes, None)
            .map_err(|error| format!("the password parameters are not Argon2's: {error}"))?;
        let nobody = hash(&params, &random::<32>(), &mut Vec::new())?;
        let queue =
            Arc::new(Queue { state: Mutex::default(), ready: Condvar::new(), waiting_max: limits.queue_max as usize });
        let workers = match limits.workers {
            0 => thread::available_parallelism().map_or(1, std::num::NonZero::get),
            count => count as usize,
        };
        let handle = QueueHandle(queue.clone());
        for index in 0..workers {
            let (queue, params, rules) = (queue.clone(), params.clone(), rules.clone());
            thread::Builder::new().name(format!("password-{index}")).spawn(move || queue.work(&params, &rules))?;
        }
        Ok(Self { queue: Arc::new(handle), params, nobody: nobody.into() })
    }

    /// Judges a new password of somebody with these names: on the pool too, since it may take milliseconds.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names `field` and says why; [`Error::PasswordsBusy`] when the queue is full.
    pub async fn judge(&self, field: &str, password: &Password, names: &[&str]) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        let names = names.iter().map(ToString::to_string).collect();
        self.queue.push(Job::Judge { password: password.clone(), names, done })?;
        match answer.await.map_err(Error::internal)?.map_err(Error::internal)? {
            None => Ok(()),
            Some(why) => Err(Error::field(field, why)),
        }
    }

    /// The hash of a password in PHC form, with a new salt.
    ///
    /// # Errors
    /// [`Error::PasswordsBusy`] when the queue is full.
    pub async fn hash(&self, password: &Password) -> Result<String, Error> {
        let (done, answer) = oneshot::channel();
        self.queue.push(Job::Hash { password: password.clone(), done })?;
        answer.await.map_err(Error::internal)?.map_err(Error::internal)
    }

    /// Whether the hash is this password's.
    ///
    /// # Errors
    /// [`Error::PasswordsBusy`] when the queue is full.
    pub async fn verify(&self, password: &Password, against: &str) -> Result<bool, Error> {
        let (done, answer) = oneshot::channel();
        self.queue.push(Job::Verify { password: password.clone(), against: against.into(), done })?;
        answer.await.map_err(Error::internal)?.map_err(Error::internal)
    }

    /// Costs what [`Passwords::verify`] costs, for a name that no account has.
    ///
    /// # Errors
    /// [`Error::PasswordsBusy`] when the queue is full.
    pub async fn verify_nobody(&self, password: &Password) -> Result<(), Error> {
        self.verify(password, &self.nobody).await.map(drop)
    }

    /// Whether a hash was made with other parameters than today's.
    #[must_use]
    pub fn is_outdated(&self, hash: &str) -> bool {
        let Ok(parsed) = PasswordHash::new(hash) else { return true };
        let today = (self.params.m_cost(), self.params.t_cost(), self.params.p_cost());
        let then = Params::try_from(&parsed).map(|params| (params.m_cost(), params.t_cost(), params.p_cost()));
        parsed.algorithm != Algorithm::Argon2id.ident() || then != Ok(today)
    }
}

enum Job {
    Judge { password: Password, names: Vec<String>, done: oneshot::Sender<Result<Option<String>, HashError>> },
    Hash { password: Password, done: oneshot::Sender<Result<String, HashError>> },
    Verify { password: Password, against: Box<str>, done: oneshot::Sender<Result<bool, HashError>> },
}

impl Job {
    /// Nobody hashes for a caller that has gone.
    fn run(self, params: &Params, rules: &Rules, memory: &mut Vec<Block>) {
        // A send fails only when the caller went meanwhile, who then needs no answer.
        match self {
            Self::Judge { done, .. } if done.is_closed() => {}
            Self::Hash { done, .. } if done.is_closed() => {}
            Self::Verify { done, .. } if done.is_closed() => {}
            Self::Judge { password, names, done } => drop(done.send(rules.judge(password.0.expose_secret(), &names))),
            Self::Hash { password, done } => {
                drop(done.send(hash(params, password.0.expose_secret().as_bytes(), memory)));
            }
            Self::Verify { password, against, done } => {
                drop(done.send(verify(password.0.expose_secret().as_bytes(), &against, memory)));
            }
        }
    }
}

/// A hash that cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[error("a password hash cannot be computed: {0}")]
struct HashError(String);

impl HashError {
    fn new(cause: impl fmt::Display) -> Self {
        Self(cause.to_string())
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("invariant: the system has a random source");
    bytes
}

/// Runs Argon2 in the thread's own memory, so that 19 MiB need not be mapped and cleared for each hash.
fn compute(
    argon2: &Argon2<'_>,
    password: &[u8],
    salt: &[u8],
    out: &mut [u8],
    memory: &mut Vec<Block>,
) -> Result<(), HashError> {
    memory.resize(argon2.params().block_count(), Block::new());
    argon2.hash_password_into_with_memory(password, salt, out, memory.as_mut_slice()).map_err(HashError::new)
}

fn hash(params: &Params, password: &[u8], memory: &mut Vec<Block>) -> Result<String, HashError> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let salt = random::<SALT_BYTES>();
    let mut out = [0; Params::DEFAULT_OUTPUT_LEN];
    compute(&argon2, password, &salt, &mut out, memory)?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: phc::ParamsString::try_from(params).map_err(HashError::new)?,
        salt: Some(phc::Salt::new(&salt).map_err(HashError::new)?),
        hash: Some(phc::Output::new(&out).map_err(HashError::new)?),
    };
    Ok(hash.to_string())
}

fn verify(password: &[u8], against: &str, memory: &mut Vec<Block>) -> Result<bool, HashError> {
    let parsed = PasswordHash::new(against).map_err(HashError::new)?;
    let algorithm = Algorithm::try_from(parsed.algorithm.as_str()).map_err(HashError::new)?;
    // The oldest version wrote no version.
    let version = parsed.version.map_or(Ok(Version::V0x10), Version::try_from).map_err(HashError::new)?;
    let params = Params::try_from(&parsed).map_err(HashError::new)?;
    let (Some(salt), Some(expected)) = (&parsed.salt, &parsed.hash) else {
        return Err(HashError::new("it has no salt or no output"));
    };
    let mut out = vec![0; expected.as_bytes().len()];
    compute(&Argon2::new(algorithm, version, params), password, salt, &mut out, memory)?;
    // Equality of outputs takes the same time wherever they differ.
    Ok(phc::Output::new(&out).map_err(HashError::new)? == *expected)
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(Instant, Job)>,
    closed: bool,
}

/// The jobs that wait, first come first served.
struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    waiting_max: usize,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A job runs outside the lock, so a panic in one leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, params: &Params, rules: &Rules) {
        let mut memory = Vec::new();
        while let Some(job) = self.next(&mut memory) {
            job.run(params, rules, &mut memory);
        }
    }

    /// Waits for a job; `None` at the end. Memory that is not used for a while is given back.
    fn next(&self, memory: &mut Vec<Block>) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some((since, job)) = state.jobs.pop_front() {
                note_waiting(&state);
                metrics::histogram!("switchboard_auth_passwords_wait_seconds").record(since.elapsed().as_secs_f64());
                return Some(job);
            }
            if state.closed {
                return None;
            }
            let waited = self.ready.wait_timeout(state, IDLE_MEMORY).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            if waited.1.timed_out() && memory.capacity() > 0 {
                *memory = Vec::new();
            }
        }
    }
}

fn note_waiting(state: &State) {
    let waiting = u32::try_from(state.jobs.len()).unwrap_or(u32::MAX);
    metrics::gauge!("switchboard_auth_passwords_waiting").set(f64::from(waiting));
}

/// The pool's side of the queue: what is waiting is still done after it goes, then the threads end.
struct QueueHandle(Arc<Queue>);

impl QueueHandle {
    fn push(&self, job: Job) -> Result<(), Error> {
        let mut state = self.0.lock();
        if state.jobs.len() >= self.0.waiting_max {
            metrics::counter!("switchboard_auth_passwords_refused_total").increment(1);
            return Err(Error::PasswordsBusy);
        }
        state.jobs.push_back((Instant::now(), job));
        note_waiting(&state);
        drop(state);
        self.0.ready.notify_one();
        Ok(())
    }
}

impl Drop for QueueHandle {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: PasswordLimits = PasswordLimits { memory_kib: 64, passes: 1, lanes: 1, workers: 2, queue_max: 64 };

    fn password(text: &str) -> Password {
        Password::parse("password", text.to_owned()).expect("good")
    }

    #[tokio::test]
    async fn a_hash_is_good_for_its_password_alone() {
        let pool = Passwords::start(CHEAP, &PasswordRules::default()).expect("pool");
        let hash = pool.hash(&password("correct horse")).await.expect("hash");
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert!(pool.verify(&password("correct horse"), &hash).await.expect("verify"));
        for other in ["correct horsf", "Correct horse", "correct horse ", " correct horse", "correct hors"] {
            assert!(!pool.verify(&password(other), &hash).await.expect("verify"), "{other:?}");
        }
        assert_ne!(hash, pool.hash(&password("correct horse")).await.expect("hash"));
    }

    #[tokio::test]
    async fn a_hash_of_another_implementation_verifies() {
        // From the reference implementation's README: echo -n "password" | argon2 somesalt -t 2 -m 16 -p 4 -l 24
        let hash = "$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG";
        let pool = Passwords::start(CHEAP, &PasswordRules::default()).expect("pool");
        assert!(pool.verify(&password("password"), hash).await.expect("verify"));
        assert!(!pool.verify(&password("passwore"), hash).await.expect("verify"));
        assert!(pool.is_outdated(hash));
    }

    #[tokio::test]
    async fn how_a_letter_was_composed_does_not_matter() {
        let pool = Passwords::start(CHEAP, &PasswordRules::default()).expect("pool");
        let hash = pool.hash(&password("pässwörter")).await.expect("hash");
        assert!(pool.verify(&password("pa\u{308}sswo\u{308}rter"), &hash).await.expect("verify"));
    }

    #[tokio::test]
    async fn other_parameters_than_todays_ask_for_a_new_hash() {
        let pool = Passwords::start(CHEAP, &PasswordRules::default()).expect("pool");
        let hash = pool.hash(&password("correct horse")).await.expect("hash");
        assert!(!pool.is_outdated(&hash));
        assert!(!pool.is_outdated(&pool.nobody), "an unknown name would cost something else");
        let dearer =
            Passwords::start(PasswordLimits { memory_kib: 128, ..CHEAP }, &PasswordRules::default()).expect("pool");
        assert!(dearer.is_outdated(&hash));
        assert!(dearer.verify(&password("correct horse"), &hash).await.expect("verify"));
    }

    #[tokio::test]
    async fn what_is_easy_to_guess_or_breached_is_no_new_password_whatever_its_characters() {
        let folder = tempfile::tempdir().expect("folder");
        let breached = folder.path().join("breached.txt");
        // Of "a password that was breached".
        std::fs::write(&breached, "C45B522B468882B92DC9BB08D73D5D079F411F97:3\n").expect("written");
        let pool =
            Passwords::start(CHEAP, &PasswordRules { score_min: 2, breached, words: vec!["Quillfeather".to_owned()] })
                .expect("pool");
        let judge =
            async |text: &str| pool.judge("password", &password(text), &["ada_lovelace", "ada@example.org"]).await;
        for bad in [
            "password",
            "P4ssw0rd!",
            "12345678",
            "qwertyuiop",
            "aaaaaaaaaaaa",
            "Ada_Lovelace",
            "ada@example.org",
            "iloveyou1",
            "quillfeather",
            "QuillFeather7",
            "a password that was breached",
        ] {
            let Err(Error::Invalid(violations)) = judge(bad).await else { panic!("{bad}") };
            assert_eq!(violations[0].field, "password", "{bad}");
            // Why, and not what: words such as "password" aside, nothing of it is repeated.
            assert!(bad == "password" || !violations[0].message.contains(bad), "{violations:?}");
        }
        for good in
            ["correct horse battery", "another good one", "vkz mqpw xy", "пароль из многих слов", "🐎🔋📎🎲🎻🌵🚲🧊"]
        {
            judge(good).await.unwrap_or_else(|error| panic!("{good}: {error:?}"));
        }
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let queue = Queue { state: Mutex::default(), ready: Condvar::new(), waiting_max: 1 };
        let handle = QueueHandle(Arc::new(queue));
        let job = || Job::Hash { password: password("correct horse"), done: oneshot::channel().0 };
        assert!(handle.push(job()).is_ok());
        assert!(matches!(handle.push(job()), Err(Error::PasswordsBusy)));
    }

    #[test]
    fn a_password_has_8_to_128_characters() {
        let parse = |text: String| Password::parse_new("password", text);
        assert!(parse("a".repeat(8)).is_ok() && parse("😀".repeat(128)).is_ok());
        assert!(parse("a".repeat(7)).is_err() && parse("a".repeat(129)).is_err());
        // Seven letters, one of which came in two parts.
        assert!(parse("abcdefa\u{308}".into()).is_err());
        assert!(parse("abcdefgh\0".into()).is_err());
    }
}
