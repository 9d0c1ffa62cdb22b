//! `switchboard config` and `switchboard keys`: the settings of all four services as they count, for people, and the keys
//! of the data folder. It reads them as the services do.

use std::{collections::HashMap, io::Write as _, process::ExitCode};

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
        Self::read(Loader::from_env(flags))
    }

    fn read(mut loader: Loader) -> Result<(Self, Vec<Setting>), ConfigError> {
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
pub(crate) fn show(flags: &Flags, json: bool) -> ExitCode {
    match Settings::load(flags) {
        Ok((_, list)) if json => print(&as_json(
            &list,
            |Setting { value, origin, .. }| serde_json::json!({ "value": value, "origin": origin.to_string() }),
        )),
        Ok((_, list)) => {
            let width = list.iter().map(|setting| setting.path.len() + setting.value.len()).max().unwrap_or(0);
            let mut text = String::new();
            for Setting { path, value, origin, .. } in list {
                let line = format!("{path} = {value}");
                text += &format!("{line:<width$}    # {origin}\n", width = width.min(76) + 3);
            }
            print(&text)
        }
        Err(error) => process::fail("switchboard", &error),
    }
}

/// Prints what every setting means, whatever it is set to here.
pub(crate) fn docs(json: bool) -> ExitCode {
    let list = match Settings::read(Loader::new(&Flags::default(), HashMap::new())) {
        Ok((_, list)) => list,
        Err(error) => return process::fail("switchboard", &error),
    };
    if json {
        return print(&as_json(&list, |setting| {
            let (default, variable) = (&setting.value, setting.variable());
            serde_json::json!({ "default": default, "variable": variable, "secret": setting.secret, "text": meaning(setting) })
        }));
    }
    let mut text = String::new();
    for setting in &list {
        let (path, variable) = (&setting.path, setting.variable());
        let value = if setting.secret {
            format!("A secret; also `{variable}_FILE`, the name of a file.")
        } else {
            format!("Default `{}`.", setting.value)
        };
        text += &format!("## `{path}`\n\n{}\n\n{value} Variable `{variable}`.\n\n", meaning(setting));
    }
    print(text.trim_end())
}

/// Each setting's documentation, read out of the types by `build.rs`.
const MEANINGS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/settings_docs.rs"));

fn meaning(setting: &Setting) -> &'static str {
    MEANINGS.iter().find(|(path, _)| *path == setting.path).map_or("", |(_, text)| text)
}

fn as_json(list: &[Setting], show: impl Fn(&Setting) -> serde_json::Value) -> String {
    let object = list.iter().map(|setting| (setting.path.clone(), show(setting))).collect();
    format!("{:#}", serde_json::Value::Object(object))
}

fn print(text: &str) -> ExitCode {
    // A reader that has seen enough (`| head`) is no fault.
    drop(writeln!(std::io::stdout(), "{}", text.trim_end()));
    ExitCode::SUCCESS
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn all() -> Vec<Setting> {
        Settings::read(Loader::new(&Flags::default(), HashMap::new())).expect("the defaults are good").1
    }

    #[test]
    fn every_setting_has_its_meaning_and_every_meaning_its_setting() {
        let settings: BTreeSet<_> = all().into_iter().map(|setting| setting.path).collect();
        assert!(settings.len() > 150, "{settings:?}");
        for (path, text) in MEANINGS {
            // A table with free keys is empty by default.
            assert!(settings.contains(*path) || *path == "mesh.identity.service_keys", "{path} is no setting");
            assert!(text.len() > 10 && text.ends_with('.') && !text.contains("///"), "{path}: {text}");
        }
        let explained: BTreeSet<_> = MEANINGS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(settings.difference(&explained).collect::<Vec<_>>(), Vec::<&String>::new());
    }

    #[test]
    fn every_setting_is_set_by_the_variable_that_is_told() {
        for setting in all() {
            // A value of the right kind, and a place of its own for what may not be the same for all.
            let value = if setting.secret { String::new() } else { setting.value.trim_matches('"').to_owned() };
            let environment = HashMap::from([(setting.variable(), value)]);
            let mut loader = Loader::new(&Flags::default(), environment);
            let _: MeshConfig = loader.section();
            let _: auth_svc::config::AuthSection = loader.section();
            let _: user_svc::config::UserSection = loader.section();
            let _: message_svc::config::MessageSection = loader.section();
            let _: gateway::GatewayConfig = loader.section();
            let origin = &loader.settings().iter().find(|one| one.path == setting.path).expect("there").origin;
            assert_eq!(origin.to_string(), format!("environment variable {}", setting.variable()), "{setting:?}");
        }
    }

    #[test]
    fn settings_and_variables_that_the_documents_name_exist() {
        let settings: Vec<_> = all().into_iter().map(|setting| setting.path).collect();
        let exists = |path: &str| settings.iter().any(|one| one == path || one.starts_with(&format!("{path}.")));
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut documents = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("CHANGELOG.md")];
        let pages = fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("entry").path());
        documents.extend(pages.filter(|path| path.extension().is_some_and(|end| end == "md")));
        let mut seen = 0;
        for document in documents {
            let text = fs::read_to_string(&document).expect("UTF-8");
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            for word in text.split(|c| !is_word(c)).map(|word| word.trim_matches('.')) {
                let path = match word.strip_prefix("SWITCHBOARD_") {
                    Some(rest) if rest.contains("__") && rest != "SECTION__FIELD" => {
                        rest.replace("__", ".").to_lowercase()
                    }
                    // Fields of answers have a point too; settings of `mesh` and of parts of sections are no field's name.
                    _ if word.starts_with("mesh.") || word.starts_with("gateway.") => word.to_owned(),
                    _ => continue,
                };
                if [".rs", ".sh", ".md", ".yaml"].iter().any(|end| path.ends_with(end)) {
                    continue;
                }
                assert!(exists(&path), "{} names {word}, which is no setting", document.display());
                seen += 1;
            }
        }
        assert!(seen > 10, "{seen}");
    }
}
