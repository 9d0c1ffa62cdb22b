//! `switchboard config`: the settings of all four services as they count, for people. It reads them as the services do,
//! and changes nothing.

use std::process::ExitCode;

use mesh::{
    config::{ConfigError, Flags, Loader, MeshConfig, Setting},
    process,
};

/// The settings of all four services.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) auth: auth_svc::Config,
    pub(crate) user: user_svc::Config,
    pub(crate) message: message_svc::Config,
    pub(crate) gateway: gateway::Config,
}

impl Settings {
    /// Reads them, with the whole list for people.
    pub(crate) fn load(flags: &Flags) -> Result<(Self, Vec<Setting>), ConfigError> {
        let mut loader = Loader::from_env(flags);
        // Every service reads the shared section; one reading is enough to report what is wrong with it.
        let mesh: MeshConfig = loader.section();
        let settings = Self {
            auth: auth_svc::Config { mesh: mesh.clone(), auth: loader.section() },
            user: user_svc::Config { mesh: mesh.clone(), user: loader.section() },
            message: message_svc::Config { mesh: mesh.clone(), message: loader.section() },
            gateway: gateway::Config { mesh, gateway: loader.section() },
        };
        let list = loader.settings().to_vec();
        loader.finish()?;
        Ok((settings, list))
    }
}

/// Says whether the configuration is good.
#[expect(clippy::print_stdout, reason = "it is what the command is for")]
pub(crate) fn check(flags: &Flags) -> ExitCode {
    match Settings::load(flags) {
        Ok((_, list)) => {
            println!("The configuration is good ({} settings).", list.len());
            ExitCode::SUCCESS
        }
        Err(error) => process::fail("switchboard", &error),
    }
}

/// Prints every setting.
#[expect(clippy::print_stdout, reason = "it is what the command is for")]
pub(crate) fn show(flags: &Flags) -> ExitCode {
    match Settings::load(flags) {
        Ok((_, list)) => {
            let width = list.iter().map(|setting| setting.path.len() + setting.value.len()).max().unwrap_or(0);
            for Setting { path, value, origin } in list {
                let line = format!("{path} = {value}");
                println!("{line:<width$}    # {origin}", width = width.min(76) + 3);
            }
            ExitCode::SUCCESS
        }
        Err(error) => process::fail("switchboard", &error),
    }
}
