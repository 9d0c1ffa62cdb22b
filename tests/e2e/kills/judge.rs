//! The verdict on a kill run: what the clients were told and saw, against what is stored. It reads the store over gRPC,
//! entry by entry.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use ::mesh::proto::message::v1::{Entry, entry::Event};
use futures::future::join_all;

use super::client::{Client, PASSING};
use crate::{mesh::Mesh, rpc, wait};

/// Repeated sends of one client that are sent once more; all of a long run would take longer than it.
const RETRIES_MAX: usize = 20;

/// What was counted. Everything but the first four must be zero.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    acknowledged: usize,
    stored: usize,
    repeated: usize,
    reconnects: usize,
    missing: usize,
    twice: usize,
    holes: usize,
    disordered: usize,
    watchers_wrong: usize,
    retries_wrong: usize,
    unrecovered: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages acknowledged, {} stored, {} sends repeated, {} reconnects; acknowledged and missing {}, twice {}, \
             holes {}, out of order {}, watchers that saw something else {}, retries that answered something else {}, not recovered {}",
            self.acknowledged,
            self.stored,
            self.repeated,
            self.reconnects,
            self.missing,
            self.twice,
            self.holes,
            self.disordered,
            self.watchers_wrong,
            self.retries_wrong,
            self.unrecovered
        )
    }
}

impl Verdict {
    /// Fails unless all is well.
    #[track_caller]
    pub(crate) fn check(&self) {
        let streams = [self.missing, self.twice, self.holes, self.disordered];
        let clients = [self.watchers_wrong, self.retries_wrong, self.unrecovered];
        assert_eq!((streams, clients), ([0; 4], [0; 3]), "{self}");
        assert!(self.acknowledged > 1_000, "too little happened: {self}");
    }

    /// The same where clients must have come back, too.
    #[track_caller]
    pub(crate) fn check_disturbed(&self) {
        self.check();
        assert!(self.reconnects > 0, "too little happened: {self}");
    }
}

/// A room's entries as they are stored: `seq` and, of a message, its id, sender and client id.
type Stored = Vec<(i64, Option<(String, String, String)>)>;

async fn stored(mesh: &Mesh, client: &Client) -> Stored {
    let rpc = client.person.rpc(mesh);
    let (mut all, mut cursor) = (Vec::new(), client.first_cursor.clone());
    loop {
        let page = rpc.entries(&client.room, &cursor).await.expect("a page of entries");
        all.extend(page.entries.into_iter().map(|Entry { seq, event, .. }| {
            let message = match event {
                Some(Event::Message(message)) => Some((message.id, message.user_id, message.client_message_id)),
                _ => None,
            };
            (seq, message)
        }));
        cursor = page.cursor;
        if !page.more {
            return all;
        }
    }
}

/// Lets every client see the rest, reads what is stored, and compares.
pub(super) async fn judge(mesh: &Mesh, clients: &[Client]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut rooms: HashMap<&str, Vec<&Client>> = HashMap::new();
    for client in clients {
        rooms.entry(&client.room).or_default().push(client);
        verdict.unrecovered += client.unrecovered;
        verdict.reconnects += client.reconnects;
        verdict.repeated += client.repeated.len();
        verdict.holes += client.jumps.iter().filter(|(last, seq)| seq > last).count();
        verdict.disordered += client.jumps.iter().filter(|(last, seq)| seq <= last).count();
    }
    for watchers in rooms.values() {
        let lists = join_all(watchers.iter().map(|client| stored(mesh, client))).await;
        let longest = lists.iter().max_by_key(|list| list.len()).expect("a watcher");
        verdict.holes += longest.windows(2).filter(|pair| pair[1].0 != pair[0].0 + 1).count();
        let messages: Vec<_> = longest.iter().filter_map(|(_, message)| message.as_ref()).collect();
        verdict.stored += messages.len();
        let keys: HashSet<_> = messages.iter().map(|(_, user, id)| (user, id)).collect();
        let ids: HashSet<_> = messages.iter().map(|(id, _, _)| id).collect();
        verdict.twice += 2 * messages.len() - keys.len() - ids.len();
        let by_key: HashMap<_, _> = messages.iter().map(|(id, user, client_id)| ((user, client_id), id)).collect();
        for (client, list) in watchers.iter().zip(&lists) {
            verdict.acknowledged += client.acknowledged.len();
            let there = |(client_id, id): &(&String, &String)| by_key.get(&(&client.person.id, *client_id)) == Some(id);
            verdict.missing += client.acknowledged.iter().filter(|pair| !there(pair)).count();
            let expected = list.iter().map(|(seq, message)| (*seq, message.as_ref().map(|(id, _, _)| id.clone())));
            verdict.watchers_wrong += usize::from(!expected.eq(client.seen.iter().cloned()));
            verdict.retries_wrong += retries_wrong(mesh, client).await;
        }
    }
    verdict
}

/// Sends once more what had been sent more than once; counts what is not answered with the first message.
async fn retries_wrong(mesh: &Mesh, client: &Client) -> usize {
    let rpc = client.person.rpc(mesh);
    let mut wrong = 0;
    for client_id in client.repeated.iter().take(RETRIES_MAX) {
        let answer = wait::until("a retry to be answered", async || {
            match rpc.send(&client.room, "another content", client_id).await {
                Ok(answer) => Some(answer),
                Err(status) => {
                    // A store that is slow is no reason to think that anything is wrong.
                    let code = rpc::reason(&status).0;
                    assert!(PASSING.contains(&&*code), "a retry was refused: {status:?}");
                    None
                }
            }
        })
        .await;
        let first = client.acknowledged.get(client_id);
        wrong += usize::from(!answer.replayed || answer.message.map(|message| message.id).as_ref() != first);
    }
    wrong
}
