//! How often an address and an account may call: each limit reached, its neighbours unharmed, and what an answer says of it.
//! What gateways share is in the end-to-end tests.

use mesh::{
    config::Profile,
    proto::message::v1::{ListRoomsRequest, message_service_client::MessageServiceClient},
};
use reqwest::RequestBuilder;
use serde_json::json;
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::fixture::{Answer, Mesh, answer};

/// What a header says.
fn said<'a>(answer: &'a Answer, header: &str) -> &'a str {
    answer.headers.get(header).unwrap_or_else(|| panic!("no {header}: {answer:?}")).to_str().expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_calls_are_refused_with_a_time_to_wait() {
    let mesh = Mesh::start_with(|_, gateway| {
        gateway.trusted_proxies = vec!["127.0.0.0/8".into()];
        gateway.rates.rest_address = gateway::Rate::new(5, 1);
        gateway.rates.auth_address = gateway::Rate::new(3, 1);
        gateway.rates.rest_account = gateway::Rate::new(12, 1);
    })
    .await;
    let limited = |answer: &Answer| {
        answer.refused(429, "RATE_LIMITED");
        let wait: u64 = answer.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
        assert!((1..=60).contains(&wait), "{wait}");
        assert_eq!(answer.body["retryAfter"], wait);
        assert!(said(answer, "ratelimit").ends_with(&format!(";r=0;t={wait}")), "{answer:?}");
    };
    let from = |request: RequestBuilder, address: &str| answer(request.header("x-forwarded-for", address.to_owned()));
    // Loopback is exempt in development.
    let ada = mesh.person("ada").await;
    for _ in 0..20 {
        let answer = mesh.get(&ada, "/api/rooms").await;
        answer.good(200);
        assert!(!answer.headers.contains_key("ratelimit") && !answer.headers.contains_key("ratelimit-policy"));
    }
    // An address, whoever it is; another one is another one.
    for left in (0..5).rev() {
        let answer = from(mesh.request("GET", "/api/rooms"), "192.0.2.1").await;
        answer.refused(401, "UNAUTHORIZED");
        assert_eq!(said(&answer, "ratelimit-policy"), "\"rest_address\";q=5;w=300");
        assert!(said(&answer, "ratelimit").starts_with(&format!("\"rest_address\";r={left};t=")), "{answer:?}");
    }
    limited(&from(mesh.request("GET", "/api/rooms"), "192.0.2.1").await);
    from(mesh.request("GET", "/api/rooms"), "192.0.2.2").await.refused(401, "UNAUTHORIZED");
    // The class of passwords is counted by itself; what guessing at one name costs is tested in `limit/guess.rs`.
    let login = |name: &str| mesh.request("POST", "/api/auth/login").json(&json!({"username": name, "password": "x"}));
    for (address, name, over) in [
        ("192.0.2.1", "a", false),
        ("192.0.2.1", "b", false),
        ("192.0.2.1", "c", false),
        ("192.0.2.1", "d", true),
        ("192.0.2.3", "d", false),
    ] {
        let answer = from(login(name), address).await;
        if over {
            limited(&answer);
        } else {
            answer.refused(401, "INVALID_CREDENTIALS");
        }
    }
    // An account, over all its addresses.
    for number in 0..12 {
        let request = mesh.request("GET", "/api/rooms").bearer_auth(&ada.token);
        let answer = from(request, &format!("198.51.100.{number}")).await;
        answer.good(200);
        assert_eq!(said(&answer, "ratelimit-policy"), "\"rest_address\";q=5;w=300, \"rest_account\";q=12;w=720");
        assert!(said(&answer, "ratelimit").contains(&format!(", \"rest_account\";r={};t=", 11 - number)), "{answer:?}");
    }
    limited(&from(mesh.request("GET", "/api/rooms").bearer_auth(&ada.token), "198.51.100.99").await);
}

/// Asks message-svc itself for somebody's rooms.
async fn rooms(service: &mut MessageServiceClient<Channel>, token: Option<&str>) -> Result<(), Status> {
    let mut request = Request::new(ListRoomsRequest::default());
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("header"));
    }
    service.list_rooms(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_a_service_past_the_gateway_too_often_is_told_when_to_come_back_and_nobody_else() {
    let mesh = Mesh::start_with(|mesh, _| {
        // In production this machine's own address is one as any other.
        mesh.profile = Profile::Production;
        mesh.grpc.direct.account = mesh::limit::Rate::new(20, 1);
        mesh.grpc.direct.address = mesh::limit::Rate::new(10, 1);
    })
    .await;
    let (ada, bob) = (mesh.person("ada").await, mesh.person("bob").await);
    let channel = Channel::from_shared(mesh.message_url.clone()).expect("a URL").connect_lazy();
    let mut service = MessageServiceClient::new(channel);
    let mut limited_after = async |token: Option<&str>, otherwise: Code| {
        for number in 0..100 {
            let code = match rooms(&mut service, token).await {
                Ok(()) => Code::Ok,
                Err(status) if status.code() == Code::ResourceExhausted => {
                    let wait = status.get_details_retry_info().expect("a time to wait").retry_delay;
                    assert!(wait.is_some_and(|wait| (1..=60).contains(&wait.as_secs())), "{wait:?}");
                    assert_eq!(status.get_details_error_info().expect("a reason").reason, "RATE_LIMITED");
                    return number;
                }
                Err(status) => status.code(),
            };
            assert_eq!(code, otherwise);
        }
        panic!("nothing limits it");
    };
    assert_eq!(limited_after(Some(&ada.token), Code::Ok).await, 20);
    // Strangers and bad tokens are one address, which those with a good token are no part of.
    assert_eq!(limited_after(None, Code::Unauthenticated).await, 10);
    assert_eq!(limited_after(Some("none"), Code::Unauthenticated).await, 0);
    assert_eq!(limited_after(Some(&bob.token), Code::Ok).await, 20);
    // What a gateway asks in its own name is not counted: each of these is a call to auth-svc.
    for _ in 0..30 {
        let refresh = json!({"refreshToken": ada.refresh_token});
        mesh.call("POST", "/api/auth/refresh", &refresh).await.good(200);
    }
}
