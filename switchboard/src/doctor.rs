//! `switchboard doctor`: looks, from where it is run, at everything that the settings name, changes nothing, and says what to do
//! about what is wrong. Each look is a function here and knows one thing; what a store or a service is, its owner knows.

use std::{future::Future, io::Write as _, process::ExitCode, sync::Arc, time::Duration};

use mesh::{
    client::Clients,
    config::{EdgeTlsConfig, Flags, MeshConfig, Profile, StoreLimits},
    identity::ServiceName,
    keys::{self, KeyError},
    migration::Migrations,
    process,
    proto::auth::v1::GetJwksRequest,
    time::Millis,
    tls::{self, EdgeTls, OPERATOR, Tls},
};
use serde::Serialize;

use crate::{settings::Settings, stores::CommandError};

/// For each look. A service that is well answers in milliseconds; one that starts waits for its store for longer.
const LIMIT: Duration = Duration::from_secs(5);
/// Clocks may differ by so much: assertions between services live for 60 s, and the date of an answer has whole seconds.
const SKEW_SECS_MAX: i64 = 5;
/// Days before a certificate expires in which that is told: whoever renews them by hand has a holiday now and then.
const CERTIFICATE_DAYS_MIN: i64 = 21;
/// Open files that a gateway needs beside its connections: calls to services, logs, the page's files.
const OTHER_FILES: u64 = 1_000;

/// What one look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Warning,
    Failed,
}

