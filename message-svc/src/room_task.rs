//! The writer of one room: takes what waits, judges it ([`judge`]) against what it remembers of the room, writes one
//! batch, answers, and tells the watchers. It is the only task of this process that writes the room's log; other
//! processes may write it too, so a batch can be displaced, and then the log is read on and all is judged again.
//!
//! Two things make that safe without any lock. An order's entry id is fixed before the first try, so a write whose
//! answer was lost is recognised in the log. And whatever an abandoned try may still do in the store, the unique indexes
//! let a seq and a client id be taken once.

use std::{mem, sync::Arc, time::Duration};

use mesh::{telemetry, time::Millis};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tracing::Instrument as _;

use self::judge::{Judgement, Verdict, judge};
use crate::{
    cursor::Cursor,
    entry::Entry,
    error::Error,
    hub::{Hub, Origins},
    id::RoomId,
    order::{Done, Pending, Sent},
    room::state::RoomState,
    store::{Outcome, Store, StoreError},
};

mod judge;

/// Entries read at once when the log is read on.
const READ_ENTRIES_MAX: usize = 500;
/// Bytes read at once when the log is read on.
const READ_BYTES_MAX: usize = 4 << 20;
/// The first wait after a lost answer, doubled up to [`RETRY_WAIT_MAX`].
const RETRY_WAIT: Duration = Duration::from_millis(20);
const RETRY_WAIT_MAX: Duration = Duration::from_millis(500);

/// What a room's task works with.
pub(crate) struct Context {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) members_max: usize,
    pub(crate) orders_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) idle: Duration,
    pub(crate) settle: Duration,
}

/// The writer of one room.
pub(crate) struct RoomTask {
    room: RoomId,
    context: Arc<Context>,
    queue: mpsc::Receiver<Pending>,
    /// None until it is loaded, and again after a write that could not be settled.
    state: Option<RoomState>,
}

/// Why a batch came to nothing; every waiting caller is told.
struct GivenUp(Error);

impl RoomTask {
    pub(crate) fn new(room: RoomId, context: Arc<Context>, queue: mpsc::Receiver<Pending>) -> Self {
        Self { room, context, queue, state: None }
    }

    /// Serves orders until the queue's senders are gone or `retire` lets it go. `retire` is asked when the task has had
    /// nothing to do for a while, or has nothing to remember; it answers whether the task was taken out of the map,
    /// which it must not be while something waits.
    pub(crate) async fn run(mut self, retire: impl Fn(&mpsc::Receiver<Pending>) -> bool) {
        loop {
            let orders = match timeout(self.context.idle, self.take()).await {
                Ok(Some(orders)) => orders,
                Ok(None) => return,
                Err(_) if retire(&self.queue) => return,
                Err(_) => continue,
            };
            if !orders.is_empty() {
                self.serve(orders).await;
            }
            let nothing_left = self.state.as_ref().is_none_or(|state| state.closed);
            if nothing_left && retire(&self.queue) {
                return;
            }
        }
    }

    /// Waits for an order and takes all that wait with it, up to a batch. The first is never delayed for more.
    async fn take(&mut self) -> Option<Vec<Pending>> {
        let first = self.queue.recv().await?;
        let mut bytes = first.weight();
        let mut orders = vec![first];
        while orders.len() < self.context.orders_max && bytes < self.context.bytes_max {
            let Ok(next) = self.queue.try_recv() else { break };
            bytes += next.weight();
            orders.push(next);
        }
        metrics::histogram!("switchboard_message_batch_orders").record(as_f64(orders.len()));
        orders.retain(|pending| !pending.is_abandoned());
        Some(orders)
    }

    /// Brings the orders to an end, one way or the other.
    async fn serve(&mut self, mut orders: Vec<Pending>) {
        if let Err(GivenUp(error)) = self.settle(&mut orders).await {
            for pending in orders {
                pending.answer(Err(error.clone()));
            }
        }
    }

