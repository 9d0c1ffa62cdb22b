//! REST as a client speaks it: calls, answers, and people with an account. It judges the shape of every refusal, since
//! that is the same for all.

use reqwest::{Client, Method, header::HeaderMap};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    mesh::Mesh,
    rpc::Rpc,
    socketio::{Refused, Socket},
    wait,
};

/// The password of everybody.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// The public address with a prefix: `/api` or `/api/v1`.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) url: String,
    prefix: &'static str,
    client: Client,
}

/// An answer with its body read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Api {
    pub(crate) fn new(mesh: &Mesh) -> Self {
        // A connection for each call: one that was kept may be to a process that has been killed since.
        let client = Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(wait::LIMIT);
        let client = client.build().expect("a client");
        Self { url: mesh.url(), prefix: "/api", client }
    }

    /// At this address, by a client of one's own.
    pub(crate) fn by(url: &str, client: Client) -> Self {
        Self { url: url.to_owned(), prefix: "/api", client }
    }

    /// The same at another address.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// The same under `/api/v1`.
    pub(crate) fn v1(&self) -> Self {
        Self { prefix: "/api/v1", ..self.clone() }
    }

    /// A request to a path under the prefix, for what [`Api::call`] cannot say.
    pub(crate) fn request(&self, method: Method, path: &str, token: Option<&str>) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{}{path}", self.url, self.prefix));
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// A request to a path of the whole address.
    pub(crate) fn outside(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// A call with an optional body.
    pub(crate) async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        self.try_call(method, path, token, body).await.expect("an answer")
    }

    /// Like [`Api::call`] where nobody may be there to answer.
    pub(crate) async fn try_call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.request(method, path, token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::read(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, None, Some(body)).await
    }
}

impl Answer {
    /// Sends a request and reads the answer.
    pub(crate) async fn read(request: reqwest::RequestBuilder) -> Result<Self, reqwest::Error> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Self { status, headers, body, text })
    }

    /// The body of an answer that must be good.
    #[track_caller]
    pub(crate) fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.body["success"], true, "{}", self.text);
        assert!(self.headers.contains_key("x-request-id"), "an answer without x-request-id: {}", self.text);
        self.body
    }

    /// The body of an answer that must refuse with this status and code, in the one shape that refusals have.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}", self.text);
        let request_id = self.headers.get("x-request-id").and_then(|value| value.to_str().ok());
        assert_eq!(self.body["requestId"].as_str(), request_id, "{}", self.text);
        check_refusal(&self.body, status, code);
        self.body
    }

    /// Like [`Answer::refused`] with `VALIDATION_FAILED`, naming this field and saying this (a limit, mostly).
    #[track_caller]
    pub(crate) fn invalid(self, field: &str, says: &str) -> Value {
        let body = self.refused(400, "VALIDATION_FAILED");
        check_field(&body, field, says);
        body
    }
}

/// Whether a refusal's errors name a field and say something about it. Numbers are compared without separators.
#[track_caller]
pub(crate) fn check_field(body: &Value, field: &str, says: &str) {
    let errors = body["errors"].as_array().unwrap_or_else(|| panic!("no errors: {body}"));
    let found = errors.iter().any(|error| {
        error["field"] == field && error["message"].as_str().is_some_and(|text| text.replace(',', "").contains(says))
    });
    assert!(found, "no error of {field} that says {says:?}: {body}");
}

/// The shape of every refusal, over REST and in acks alike.
#[track_caller]
pub(crate) fn check_refusal(body: &Value, status: u16, code: &str) {
    assert_eq!(body["success"], false, "{body}");
    assert_eq!(body["statusCode"], status, "{body}");
    assert_eq!(body["code"], code, "{body}");
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert!(body["errors"].is_null() || body["errors"].is_array(), "{body}");
    assert!(body["requestId"].as_str().is_some_and(|id| !id.is_empty()), "{body}");
}

/// A person with an account and a session.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) api: Api,
    pub(crate) id: String,
    pub(crate) username: String,
    pub(crate) email: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

/// A name that nobody else has.
pub(crate) fn unique(stem: &str) -> String {
    let random = Uuid::new_v4().simple().to_string();
    format!("{stem}_{}", &random[..12])
}

impl Person {
    /// Registers somebody new whose name begins like this.
    pub(crate) async fn register(api: &Api, stem: &str) -> Self {
        let username = unique(stem);
        let email = format!("{username}@example.com");
        let body = json!({"username": username, "email": email, "password": PASSWORD});
        let body = api.post("/auth/register", body).await.ok(201);
        Self::from_answer(api, &body)
    }

    /// Somebody new on this mesh.
    pub(crate) async fn new(mesh: &Mesh, stem: &str) -> Self {
        Self::register(&Api::new(mesh), stem).await
    }

    /// A second session of the same person.
    pub(crate) async fn login(&self) -> Self {
        let body = json!({"username": self.username, "password": PASSWORD});
        let body = self.api.post("/auth/login", body).await.ok(200);
        Self::from_answer(&self.api, &body)
    }

    /// From the answer to a registration or a login.
    pub(crate) fn from_answer(api: &Api, body: &Value) -> Self {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        Self {
            api: api.clone(),
            id: text(&body["user"]["id"]),
            username: text(&body["user"]["username"]),
            email: text(&body["user"]["email"]),
            access: text(&body["accessToken"]),
            refresh: text(&body["refreshToken"]),
        }
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.api.call(method, path, Some(&self.access), body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None).await
    }

    /// A new room of this type, by its id.
    pub(crate) async fn room(&self, room_type: &str) -> String {
        let body = json!({"name": unique("room"), "roomType": room_type});
        let body = self.post("/rooms", body).await.ok(201);
        body["room"]["id"].as_str().expect("a room id").to_owned()
    }

    /// Joins a public room.
    pub(crate) async fn join(&self, room: &str) {
        self.call(Method::POST, &format!("/rooms/{room}/join"), None).await.ok(200);
    }

    /// Sends a message and gives it as it was stored.
    pub(crate) async fn send(&self, room: &str, content: &str) -> Value {
        let mut body = self.post(&format!("/rooms/{room}/messages"), json!({"content": content})).await.ok(201);
        body["data"].take()
    }

    /// All messages of a room, from the first on, read in windows.
    pub(crate) async fn history(&self, room: &str) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        let mut after = 0;
        loop {
            let mut body = self.get(&format!("/rooms/{room}/messages?after={after}&limit=100")).await.ok(200);
            let Value::Array(page) = body["messages"].take() else { panic!("no messages: {body}") };
            let Some(last) = page.last() else { return all };
            after = last["seq"].as_i64().expect("a seq");
            all.extend(page);
        }
    }

    /// A fresh token for one connection.
    pub(crate) async fn ws_token(&self) -> String {
        let body = self.get("/auth/ws-token").await.ok(200);
        body["token"].as_str().expect("a token").to_owned()
    }

    /// Connects.
    pub(crate) async fn socket(&self) -> Socket {
        self.socket_with(json!({})).await.expect("the connection is taken")
    }

    /// Connects with more beside the token in `auth`.
    pub(crate) async fn socket_with(&self, mut auth: Value) -> Result<Socket, Refused> {
        auth["token"] = self.ws_token().await.into();
        Socket::connect(&self.api.url, auth).await
    }

    /// The gRPC services with this person's token.
    pub(crate) fn rpc(&self, mesh: &Mesh) -> Rpc {
        Rpc::new(mesh, Some(&self.access))
    }
}
