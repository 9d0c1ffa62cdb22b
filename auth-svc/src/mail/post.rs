//! How mails leave this process, as it is set: read and judged at the start, before anything else is done.

use std::{path::Path, sync::Arc, sync::atomic::AtomicBool, time::Duration};

use axum::Router;
use mesh::config::Profile;

use super::{
    EmailConfig, MailLimits, MailTokens, Mailbox, Mailer, Rendered, Templates, Transport, TransportError, config::Way,
    smtp::Smtp,
};
use crate::store::Store;

/// The way out, and what is sent on it.
#[derive(Debug)]
pub struct Post {
    config: EmailConfig,
    limits: MailLimits,
    transport: Arc<dyn Transport>,
    mailbox: Option<Arc<Mailbox>>,
    templates: Templates,
}

/// Where no mail is sent: it is asked by nobody, since mails are dropped before.
#[derive(Debug)]
struct Nowhere;

#[async_trait::async_trait]
impl Transport for Nowhere {
    async fn send(&self, _: &Rendered) -> Result<(), TransportError> {
        Err(TransportError::Failed("no mail is sent here".to_owned()))
    }
}

impl Post {
    /// Reads certificates and templates; connects nowhere yet.
    ///
    /// # Errors
    /// One sentence about the setting that is not good.
    pub fn open(config: &EmailConfig, profile: Profile) -> Result<Self, String> {
        let way = config.way(profile)?;
        let mailbox = (way == Way::Mailbox).then(|| Arc::new(Mailbox::new(config.mailbox_max)));
        let transport: Arc<dyn Transport> = match (way, &mailbox) {
            (Way::Smtp, _) => Arc::new(Smtp::new(config)?),
            (Way::Mailbox, Some(mailbox)) => mailbox.clone(),
            (Way::Mailbox | Way::Nowhere, _) => Arc::new(Nowhere),
        };
        if way == Way::Nowhere && config.enabled {
            tracing::warn!(
                "no mail is sent: auth.email.smtp_host is not set, so nobody can reset a forgotten password or verify an address"
            );
        }
        let templates = Templates::open(Path::new(&config.templates))?;
        let limits = config.limits(way != Way::Nowhere);
        Ok(Self { config: config.clone(), limits, transport, mailbox, templates })
    }

    /// Which mails there are, and for how long.
    #[must_use]
    pub fn limits(&self) -> MailLimits {
        self.limits
    }

    /// What the operations port shows of it.
    pub fn router(&self) -> Router {
        self.mailbox.clone().map_or_else(Router::new, Mailbox::router)
    }

    /// What sends; with the secret of the data folder.
    #[must_use]
    pub fn mailer(self, store: Arc<dyn Store>, secret: &[u8; 32], poll: Duration, product: &str) -> Mailer {
        Mailer {
            store,
            transport: self.transport,
            templates: self.templates,
            tokens: MailTokens::new(secret),
            mails: self.limits,
            limits: self.config.mailer(poll),
            product: product.to_owned(),
            link_url: self.config.link_url,
            failing: AtomicBool::new(false),
        }
    }
}
