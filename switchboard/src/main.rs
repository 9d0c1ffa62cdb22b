//! The `switchboard` binary: all of Switchboard in one process (`switchboard up`, the default), and the operator's
//! commands. It owns the command line alone; `up.rs` wires the four services, `settings.rs` shows settings,
//! `doctor.rs` looks at what they name, `stores.rs` has what goes to the stores past the services. `docs/cli.md` lists every
//! command.

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use mesh::config::Flags;
use message_svc::store::Upkeep;

mod backup;
mod banner;
mod certificates;
mod doctor;
mod moving;
mod settings;
mod stores;
mod up;
mod users;

/// What the commands that go to the stores end with.
const DONE_OR_NOT: &str =
    "Exit codes: 0 done, also when there was nothing to do; 2 not done, with a sentence that says why.";

/// The backend that a real-time product starts from: accounts, people, rooms and messages, live delivery.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Exit codes: 0 stopped as asked; 1 stopped by a second signal; 2 a setting, port, folder or store is not good."
)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs all of Switchboard in this process (the default).
    Up,
    /// Checks or shows the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The keys of the data folder.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Writes everything that the stores hold into one file of JSON Lines, from which `import` makes stores of any kind.
    ///
    /// The file holds password hashes, e-mail addresses and what people wrote: it is made readable for its owner alone.
    /// Stop the services first, or what is written meanwhile may be missing.
    #[command(after_help = DONE_OR_NOT)]
    Export {
        /// The file, which must not be there yet; `-` is standard output.
        file: PathBuf,
    },
    /// Reads a file that `export` has written into stores that are empty, and checks them against it.
    ///
    /// An import that was stopped goes on where it stood when it is run again with the same file; one that is done changes
    /// nothing. Run it before the first start of the services.
    #[command(after_help = DONE_OR_NOT)]
    Import {
        /// The file; `-` is standard input.
        file: PathBuf,
    },
    /// Copies a running installation that keeps everything in its data folder, keys included, into a new folder.
    ///
    /// To restore it, start with `SWITCHBOARD_DATA` set to a copy of that folder.
    #[command(after_help = DONE_OR_NOT)]
    Backup {
        /// The folder, which must not be there yet.
        folder: PathBuf,
    },
    /// Gives every room's log a new id, after the message store was restored by other means than `switchboard backup`.
    ///
    /// What was written after that backup is gone, so cursors of it must not be taken for good: clients are told
    /// `recovered: false` and load what is there. Run it before message-svc is started again.
    #[command(after_help = DONE_OR_NOT)]
    Restored,
    /// Makes everything anew that follows from the rooms' logs on MongoDB: members, names, counts, who is in which room.
    ///
    /// For a database of which no more than `entries` and `rooms` were restored, or whose other collections were damaged.
    /// Stop message-svc first. SQL stores never need it.
    #[command(after_help = DONE_OR_NOT)]
    Rebuild,
    /// Brings the tables of all three stores up to date, apart from any service.
    ///
    /// It may be run at any time and by several at once; what is up to date stays as it is. With
    /// `mesh.migrate_at_start=false` services change no table themselves.
    #[command(after_help = DONE_OR_NOT)]
    Migrate {
        /// Says what was done as one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Accounts, on the store itself; the services may run or not.
    #[command(subcommand)]
    Users(UsersCommand),
    /// Looks at everything that the settings name, from here, and says what to do about what is wrong.
    ///
    /// Keys, stores and their tables, Redis, the three services, the clock, the limit on open files. It changes nothing.
    #[command(
        after_help = "Exit codes: 0 all is well, warnings aside; 1 something is not; 2 the settings are not good."
    )]
    Doctor {
        /// Says it as one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Prints what makes a shell complete these commands.
    #[command(after_help = "bash: source <(switchboard completions bash)")]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
enum UsersCommand {
    /// Gives an account a role: `user`, `moderator` or `admin`. The first admin is made so.
    Promote {
        /// The username or email.
        name: String,
        /// The role.
        role: String,
    },
    /// Deletes an account: nobody gets into it any more, and it is erased in every service when the grace is over.
    ///
    /// The services do the erasing, when they run. Until then an admin takes it back by enabling the account. The grace is
    /// `auth.deletion_grace_days`; what becomes of messages is `auth.deletion_messages`.
    Delete {
        /// The username or email.
        name: String,
    },
    /// Makes an invitation to register and prints its code, which is good once; for `auth.registration=invitation`.
    Invite {
        /// For whom it is; admins see it in the list.
        #[arg(long, default_value = "")]
        note: String,
        /// Days that it is good, up to 90, instead of `auth.invitation_secs`.
        #[arg(long)]
        days: Option<u16>,
    },
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Makes every key that is missing, for production, where no process makes one by itself.
    Init,
    /// Makes an authority of the mesh's own and a certificate for each process, for `mesh.tls`.
    ///
    /// What is good for a third of its life or more is kept, so run it again before that; running processes take new
    /// certificates up by themselves. Nobody needs it who has their certificates made by others, such as cert-manager.
    #[command(after_help = DONE_OR_NOT)]
    Certificates(certificates::Wanted),
    /// Makes a new key that signs access tokens; running services take it up by themselves, and nobody has to log in again.
    ///
    /// It is known for `auth.key_lead_secs` before it signs, and the one before it as long as tokens of it may live. Run it
    /// where auth-svc's keys and store are. It happens by itself every `auth.key_days`.
    #[command(after_help = DONE_OR_NOT)]
    Rotate {
        /// For a key that somebody else may have: the new one signs in three seconds, and those before it are withdrawn with
        /// all their tokens. Clients refresh, which sessions survive.
        #[arg(long)]
        at_once: bool,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Says what is wrong with it, if anything.
    Check,
    /// Prints every setting with where it comes from; secrets are hidden.
    Show {
        /// As one JSON object, by path.
        #[arg(long)]
        json: bool,
    },
    /// Prints what every setting means, its default and its variable, as Markdown.
    Docs {
        /// As one JSON object, by path.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Up) {
        Command::Up => up::run(&cli.flags),
        Command::Config(ConfigCommand::Check) => settings::check(&cli.flags),
        Command::Config(ConfigCommand::Show { json }) => settings::show(&cli.flags, json),
        Command::Config(ConfigCommand::Docs { json }) => settings::docs(json),
        Command::Doctor { json } => doctor::run(&cli.flags, json),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "switchboard", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Command::Users(UsersCommand::Promote { name, role }) => users::promote(&cli.flags, &name, &role),
        Command::Users(UsersCommand::Delete { name }) => users::delete(&cli.flags, &name),
        Command::Users(UsersCommand::Invite { note, days }) => users::invite(&cli.flags, &note, days),
        Command::Keys(KeysCommand::Init) => settings::init_keys(&cli.flags),
        Command::Keys(KeysCommand::Certificates(wanted)) => certificates::run(&cli.flags, &wanted),
        Command::Keys(KeysCommand::Rotate { at_once }) => users::rotate_keys(&cli.flags, at_once),
        Command::Export { file } => moving::export(&cli.flags, file),
        Command::Import { file } => moving::import(&cli.flags, file),
        Command::Backup { folder } => backup::run(&cli.flags, folder),
        Command::Restored => stores::upkeep(&cli.flags, Upkeep::RenewLogs),
        Command::Rebuild => stores::upkeep(&cli.flags, Upkeep::Rebuild),
        Command::Migrate { json } => stores::migrate(&cli.flags, json),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every command that does something, by its whole name.
    fn commands(command: &clap::Command, name: &str, out: &mut BTreeSet<String>) {
        let name = format!("{name}{}", command.get_name());
        if command.has_subcommands() {
            command.get_subcommands().for_each(|inner| commands(inner, &format!("{name} "), out));
        } else {
            out.insert(name);
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_page_of_commands_lists_every_command_and_no_other() {
        let mut real = BTreeSet::new();
        commands(&Cli::command(), "", &mut real);
        let page = include_str!("../../docs/cli.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `switchboard"));
        // `users promote NAME ROLE`: arguments are capitals, options begin with a bracket.
        let is_name = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        let told: BTreeSet<_> = rows
            .filter_map(|row| row.split('`').next())
            .map(|row| {
                row.split_whitespace().take_while(is_name).fold("switchboard".to_owned(), |all, word| all + " " + word)
            })
            .collect();
        assert_eq!(told, real);
    }
}
