//! The OpenAPI document against the routes that exist, its page, the browser client, the public keys.

use std::collections::BTreeSet;

use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::fixture::{Mesh, answer, eventually};

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

async fn document(mesh: &Mesh) -> Value {
    let answer = mesh.call("GET", "/api/openapi.json", &Value::Null).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["content-type"]),
        (200, &"application/json".parse().expect("value"))
    );
    answer.body
}

fn paths(document: &Value) -> impl Iterator<Item = (&String, &serde_json::Map<String, Value>)> {
    document["paths"].as_object().expect("paths").iter().map(|(path, item)| (path, item.as_object().expect("item")))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_operation_exists_and_every_method_of_a_route_is_documented() {
    let mesh = Mesh::start().await;
    let document = document(&mesh).await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut operations = 0;
    for (path, item) in paths(&document) {
        let real = path.replace("{id}", "x").replace("{userId}", "y");
        let documented: BTreeSet<_> =
            item.keys().filter(|key| METHODS.contains(&key.as_str())).map(|m| m.to_uppercase()).collect();
        operations += documented.len();
        let mut places = vec![real.clone()];
        if let Some(rest) = real.strip_prefix("/api/") {
            places.push(format!("/api/v1/{rest}"));
        }
        for place in places {
            for method in &documented {
                let answer = mesh.call(method, &place, &Value::Null).await;
                assert!(
                    !["NOT_FOUND", "METHOD_NOT_ALLOWED"].contains(&answer.body["code"].as_str().unwrap_or_default()),
                    "{method} {place} {answer:?}"
                );
            }
            // What a route allows it tells to a method that nobody has.
            let answer = mesh.call("PROPFIND", &place, &Value::Null).await;
            answer.refused(405, "METHOD_NOT_ALLOWED");
            let allowed = answer.headers["allow"].to_str().expect("text").split(',').map(str::trim);
            let allowed: BTreeSet<_> = allowed.filter(|method| *method != "HEAD").map(str::to_owned).collect();
            assert_eq!(allowed, documented, "{place}");
        }
    }
    assert_eq!(operations, CONTRACT.len());
}

/// The routes of the contract, written out once more.
const CONTRACT: [(&str, &str); 60] = [
    ("post", "/api/auth/register"),
    ("post", "/api/auth/login"),
    ("post", "/api/auth/login/mfa"),
    ("get", "/api/auth/factors"),
    ("post", "/api/auth/factors/totp"),
    ("delete", "/api/auth/factors/totp"),
    ("post", "/api/auth/factors/totp/confirm"),
    ("post", "/api/auth/factors/recovery-codes"),
    ("delete", "/api/auth/factors/devices"),
    ("post", "/api/auth/refresh"),
    ("post", "/api/auth/logout"),
    ("get", "/api/auth/ws-token"),
    ("get", "/api/auth/profile"),
    ("put", "/api/auth/profile"),
    ("put", "/api/auth/password"),
    ("post", "/api/auth/password/forgot"),
    ("post", "/api/auth/password/reset"),
    ("post", "/api/auth/email/verify"),
    ("post", "/api/auth/email/verify/resend"),
    ("post", "/api/auth/reauthenticate"),
    ("get", "/api/auth/history"),
    ("get", "/api/auth/sessions"),
    ("delete", "/api/auth/sessions"),
    ("delete", "/api/auth/sessions/{id}"),
    ("delete", "/api/auth/account"),
    ("get", "/api/auth/account/export"),
    ("get", "/api/admin/audit"),
    ("get", "/api/admin/audit/export"),
    ("get", "/api/admin/service-accounts"),
    ("post", "/api/admin/service-accounts"),
    ("get", "/api/admin/service-accounts/{id}/keys"),
    ("post", "/api/admin/service-accounts/{id}/keys"),
    ("delete", "/api/admin/api-keys/{id}"),
    ("get", "/api/admin/invitations"),
    ("post", "/api/admin/invitations"),
    ("delete", "/api/admin/invitations/{id}"),
    ("get", "/api/admin/users"),
    ("delete", "/api/admin/users/{id}"),
    ("put", "/api/admin/users/{id}/role"),
    ("post", "/api/admin/users/{id}/disable"),
    ("post", "/api/admin/users/{id}/enable"),
    ("delete", "/api/admin/users/{id}/sessions"),
    ("delete", "/api/admin/sessions"),
    ("get", "/api/users"),
    ("get", "/api/users/{id}"),
    ("get", "/.well-known/jwks.json"),
    ("get", "/api/rooms"),
    ("post", "/api/rooms"),
    ("get", "/api/rooms/public"),
    ("post", "/api/rooms/direct"),
    ("get", "/api/rooms/{id}"),
    ("patch", "/api/rooms/{id}"),
    ("delete", "/api/rooms/{id}"),
    ("post", "/api/rooms/{id}/join"),
    ("post", "/api/rooms/{id}/leave"),
    ("get", "/api/rooms/{id}/members"),
    ("post", "/api/rooms/{id}/members"),
    ("delete", "/api/rooms/{id}/members/{userId}"),
    ("get", "/api/rooms/{id}/messages"),
    ("post", "/api/rooms/{id}/messages"),
];

/// The operations that want no caller.
const ANYBODYS: [&str; 9] = [
    "register",
    "login",
    "completeLogin",
    "refresh",
    "jwks",
    "forgotPassword",
    "resetPassword",
    "verifyEmail",
    "resendVerification",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_complete() {
    let mesh = Mesh::start().await;
    let document = document(&mesh).await;
    for (method, path) in CONTRACT {
        assert!(path.ends_with("openapi.json") || document["paths"][path][method].is_object(), "{method} {path}");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in paths(&document) {
        for (method, operation) in item {
            let place = format!("{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().expect("id").to_owned()), "{place}");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{place}");
            let responses = operation["responses"].as_object().expect("responses");
            for status in ["429", "500", "503", "504"] {
                assert!(responses.contains_key(status), "{place} {status}");
            }
            assert!(responses.keys().any(|status| status.starts_with('2')), "{place}");
            let personal = !ANYBODYS.contains(&operation["operationId"].as_str().expect("id"));
            assert_eq!(operation.get("security"), personal.then_some(&json!([{"bearer": []}])), "{place}");
            assert!(!personal || responses.contains_key("401"), "{place}");
            if operation.get("requestBody").is_some() {
                assert!(["400", "413", "415"].iter().all(|status| responses.contains_key(*status)), "{place}");
            }
        }
    }
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    let text = document.to_string();
    let references = text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().expect("reference"));
    for reference in references {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    for schema in ["Message", "User"] {
        let properties = document["components"]["schemas"][schema]["properties"].as_object().expect("properties");
        let free = properties.get("metadata").or_else(|| properties.get("preferences")).expect("a free object");
        assert_eq!(free["type"], "object", "{free}");
        assert!(properties["createdAt"]["format"] == "date-time", "{properties:?}");
    }
    let error = &document["components"]["schemas"]["ErrorObject"]["properties"];
    for field in ["success", "statusCode", "code", "message", "errors", "requestId"] {
        assert!(error[field].is_object(), "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_to_try_it_comes_from_here_alone() {
    let mesh = Mesh::start().await;
    let moved = mesh.call("GET", "/docs", &Value::Null).await;
    assert_eq!((moved.status.as_u16(), &moved.headers["location"]), (308, &"/docs/".parse().expect("value")));
    let page = mesh.call("GET", "/docs/", &Value::Null).await;
    let html = page.body.as_str().expect("HTML");
    assert!(page.headers["content-type"].to_str().is_ok_and(|kind| kind.starts_with("text/html")));
    assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("<script>"), "{html}");
    for part in
        html.split(['"']).filter(|part| part.ends_with(".js") || part.ends_with(".css") || part.ends_with(".png"))
    {
        let file = mesh.call("GET", &format!("/docs/{}", part.trim_start_matches("./")), &Value::Null).await;
        assert_eq!(file.status, 200, "{part}");
    }
    let script = mesh.call("GET", "/docs/swagger-initializer.js", &Value::Null).await;
    assert!(script.body.as_str().is_some_and(|text| text.contains("/api/openapi.json")), "{script:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_sent_again_only_when_they_have_changed() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("sdk")).expect("folder");
    for (name, text) in [("index.html", "<p>one"), ("sdk/a.js", "export {}"), ("secret.js", "no"), ("sdk/x.toml", "no")]
    {
        std::fs::write(folder.path().join(name), text).expect("file");
    }
    let web_dir = folder.path().to_owned();
    let development = Mesh::start_with(|_, gateway| gateway.web_dir = web_dir).await;
    let embedded = Mesh::start().await;
    for (mesh, path, kind) in [
        (&development, "/", "text/html; charset=utf-8"),
        (&development, "/sdk/a.js", "text/javascript; charset=utf-8"),
        (&embedded, "/sdk/switchboard.js", "text/javascript; charset=utf-8"),
        (&embedded, "/app/icon.svg", "image/svg+xml; charset=utf-8"),
    ] {
        let first = mesh.call("GET", path, &Value::Null).await;
        assert_eq!((first.status.as_u16(), first.headers["content-type"].as_bytes()), (200, kind.as_bytes()), "{path}");
        assert_eq!(first.headers["cache-control"], "no-cache");
        let policy = first.headers["content-security-policy"].to_str().expect("text");
        assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
        let again = mesh.request("GET", path).header("if-none-match", first.headers["etag"].clone());
        let again = answer(again).await;
        assert_eq!((again.status.as_u16(), &again.body), (304, &json!("")));
        assert_eq!(answer(mesh.request("HEAD", path)).await.status, 200);
        mesh.call("POST", path, &Value::Null).await.refused(405, "METHOD_NOT_ALLOWED");
    }
    let old = development.call("GET", "/", &Value::Null).await.headers["etag"].clone();
    std::fs::write(folder.path().join("index.html"), "<p>two").expect("file");
    let new = answer(development.request("GET", "/").header("if-none-match", old)).await;
    assert_eq!((new.status.as_u16(), &new.body), (200, &json!("<p>two")));
    for hidden in ["/secret.js", "/sdk/x.toml", "/sdk/../secret.js", "/sdk/%2e%2e/secret.js", "/sdk/"] {
        development.call("GET", hidden, &Value::Null).await.refused(404, "NOT_FOUND");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_again_is_sent_only_what_has_changed() {
    let mesh = Mesh::start().await;
    let document = document(&mesh).await;
    let ada = mesh.person("ada").await;
    let room = mesh.room(&ada, "public").await;
    let place = |path: &str| match path {
        "/api/users" => format!("/api/users?ids={}", ada.id),
        "/api/users/{id}" => format!("/api/users/{}", ada.id),
        path => path.replace("{id}", &room),
    };
    let ask = async |place: &str, tag: &HeaderValue| {
        answer(mesh.request("GET", place).bearer_auth(&ada.token).header("if-none-match", tag)).await
    };
    let mut tagged = 0;
    for (_, path) in CONTRACT.iter().filter(|(method, _)| *method == "get") {
        let documented = document["paths"][path]["get"]["responses"]["304"].is_object();
        let once = ["/api/auth/ws-token", "/api/auth/account/export"];
        assert_eq!(documented, !path.contains("/admin/") && !once.contains(path), "{path}");
        let place = place(path);
        let first = mesh.get(&ada, &place).await;
        assert_eq!(first.headers.contains_key("etag"), documented, "{path} {first:?}");
        let cache = if path.ends_with("jwks.json") { "public, max-age=300" } else { "no-store" };
        assert_eq!(first.headers["cache-control"], cache, "{path}");
        if !documented {
            continue;
        }
        tagged += 1;
        let tag = &first.headers["etag"];
        let again = ask(&place, tag).await;
        assert_eq!((again.status.as_u16(), &again.body), (304, &json!("")), "{path}");
        assert_eq!((&again.headers["etag"], &again.headers["cache-control"]), (tag, &first.headers["cache-control"]));
        assert!(!again.headers.contains_key("content-type"), "{path} {again:?}");
        let other = ask(&place, &HeaderValue::from_static("W/\"another\"")).await;
        assert_eq!((other.status.as_u16(), &other.body), (200, &first.body), "{path}");
    }
    assert_eq!(tagged, 12);
    let messages = format!("/api/rooms/{room}/messages");
    let empty = mesh.get(&ada, &messages).await;
    let sent = mesh.by(&ada, "POST", &messages, &json!({"content": "news"})).await;
    assert!(!sent.headers.contains_key("etag"));
    let news = ask(&messages, &empty.headers["etag"]).await;
    assert_eq!((news.status.as_u16(), &news.body["messages"][0]["content"]), (200, &json!("news")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_keys_are_there_and_may_be_kept() {
    let mesh = Mesh::start().await;
    let keys = eventually(async || {
        Some(mesh.call("GET", "/.well-known/jwks.json", &Value::Null).await).filter(|answer| answer.status == 200)
    })
    .await;
    assert_eq!((&keys.body["keys"][0]["kty"], &keys.body["keys"][0]["crv"]), (&json!("OKP"), &json!("Ed25519")));
    assert!(keys.body["keys"][0].get("d").is_none());
    assert_eq!(keys.headers["cache-control"], "public, max-age=300");
    let kind = keys.headers["content-type"].to_str().expect("text");
    let documented = &document(&mesh).await["paths"]["/.well-known/jwks.json"]["get"]["responses"]["200"]["content"];
    assert_eq!(documented.as_object().expect("types").keys().collect::<Vec<_>>(), [kind]);
}
