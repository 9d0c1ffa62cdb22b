//! What every request meets, whatever its route: ids, headers, origins, limits, the ops port, the stop.

use mesh::config::Profile;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::fixture::{Mesh, answer, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_bears_an_id_which_the_caller_may_choose() {
    let mesh = Mesh::start().await;
    let id = async |path: &str, given: &str| {
        let answer = answer(mesh.request("GET", path).header("x-request-id", given)).await;
        answer.headers["x-request-id"].to_str().expect("text").to_owned()
    };
    for path in ["/", "/api/nothing", "/api/auth/profile", "/api/openapi.json", "/docs/"] {
        assert_eq!(id(path, "Abc-1_2.3").await, "Abc-1_2.3", "{path}");
        for strange in ["", "a b", "<script>", &"x".repeat(65)] {
            let made = id(path, strange).await;
            assert_eq!(made.len(), 36, "{path}: {made}");
        }
    }
    assert_ne!(id("/", "").await, id("/", "").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_and_no_method_are_error_objects_too() {
    let mesh = Mesh::start().await;
    for path in [
        "/nothing",
        "/api",
        "/api/",
        "/api/nothing",
        "/api/v2/rooms",
        "/api/v1/nothing",
        "/docs/nothing",
        "/package.json",
        "/node_modules/typescript/package.json",
        "/sdk/../package.json",
        "/tests/outbox.test.js",
        "//etc/passwd",
        "/.git/HEAD",
    ] {
        mesh.call("GET", path, &Value::Null).await.refused(404, "NOT_FOUND");
    }
    for (method, path, allow) in [
        ("GET", "/api/auth/login", "POST"),
        ("POST", "/api/v1/auth/profile", "GET,HEAD,PUT"),
        ("PUT", "/api/rooms", "GET,HEAD,POST"),
        ("POST", "/.well-known/jwks.json", "GET,HEAD"),
        ("POST", "/docs/", "GET,HEAD"),
        ("TRACE", "/api/rooms", "GET,HEAD,POST"),
        ("TRACE", "/", "GET,HEAD"),
    ] {
        let answer = mesh.call(method, path, &Value::Null).await;
        answer.refused(405, "METHOD_NOT_ALLOWED");
        let mut allowed: Vec<_> = answer.headers["allow"].to_str().expect("text").split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed.join(","), allow, "{method} {path}");
    }
    let long = format!("/api/users?ids={}", "x".repeat(9_000));
    mesh.call("GET", &long, &Value::Null).await.refused(413, "PAYLOAD_TOO_LARGE");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_tell_browsers_what_they_may_do() {
    let mesh = Mesh::start_with(|_, gateway| gateway.trusted_proxies = vec!["127.0.0.1".into()]).await;
    let headers = async |path: &str| answer(mesh.request("GET", path)).await.headers;
    for path in ["/api/nothing", "/api/auth/profile", "/api/openapi.json", "/docs/", "/"] {
        let headers = headers(path).await;
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["x-frame-options"], "DENY");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        let policy = headers["content-security-policy"].to_str().expect("text");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("script-src"), "{policy}");
        assert!(policy.contains("base-uri 'none'"), "{policy}");
        assert!(policy.contains("object-src 'none'") || policy.contains("default-src 'none'"), "{policy}");
        assert!(!headers.contains_key("strict-transport-security"));
    }
    for path in ["/api/nothing", "/api/auth/profile", "/nothing", "/docs/nothing"] {
        assert_eq!(headers(path).await["cache-control"], "no-store", "{path}");
    }
    let behind_tls = answer(mesh.request("GET", "/").header("x-forwarded-proto", "https")).await;
    assert_eq!(behind_tls.headers["strict-transport-security"], "max-age=31536000; includeSubDomains");
}

fn origin_of(headers: &HeaderMap) -> Option<&str> {
    headers.get("access-control-allow-origin").map(|value| value.to_str().expect("text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_origins_and_this_machine_in_development_may_call() {
    let development =
        Mesh::start_with(|_, gateway| gateway.cors_origins = vec!["https://app.example.com".into()]).await;
    let production = Mesh::start_with(|mesh, gateway| {
        mesh.profile = Profile::Production;
        gateway.cors_origins = vec!["https://app.example.com".into()];
    })
    .await;
    for (origin, in_development, in_production) in [
        ("https://app.example.com", true, true),
        ("http://localhost:5173", true, false),
        ("https://127.0.0.1:8443", true, false),
        ("http://[::1]:3000", true, false),
        ("https://app.example.com.evil.example", false, false),
        ("http://app.example.com", false, false),
        ("null", false, false),
    ] {
        for (mesh, allowed) in [(&development, in_development), (&production, in_production)] {
            let plain = answer(mesh.request("GET", "/api/nothing").header("origin", origin)).await;
            assert_eq!(origin_of(&plain.headers), allowed.then_some(origin), "{origin}");
            let preflight = mesh.request("OPTIONS", "/api/rooms").header("origin", origin);
            let preflight = preflight.header("access-control-request-method", "POST");
            let preflight =
                answer(preflight.header("access-control-request-headers", "authorization,content-type")).await;
            assert_eq!(preflight.status, 200);
            assert_eq!(origin_of(&preflight.headers), allowed.then_some(origin), "{origin}");
        }
    }
    let answer = answer(development.request("GET", "/api/nothing").header("origin", "http://localhost:1")).await;
    let exposed = answer.headers["access-control-expose-headers"].to_str().expect("text").to_owned();
    for header in ["x-request-id", "retry-after", "ratelimit", "ratelimit-policy"] {
        assert!(exposed.split(',').any(|one| one.trim() == header), "{header}: {exposed}");
    }
    assert!(
        answer.headers.get_all("vary").iter().any(|value| value.to_str().is_ok_and(|text| text.contains("origin")))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_a_session_is_the_clients_and_not_what_it_claims() {
    let mesh = Mesh::start().await;
    let ada = mesh.person("ada").await;
    let login = mesh.request("POST", "/api/auth/login").header("x-forwarded-for", "6.6.6.6");
    answer(login.json(&json!({"username": "ada", "password": crate::fixture::PASSWORD}))).await.good(200);
    let sessions = mesh.get(&ada, "/api/auth/sessions").await;
    let addresses: Vec<_> =
        sessions.body["sessions"].as_array().expect("list").iter().map(|s| s["ipAddress"].clone()).collect();
    assert_eq!(addresses, ["127.0.0.1", "127.0.0.1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_compressed_for_those_who_ask() {
    let mesh = Mesh::start().await;
    let raw = async |encoding: &str| {
        answer(mesh.request("GET", "/api/openapi.json").header("accept-encoding", encoding)).await.headers
    };
    for encoding in ["gzip", "br", "zstd"] {
        assert_eq!(raw(encoding).await["content-encoding"], encoding);
    }
    assert!(!raw("identity").await.contains_key("content-encoding"));
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_each_service_and_the_stop_is_in_order() {
    let mesh = Mesh::start().await;
    let ops = async |path: &str| answer(mesh.http.get(format!("{}{path}", mesh.ops_url))).await;
    let ready = eventually(async || Some(ops("/ready").await).filter(|answer| answer.status == 200)).await;
    for service in ["auth-svc", "user-svc", "message-svc"] {
        assert_eq!(ready.body["checks"][service]["status"], "ok", "{ready:?}");
    }
    assert_eq!(ops("/health").await.body["service"], "gateway");
    mesh.call("GET", "/api/nothing", &Value::Null).await;
    let metrics = ops("/metrics").await.body;
    assert!(metrics.as_str().is_some_and(|text| text.contains("http_server_request_duration_seconds")), "{metrics}");
    mesh.stop.cancel();
    mesh.served.await.expect("no panic").expect("in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_is_unavailable_and_readiness_says_which() {
    let mesh = Mesh::start_with(|mesh, _| mesh.message_url = "http://127.0.0.1:9".into()).await;
    let ada = mesh.person("ada").await;
    mesh.get(&ada, "/api/rooms").await.refused(503, "UNAVAILABLE");
    mesh.get(&ada, "/api/auth/profile").await.good(200);
    let ready = answer(mesh.http.get(format!("{}/ready", mesh.ops_url))).await;
    assert_eq!((ready.status.as_u16(), &ready.body["checks"]["message-svc"]["status"]), (503, &json!("failed")));
}
