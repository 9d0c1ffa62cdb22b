//! Cases about what a session has proved.

use std::sync::Arc;

use super::{HOUR, MINUTE, NOW, entry, member};
use crate::{audit::Event, proof::Method, store::Store};

pub(crate) async fn a_live_session_notes_when_and_how_it_was_proved(store: Arc<dyn Store>) {
    let (account, session) = member(&store, "ada").await;
    let (bob, _) = member(&store, "bob").await;
    let found = store.session(session.id).await.expect("read").expect("there");
    assert_eq!((found.authenticated_at, found.amr, found.place), (NOW, vec![Method::Password], session.place));
    let later = NOW.plus(MINUTE);
    let prove = async |user, at| {
        let entries = [entry(Event::SessionReauthenticated, at)];
        store.prove_session(user, session.id, &[Method::Password], at, &entries).await.expect("judged")
    };
    assert!(prove(account.id, later).await);
    let found = store.session(session.id).await.expect("read").expect("there");
    assert_eq!((found.authenticated_at, found.last_used_at), (later, NOW));
    assert!(!prove(bob.id, later.plus(MINUTE)).await, "another's session");
    assert!(!prove(account.id, session.expires_at).await, "an expired session");
    store.end_session(account.id, session.id, later, later.plus(HOUR), &[]).await.expect("ended");
    assert!(!prove(account.id, later.plus(MINUTE)).await, "an ended session");
    let found = store.session(session.id).await.expect("read").expect("there");
    assert_eq!(found.authenticated_at, later);
    let entries = store.audit(&crate::audit::Filter::default(), None, 100).await.expect("read");
    let proofs = entries.iter().filter(|entry| entry.event == Event::SessionReauthenticated).count();
    assert_eq!(proofs, 1, "what proves nothing is not written");
}
