//! Typed configuration: defaults < file < environment < flags. Every key that no section knows is an error, and all bad
//! values are reported at once, each with where it came from. A section is a struct with a default for every field;
//! [`Loader`] fills it. The settings that every process shares are in [`MeshConfig`] (`config/mesh.rs`).

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

mod env;
#[cfg(test)]
mod fuzz;
mod mesh;
mod redis;
mod secret;
mod store;
mod tls;

pub use mesh::{DirectLimits, GrpcLimits, IdentityConfig, MeshConfig, Profile, ReplicasConfig};
pub use redis::RedisConfig;
pub use secret::Secret;
pub use store::StoreLimits;
pub use tls::{EdgeTlsConfig, TlsConfig};

/// The sections that a file may hold; a process reads its own and leaves the others' alone.
const SECTIONS: [&str; 5] = ["auth", "gateway", "mesh", "message", "user"];

/// One top-level table of the configuration.
///
/// Every field has a default; `""` stands for "none". Derive `Serialize`, `Deserialize` with
/// `#[serde(default, deny_unknown_fields)]`, and document unit, default and reason of each field.
pub trait Section: Serialize + DeserializeOwned + Default {
    /// The table's name: `gateway`.
    const NAME: &'static str;

    /// Tables within it, by path, whose keys are free: `identity.service_keys`.
    const OPEN_TABLES: &'static [&'static str] = &[];

    /// Reports values that are well typed but make no sense.
    fn validate(&self, _problems: &mut Problems) {}
}

/// What [`Section::validate`] finds.
#[derive(Debug, Default)]
pub struct Problems(Vec<(String, String)>);

impl Problems {
    /// One bad field, by its path within the section, and what is wrong.
    pub fn push(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push((field.into(), message.into()));
    }

    /// Reports a number outside its range.
    pub fn range<N: PartialOrd + fmt::Display + Copy>(&mut self, field: &str, value: N, min: N, max: N) {
        // Not compared with `<`: what is no number would pass.
        if !(min..=max).contains(&value) {
            self.push(field, format!("is {value}, but must be between {min} and {max}"));
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag => f.write_str("flag --set"),
        }
    }
}

/// Everything that is wrong with the configuration, a line each.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    lines: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} bad value(s):", self.lines.len())?;
        self.lines.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// The flags that every binary takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// A TOML file with settings.
    #[arg(long, env = "SWITCHBOARD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One setting by its path, as in `--set gateway.port=8080`; may be repeated.
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

/// One setting as it counts, for people to look at. Secrets are hidden.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its path: `gateway.port`.
    pub path: String,
    /// Its value as TOML.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether it is a secret, which is hidden and may be given by the name of a file.
    pub secret: bool,
}

impl Setting {
    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        env::variable(&self.path)
    }
}

/// A value with its origin. Values of the environment and of flags are text until the field's type is known.
#[derive(Clone, Debug)]
struct Given {
    value: Value,
    text: bool,
    origin: Origin,
}

/// Fills sections from all layers and collects what is wrong with any of them.
#[derive(Debug, Default)]
pub struct Loader {
    /// Layers from the weakest to the strongest, flattened: path → value. Tables stay whole where they are leaves.
    layers: Vec<BTreeMap<String, Given>>,
    errors: Vec<String>,
    settings: Vec<Setting>,
}

impl Loader {
    /// The layers of this process: the file that the flags or the environment name, the environment, the flags.
    #[must_use]
    pub fn from_env(flags: &Flags) -> Self {
        Self::new(flags, std::env::vars().collect())
    }

    /// Like [`Loader::from_env`] with an environment of its own.
    #[must_use]
    pub fn new(flags: &Flags, environment: HashMap<String, String>) -> Self {
        let mut loader = Self::default();
        if let Some(path) = &flags.config {
            loader.add_file(path);
        }
        let mut layer = BTreeMap::new();
        for (path, given) in env::read(environment, &mut loader.errors) {
            layer.insert(path, given);
        }
        loader.layers.push(layer);
        let mut layer = BTreeMap::new();
        for flag in &flags.set {
            match flag.split_once('=') {
                Some((path, value)) => {
                    let given = Given { value: Value::String(value.to_owned()), text: true, origin: Origin::Flag };
                    layer.insert(path.trim().to_owned(), given);
                }
                None => loader.errors.push(format!("--set {}: must be PATH=VALUE", shown_path(flag))),
            }
        }
        loader.layers.push(layer);
        loader.check_sections();
        loader
    }

