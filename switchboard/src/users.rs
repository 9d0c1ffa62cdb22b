//! `switchboard users`: what an operator does to accounts, on the store itself. The services may run or not.

use std::{future::Future, process::ExitCode};

use auth_svc::{
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
    let settings = match Settings::load(flags) {
        Ok((settings, _)) => settings.auth,
        Err(error) => return process::fail("switchboard", &error),
    };
    let who = std::env::var("USER").unwrap_or_else(|_| "operator".to_owned());
    match wait(operator::promote(&settings, name, role, &who)) {
        Ok(account) => {
            println!("{} has the roles {} now.", account.username.as_str(), account.roles.join(", "));
            ExitCode::SUCCESS
        }
        Err(sentence) => fail(&sentence),
    }
}

fn wait<T>(work: impl Future<Output = Result<T, OperatorError>>) -> Result<T, String> {
    process::block_on(work).map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

#[expect(clippy::print_stderr, reason = "it is what the command is for")]
fn fail(sentence: &str) -> ExitCode {
    eprintln!("switchboard: {sentence}");
    ExitCode::from(2)
}
