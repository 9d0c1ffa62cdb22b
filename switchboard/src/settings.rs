//! `switchboard config` and `switchboard keys`: the settings of all four services as they count, for people, and the keys
//! of the data folder. It reads them as the services do.

use std::{io::Write as _, process::ExitCode};

use mesh::{
    config::{ConfigError, Flags, Loader, MeshConfig, Setting},
    keys, process,
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
pub(crate) fn show(flags: &Flags) -> ExitCode {
    match Settings::load(flags) {
        Ok((_, list)) => {
            let width = list.iter().map(|setting| setting.path.len() + setting.value.len()).max().unwrap_or(0);
            let mut text = String::new();
            for Setting { path, value, origin } in list {
                let line = format!("{path} = {value}");
                text += &format!("{line:<width$}    # {origin}\n", width = width.min(76) + 3);
            }
            // A reader that has seen enough (`| head`) is no fault.
            drop(std::io::stdout().write_all(text.as_bytes()));
            ExitCode::SUCCESS
        }
        Err(error) => process::fail("switchboard", &error),
    }
}

/// Makes the keys that are missing.
#[expect(clippy::print_stdout, reason = "it is what the command is for")]
pub(crate) fn init_keys(flags: &Flags) -> ExitCode {
    let mut loader = Loader::from_env(flags);
    let mesh: MeshConfig = loader.section();
    let made = loader.finish().map_err(|error| process::fail("switchboard", &error));
    match made.and_then(|()| keys::init(&mesh.data).map_err(|error| process::fail("switchboard", &error))) {
        Ok(folder) => {
            println!(
                "The keys are in {}. Keep a copy: without them every token and session is lost.",
                folder.display()
            );
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}