    /// One layer of TOML text, for tests.
    #[must_use]
    pub fn for_test(text: &str) -> Self {
        let mut loader = Self::default();
        loader.add_toml(text, Path::new("test.toml"));
        loader.check_sections();
        loader
    }

    fn add_file(&mut self, path: &Path) {
        match fs::read_to_string(path) {
            Ok(text) => self.add_toml(&text, path),
            Err(error) => self.errors.push(format!("{}: cannot be read: {error}", path.display())),
        }
    }

    fn add_toml(&mut self, text: &str, path: &Path) {
        match text.parse::<Table>() {
            Ok(table) => {
                let mut layer = BTreeMap::new();
                flatten("", &table, &Origin::File(path.to_owned()), &mut layer);
                self.layers.push(layer);
            }
            Err(error) => {
                // Only what and where: the error as a whole shows the line, in which a password may be.
                let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
                let (line, message) = (before.matches('\n').count() + 1, error.message());
                self.errors.push(format!("{}: is no TOML, in line {line}: {message}", path.display()));
            }
        }
    }

    fn check_sections(&mut self) {
        for (path, given) in self.layers.iter().flatten() {
            let section = path.split('.').next().unwrap_or_default();
            if !SECTIONS.contains(&section) || !path.contains('.') {
                let known = SECTIONS.join(", ");
                self.errors.push(format!("{path} ({}): no such section; there are {known}", given.origin));
            }
        }
    }

    /// The section, with defaults in place of what is bad; [`Loader::finish`] tells what was.
    pub fn section<T: Section>(&mut self) -> T {
        let Ok(Value::Table(defaults)) = Value::try_from(T::default()) else {
            unreachable!("invariant: a section's defaults are a TOML table")
        };
        let mut origins = BTreeMap::new();
        let mut merged = defaults.clone();
        let prefix = format!("{}.", T::NAME);
        for (path, given) in self.layers.iter().flatten() {
            let Some(field) = path.strip_prefix(&prefix) else { continue };
            match place(&mut merged, &defaults, field, given, T::OPEN_TABLES) {
                Ok(placed) => {
                    origins.insert(placed.to_owned(), given.origin.clone());
                }
                Err(message) => self.errors.push(format!("{path} ({}): {message}", given.origin)),
            }
        }
        let section: T = self.deserialize(&mut merged, &defaults, &origins, T::NAME);
        let mut problems = Problems::default();
        section.validate(&mut problems);
        for (field, message) in problems.0 {
            let origin = origins.get(&field).cloned().unwrap_or(Origin::Default);
            self.errors.push(format!("{prefix}{field} ({origin}): {message}"));
        }
        self.record(&prefix, &merged, &defaults, &origins);
        section
    }

    /// Deserializes; a field that cannot be is reported and put back to its default, until all can.
    fn deserialize<T: Section>(
        &mut self,
        merged: &mut Table,
        defaults: &Table,
        origins: &BTreeMap<String, Origin>,
        name: &str,
    ) -> T {
        for _ in 0..=origins.len() {
            match serde_path_to_error::deserialize(Value::Table(merged.clone())) {
                Ok(section) => return section,
                Err(error) => {
                    let field = error.path().to_string();
                    // The path may point into a leaf (an element of a list): the leaf is what was set.
                    let set = origins.iter().find(|(path, _)| {
                        field == **path
                            || field.starts_with(&format!("{path}["))
                            || path.starts_with(&format!("{field}."))
                    });
                    let Some((path, origin)) = set else { break };
                    let message = error.inner().to_string();
                    let message = message.lines().next().unwrap_or_default();
                    self.errors.push(format!("{name}.{field} ({origin}): {message}"));
                    let path = path.clone();
                    restore(merged, defaults, &path);
                }
            }
        }
        T::default()
    }

