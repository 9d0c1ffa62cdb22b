//! The commands that go to the stores themselves, past the services: the same settings say where they are. This file runs
//! a command to its end and owns `switchboard migrate`; what a store does is its service's business.

use std::{collections::BTreeMap, error::Error, io, process::ExitCode};

use mesh::{config::Flags, migration::Migrated, process};
use message_svc::store::Upkeep;

use crate::{moving::FileError, settings::Settings};

/// Why a command was not done, in one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// A store cannot be opened.
    #[error("{0}")]
    Store(String, #[source] Option<Box<dyn Error + Send + Sync>>),
    /// A record is not good, or a store did not take it.
    #[error(transparent)]
    Moved(#[from] mesh::moving::MoveError),
    /// The file is not good.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file cannot be written.
    #[error("the export cannot be written: {0}")]
    Written(#[source] io::Error),
    /// The file has what this program has no place for.
    #[error(
        "the file has records of the kind {0}, which this version does not know: use the version that wrote it, or a newer one"
    )]
    Unknown(String),
    /// The stores hold something else.
    #[error(
        "the store of the records \"{0}\" holds something already: import before the first start of the services, into empty stores"
    )]
    NotEmpty(&'static str),
    /// The stores hold an import of another file.
    #[error("another file was imported into these stores, or begun to be: go on with that one, or use empty stores")]
    OtherImport,
    /// What was written is not what the file says.
    #[error(
        "the stores differ from the file in their records of {0}: somebody else wrote to them. Stop the services and import into empty stores"
    )]
    Differs(String),
    /// A copy of a store.
    #[error(transparent)]
    Backup(mesh_sqlite::backup::BackupError),
    /// The folder of the backup.
    #[error("the backup {0} cannot be made: {1}")]
    Copied(String, #[source] io::Error),
    /// A signal came.
    #[error("stopped before it was done: run it again")]
    Stopped,
}

impl From<auth_svc::store::OpenError> for CommandError {
    fn from(error: auth_svc::store::OpenError) -> Self {
        Self::Store(error.0, None)
    }
}

impl From<user_svc::store::OpenError> for CommandError {
    fn from(error: user_svc::store::OpenError) -> Self {
        Self::Store(error.0, None)
    }
}

impl From<message_svc::store::OpenError> for CommandError {
    fn from(error: message_svc::store::OpenError) -> Self {
        Self::Store(error.sentence, error.source)
    }
}

/// Runs a command with the settings of the services, until it is done or a signal comes.
pub(crate) fn run<F>(flags: &Flags, command: impl FnOnce(Settings) -> F) -> ExitCode
where
    F: Future<Output = Result<(), CommandError>>,
{
    let settings = match Settings::load(flags) {
        Ok((settings, _)) => settings,
        Err(error) => return process::fail("switchboard", &error),
    };
    let telemetry = settings.gateway.mesh.telemetry.clone();
    process::run_with("switchboard", &telemetry, |shutdown| async move {
        tokio::select! {
            done = command(settings) => done,
            () = shutdown.cancelled() => Err(CommandError::Stopped),
        }
    })
}

/// Brings the tables of all three stores up to date and says what was done.
pub(crate) fn migrate(flags: &Flags, json: bool) -> ExitCode {
    run(flags, |settings| async move {
        let Settings { auth, user, message, .. } = &settings;
        let (data, auth, user, message) = (&auth.mesh.data, &auth.auth, &user.user, &message.message);
        let done = BTreeMap::from([
            ("auth", auth_svc::store::migrate(&auth.store_url, data, &auth.store).await?),
            ("user", user_svc::store::migrate(&user.store_url, data, &user.store).await?),
            ("message", message_svc::store::migrate(message, data).await?),
        ]);
        print(&done, json);
        Ok(())
    })
}

/// What is done to the message store while no service runs.
#[expect(clippy::print_stdout, reason = "it is what the command is for")]
pub(crate) fn upkeep(flags: &Flags, what: Upkeep) -> ExitCode {
    run(flags, |settings| async move {
        match message_svc::store::upkeep(&settings.message.message, &settings.message.mesh.data, what).await? {
            Some(rooms) => println!("done for {rooms} rooms"),
            None => println!("nothing to do: this store writes what follows from a log together with the log"),
        }
        Ok(())
    })
}

#[expect(clippy::print_stdout, reason = "it is what the command is for")]
fn print(done: &BTreeMap<&str, Migrated>, json: bool) {
    if json {
        println!("{}", serde_json::to_string(done).expect("invariant: text keys"));
        return;
    }
    for (store, Migrated { backend, version, applied }) in done {
        println!("{store}: {backend}, version {version}{}", if applied.is_empty() { ", up to date" } else { "" });
        for step in applied {
            println!("  applied {}: {}", step.version, step.description);
        }
    }
}
