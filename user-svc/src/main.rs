//! The process `user-svc`: its settings, its ports, and the service on them.

use std::process::ExitCode;

use user_svc::Config;

fn main() -> ExitCode {
    mesh::process::run(
        "user-svc",
        "What others see of a person, and the person's own preferences, for Switchboard",
        Config::load,
        |config| &config.mesh,
        |config| (config.user.listen, config.user.http_port).into(),
        user_svc::run,
    )
}