    fn record(&mut self, prefix: &str, merged: &Table, defaults: &Table, origins: &BTreeMap<String, Origin>) {
        let mut leaves = BTreeMap::new();
        flatten("", merged, &Origin::Default, &mut leaves);
        for (field, given) in leaves {
            let hidden = lookup(defaults, &field).is_some_and(secret::is_secret);
            let value = if hidden { "(hidden)".to_owned() } else { given.value.to_string() };
            let origin = origins.get(&field).cloned().unwrap_or(Origin::Default);
            self.settings.push(Setting { path: format!("{prefix}{field}"), value, origin, secret: hidden });
        }
    }

    /// The settings of the sections loaded so far.
    #[must_use]
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// Says whether everything was good.
    ///
    /// # Errors
    /// All that was bad, in one error.
    pub fn finish(self) -> Result<(), ConfigError> {
        if self.errors.is_empty() { Ok(()) } else { Err(ConfigError { lines: self.errors }) }
    }
}

/// What may be shown of a flag without its sign, when nobody can tell where a secret would begin: the path that it begins
/// with, if it is one of a section's.
fn shown_path(flag: &str) -> &str {
    let end = flag.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_').unwrap_or(flag.len());
    let path = &flag[..end];
    let section = path.split_once('.').map(|(section, _)| section);
    if section.is_some_and(|section| SECTIONS.contains(&section)) { path } else { "(hidden)" }
}

fn flatten(prefix: &str, table: &Table, origin: &Origin, out: &mut BTreeMap<String, Given>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        if let Value::Table(inner) = value {
            flatten(&path, inner, origin, out);
        } else {
            out.insert(path, Given { value: value.clone(), text: false, origin: origin.clone() });
        }
    }
}

fn lookup<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
    match (table.get(head)?, rest) {
        (value, None) => Some(value),
        (Value::Table(inner), Some(rest)) => lookup(inner, rest),
        _ => None,
    }
}

/// Puts a value at its path, which must be one that the defaults have, or lie in an open table. A path that ends in
/// `_file` gives the secret before it by the name of a file. Answers the path of the field that was set.
fn place<'a>(
    merged: &mut Table,
    defaults: &Table,
    path: &'a str,
    given: &Given,
    open: &[&str],
) -> Result<&'a str, String> {
    let in_open = open.iter().any(|table| path.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')));
    let default = lookup(defaults, path);
    if default.is_none()
        && let Some(base) = path.strip_suffix("_file")
        && lookup(defaults, base).is_some_and(secret::is_secret)
    {
        let file = given.value.as_str().unwrap_or_default();
        let text = fs::read_to_string(file).map_err(|error| format!("{file} cannot be read: {error}"))?;
        insert(merged, base, Value::String(text.trim_end().to_owned()));
        return Ok(base);
    }
    if !in_open && default.is_none_or(Value::is_table) {
        return Err("no such setting".to_owned());
    }
    let value = if given.text { typed(&given.value, default)? } else { given.value.clone() };
    insert(merged, path, value);
    Ok(path)
}

