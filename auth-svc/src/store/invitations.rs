//! What is kept of invitations: the part of [`Store`](super::Store) that is about them.

use async_trait::async_trait;
use mesh::time::Millis;
use uuid::Uuid;

use super::Stored;
use crate::{
    audit::Entry,
    invitation::{Invitation, InvitationHash},
};

/// An invitation that is to be made.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    /// What will be kept of it.
    pub invitation: Invitation,
    /// The hash of what it is known by.
    pub hash: InvitationHash,
    /// How many that have not expired there may be, this one included.
    pub open_max: u32,
    /// Written with it.
    pub audit: Vec<Entry>,
}

/// Invitations. Using one up is [`Store::create_account`](super::Store::create_account)'s, in one step with the account.
#[async_trait]
pub trait InvitationStore {
    /// Keeps an invitation; false, and nothing happens, when there are as many as may be.
    async fn invite(&self, new: &NewInvitation) -> Stored<bool>;

    /// The id of the invitation that is known by this, if it is good now: neither used nor expired.
    async fn good_invitation(&self, hash: &InvitationHash, now: Millis) -> Stored<Option<Uuid>>;

    /// The invitations that have not expired, used or not, the newest first, from after a place in that order.
    async fn invitations(&self, now: Millis, after: Option<Uuid>, limit: u32) -> Stored<Vec<Invitation>>;

    /// Forgets an invitation that was not used; false, and nothing happens, when there is none of this id.
    async fn revoke_invitation(&self, id: Uuid, audit: &[Entry]) -> Stored<bool>;
}