    async fn settle(&mut self, orders: &mut Vec<Pending>) -> Result<(), GivenUp> {
        // Proven: the memory has been compared with the log since these orders came.
        let mut proven = self.load().await?;
        // Every try that is lost is the success of somebody else who writes this room; they may be many.
        let give_up = Instant::now() + self.context.settle;
        // A deserted room is closed with nobody waiting for it, when only its last member's leaving went in.
        while !orders.is_empty() || self.state.as_ref().is_some_and(RoomState::is_deserted) {
            if Instant::now() >= give_up {
                return Err(GivenUp(Error::Busy));
            }
            let Some(state) = &mut self.state else { return Err(GivenUp(Error::RoomNotFound)) };
            let judgement = judge(state, orders, self.context.members_max, Millis::now());
            if look_up_refused(&judgement, orders) {
                judgement.roll_back(state);
                self.look_up(orders).await?;
            } else if judgement.needs_proof() && !proven {
                judgement.roll_back(state);
                self.read_on(orders).await?;
                proven = true;
            } else if judgement.batch.is_empty() {
                answer(state, mem::take(orders), judgement);
            } else {
                proven |= self.write(orders, judgement).await?;
            }
        }
        Ok(())
    }

    /// Loads the room when it is not remembered; answers whether it did.
    async fn load(&mut self) -> Result<bool, GivenUp> {
        if self.state.is_some() {
            return Ok(false);
        }
        self.state = self.context.store.load(self.room).await?;
        if self.state.is_none() { Err(GivenUp(Error::RoomNotFound)) } else { Ok(true) }
    }

    /// Writes what was judged. Answers whether the log was read on since, because it did not go in as it was.
    async fn write(&mut self, orders: &mut Vec<Pending>, judgement: Judgement) -> Result<bool, GivenUp> {
        let batch = Arc::clone(&judgement.batch);
        let state = self.state.as_mut().expect("invariant: it was judged");
        let origins = origins(orders, &judgement);
        let span =
            telemetry::continued(origins.iter().flat_map(|origins| origins.iter()).map(|(_, origin)| origin), || {
                tracing::info_span!("append", messaging.batch.message_count = telemetry::number(batch.len()))
            });
        match self.context.store.append(Arc::clone(&batch)).instrument(span).await {
            Ok(Outcome::Done) => {
                let log = state.meta.log;
                answer(state, mem::take(orders), judgement);
                self.context.hub.publish(self.room, log, batch, origins);
                Ok(false)
            }
            Ok(Outcome::Displaced) => {
                metrics::counter!("switchboard_message_displaced_total").increment(1);
                judgement.roll_back(state);
                let news = self.read_on(orders).await?;
                if !news {
                    self.look_up(orders).await?;
                }
                Ok(true)
            }
            Err(error @ StoreError::Unknown(_)) => {
                metrics::counter!("switchboard_message_unknown_total").increment(1);
                judgement.roll_back(state);
                self.read_on_patiently(orders, error).await?;
                Ok(true)
            }
            Err(error) => {
                judgement.roll_back(state);
                Err(error.into())
            }
        }
    }

    /// Reads the log on until the store answers, for as long as a batch may take to be settled. After that nothing is
    /// remembered of the room: what was written will be found when it is loaded again.
    async fn read_on_patiently(&mut self, orders: &mut Vec<Pending>, lost: StoreError) -> Result<(), GivenUp> {
        let give_up = Instant::now() + self.context.settle;
        let mut wait = RETRY_WAIT;
        while Instant::now() < give_up {
            // Also before the first try: a disk that fails is not asked without end.
            sleep(wait).await;
            wait = (wait * 2).min(RETRY_WAIT_MAX);
            match self.read_on(orders).await {
                Ok(_) => return Ok(()),
                Err(GivenUp(error @ Error::Internal(_))) => return Err(GivenUp(error)),
                Err(GivenUp(_)) => {}
            }
        }
        self.state = None;
        Err(lost.into())
    }

    /// Takes in what the log has after what is remembered; answers whether there was anything. Orders whose entries are
    /// among it are done and answered.
    async fn read_on(&mut self, orders: &mut Vec<Pending>) -> Result<bool, GivenUp> {
        let mut news = false;
        loop {
            let Some(state) = &mut self.state else { return Ok(news) };
            let read = self.context.store.entries_after(self.room, state.last_seq, READ_ENTRIES_MAX, READ_BYTES_MAX);
            let entries = read.await?;
            if entries.is_empty() {
                return Ok(news);
            }
            news = true;
            let log = state.meta.log;
            for entry in &entries {
                if let Err(error) = state.apply(entry) {
                    self.state = None;
                    tracing::error!(room.id = %self.room, error = &error as &dyn std::error::Error, "a room's log has a hole");
                    return Err(GivenUp(Error::internal(error)));
                }
                answer_done(state, orders, entry);
            }
            // Others may have told of it already; but what is found of our own, nobody has.
            self.context.hub.publish(self.room, log, entries.into(), None);
        }
    }

