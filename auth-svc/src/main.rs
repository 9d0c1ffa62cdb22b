//! The process `auth-svc`: its settings, its ports, and the service on them.

use std::process::ExitCode;

use auth_svc::Config;

fn main() -> ExitCode {
    mesh::process::run(
        "auth-svc",
        "Accounts, sessions, tokens and revocations of Switchboard",
        Config::load,
        |config| &config.mesh,
        |config| (config.auth.listen, config.auth.http_port).into(),
        auth_svc::run,
    )
}
