//! What takes a mail that is ready: a server, or a mailbox in memory.

use async_trait::async_trait;
use mesh::time::Millis;
use uuid::Uuid;

use super::Kind;

/// A mail that is ready.
#[derive(Clone)]
pub struct Rendered {
    /// The mail's id; of two with the same one the second is a repetition.
    pub id: Uuid,
    /// What it is about.
    pub kind: Kind,
    /// The address.
    pub to: String,
    /// One line.
    pub subject: String,
    /// The text for those who read no HTML.
    pub text: String,
    /// The same as HTML.
    pub html: String,
    /// When it was made.
    pub at: Millis,
}

/// Neither an address nor a token belongs into a log.
impl std::fmt::Debug for Rendered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rendered").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Why a mail was not taken. What is displayed has no address in it: what a server says often has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No mail can go to such an address from here.
    #[error("the address is none that mail can be sent to")]
    Unaddressable,
    /// The server will not take it, also not later.
    #[error("the server refused the mail or its recipient with {0}")]
    Refused(u16),
    /// It may be taken later.
    #[error("{0}")]
    Failed(String),
}

/// What takes mails.
#[async_trait]
pub trait Transport: Send + Sync + std::fmt::Debug + 'static {
    /// Hands a mail over. When it fails, it may have been taken all the same.
    async fn send(&self, mail: &Rendered) -> Result<(), TransportError>;
}