fn insert(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((head, rest)) => {
            let inner = table.entry(head).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn restore(merged: &mut Table, defaults: &Table, path: &str) {
    match lookup(defaults, path) {
        Some(value) => insert(merged, path, value.clone()),
        None => {
            let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
            if let Some(Value::Table(parent)) = merged.get_mut(parent) {
                parent.remove(key);
            }
        }
    }
}

/// Text of the environment or a flag as the type that the field has by default.
fn typed(text: &Value, default: Option<&Value>) -> Result<Value, String> {
    let text = text.as_str().unwrap_or_default();
    let trimmed = text.trim();
    Ok(match default {
        Some(Value::Integer(_)) => {
            Value::Integer(trimmed.parse().map_err(|error| format!("must be a whole number: {error}"))?)
        }
        Some(Value::Float(_)) => Value::Float(trimmed.parse().map_err(|error| format!("must be a number: {error}"))?),
        Some(Value::Boolean(_)) => Value::Boolean(match trimmed {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" => false,
            _ => return Err("must be true or false".to_owned()),
        }),
        Some(Value::Array(_)) if !trimmed.starts_with('[') => Value::Array(
            trimmed
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.to_owned()))
                .collect(),
        ),
        Some(Value::Array(_)) => format!("value = {trimmed}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
            .ok_or_else(|| "must be a list".to_owned())?,
        _ => Value::String(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Gateway {
        port: u16,
        origins: Vec<String>,
        cookie: Secret,
        limits: Limits,
    }

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Limits {
        body_bytes: u32,
        strict: bool,
    }

    impl Default for Gateway {
        fn default() -> Self {
            Self { port: 3000, origins: Vec::new(), cookie: Secret::default(), limits: Limits::default() }
        }
    }

    impl Section for Gateway {
        const NAME: &'static str = "gateway";

        fn validate(&self, problems: &mut Problems) {
            problems.range("port", self.port, 1, 60_000);
        }
    }

    fn load(
        file: &str,
        environment: &[(&str, &str)],
        set: &[&str],
    ) -> (Gateway, Result<(), ConfigError>, Vec<Setting>) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("switchboard.toml");
        fs::write(&path, file).expect("write");
        let flags = Flags { config: Some(path), set: set.iter().map(ToString::to_string).collect() };
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut loader = Loader::new(&flags, environment);
        let gateway = loader.section();
        let settings = loader.settings().to_vec();
        (gateway, loader.finish(), settings)
    }

    #[test]
    fn flags_beat_the_environment_and_the_environment_beats_the_file() {
        let file = "[gateway]\nport = 1\n[gateway.limits]\nbody_bytes = 1\nstrict = true";
        let environment = [("API_GATEWAY_PORT", "2"), ("SWITCHBOARD_GATEWAY__LIMITS__BODY_BYTES", "2")];
        let (gateway, result, settings) = load(file, &environment, &["gateway.port=3"]);
        result.expect("good");
        assert_eq!((gateway.port, gateway.limits.body_bytes, gateway.limits.strict), (3, 2, true));
        let port = settings.iter().find(|setting| setting.path == "gateway.port").expect("listed");
        assert_eq!((port.value.as_str(), &port.origin), ("3", &Origin::Flag));
    }

    #[test]
    fn all_bad_values_are_reported_at_once_with_their_origin() {
        let file = "[gateway]\nprot = 1\norigins = [1]\n[nonsense]\na = 1";
        let environment = [("API_GATEWAY_PORT", "many"), ("SWITCHBOARD_GATEWAY__LIMITS__STRICT", "maybe")];
        let (_, result, _) = load(file, &environment, &["gateway.limits.body_bytes=-1", "gateway.port"]);
        let text = result.expect_err("bad").to_string();
        for part in [
            "gateway.prot",
            "gateway.origins",
            "nonsense.a",
            "gateway.port (environment variable API_GATEWAY_PORT): must be a whole number",
            "SWITCHBOARD_GATEWAY__LIMITS__STRICT): must be true or false",
            "gateway.limits.body_bytes (flag --set)",
            "--set gateway.port: must be PATH=VALUE",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }

    #[test]
    fn a_value_that_makes_no_sense_is_reported_with_its_origin() {
        let (_, result, _) = load("[gateway]\nport = 65000", &[], &[]);
        assert!(result.expect_err("bad").to_string().contains("between 1 and 60000"));
    }

    #[test]
    fn a_secret_is_read_from_a_file_and_never_shown() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("cookie");
        fs::write(&path, "hunter2\n").expect("write");
        let name = path.to_str().expect("UTF-8");
        let (gateway, result, settings) = load("", &[("SWITCHBOARD_GATEWAY__COOKIE_FILE", name)], &[]);
        result.expect("good");
        assert_eq!(gateway.cookie.expose(), "hunter2");
        assert!(!format!("{gateway:?}{settings:?}").contains("hunter2"));
    }

    #[test]
    fn what_cannot_be_read_is_not_shown_for_it_may_be_a_secret() {
        let file = "[gateway]\nport = 1\ncookie = 'hunter2\n";
        let (_, result, _) =
            load(file, &[], &["hunter2", "gateway.cookie:hunter2", "auth.store_url postgres://a:hunter2@b"]);
        let text = result.expect_err("bad").to_string();
        assert!(!text.contains("hunter2"), "{text}");
        for part in [
            "is no TOML, in line 3: ",
            "--set (hidden): must",
            "--set gateway.cookie: must",
            "--set auth.store_url: must",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }

    #[test]
    fn lists_come_from_the_environment_separated_by_commas() {
        let (gateway, result, _) =
            load("", &[("SWITCHBOARD_GATEWAY__ORIGINS", "https://a.example, https://b.example")], &[]);
        result.expect("good");
        assert_eq!(gateway.origins, ["https://a.example", "https://b.example"]);
    }
}
