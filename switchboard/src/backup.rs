//! `switchboard backup`: a copy of a running installation that keeps everything in its data folder, as a data folder: its
//! stores, checked, and its keys. A store on a server is that server's to back up.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use mesh::config::Flags;

use crate::{
    settings::Settings,
    stores::{self, CommandError},
};

/// What the stores are called in a data folder, in the order in which they are copied.
const STORES: [&str; 3] = ["messages.db", "auth.db", "users.db"];

/// Copies everything into a new folder.
pub(crate) fn run(flags: &Flags, to: PathBuf) -> ExitCode {
    stores::run(flags, |settings| async move {
        let Settings { auth, user, message, .. } = &settings;
        let data = &auth.mesh.data;
        let (auth, user, message) = (&auth.auth.store_url, &user.user.store_url, &message.message.store_url);
        // Messages first, so that none is of a person whom the copy does not know. Accounts before people: the profile of
        // an account that is copied is there, or still to be delivered from the copy.
        let files = [
            message_svc::store::file(message, data)?,
            auth_svc::store::file(auth, data)?,
            user_svc::store::file(user, data)?,
        ];
        let copied = |error| CommandError::Copied(to.display().to_string(), error);
        if to.exists() {
            return Err(copied(io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        let mut part = to.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        // What a backup that was stopped has left.
        if part.exists() {
            remove(&part).map_err(copied)?;
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&part).map_err(copied)?;
        for (name, file) in STORES.into_iter().zip(files) {
            mesh_sqlite::backup::copy(&file, &part.join(name)).await.map_err(CommandError::Backup)?;
        }
        keys(&data.join("keys"), &part.join("keys")).map_err(copied)?;
        fs::File::open(&part).and_then(|folder| folder.sync_all()).map_err(copied)?;
        fs::rename(&part, &to).map_err(copied)?;
        print(&to);
        Ok(())
    })
}

#[expect(clippy::print_stdout, reason = "it is what the command is for")]
fn print(to: &Path) {
    println!(
        "The backup is in {}: copy it, and start with SWITCHBOARD_DATA set to the copy. It holds keys, password hashes and what people wrote.",
        to.display()
    );
}

/// Removes a backup that is not whole; whatever else has that name is somebody's own.
fn remove(part: &Path) -> io::Result<()> {
    for entry in fs::read_dir(part)? {
        let name = entry?.file_name();
        // SQLite puts files beside its own while it works.
        if name != "keys" && !STORES.iter().any(|store| name.to_string_lossy().starts_with(store)) {
            return Err(io::Error::other(format!("{} is in the way, and is no backup of ours", part.display())));
        }
    }
    fs::remove_dir_all(part)
}

/// The keys are files that are written once.
fn keys(from: &Path, to: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(to)?;
    let there = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    for entry in there {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let bytes = fs::read(entry.path())?;
            let target = to.join(entry.file_name());
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
            io::Write::write_all(&mut file, &bytes)?;
            file.sync_all()?;
        }
    }
    fs::File::open(to)?.sync_all()
}
