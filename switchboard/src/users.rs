//! `switchboard users` and `switchboard keys rotate`: what an operator does to accounts and to the keys that sign their
//! tokens, on the store itself. The services may run or not.

use std::{future::Future, process::ExitCode, time::Duration};

use auth_svc::{
    Config,
    operator::{self, OperatorError},
    role::Role,
};
use mesh::{config::Flags, process};

use crate::settings::Settings;

/// Gives an account a role.
#[expect(clippy::print_stdout, reason = "it is what the command is for")]
pub(crate) fn promote(flags: &Flags, name: &str, role: &str) -> ExitCode {
    let role = match Role::parse("ROLE", role) {
        Ok(role) => role,
        Err(violation) => return fail(&format!("{} {}", violation.field, violation.message)),
    };
    let settings = match settings(flags) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match wait(operator::promote(&settings, name, role, &operator())) {
        Ok(account) => {
            println!("{} has the roles {} now.", account.username.as_str(), account.roles.join(", "));
            ExitCode::SUCCESS
        }
        Err(sentence) => fail(&sentence),
    }
}

/// Deletes an account.
#[expect(clippy::print_stdout, reason = "it is what the command is for")]
pub(crate) fn delete(flags: &Flags, name: &str) -> ExitCode {
    let settings = match settings(flags) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match wait(operator::delete(&settings, name, &operator())) {
        Ok(erase_at) => {
            println!("Its sessions have ended; it is erased in every service from {erase_at} on.");
            ExitCode::SUCCESS
        }
        Err(sentence) => fail(&sentence),
    }
}

/// Makes an invitation. The code stands alone on standard output, so that it can go into a pipe.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "it is what the command is for")]
pub(crate) fn invite(flags: &Flags, note: &str, days: Option<u16>) -> ExitCode {
    let settings = match settings(flags) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let life = days.map(|days| Duration::from_hours(24 * u64::from(days)));
    match wait(operator::invite(&settings, note, life, &operator())) {
        Ok((invitation, code)) => {
            eprintln!("Good once, until {}. It is not shown again:", invitation.expires_at);
            println!("{}", code.expose());
            ExitCode::SUCCESS
        }
        Err(sentence) => fail(&sentence),
    }
}

/// Makes a new signing key.
#[expect(clippy::print_stdout, reason = "it is what the command is for")]
pub(crate) fn rotate_keys(flags: &Flags, at_once: bool) -> ExitCode {
    let settings = match settings(flags) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match wait(operator::rotate_keys(&settings, at_once, &operator())) {
        Ok(rotated) => {
            println!("The key {} signs access tokens from {} on.", rotated.kid, rotated.signs_from);
            println!("Those before it are known until {}.", rotated.others_leave_at);
            ExitCode::SUCCESS
        }
        Err(sentence) => fail(&sentence),
    }
}

fn settings(flags: &Flags) -> Result<Config, ExitCode> {
    match Settings::load(flags) {
        Ok((settings, _)) => Ok(settings.auth),
        Err(error) => Err(process::fail("switchboard", &error)),
    }
}

/// Who is at the command line, for the audit log.
fn operator() -> String {
    std::env::var("USER").unwrap_or_else(|_| "operator".to_owned())
}

fn wait<T>(work: impl Future<Output = Result<T, OperatorError>>) -> Result<T, String> {
    process::block_on(work).map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

#[expect(clippy::print_stderr, reason = "it is what the command is for")]
fn fail(sentence: &str) -> ExitCode {
    eprintln!("switchboard: {sentence}");
    ExitCode::from(2)
}
