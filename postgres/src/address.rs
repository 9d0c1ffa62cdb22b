//! The URL of a server. It is read with care, because what is wrong in it may be a piece of the password: no sentence and
//! no log line shows more than a host, a database or the name of a parameter.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;

use crate::open::{OpenError, Service};

#[cfg(test)]
mod fuzz;

/// The parameters of a URL that the driver knows. Others are libpq's, which many URLs bear; they are passed over, and
/// the driver would show their values in the log.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

pub(crate) fn parse(url: &str, service: &Service) -> Result<PgConnectOptions, OpenError> {
    let setting = service.setting;
    let bad = |what: &str| {
        Err(OpenError(format!(
            "{setting} {what}; write postgres://user:password@host:5432/database, with %40 for an @ in the password and the like"
        )))
    };
    let (address, parameters) = url.split_once('?').unwrap_or((url, ""));
    let rest = address.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    // What follows would be taken for a host or a database, and shown as one.
    if url.contains('#') || rest.matches('@').count() > 1 || rest[authority.len()..].contains('@') {
        return bad("has a character in its password that stands for something else");
    }
    let mut kept = Vec::new();
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = parameter.split('=').next().unwrap_or_default();
        if PARAMETERS.contains(&name) || name.starts_with("options[") {
            kept.push(parameter);
        } else {
            tracing::warn!(parameter = name, setting, "a parameter of the store's URL is not known and has no effect");
        }
    }
    // Poolers in front of the server know no extra_float_digits, and we have no fractions.
    match PgConnectOptions::from_str(&format!("{address}?{}", kept.join("&"))) {
        Ok(options) if options.get_application_name().is_none() => {
            Ok(options.application_name(service.name).extra_float_digits(None))
        }
        Ok(options) => Ok(options.extra_float_digits(None)),
        Err(error) => {
            // The driver's sentence shows a parameter's value, which may be a piece of another URL.
            let fails = |parameters: &str| PgConnectOptions::from_str(&format!("{address}?{parameters}")).is_err();
            match kept.iter().find(|parameter| !fails("") && fails(parameter)) {
                Some(parameter) => {
                    let name = parameter.split('=').next().unwrap_or_default();
                    bad(&format!("has a value of {name} that is not understood"))
                }
                None => bad(&format!("cannot be read: {error}")),
            }
        }
    }
}
