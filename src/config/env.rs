//! The environment as a layer of the configuration: the names that operators already know, and `SWITCHBOARD_A__B` for
//! `a.b`. It only reads names and values; the loader gives them their types.

use std::collections::HashMap;

use toml::Value;

use super::{Given, Origin};

/// The names that operators know already, with the settings that they mean.
const KNOWN: [(&str, &str); 23] = [
    ("API_GATEWAY_HTTP_PORT", "gateway.http_port"),
    ("API_GATEWAY_PORT", "gateway.port"),
    ("AUTH_SERVICE_GRPC_PORT", "auth.grpc_port"),
    ("AUTH_SERVICE_HTTP_PORT", "auth.http_port"),
    ("AUTH_SERVICE_URL", "mesh.auth_url"),
    ("AUTH_STORE_URL", "auth.store_url"),
    ("MESSAGE_SERVICE_GRPC_PORT", "message.grpc_port"),
    ("MESSAGE_SERVICE_HTTP_PORT", "message.http_port"),
    ("MESSAGE_SERVICE_URL", "mesh.message_url"),
    ("MESSAGE_STORE_URL", "message.store_url"),
    ("REDIS_ENABLED", "mesh.redis_enabled"),
    ("REDIS_URL", "mesh.redis_url"),
    ("SWITCHBOARD_DATA", "mesh.data"),
    ("SWITCHBOARD_PROFILE", "mesh.profile"),
    ("USER_SERVICE_GRPC_PORT", "user.grpc_port"),
    ("USER_SERVICE_HTTP_PORT", "user.http_port"),
    ("USER_SERVICE_URL", "mesh.user_url"),
    ("USER_STORE_URL", "user.store_url"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "mesh.telemetry.otlp.endpoint"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "mesh.telemetry.otlp.headers"),
    ("RUST_LOG", "mesh.telemetry.filter"),
    ("SWITCHBOARD_LOG", "mesh.telemetry.filter"),
    ("SWITCHBOARD_LOG_FORMAT", "mesh.telemetry.format"),
];

/// The variable that sets this: the name that operators know, or the path's own. A secret has another one that ends in
/// `_FILE`.
pub(super) fn variable(path: &str) -> String {
    // Of two names the later one is ours: SWITCHBOARD_LOG.
    match KNOWN.iter().rev().find(|(_, known)| *known == path) {
        Some((name, _)) => (*name).to_owned(),
        None => format!("SWITCHBOARD_{}", path.replace('.', "__").to_uppercase()),
    }
}

/// The settings that the environment gives. A name that starts with `SWITCHBOARD_` and means nothing is an error.
pub(super) fn read(environment: HashMap<String, String>, errors: &mut Vec<String>) -> Vec<(String, Given)> {
    let mut names: Vec<_> = environment.into_iter().collect();
    names.sort_unstable();
    names.into_iter().filter_map(|(name, value)| setting(name, value, errors)).collect()
}

fn setting(name: String, value: String, errors: &mut Vec<String>) -> Option<(String, Given)> {
    let Some(path) = path(&name) else {
        if name.starts_with("SWITCHBOARD_") && name != "SWITCHBOARD_CONFIG" {
            errors.push(format!("{name}: no such setting; write SWITCHBOARD_SECTION__FIELD"));
        }
        return None;
    };
    Some((path, Given { value: Value::String(value), text: true, origin: Origin::Environment(name) }))
}

fn path(name: &str) -> Option<String> {
    let known = |name: &str| KNOWN.iter().find(|(known, _)| *known == name).map(|(_, path)| (*path).to_owned());
    if let Some(path) = known(name) {
        return Some(path);
    }
    // The file form of a secret: the loader knows whether the setting is one.
    if let Some(path) = name.strip_suffix("_FILE").and_then(known) {
        return Some(format!("{path}_file"));
    }
    let (section, field) = name.strip_prefix("SWITCHBOARD_")?.split_once("__")?;
    Some(format!("{section}.{}", field.replace("__", ".")).to_lowercase())
}
