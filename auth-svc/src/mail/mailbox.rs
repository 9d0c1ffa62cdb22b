//! The mailbox of a developer: what would have been sent, at the operations port (`/mailbox`), as a page for a browser and as
//! JSON for everything else. It is there in development alone, and only while no server of outgoing mail is set: it shows
//! the tokens of links to whoever may open the port.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
    routing::get,
};
use serde::Serialize;
use serde_json::json;

use super::{Rendered, Transport, TransportError, template::escaped};

/// The mails of this process, in memory; the oldest makes room.
#[derive(Debug)]
pub struct Mailbox {
    mails: Mutex<VecDeque<Rendered>>,
    mails_max: usize,
}

/// A mail as the page has it.
#[derive(Serialize)]
struct Shown<'a> {
    id: String,
    time: String,
    kind: &'static str,
    to: &'a str,
    subject: &'a str,
    text: &'a str,
    html: &'a str,
}

impl<'a> From<&'a Rendered> for Shown<'a> {
    fn from(mail: &'a Rendered) -> Self {
        Self {
            id: mail.id.to_string(),
            time: mail.at.to_rfc3339(),
            kind: mail.kind.as_str(),
            to: &mail.to,
            subject: &mail.subject,
            text: &mail.text,
            html: &mail.html,
        }
    }
}

impl Mailbox {
    /// An empty one for so many mails.
    #[must_use]
    pub fn new(mails_max: u32) -> Self {
        Self { mails: Mutex::default(), mails_max: mails_max as usize }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Rendered>> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().route("/mailbox", get(page)).with_state(self)
    }
}

#[async_trait]
impl Transport for Mailbox {
    async fn send(&self, mail: &Rendered) -> Result<(), TransportError> {
        let mut mails = self.lock();
        // The newest first.
        mails.push_front(mail.clone());
        mails.truncate(self.mails_max);
        Ok(())
    }
}

async fn page(State(mailbox): State<Arc<Mailbox>>, headers: HeaderMap) -> Response {
    let text =
        |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok()).unwrap_or_default();
    if !is_of_this_machine(text(header::HOST)) {
        // A page on the Internet whose name leads here (DNS rebinding) reads nobody's mail.
        let sentence = "The mailbox answers to an address or to localhost, not to another name.\n";
        return (StatusCode::FORBIDDEN, sentence).into_response();
    }
    let mails = mailbox.lock();
    let secured = [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    if text(header::ACCEPT).contains("text/html") {
        return (secured, Html(html(mails.iter()))).into_response();
    }
    let shown: Vec<_> = mails.iter().map(Shown::from).collect();
    (secured, Json(json!({ "mails": shown }))).into_response()
}

/// Whether a `Host` is an address or this machine's own name.
fn is_of_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn html<'a>(mails: impl Iterator<Item = &'a Rendered>) -> String {
    let mut list = String::new();
    for mail in mails {
        let Shown { time, kind, to, subject, text, .. } = Shown::from(mail);
        let [to, subject] = [to, subject].map(escaped);
        let lines: Vec<_> = text.lines().map(line).collect();
        list += &format!(
            "<article><h2>{subject}</h2><p>{time} · {kind} · to {to}</p><pre>{}</pre></article>\n",
            lines.join("\n")
        );
    }
    if list.is_empty() {
        list.push_str("<p>No mail yet.</p>");
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Mailbox</title>\n\
         <style>body{{font:1rem/1.5 system-ui;max-width:50rem;margin:2rem auto;padding:0 1rem}}\
         pre{{white-space:pre-wrap;overflow-wrap:anywhere}}article{{border-top:1px solid}}</style></head>\n\
         <body><h1>Mailbox</h1><p>What would have been sent. It is kept in memory, and is here in development alone.</p>\n\
         {list}</body></html>\n"
    )
}

/// A line of a mail; one that is a link leads there.
fn line(text: &str) -> String {
    let shown = escaped(text);
    let is_link = text.starts_with("http://") || text.starts_with("https://");
    if is_link { format!("<a href=\"{shown}\" rel=\"noreferrer\">{shown}</a>") } else { shown }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use mesh::time::Millis;
    use serde_json::Value;
    use tower::ServiceExt as _;
    use uuid::Uuid;

    use super::{super::Kind, *};

    fn mail(number: u8) -> Rendered {
        Rendered {
            id: Uuid::from_u128(number.into()),
            kind: Kind::PasswordReset,
            to: "ada@example.org".into(),
            subject: format!("<b>{number}"),
            text: "Hello <b>\nhttp://localhost:3000/#reset-password=sbl_\"x\n".into(),
            html: "<p>Hello</p>".into(),
            at: Millis(0),
        }
    }

    async fn get(mailbox: &Arc<Mailbox>, host: &str, accept: &str) -> (StatusCode, String) {
        let request = axum::http::Request::get("/mailbox").header(header::HOST, host).header(header::ACCEPT, accept);
        let request = request.body(Body::empty()).expect("a request");
        let answer = Arc::clone(mailbox).router().oneshot(request).await.expect("an answer");
        let (status, body) = (answer.status(), to_bytes(answer.into_body(), 1 << 20).await.expect("a body"));
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    #[tokio::test]
    async fn the_newest_mails_are_shown_as_json_and_as_a_page_and_the_oldest_make_room() {
        let mailbox = Arc::new(Mailbox::new(2));
        for number in 1..=3 {
            mailbox.send(&mail(number)).await.expect("kept");
        }
        let (status, body) = get(&mailbox, "127.0.0.1:3002", "*/*").await;
        assert_eq!(status, StatusCode::OK);
        let body: Value = serde_json::from_str(&body).expect("JSON");
        let subjects: Vec<_> = body["mails"].as_array().expect("mails").iter().map(|mail| &mail["subject"]).collect();
        assert_eq!(subjects, ["<b>3", "<b>2"]);
        let (_, page) = get(&mailbox, "localhost:3002", "text/html,*/*").await;
        assert!(page.contains("&lt;b&gt;3") && !page.contains("<b>"), "{page}");
        assert!(page.contains("<a href=\"http://localhost:3000/#reset-password=sbl_&quot;x\""), "{page}");
    }

    #[tokio::test]
    async fn a_page_whose_name_leads_here_reads_nothing() {
        let mailbox = Arc::new(Mailbox::new(2));
        mailbox.send(&mail(1)).await.expect("kept");
        for host in ["evil.example.org", "localhost.evil.example.org:3002", ""] {
            let (status, body) = get(&mailbox, host, "*/*").await;
            assert_eq!(status, StatusCode::FORBIDDEN);
            assert!(!body.contains("sbl_"));
        }
        assert_eq!(get(&mailbox, "[::1]:3002", "*/*").await.0, StatusCode::OK);
    }
}
