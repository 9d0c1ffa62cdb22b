//! A file, an environment and a flag of anybody's: what is good is used, what is not is named, and what
//! `config show` prints is, as a file, the same configuration.

use std::collections::HashMap;

use test_input::{Edits, text};

use super::*;

const FILES: [&str; 3] = [
    "[mesh]\nprofile = 'production'\nauth_url = 'http://a:1'\nredis_url = 'redis://h'\n[mesh.grpc]\ntries_max = 2\n",
    "mesh.redis.prefix = 'a:'\nmesh.identity.service_keys = { gateway = 'AAAA' }\nmesh.grpc.calls_max = 5",
    "[mesh.serve]\n[mesh.telemetry]\nfilter = \"info\"\n[gateway]\nport = 1\n",
];
const NAMES: [&str; 5] = [
    "SWITCHBOARD_MESH__GRPC__TRIES_MAX",
    "SWITCHBOARD_MESH__REDIS__SENTINEL_PASSWORD",
    "REDIS_ENABLED",
    "AUTH_SERVICE_URL",
    "SWITCHBOARD_MESH__IDENTITY__SERVICE_KEYS__GATEWAY",
];
const VALUES: [&str; 6] = ["3", "true", "http://a:1,http://b:2", "x", "['a']", ""];
const FLAGS: [&str; 3] = ["mesh.grpc.connect_ms=100", "mesh.redis_url=redis://h", "mesh.profile=production"];

fn load(file: &str, environment: HashMap<String, String>, flag: String) -> (Vec<Setting>, Result<(), ConfigError>) {
    let mut loader = Loader::new(&Flags { config: None, set: vec![flag] }, environment);
    loader.add_toml(file, Path::new("switchboard.toml"));
    let _: MeshConfig = loader.section();
    let settings = loader.settings().to_vec();
    (settings, loader.finish())
}

#[test]
fn any_configuration_is_used_or_named() {
    bolero::check!().with_type::<(Edits, Edits, Edits, Edits)>().for_each(|(file, name, value, flag)| {
        let file = text(&FILES, file);
        let name = text(&NAMES, name);
        // A `_FILE` names a file of this machine, which is no business of a test.
        let environment =
            if name.to_lowercase().contains("_file") { HashMap::new() } else { [(name, text(&VALUES, value))].into() };
        let flag = text(&FLAGS, flag);
        if flag.contains("_file") || file.contains("_file") {
            return;
        }
        let (settings, result) = load(&file, environment, flag);
        match result {
            Err(error) => {
                assert!(!error.lines.is_empty() && error.lines.iter().all(|line| !line.is_empty()));
            }
            Ok(()) => {
                let shown = settings.iter().filter(|setting| setting.value != "(hidden)");
                let file: String = shown.map(|setting| format!("{} = {}\n", setting.path, setting.value)).collect();
                let (again, result) = load(&file, HashMap::new(), "mesh.redis_enabled=false".into());
                result.unwrap_or_else(|error| panic!("{error}\n{file}"));
                let values = |settings: &[Setting]| -> Vec<_> {
                    settings.iter().map(|setting| (setting.path.clone(), setting.value.clone())).collect()
                };
                assert_eq!(values(&again), values(&settings));
            }
        }
    });
}

#[test]
fn a_file_that_breaks_off_anywhere_shows_no_secret() {
    let file = "[mesh]\nprofile = 'production'\nredis_url = 'redis://:hunter2@h'\nauth_url = 'http://a:1'\n";
    for end in 0..file.len() {
        let (_, result) = load(&file[..end], HashMap::new(), "mesh.redis_url:redis://:hunter2@h".into());
        let said = result.expect_err("the flag lacks its sign").to_string();
        assert!(!said.contains("hunter2") && said.contains("--set mesh.redis_url: must be PATH=VALUE"), "{said}");
    }
}
