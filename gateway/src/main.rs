//! The process `gateway`: its settings, its ports, and the edge on them.

use std::process::ExitCode;

use gateway::Config;

fn main() -> ExitCode {
    mesh::process::run(
        "gateway",
        "The REST and Socket.IO edge of Switchboard",
        Config::load,
        |config| &config.mesh,
        |config| (config.gateway.listen, config.gateway.http_port).into(),
        gateway::run,
    )
}
