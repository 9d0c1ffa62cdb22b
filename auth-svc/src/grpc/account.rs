//! `AccountService`: everything that is held about the caller, and the end of it. Both want a fresh proof of who calls.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use mesh::{
    error::Answer,
    proto::auth::v1::{self as pb, export_account_response::Record},
    time::Millis,
};
use tonic::{Request, Response, Status};

use super::{AuthApi, admin, convert, refuse, with_session};
use crate::{
    account::UserId,
    audit::{self, Entry, Event, Filter},
    session::{Session, Sessions},
    store::{KnownDevice, SessionCursor},
};

/// Sessions read at a time by an export.
const SESSIONS_PAGE: u32 = 100;

/// `AccountService`, over the same domain.
#[derive(Clone, Debug)]
pub struct AccountApi(pub Arc<AuthApi>);

type Export = Pin<Box<dyn Stream<Item = Result<pb::ExportAccountResponse, Status>> + Send>>;

#[tonic::async_trait]
impl pb::account_service_server::AccountService for AccountApi {
    type ExportAccountStream = Export;

    async fn export_account(&self, request: Request<pb::ExportAccountRequest>) -> Answer<Self::ExportAccountStream> {
        let (user, session) = with_session(&request)?;
        let (accounts, sessions) = (&self.0.accounts, &self.0.sessions);
        sessions.require_fresh(session).await.map_err(refuse)?;
        let now = Millis::now();
        let entry = Entry::own(Event::AccountExported, user, &self.0.client(&request), now).session(session);
        audit::record(accounts.store.as_ref(), entry).await.map_err(refuse)?;
        let account = accounts.account(user).await.map_err(refuse)?;
        let factors = accounts.factors.of(user).await.map_err(refuse)?;
        let devices = accounts.store.trusted_devices(user, now).await.map_err(|error| refuse(error.into()))?;
        let begin = [Record::Account(convert::account(account)), Record::Factors(convert::factors(factors))];
        let begin = stream::iter(begin.map(Ok));
        let open = all_sessions(Arc::clone(sessions), user)
            .map_ok(move |found| Record::Session(convert::session(found, Some(session))));
        let devices = stream::iter(devices.into_iter().map(|known| Ok(Record::RememberedDevice(device(known)))));
        let filter = Filter { subject: Some(user), ..Filter::default() };
        let events = admin::all_entries(Arc::clone(&accounts.store), filter)
            .map_ok(|entry| Record::Event(convert::audit_event(entry)));
        let records = begin.chain(open).chain(devices).chain(events);
        let answers = records.map_ok(|record| pb::ExportAccountResponse { record: Some(record) });
        Ok(Response::new(answers.boxed()))
    }

    async fn delete_account(&self, request: Request<pb::DeleteAccountRequest>) -> Answer<pb::DeleteAccountResponse> {
        let (user, session) = with_session(&request)?;
        self.0.sessions.require_fresh(session).await.map_err(refuse)?;
        let erase_at = self.0.accounts.delete_own(user, session, &self.0.client(&request)).await.map_err(refuse)?;
        Ok(Response::new(pb::DeleteAccountResponse { erase_time: Some(erase_at.into()) }))
    }
}

/// Page after page; the next one is read when the last one has been sent.
fn all_sessions(sessions: Arc<Sessions>, user: UserId) -> impl Stream<Item = Result<Session, Status>> + Send {
    let first = Some((sessions, None::<SessionCursor>));
    let pages = stream::try_unfold(first, move |place| async move {
        let Some((sessions, after)) = place else { return Ok(None) };
        let page = sessions.list(user, after, SESSIONS_PAGE).await.map_err(refuse)?;
        let more = page.len() == SESSIONS_PAGE as usize;
        let cursor = |last: &Session| SessionCursor { last_used_at: last.last_used_at, id: last.id };
        let next = page.last().filter(|_| more).map(cursor).map(|cursor| (sessions, Some(cursor)));
        Ok::<_, Status>(Some((stream::iter(page.into_iter().map(Ok)), next)))
    });
    pages.try_flatten()
}

fn device(known: KnownDevice) -> pb::RememberedDevice {
    pb::RememberedDevice {
        id: known.id.to_string(),
        create_time: Some(known.created_at.into()),
        expire_time: Some(known.expires_at.into()),
    }
}
