//! Where a call comes from at the edge: the client's address, what it calls itself, and the id of its request. A gateway
//! writes it into a call's metadata; a service reads it, for its records alone. Only a gateway's word counts for address
//! and device, also when it speaks for a user; an id of a request is taken from everyone, when it is harmless.

use tonic::{
    Request,
    metadata::{MetadataMap, MetadataValue},
};

use crate::identity::{Caller, ServiceName, UserCaller};

const ADDRESS: &str = "x-client-address";
const DEVICE: &str = "x-client-device";
const REQUEST_ID: &str = "x-request-id";
/// The longest id of a request that is taken from a caller.
const ID_BYTES_MAX: usize = 64;

/// Where a call comes from; empty where nobody trustworthy says.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Visit {
    /// The client's address.
    pub address: String,
    /// What the client calls itself. On its way it is ASCII; anything else becomes `?`.
    pub device: String,
    /// The id of the request that led to the call.
    pub request_id: String,
}

/// Addresses do not belong into a log, so debug output has none.
impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visit").field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

impl Visit {
    /// Writes it into a call's metadata.
    pub fn stamp<T>(&self, request: &mut Request<T>) {
        let metadata = request.metadata_mut();
        for (name, text) in [(ADDRESS, &self.address), (DEVICE, &self.device), (REQUEST_ID, &self.request_id)] {
            let plain: String = text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
            if let Ok(mut value) = plain.parse::<MetadataValue<_>>()
                && !plain.is_empty()
            {
                value.set_sensitive(true);
                metadata.insert(name, value);
            }
        }
    }

    /// Reads it from a call whose caller has been verified.
    #[must_use]
    pub fn of<T>(request: &Request<T>) -> Self {
        let text = |name| text(request.metadata(), name);
        let request_id = text(REQUEST_ID);
        let request_id = if is_harmless(&request_id) { request_id } else { String::new() };
        let trusted = matches!(
            request.extensions().get::<Caller>(),
            Some(
                Caller::Service(ServiceName::Gateway)
                    | Caller::User(UserCaller { via: Some(ServiceName::Gateway), .. })
            )
        );
        if trusted {
            Self { address: text(ADDRESS), device: text(DEVICE), request_id }
        } else {
            Self { request_id, ..Self::default() }
        }
    }
}

fn text(metadata: &MetadataMap, name: &str) -> String {
    metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn is_harmless(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(caller: Option<Caller>, visit: &Visit) -> Visit {
        let mut request = Request::new(());
        visit.stamp(&mut request);
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        Visit::of(&request)
    }

    fn user(via: Option<ServiceName>) -> Caller {
        Caller::User(UserCaller { via, ..UserCaller::new(uuid::Uuid::nil(), None) })
    }

    #[test]
    fn only_a_gateways_word_counts_for_address_and_device() {
        let visit = Visit { address: "::1".into(), device: "a phone".into(), request_id: "r-1".into() };
        for caller in [Caller::Service(ServiceName::Gateway), user(Some(ServiceName::Gateway))] {
            assert_eq!(sent(Some(caller), &visit), visit);
        }
        let bare = Visit { request_id: "r-1".into(), ..Visit::default() };
        for caller in
            [None, Some(user(None)), Some(user(Some(ServiceName::User))), Some(Caller::Service(ServiceName::Message))]
        {
            assert_eq!(sent(caller, &visit), bare);
        }
    }

    #[test]
    fn strange_text_is_made_plain_and_a_harmful_id_is_dropped() {
        let visit = Visit { address: String::new(), device: "Ada\u{2019}s\nphone".into(), request_id: "a b".into() };
        let heard = sent(Some(Caller::Service(ServiceName::Gateway)), &visit);
        assert_eq!((heard.device.as_str(), heard.request_id.as_str()), ("Ada?s?phone", ""));
    }
}
