//! `AdminService`: what only the role `admin` may do. Who calls is looked at first, in every handler, by [`admin`].

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use mesh::{
    error::{Answer, FieldViolation, Reason, Refusal},
    identity::{self, Scope},
    proto::auth::v1 as pb,
    text::{self, Violations},
    time::Millis,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{AuthApi, convert, refuse};
use crate::{
    account::{Account, Login, UserId},
    audit::{self, Actor, Entry, Event, Events, Filter},
    error::Error,
    invitation::{self, Order},
    role::Role,
    session::Client,
    store::Store,
};

/// Entries read at a time by an export.
const EXPORT_PAGE: u32 = 500;

/// `AdminService`, over the same domain.
#[derive(Clone, Debug)]
pub struct AdminApi(pub Arc<AuthApi>);

impl AdminApi {
    fn store(&self) -> &Arc<dyn Store> {
        &self.0.accounts.store
    }

    /// The admin who calls, and from where.
    fn admin<T>(&self, request: &Request<T>) -> Result<(UserId, Client), Refusal> {
        Ok((admin(request)?, self.0.client(request)))
    }

    /// The same, who has proved lately who they are.
    async fn fresh_admin<T: Sync>(&self, request: &Request<T>) -> Result<(Actor, Client), Status> {
        let (admin, client) = self.admin(request)?;
        let (_, session) = super::with_session(request)?;
        self.0.sessions.require_fresh(session).await.map_err(refuse)?;
        Ok((Actor::User(admin), client))
    }

    async fn find(&self, name: &str) -> Result<Option<Account>, Status> {
        let found = match text::uuid("name", name) {
            Ok(id) => self.store().account(UserId(id)).await,
            Err(_) => {
                let login = Login::parse("name", name).map_err(convert::violation)?;
                self.store().credentials(&login).await.map(|found| found.map(|found| found.account))
            }
        };
        found.map_err(|error| refuse(error.into()))
    }
}

/// The admin who calls.
pub(super) fn admin<T>(request: &Request<T>) -> Result<UserId, Refusal> {
    let caller = identity::user(request)?;
    if !caller.roles.iter().any(|role| role == Role::Admin.as_str()) {
        return Err(Refusal::new(Reason::Forbidden, "This call is for admins only"));
    }
    Ok(UserId(caller.user_id))
}

/// Who reads the audit log: an admin, or a program with a key for it, which the gate has looked at.
fn auditor<T>(request: &Request<T>) -> Result<Actor, Refusal> {
    let caller = identity::user(request)?;
    match (caller.scopes, caller.session_id) {
        (Some(scopes), Some(key)) if scopes.contains(&Scope::AuditRead) => Ok(Actor::ApiKey(key)),
        _ => admin(request).map(Actor::User),
    }
}

type Export = Pin<Box<dyn Stream<Item = Result<pb::ExportAuditEventsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl pb::admin_service_server::AdminService for AdminApi {
    async fn find_account(&self, request: Request<pb::FindAccountRequest>) -> Answer<pb::FindAccountResponse> {
        self.admin(&request)?;
        let account = self.find(&request.get_ref().name).await?.ok_or_else(|| refuse(Error::UserNotFound))?;
        let deletion = self.store().deletion(account.id).await.map_err(|error| refuse(error.into()))?;
        let erase_time = deletion.map(|deletion| deletion.erase_at.into());
        Ok(Response::new(pb::FindAccountResponse { account: Some(convert::account(account)), erase_time }))
    }

    async fn disable_user(&self, request: Request<pb::DisableUserRequest>) -> Answer<pb::DisableUserResponse> {
        let (by, client) = self.fresh_admin(&request).await?;
        let user = user_id(&request.get_ref().user_id)?;
        let account = self.0.accounts.set_access(user, true, by, &client).await.map_err(refuse)?;
        Ok(Response::new(pb::DisableUserResponse { account: Some(convert::account(account)) }))
    }

    async fn enable_user(&self, request: Request<pb::EnableUserRequest>) -> Answer<pb::EnableUserResponse> {
        let (by, client) = self.fresh_admin(&request).await?;
        let user = user_id(&request.get_ref().user_id)?;
        let account = self.0.accounts.set_access(user, false, by, &client).await.map_err(refuse)?;
        Ok(Response::new(pb::EnableUserResponse { account: Some(convert::account(account)) }))
    }

    async fn delete_user(&self, request: Request<pb::DeleteUserRequest>) -> Answer<pb::DeleteUserResponse> {
        let (by, client) = self.fresh_admin(&request).await?;
        let user = user_id(&request.get_ref().user_id)?;
        let erase_at = self.0.accounts.delete_other(user, by, &client).await.map_err(refuse)?;
        Ok(Response::new(pb::DeleteUserResponse { erase_time: Some(erase_at.into()) }))
    }

    async fn end_user_sessions(
        &self,
        request: Request<pb::EndUserSessionsRequest>,
    ) -> Answer<pb::EndUserSessionsResponse> {
        let (by, client) = self.fresh_admin(&request).await?;
        let user = user_id(&request.get_ref().user_id)?;
        let ended = self.0.accounts.end_sessions_of(user, by, &client).await.map_err(refuse)?;
        Ok(Response::new(pb::EndUserSessionsResponse { ended_sessions: convert::count(ended) }))
    }

    async fn end_all_sessions(
        &self,
        request: Request<pb::EndAllSessionsRequest>,
    ) -> Answer<pb::EndAllSessionsResponse> {
        let (by, client) = self.fresh_admin(&request).await?;
        let ended = self.0.sessions.end_all(by, &client).await.map_err(refuse)?;
        Ok(Response::new(pb::EndAllSessionsResponse { ended_sessions: convert::count(ended) }))
    }

    async fn set_role(&self, request: Request<pb::SetRoleRequest>) -> Answer<pb::SetRoleResponse> {
        let (by, client) = self.fresh_admin(&request).await?;
        let mut violations = Violations::default();
        let user = violations.check(text::uuid("user_id", &request.get_ref().user_id));
        let role = violations.check(Role::parse("role", &request.get_ref().role));
        let (user, role) = convert::both(violations, user, role)?;
        let account = self.0.accounts.set_role(UserId(user), role, by, &client).await.map_err(refuse)?;
        Ok(Response::new(pb::SetRoleResponse { account: Some(convert::account(account)) }))
    }

    async fn create_invitation(
        &self,
        request: Request<pb::CreateInvitationRequest>,
    ) -> Answer<pb::CreateInvitationResponse> {
        let (admin, client) = self.admin(&request)?;
        let asked = request.get_ref();
        let life = match u64::try_from(asked.expires_in_secs) {
            Ok(0) => None,
            given => Some(Duration::from_secs(given.unwrap_or_default())),
        };
        let order = Order::parse(&asked.note, life).map_err(refuse)?;
        let (store, limits) = (self.store().as_ref(), self.0.accounts.invitations);
        let made = invitation::invite(store, limits, order, Actor::User(admin), &client).await.map_err(refuse)?;
        let (invitation, code) = (Some(convert::invitation(made.0)), made.1.expose().to_owned());
        Ok(Response::new(pb::CreateInvitationResponse { invitation, code }))
    }

    async fn list_invitations(
        &self,
        request: Request<pb::ListInvitationsRequest>,
    ) -> Answer<pb::ListInvitationsResponse> {
        self.admin(&request)?;
        let page = convert::entry_page(request.get_ref().page_size, &request.get_ref().page_token)?;
        let found = self.store().invitations(Millis::now(), page.after, page.size + 1).await;
        Ok(Response::new(convert::invitations(found.map_err(|error| refuse(error.into()))?, page.size)))
    }

    async fn revoke_invitation(
        &self,
        request: Request<pb::RevokeInvitationRequest>,
    ) -> Answer<pb::RevokeInvitationResponse> {
        let (admin, client) = self.admin(&request)?;
        let id = text::uuid("invitation_id", &request.get_ref().invitation_id).map_err(convert::violation)?;
        self.0.accounts.revoke_invitation(id, Actor::User(admin), &client).await.map_err(refuse)?;
        Ok(Response::new(pb::RevokeInvitationResponse {}))
    }

    async fn list_audit_events(
        &self,
        request: Request<pb::ListAuditEventsRequest>,
    ) -> Answer<pb::ListAuditEventsResponse> {
        auditor(&request)?;
        let message = request.get_ref();
        let page = convert::entry_page(message.page_size, &message.page_token)?;
        let filter = filter(message.filter.as_ref())?;
        let found = self.store().audit(&filter, page.after, page.size + 1).await;
        let (entries, next_page_token) = convert::entries(found.map_err(|error| refuse(error.into()))?, page.size);
        let events = entries.into_iter().map(convert::audit_event).collect();
        Ok(Response::new(pb::ListAuditEventsResponse { events, next_page_token }))
    }

    type ExportAuditEventsStream = Export;

    async fn export_audit_events(
        &self,
        request: Request<pb::ExportAuditEventsRequest>,
    ) -> Answer<Self::ExportAuditEventsStream> {
        let (auditor, client) = (auditor(&request)?, self.0.client(&request));
        let filter = filter(request.get_ref().filter.as_ref())?;
        let entry = Entry::new(Event::AuditExported, &client, Millis::now()).by(auditor);
        audit::record(self.store().as_ref(), entry).await.map_err(refuse)?;
        Ok(Response::new(export(self.store().clone(), filter)))
    }
}

fn export(store: Arc<dyn Store>, filter: Filter) -> Export {
    let events = all_entries(store, filter);
    events.map_ok(|entry| pb::ExportAuditEventsResponse { event: Some(convert::audit_event(entry)) }).boxed()
}

/// Page after page; the next one is read when the last one has been sent.
pub(super) fn all_entries(store: Arc<dyn Store>, filter: Filter) -> impl Stream<Item = Result<Entry, Status>> + Send {
    let first = Some((store, filter, None::<Uuid>));
    let pages = stream::try_unfold(first, async |place| {
        let Some((store, filter, after)) = place else { return Ok(None) };
        let page = store.audit(&filter, after, EXPORT_PAGE).await.map_err(|error| refuse(error.into()))?;
        let more = page.len() == EXPORT_PAGE as usize;
        let next = page.last().filter(|_| more).map(|last| (store, filter, Some(last.id)));
        Ok::<_, Status>(Some((stream::iter(page.into_iter().map(Ok)), next)))
    });
    pages.try_flatten()
}

fn user_id(text: &str) -> Result<UserId, Status> {
    text::uuid("user_id", text).map(UserId).map_err(convert::violation)
}

fn filter(given: Option<&pb::AuditFilter>) -> Result<Filter, Refusal> {
    let Some(given) = given else { return Ok(Filter::default()) };
    let mut violations = Violations::default();
    let subject = violations.check(match given.subject_id.as_str() {
        "" => Ok(None),
        id => text::uuid("filter.subject_id", id).map(|id| Some(UserId(id))),
    });
    let actor = violations.check(match given.actor.as_str() {
        "" => Ok(None),
        name => text::name("filter.actor", name, 1, 100).map(Some),
    });
    let events = violations.check(
        Events::parse(&given.event)
            .ok_or_else(|| FieldViolation::new("filter.event", "must be empty, an event or a group of events")),
    );
    let (since, until) = (given.since_time.map(Millis::from), given.until_time.map(Millis::from));
    let ((subject, actor), events) = convert::both(violations, subject.zip(actor), events)?;
    Ok(Filter { subject, actor, events, succeeded: given.succeeded, since, until })
}
