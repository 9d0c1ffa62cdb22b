//! The process `message-svc`: its settings, its ports, and the service on them.

use std::process::ExitCode;

use message_svc::Config;

fn main() -> ExitCode {
    mesh::process::run(
        "message-svc",
        "Rooms and messages for Switchboard: ordered logs, once-only sends, resume by cursor",
        Config::load,
        |config| &config.mesh,
        |config| (config.message.listen, config.message.http_port).into(),
        message_svc::run,
    )
}
