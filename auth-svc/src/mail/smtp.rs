//! The way to a server of outgoing mail, by `lettre`. Each mail has a connection of its own: mails are few, and one that
//! hangs holds up no other. What becomes of the connection after the server has taken a mail changes nothing.

use std::{error::Error as _, time::Duration};

use async_trait::async_trait;
use lettre::{
    Address, Message,
    message::{Mailbox, MultiPart, header::HeaderName, header::HeaderValue},
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Certificate, TlsParameters},
        extension::ClientId,
        response::Severity,
    },
};
use tokio::time::timeout;

use super::{EmailConfig, Rendered, Security, Transport, TransportError};

/// How long a server may take to say goodbye; nobody waits for it any more.
const GOODBYE: Duration = Duration::from_secs(1);

/// A server of outgoing mail.
pub(super) struct Smtp {
    host: String,
    port: u16,
    security: Security,
    tls: TlsParameters,
    credentials: Option<Credentials>,
    from: Mailbox,
    hello: ClientId,
    patience: Duration,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Smtp {
    /// Reads what it needs; connects nowhere yet.
    ///
    /// # Errors
    /// One sentence about the setting that is not good.
    pub(super) fn new(config: &EmailConfig) -> Result<Self, String> {
        let mut tls = TlsParameters::builder(config.smtp_host.clone());
        if !config.smtp_ca_file.as_os_str().is_empty() {
            let shown = config.smtp_ca_file.display();
            let pem = std::fs::read(&config.smtp_ca_file)
                .map_err(|error| format!("auth.email.smtp_ca_file: {shown} cannot be read: {error}"))?;
            let trusted = Certificate::from_pem(&pem)
                .map_err(|error| format!("auth.email.smtp_ca_file: {shown} has no certificate (PEM): {error}"))?;
            tls = tls.add_root_certificate(trusted);
        }
        let (user, password) = (&config.smtp_user, &config.smtp_password);
        Ok(Self {
            host: config.smtp_host.clone(),
            port: config.port(),
            security: config.smtp_tls,
            tls: tls.build().map_err(|error| format!("auth.email.smtp_host: {error}"))?,
            credentials: (!user.is_empty())
                .then(|| Credentials::new(user.expose().to_owned(), password.expose().to_owned())),
            from: config.sender.parse().map_err(|error| format!("auth.email.sender: {error}"))?,
            hello: ClientId::default(),
            patience: config.timeout(),
        })
    }

    fn message(&self, mail: &Rendered) -> Result<Message, TransportError> {
        let to: Address = mail.to.parse().map_err(|_none| TransportError::Unaddressable)?;
        // So that no holiday notice answers it (RFC 3834).
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(&mail.subject)
            .message_id(Some(format!("<{}@{}>", mail.id, self.from.email.domain())))
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .multipart(MultiPart::alternative_plain_html(mail.text.clone(), mail.html.clone()))
            .map_err(|error| TransportError::Failed(format!("the mail cannot be put together: {error}")))
    }

    /// Until the server has said that it has the mail.
    async fn deliver(&self, message: &Message) -> Result<AsyncSmtpConnection, Error> {
        let at_once = (self.security == Security::Implicit).then(|| self.tls.clone());
        let server = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, Some(self.patience), &self.hello, at_once, None).await?;
        if self.security == Security::Starttls {
            connection.starttls(self.tls.clone(), &self.hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        connection.send(message.envelope(), &message.formatted()).await?;
        Ok(connection)
    }
}

#[async_trait]
impl Transport for Smtp {
    async fn send(&self, mail: &Rendered) -> Result<(), TransportError> {
        let message = self.message(mail)?;
        let delivered = timeout(self.patience, self.deliver(&message)).await;
        let delivered = delivered.map_err(|_late| TransportError::Failed("no answer in time".to_owned()))?;
        let mut connection = delivered.map_err(|error| judged(&error))?;
        // It is the server's now, however this ends.
        drop(timeout(GOODBYE, connection.quit()).await);
        Ok(())
    }
}

/// What a failure means. The words of a server are left out: they often repeat the address.
fn judged(error: &Error) -> TransportError {
    if let Some(code) = error.status() {
        let number = 100 * code.severity as u16 + 10 * code.category as u16 + code.detail as u16;
        // Of mailboxes and their names; what else a server refuses may be mended by whoever runs it.
        let for_good = code.severity == Severity::PermanentNegativeCompletion && [550, 551, 553].contains(&number);
        return match for_good {
            true => TransportError::Refused(number),
            false => TransportError::Failed(format!("the server answered {number}")),
        };
    }
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    if error.is_client() {
        // What the client itself finds: no STARTTLS, no way to log in, no SMTPUTF8 for an address that wants it.
        return match source.contains("SMTPUTF8") {
            true => TransportError::Unaddressable,
            false => TransportError::Failed(source),
        };
    }
    let what = if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_tls() {
        format!("no TLS: {source}")
    } else if error.is_response() {
        "the server answered what cannot be read".to_owned()
    } else {
        format!("no connection, or it broke: {source}")
    };
    TransportError::Failed(what)
}

#[cfg(test)]
mod tests {
    use mesh::time::Millis;
    use uuid::Uuid;

    use super::{super::Kind, *};

    fn mail(to: &str, subject: &str) -> Rendered {
        let (text, html) = ("Grüße\n.\nend".to_owned(), "<p>Grüße</p>".to_owned());
        let (to, subject) = (to.to_owned(), subject.to_owned());
        Rendered { id: Uuid::nil(), kind: Kind::PasswordReset, to, subject, text, html, at: Millis(0) }
    }

    fn smtp() -> Smtp {
        let config =
            EmailConfig { smtp_host: "localhost".into(), sender: "S <s@example.org>".into(), ..Default::default() };
        Smtp::new(&config).expect("good")
    }

    #[test]
    fn a_mail_has_both_parts_an_id_of_its_own_and_nothing_but_ascii() {
        let message = smtp().message(&mail("ada@example.org", "Grüße")).expect("made");
        let text = String::from_utf8(message.formatted()).expect("ASCII");
        assert!(text.is_ascii());
        for line in ["To: ada@example.org\r\n", "Auto-Submitted: auto-generated\r\n", "multipart/alternative"] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(text.contains(&format!("Message-ID: <{}@example.org>", Uuid::nil())), "{text}");
    }

    #[test]
    fn nothing_that_is_given_becomes_a_header() {
        let message = smtp().message(&mail("ada@example.org", "Hello\r\nBcc: eve@example.org")).expect("made");
        let head = String::from_utf8(message.formatted()).expect("ASCII");
        let head = head.split("\r\n\r\n").next().expect("a head");
        assert!(!head.lines().any(|line| line.to_lowercase().starts_with("bcc")), "{head}");
        assert_eq!(message.envelope().to().len(), 1);
        for bad in
            ["ada@example.org\r\nRCPT TO:<eve@example.org>", "a,b@example.org", "ada@example.org>", "ada", "a b@c"]
        {
            let refused = smtp().message(&mail(bad, "Hello")).expect_err("refused");
            assert_eq!(refused, TransportError::Unaddressable, "{bad}");
        }
    }
}