    /// Asks the store which of the messages it has under their client ids.
    async fn look_up(&mut self, orders: &mut [Pending]) -> Result<(), GivenUp> {
        let keys: Vec<_> = orders
            .iter()
            .filter_map(Pending::message)
            .map(|message| (message.sender, message.client_id.clone()))
            .collect();
        let found = if keys.is_empty() { Vec::new() } else { self.context.store.sent(self.room, &keys).await? };
        for pending in orders {
            pending.looked_up = true;
            let Some(message) = pending.message() else { continue };
            let same = |entry: &&Arc<Entry>| {
                entry.message().is_some_and(|sent| sent.sender == message.sender && sent.client_id == message.client_id)
            };
            pending.known = found.iter().find(same).cloned();
        }
        Ok(())
    }
}

impl From<StoreError> for GivenUp {
    fn from(error: StoreError) -> Self {
        Self(error.into())
    }
}

/// Whether somebody who is no member wants to send: it may be a message that was acknowledged while they were one.
fn look_up_refused(judgement: &Judgement, orders: &[Pending]) -> bool {
    judgement.verdicts.iter().zip(orders).any(|(verdict, pending)| {
        matches!(verdict, Verdict::Refused(Error::NotAMember)) && pending.message().is_some() && !pending.looked_up
    })
}

/// Which spans the entries of a batch are written for.
fn origins(orders: &[Pending], judgement: &Judgement) -> Origins {
    if orders.iter().all(|pending| pending.origin.is_none()) {
        return None;
    }
    let one = |(pending, verdict): (&Pending, &Verdict)| match verdict {
        Verdict::Sent { place, replayed: false } => {
            pending.origin.clone().map(|origin| (judgement.batch[*place].seq, origin))
        }
        Verdict::Sent { .. } | Verdict::Replayed(_) | Verdict::Changed(_) | Verdict::MayType | Verdict::Refused(_) => {
            None
        }
    };
    Some(orders.iter().zip(&judgement.verdicts).filter_map(one).collect())
}

/// Tells every caller what came of it.
fn answer(state: &RoomState, orders: Vec<Pending>, judgement: Judgement) {
    let log = state.meta.log;
    count(&judgement);
    for (pending, verdict) in orders.into_iter().zip(judgement.verdicts) {
        let sent = |entry: &Arc<Entry>, replayed| {
            let cursor = Cursor { log, seq: entry.seq };
            Ok(Done::Sent(Sent { entry: Arc::clone(entry), replayed, cursor }))
        };
        pending.answer(match verdict {
            Verdict::Sent { place, replayed } => sent(&judgement.batch[place], replayed),
            Verdict::Replayed(entry) => sent(&entry, true),
            Verdict::Changed(changed) => Ok(Done::Changed(*changed)),
            Verdict::MayType => Ok(Done::MayType(log)),
            Verdict::Refused(error) => Err(error),
        });
    }
}

/// Counts the messages that are answered: `new`, `replayed`.
fn count(judgement: &Judgement) {
    let (mut new, mut replayed) = (0, 0);
    for verdict in &judgement.verdicts {
        match verdict {
            Verdict::Sent { replayed: false, .. } => new += 1,
            Verdict::Sent { .. } | Verdict::Replayed(_) => replayed += 1,
            Verdict::Changed(_) | Verdict::MayType | Verdict::Refused(_) => {}
        }
    }
    for (outcome, count) in [("new", new), ("replayed", replayed)] {
        if count > 0 {
            metrics::counter!("switchboard_message_sends_total", "outcome" => outcome).increment(count);
        }
    }
}

fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

/// Tells the caller whose entry has been found in the log.
fn answer_done(state: &mut RoomState, orders: &mut Vec<Pending>, entry: &Arc<Entry>) {
    let Some(place) = orders.iter().position(|pending| pending.id == entry.id) else { return };
    let pending = orders.remove(place);
    let cursor = Cursor { log: state.meta.log, seq: entry.seq };
    let done = if pending.message().is_some() {
        metrics::counter!("switchboard_message_sends_total", "outcome" => "new").increment(1);
        Done::Sent(Sent { entry: Arc::clone(entry), replayed: false, cursor })
    } else {
        Done::Changed(crate::order::Changed { room: state.summary(), cursor })
    };
    pending.answer(Ok(done));
}