/// What was looked at, what was found, and what to do.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    outcome: Outcome,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, outcome: Outcome::Ok, found: found.into(), advice: None }
    }

    fn warning(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, outcome: Outcome::Warning, found: found.into(), advice: Some(advice.into()) }
    }

    fn failed(what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, outcome: Outcome::Failed, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Looks at everything and prints it.
pub(crate) fn run(flags: &Flags, json: bool) -> ExitCode {
    let (settings, list) = match Settings::load(flags) {
        Ok(loaded) => loaded,
        Err(error) => return process::fail("switchboard", &error),
    };
    let set = list.iter().filter(|setting| setting.origin != mesh::config::Origin::Default).count();
    let mut findings = vec![
        Finding::ok(
            "settings",
            format!("{} settings, {set} of them set here, profile {}", list.len(), profile(&settings)),
        ),
        look_at_keys(&settings.gateway.mesh),
        look_at_files(settings.gateway.gateway.serve.connections_max as u64),
    ];
    match process::block_on(look_outside(&settings)) {
        Ok(more) => findings.extend(more),
        Err(error) => return process::fail("switchboard", &error),
    }
    let healthy = findings.iter().all(|finding| finding.outcome != Outcome::Failed);
    let text = if json {
        format!("{:#}", serde_json::json!({ "healthy": healthy, "findings": findings }))
    } else {
        findings.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    drop(writeln!(std::io::stdout(), "{text}"));
    if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn line(finding: &Finding) -> String {
    let Finding { what, outcome, found, advice } = finding;
    let word = match outcome {
        Outcome::Ok => "ok",
        Outcome::Warning => "warning",
        Outcome::Failed => "FAILED",
    };
    let advice = advice.as_ref().map(|advice| format!("\n{:27}{advice}", "")).unwrap_or_default();
    format!("{word:<8} {what:<17} {found}{advice}")
}

fn profile(settings: &Settings) -> &'static str {
    match settings.gateway.mesh.profile {
        Profile::Development => "development",
        Profile::Production => "production",
    }
}

fn look_at_keys(mesh: &MeshConfig) -> Finding {
    let folder = mesh.data.join("keys");
    let (folder, all) = (folder.display(), keys::COUNT);
    match keys::look(mesh) {
        Ok(there) if !there.is_empty() => Finding::ok("keys", format!("{} of {all} are in {folder}", there.len())),
        Ok(_) if mesh.profile == Profile::Development => {
            Finding::ok("keys", format!("none in {folder} yet: they are made at the first start"))
        }
        Ok(_) => Finding::warning(
            "keys",
            format!("none in {folder}, and in production no process makes one"),
            "where a process runs, mount its keys there, or make all of them: switchboard keys init",
        ),
        Err(error) => Finding::failed("keys", error.to_string(), "a process with these keys does not start"),
    }
}

/// The limit that a process starts with is raised to the hard one, so that one counts.
fn look_at_files(connections_max: u64) -> Finding {
    let needed = connections_max + OTHER_FILES;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let found = match limit {
        Some(limit) => format!("a process may have {limit}; a full gateway needs {needed}"),
        None => format!("without a limit; a full gateway needs {needed}"),
    };
    if limit.is_none_or(|limit| limit >= needed) {
        return Finding::ok("open files", found);
    }
    let advice = "raise the hard limit (ulimit -Hn, LimitNOFILE=, ulimits:), or lower gateway.serve.connections_max";
    Finding::warning("open files", found, advice)
}

/// This command's own certificate, and those of the processes that are here.
fn look_at_certificates(mesh: &MeshConfig, own: &Result<Option<Arc<Tls>>, KeyError>) -> Vec<Finding> {
    const WHAT: &str = "certificates";
    let advice = "switchboard keys certificates makes one for each process and for the operator (docs/deploy.md)";
    match own {
        Ok(None) if mesh.profile == Profile::Production => {
            return vec![Finding::warning(
                WHAT,
                "none: calls between the processes go without TLS, and whoever reaches their ports may call",
                "set mesh.tls (docs/deploy.md)",
            )];
        }
        Ok(None) => return vec![Finding::ok(WHAT, "none, which is how a mesh on one machine runs")],
        Err(error) => return vec![Finding::failed(WHAT, error.to_string(), advice)],
        Ok(Some(_)) => {}
    }
    let names = ServiceName::ALL.map(ServiceName::as_str).into_iter().chain([OPERATOR]);
    // Where one setting names the files of all, those that are here are looked at.
    names
        .filter_map(|name| match Tls::start(name, mesh) {
            Ok(Some(tls)) => Some(expiry(name, &tls)),
            Ok(None) => None,
            Err(_) if !tls::is_here(name, &mesh.tls) => None,
            Err(error) => Some(Finding::failed(WHAT, error.to_string(), advice)),
        })
        .collect()
}

fn expiry(name: &str, tls: &Tls) -> Finding {
    const WHAT: &str = "certificates";
    let now = Millis::now().secs();
    let days = |at: Millis| (at.secs() - now).div_euclid(24 * 3_600);
    let (own, authority) = tls.expire();
    let (own, authority) = (days(own), days(authority));
    let found = format!("{name}'s is good for {own} days, its authority's for {authority}");
    let advice = "renew it: switchboard keys certificates, or whoever makes yours; processes take it up by themselves";
    match own.min(authority) {
        ..0 => Finding::failed(WHAT, found, advice),
        0..CERTIFICATE_DAYS_MIN => Finding::warning(WHAT, found, advice),
        _ => Finding::ok(WHAT, found),
    }
}

/// The certificate that the gateway shows to clients, when it has one.
fn look_at_edge(config: &EdgeTlsConfig) -> Option<Finding> {
    const WHAT: &str = "edge";
    let advice = "renew it with whoever makes yours; the gateway takes it up by itself (docs/deploy.md)";
    match EdgeTls::read(config) {
        Ok(None) => None,
        Ok(Some(tls)) => {
            let days = (tls.expires().secs() - Millis::now().secs()).div_euclid(24 * 3_600);
            let found = format!("the gateway's certificate for clients is good for {days} days");
            Some(match days {
                ..0 => Finding::failed(WHAT, found, advice),
                0..CERTIFICATE_DAYS_MIN => Finding::warning(WHAT, found, advice),
                _ => Finding::ok(WHAT, found),
            })
        }
        Err(error) => Some(Finding::failed(WHAT, error.to_string(), "the gateway does not start with it")),
    }
}

async fn look_outside(settings: &Settings) -> Vec<Finding> {
    let mesh = &settings.gateway.mesh;
    let own = Tls::start(OPERATOR, mesh);
    let certificates = look_at_certificates(mesh, &own);
    // Without a good one the services are asked all the same, and what they say to that is shown.
    let clients = Clients::connect(mesh, own.ok().flatten().as_ref());
    let (stores, redis, services, clock) = tokio::join!(
        look_at_stores(settings),
        look_at_redis(mesh),
        look_at_services(&clients),
        look_at_clock(&clients),
    );
    let edge = look_at_edge(&settings.gateway.gateway.tls);
    certificates.into_iter().chain(edge).chain(stores).chain(redis).chain(services).chain([clock]).collect()
}

async fn look_at_stores(settings: &Settings) -> Vec<Finding> {
    let Settings { auth, user, message, .. } = settings;
    let (data, auth, user, message) = (&auth.mesh.data, &auth.auth, &user.user, &message.message);
    let check = Migrations::Check;
    // One try tells; a service that starts tries for longer.
    let once = |limits: &StoreLimits| StoreLimits { start_secs: 0, ..limits.clone() };
    let (of_accounts, of_people, mut messages) = (once(&auth.store), once(&user.store), message.clone());
    (messages.postgres.start_secs, messages.mongodb.start_secs) = (0, 0);
    let files = [
        auth_svc::store::sqlite_file(&auth.store_url, data),
        user_svc::store::sqlite_file(&user.store_url, data),
        message_svc::store::sqlite_file(&message.store_url, data),
    ];
    let [of_auth, of_user, of_message] = files.map(|file| file.filter(|path| !path.exists()));
    let (auth, user, message) = tokio::join!(
        store("account store", of_auth, async {
            auth_svc::store::open(&auth.store_url, data, 1, &of_accounts, check).await.map(drop).map_err(Into::into)
        }),
        store("people's store", of_user, async {
            user_svc::store::open(&user.store_url, data, 1, &of_people, check).await.map(drop).map_err(Into::into)
        }),
        store("message store", of_message, async {
            message_svc::store::open(&messages, data, check).await.map(drop).map_err(Into::into)
        }),
    );
    vec![auth, user, message]
}

async fn store(
    what: &'static str,
    missing: Option<std::path::PathBuf>,
    open: impl Future<Output = Result<(), CommandError>>,
) -> Finding {
    if let Some(path) = missing {
        return Finding::ok(what, format!("{} is not there yet: it is made at the first start", path.display()));
    }
    match tokio::time::timeout(LIMIT, open).await {
        Ok(Ok(())) => Finding::ok(what, "it answers, and its tables are up to date"),
        Ok(Err(error)) => Finding::failed(
            what,
            error.to_string(),
            "switchboard config show says what the setting is and where it comes from",
        ),
        Err(_) => Finding::failed(what, silent(), "is its server up, and does the network let this machine there?"),
    }
}

fn silent() -> String {
    format!("no answer within {} s", LIMIT.as_secs())
}

async fn look_at_redis(mesh: &MeshConfig) -> Option<Finding> {
    if !mesh.redis_enabled {
        return None;
    }
    let advice = "all works without it, a little later between replicas and with limits for each gateway; correct REDIS_URL, or set REDIS_ENABLED=false";
    Some(match tokio::time::timeout(LIMIT, message_svc::relay::reach(mesh)).await {
        Ok(Ok(())) => Finding::ok("Redis", "it answers"),
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            Finding::warning("Redis", format!("{error}: {cause}"), advice)
        }
        Err(_) => Finding::warning("Redis", silent(), advice),
    })
}

async fn look_at_services(clients: &Clients) -> [Finding; 3] {
    let one = async |service: ServiceName, variable: &str| {
        let replicas = clients.replicas(service).expect("invariant: every service but the gateway is called");
        let asked = tokio::time::timeout(LIMIT, replicas.probe()).await;
        let problem = match asked {
            Ok(Ok(())) => return Finding::ok(service.as_str(), replicas.summary()),
            Ok(Err(problem)) => problem,
            Err(_) => silent(),
        };
        Finding::failed(service.as_str(), problem, format!("start it, or say in {variable} where it is"))
    };
    let (auth, user, message) = tokio::join!(
        one(ServiceName::Auth, "AUTH_SERVICE_URL"),
        one(ServiceName::User, "USER_SERVICE_URL"),
        one(ServiceName::Message, "MESSAGE_SERVICE_URL"),
    );
    [auth, user, message]
}

/// auth-svc says in each answer what time it is there.
async fn look_at_clock(clients: &Clients) -> Finding {
    let asked = tokio::time::timeout(LIMIT, clients.auth().get_jwks(GetJwksRequest {})).await;
    let date = match &asked {
        Ok(Ok(answer)) => answer.metadata().get("date"),
        Ok(Err(refused)) => refused.metadata().get("date"),
        Err(_) => None,
    };
    let theirs = date.and_then(|date| date.to_str().ok()).and_then(Millis::from_http_date);
    let Some(theirs) = theirs else {
        return Finding::warning("clock", "not compared: auth-svc does not answer", "look again when it does");
    };
    let skew = Millis::now().secs() - theirs.secs();
    let found = format!("{skew} s ahead of auth-svc's");
    if skew.abs() <= SKEW_SECS_MAX {
        return Finding::ok("clock", found);
    }
    Finding::failed("clock", found, "tokens are refused when clocks differ: run NTP (chrony) on both machines")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_open_files_are_told_with_what_to_do() {
        assert_eq!(look_at_files(1).outcome, Outcome::Ok);
        let few = look_at_files(u64::MAX / 2);
        assert!(few.outcome == Outcome::Warning || few.found.contains("without a limit"), "{few:?}");
    }

    #[test]
    fn keys_that_are_missing_matter_in_production_alone() {
        let data = tempfile::tempdir().expect("folder");
        let mut mesh = MeshConfig { data: data.path().to_owned(), ..MeshConfig::default() };
        assert_eq!(look_at_keys(&mesh).outcome, Outcome::Ok);
        mesh.profile = Profile::Production;
        assert_eq!(look_at_keys(&mesh).outcome, Outcome::Warning);
        assert!(!data.path().join("keys").exists(), "nothing is made");
        keys::init(data.path()).expect("made");
        assert_eq!(look_at_keys(&mesh).outcome, Outcome::Ok);
        std::fs::write(data.path().join("keys/gateway-ws.secret"), "short").expect("written");
        assert_eq!(look_at_keys(&mesh).outcome, Outcome::Failed);
    }
}
