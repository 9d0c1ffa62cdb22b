//! The ticket between the two steps of a login: the password was right, the code is still to come. Nothing is stored: the
//! ticket is sealed, carries what the second step needs, and is bound to the address and device that the first step came
//! from. It may be shown again, but only with a code, and each code is good once.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mesh::{time::Millis, visit::Visit};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    account::UserId,
    error::Error,
    seal::{Purpose, Seal},
};

/// What every ticket begins with, so that scanners for leaked secrets can find one.
const PREFIX: &str = "sbm_";
/// Longer than any ticket: a device's name of 200 characters, and a hash.
const TICKET_BYTES_MAX: usize = 4096;

/// Where a step of a login comes from, as one value to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding([u8; 16]);

impl Binding {
    /// Of a call that nobody trustworthy says anything about.
    #[must_use]
    pub fn nowhere() -> Self {
        Self::of(&Visit::default())
    }

    /// The address and what the client calls itself, as a gateway saw them. An IPv6 client may change its address within
    /// its /64, so that is what counts.
    #[must_use]
    pub fn of(visit: &Visit) -> Self {
        let address = match visit.address.parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).to_string()
            }
            Ok(address @ IpAddr::V4(_)) => address.to_string(),
            Err(_) => visit.address.clone(),
        };
        let hash = fingerprint(format!("{address}\0{}", visit.device).as_bytes());
        Self(*hash.first_chunk().expect("invariant: SHA-256 has 32 bytes"))
    }
}

/// What a client gets when a second factor is asked.
#[derive(Clone)]
pub struct Challenge {
    /// The ticket.
    pub ticket: String,
    /// How long it is good.
    pub expires_in: Duration,
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenge(…)")
    }
}

/// What a ticket says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    user: Uuid,
    /// The device's name for the list of sessions.
    pub device: String,
    /// Whether it has logged in to the account before.
    #[serde(default)]
    pub known: bool,
    binding: Binding,
    /// Of the password's hash: a ticket is worth nothing once the password has changed.
    password: [u8; 32],
    /// What replaces that hash at login, when its parameters have changed.
    pub rehash: Option<String>,
    expires_at: i64,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Ticket {
    /// Whose login it is.
    #[must_use]
    pub fn user(&self) -> UserId {
        UserId(self.user)
    }

    /// Whether the password is still the one that was right.
    #[must_use]
    pub fn is_of_password(&self, hash: &str) -> bool {
        self.password == fingerprint(hash.as_bytes())
    }
}

/// Makes tickets and reads them.
#[derive(Debug)]
pub struct Tickets {
    seal: Seal,
    life: Duration,
}

impl Tickets {
    /// With the secret of the data folder.
    #[must_use]
    pub fn new(secret: &[u8; 32], life: Duration) -> Self {
        Self { seal: Seal::new(secret, Purpose::LoginTicket), life }
    }

    /// A ticket for somebody whose password was right.
    ///
    /// # Errors
    /// [`Error::Internal`] when it cannot be written.
    pub fn issue(
        &self,
        user: UserId,
        (device, known): (&str, bool),
        binding: Binding,
        password_hash: &str,
        rehash: Option<String>,
    ) -> Result<Challenge, Error> {
        let ticket = Ticket {
            user: user.0,
            device: device.to_owned(),
            known,
            binding,
            password: fingerprint(password_hash.as_bytes()),
            rehash,
            expires_at: Millis::now().plus(self.life).0,
        };
        let text = serde_json::to_vec(&ticket).map_err(Error::internal)?;
        let sealed = BASE64_URL_SAFE_NO_PAD.encode(self.seal.seal(&text, b""));
        Ok(Challenge { ticket: format!("{PREFIX}{sealed}"), expires_in: self.life })
    }

    /// What a ticket says, when it is ours, still good, and shown from where it was given to.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`], [`Error::TokenExpired`].
    pub fn read(&self, text: &str, binding: Binding) -> Result<Ticket, Error> {
        // The length is judged first, so that megabytes of garbage cost nothing.
        let encoded = text.strip_prefix(PREFIX).filter(|rest| rest.len() <= TICKET_BYTES_MAX);
        let sealed = encoded.and_then(|encoded| BASE64_URL_SAFE_NO_PAD.decode(encoded).ok());
        let opened = sealed.and_then(|sealed| self.seal.open(&sealed, b"")).ok_or(Error::TokenInvalid)?;
        let ticket: Ticket = serde_json::from_slice(&opened).map_err(Error::internal)?;
        if ticket.binding != binding {
            return Err(Error::TokenInvalid);
        }
        if ticket.expires_at <= Millis::now().0 { Err(Error::TokenExpired) } else { Ok(ticket) }
    }
}

fn fingerprint(text: &[u8]) -> [u8; 32] {
    let hash = digest::digest(&digest::SHA256, text);
    hash.as_ref().try_into().expect("invariant: SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(address: &str, device: &str) -> Binding {
        Binding::of(&Visit { address: address.into(), device: device.into(), request_id: String::new() })
    }

    #[test]
    fn a_ticket_reads_back_where_it_was_given_to_and_nowhere_else() {
        let tickets = Tickets::new(&[7; 32], Duration::from_mins(5));
        let (user, here) = (UserId(Uuid::now_v7()), binding("192.0.2.1", "a phone"));
        let given = tickets.issue(user, ("Ada's phone", true), here, "hash-1", Some("hash-2".into())).expect("made");
        let ticket = tickets.read(&given.ticket, here).expect("good");
        assert_eq!(
            (ticket.user(), ticket.device.as_str(), ticket.rehash.as_deref()),
            (user, "Ada's phone", Some("hash-2"))
        );
        assert!(ticket.known && ticket.is_of_password("hash-1") && !ticket.is_of_password("hash-2"));
        for elsewhere in [binding("192.0.2.2", "a phone"), binding("192.0.2.1", "another"), binding("", "")] {
            assert!(matches!(tickets.read(&given.ticket, elsewhere), Err(Error::TokenInvalid)));
        }
        let cut = &given.ticket[..given.ticket.len() - 1];
        let foreign =
            Tickets::new(&[8; 32], Duration::from_mins(5)).issue(user, ("", false), here, "", None).expect("made");
        for bad in ["", "sbm_", "sbm_AAAA", &given.ticket[4..], cut, &foreign.ticket, &"sbm_A".repeat(100_000)] {
            assert!(matches!(tickets.read(bad, here), Err(Error::TokenInvalid)), "{bad:.40}");
        }
    }

    #[test]
    fn a_ticket_expires() {
        let tickets = Tickets::new(&[7; 32], Duration::ZERO);
        let here = binding("::1", "");
        let given = tickets.issue(UserId(Uuid::now_v7()), ("", false), here, "hash-1", None).expect("made");
        assert!(matches!(tickets.read(&given.ticket, here), Err(Error::TokenExpired)));
    }

    #[test]
    fn an_ipv6_client_may_change_its_address_within_its_network() {
        assert_eq!(binding("2001:db8::1", "x"), binding("2001:db8::ffff", "x"));
        assert_ne!(binding("2001:db8::1", "x"), binding("2001:db8:0:1::1", "x"));
        assert_eq!(binding("::ffff:192.0.2.1", "x"), binding("192.0.2.1", "x"));
    }
}
