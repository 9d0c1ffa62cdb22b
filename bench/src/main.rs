//! `switchboard-bench`: measures Switchboard and the peers of `bench/peers/` in one run, on one machine, with the same
//! clients, and checks that both did their work. `bench/README.md` has a command for each row of the report.
//!
//! `scenario/` is what is done, `system/` what it is done to, `worker/` the clients, `report.rs` what comes out.

use std::process::ExitCode;

use clap::Parser as _;

mod caller;
mod check;
mod cli;
mod clock;
mod conduct;
mod dialect;
mod fleet;
mod http;
mod machine;
mod marker;
mod orders;
mod process;
mod profile;
mod report;
mod run;
mod scenario;
mod series;
mod system;
mod usage;
mod worker;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            conduct::say(&format!("switchboard-bench: {error:#}"));
            ExitCode::from(2)
        }
    }
}
