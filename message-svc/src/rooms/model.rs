//! A property test: the same random operations go to the writers over a store that fails at random, and to a plain
//! model that has neither tasks nor batches nor seqs. Answers, members and messages must be the same, and the log,
//! applied to an empty room, must give what the store says of it.

use std::collections::HashMap;

use futures::future::join_all;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    entry::Entry,
    message::ClientMessageId,
    room::{NewRoom, RoomType},
    store::{
        Created,
        faulty::{Fault, Faulty},
    },
    testing::{message, sqlite, sqlite_in, whole_log},
};

/// People and client ids are few, so that they meet.
const PEOPLE: u8 = 5;
const ROOMS: u8 = 3;

#[derive(Clone, Debug)]
enum Op {
    Send { who: u8, id: u8 },
    Join(u8),
    Leave(u8),
    Add { by: u8, who: u8 },
    Remove { by: u8, who: u8 },
    Rename { by: u8, name: u8 },
    Close(u8),
}

/// Operations that wait in one room together.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    room: u8,
    /// Which of two processes they go to.
    writer: bool,
    /// Whether the processes are started anew before.
    restart: bool,
    fault: Fault,
    ops: Vec<Op>,
}

fn op() -> impl Strategy<Value = Op> {
    let who = || 0..PEOPLE;
    prop_oneof![
        8 => (who(), 0..12_u8).prop_map(|(who, id)| Op::Send { who, id }),
        4 => who().prop_map(Op::Join),
        2 => who().prop_map(Op::Leave),
        3 => (who(), who()).prop_map(|(by, who)| Op::Add { by, who }),
        2 => (who(), who()).prop_map(|(by, who)| Op::Remove { by, who }),
        2 => (who(), 0..3_u8).prop_map(|(by, name)| Op::Rename { by, name }),
        1 => (0..PEOPLE * 4).prop_map(|by| Op::Close(by % PEOPLE)),
    ]
}

fn group() -> impl Strategy<Value = Group> {
    let fault = prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::Before),
        1 => Just(Fault::LostBefore),
        1 => Just(Fault::LostAfter),
        1 => Just(Fault::LostMiddle),
    ];
    let ops = prop::collection::vec(op(), 1..6);
    (0..ROOMS, any::<bool>(), prop::bool::weighted(0.1), fault, ops).prop_map(
        |(room, writer, restart, fault, mut ops)| {
            if !matches!(fault, Fault::None | Fault::Before) {
                // What was refused beside a write whose answer was lost is judged again after it: that is an order of
                // its own, which only a lone operation does not have.
                ops.truncate(1);
            }
            Group { room, writer, restart, fault, ops }
        },
    )
}

/// What happens, one group after the other.
pub(crate) fn groups() -> impl Strategy<Value = Vec<Group>> {
    prop::collection::vec(group(), 1..25)
}

fn person(n: u8) -> UserId {
    UserId(Uuid::from_u128(1 + u128::from(n)))
}

/// What an operation comes to; of a refusal only its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// The text that the message with this id has, and whether it was there before.
    Sent(String, bool),
    Done,
    NotFound,
    NotAMember,
    Forbidden,
    /// The store was away.
    Away,
}

/// A room without tasks, batches and seqs.
#[derive(Clone, Debug)]
struct Model {
    room_type: RoomType,
    name: String,
    /// The longest-standing first.
    members: Vec<UserId>,
    owner: Option<UserId>,
    closed: bool,
    messages: Vec<(UserId, u8, String)>,
}

impl Model {
    fn new(room: &NewRoom) -> Self {
        let members: Vec<_> = room.founders.iter().map(|(user, _)| *user).collect();
        let direct = room.meta.room_type == RoomType::Direct;
        let owner = if direct { None } else { members.first().copied() };
        let (room_type, name) = (room.meta.room_type, room.meta.name.clone());
        Self { room_type, name, members, owner, closed: false, messages: Vec::new() }
    }

    fn run(&mut self, op: &Op, text: &str) -> Answer {
        let (Op::Join(by) | Op::Leave(by) | Op::Close(by)) = op else { return self.run_by(op, text) };
        let me = person(*by);
        let inside = self.members.contains(&me);
        if self.hidden_from(me) {
            return Answer::NotFound;
        }
        match op {
            Op::Join(_) if !inside => self.let_in(me),
            Op::Leave(_) if self.room_type == RoomType::Direct => return Answer::Forbidden,
            Op::Leave(_) => self.let_out(me),
            Op::Close(_) if self.owner != Some(me) => return Answer::Forbidden,
            Op::Close(_) => self.closed = true,
            Op::Send { .. } | Op::Join(_) | Op::Add { .. } | Op::Remove { .. } | Op::Rename { .. } => {}
        }
        Answer::Done
    }

    fn run_by(&mut self, op: &Op, text: &str) -> Answer {
        let (Op::Send { who: by, .. } | Op::Add { by, .. } | Op::Remove { by, .. } | Op::Rename { by, .. }) = op else {
            unreachable!("the other half")
        };
        let me = person(*by);
        let inside = self.members.contains(&me);
        if self.hidden_from(me) {
            return Answer::NotFound;
        }
        match op {
            Op::Send { id, .. } => {
                if let Some((_, _, text)) = self.messages.iter().find(|(who, other, _)| *who == me && other == id) {
                    return Answer::Sent(text.clone(), true);
                }
                if !inside {
                    return Answer::NotAMember;
                }
                self.messages.push((me, *id, text.to_owned()));
                return Answer::Sent(text.to_owned(), false);
            }
            Op::Add { .. } if !inside => return Answer::NotAMember,
            Op::Add { who, .. } => {
                let may = match self.room_type {
                    RoomType::Public => self.owner == Some(me),
                    RoomType::Private => true,
                    RoomType::Direct => false,
                };
                if !may {
                    return Answer::Forbidden;
                }
                if !self.members.contains(&person(*who)) {
                    self.let_in(person(*who));
                }
            }
            Op::Remove { who, .. } if self.owner != Some(me) || person(*who) == me => return Answer::Forbidden,
            Op::Remove { who, .. } => self.members.retain(|member| *member != person(*who)),
            Op::Rename { .. } if self.owner != Some(me) => return Answer::Forbidden,
            Op::Rename { name, .. } => self.name = name.to_string(),
            Op::Join(_) | Op::Leave(_) | Op::Close(_) => unreachable!("the other half"),
        }
        Answer::Done
    }

    fn hidden_from(&self, user: UserId) -> bool {
        self.closed || (self.room_type != RoomType::Public && !self.members.contains(&user))
    }

    fn let_in(&mut self, user: UserId) {
        if self.members.is_empty() {
            self.owner = Some(user);
        }
        self.members.push(user);
    }

    fn let_out(&mut self, user: UserId) {
        self.members.retain(|member| *member != user);
        if self.owner == Some(user) {
            self.owner = self.members.first().copied();
        }
        if self.members.is_empty() && self.room_type == RoomType::Private {
            self.closed = true;
        }
    }
}

async fn run(rooms: &Arc<Rooms>, room: RoomId, op: &Op, text: &str) -> Answer {
    let change = match op {
        Op::Send { who, id } => {
            return match rooms.send(room, message(person(*who), &id.to_string(), text)).await {
                Ok(sent) => {
                    let content = sent.entry.message().expect("a message").content.clone();
                    Answer::Sent(content, sent.replayed)
                }
                Err(error) => refusal(&error),
            };
        }
        Op::Join(who) => Change::Join(person(*who)),
        Op::Leave(who) => Change::Leave(person(*who)),
        Op::Add { by, who } => Change::Add { by: person(*by), user: person(*who) },
        Op::Remove { by, who } => Change::Remove { by: person(*by), user: person(*who) },
        Op::Rename { by, name } => Change::Update { by: person(*by), name: Some(name.to_string()), description: None },
        Op::Close(by) => Change::Close(person(*by)),
    };
    match rooms.change(room, change).await {
        Ok(_) => Answer::Done,
        Err(error) => refusal(&error),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else it is fails the test")]
fn refusal(error: &Error) -> Answer {
    match error {
        Error::RoomNotFound => Answer::NotFound,
        Error::NotAMember => Answer::NotAMember,
        Error::Forbidden(_) => Answer::Forbidden,
        Error::Store(_) => Answer::Away,
        other => panic!("{other:?}"),
    }
}

/// Two processes on one database.
struct World {
    stores: [Arc<Faulty>; 2],
    writers: [Arc<Rooms>; 2],
}

impl World {
    fn start(stores: [Arc<Faulty>; 2]) -> Self {
        let writers = stores.clone().map(|store| crate::testing::rooms(&(store as Arc<dyn Store>)));
        Self { stores, writers }
    }
}

/// Plays them on two stores that keep the same database, which has none of these rooms.
pub(crate) async fn play(groups: Vec<Group>, store: Arc<dyn Store>, other: Arc<dyn Store>) {
    let mut world = World::start([Faulty::new(Arc::clone(&store)), Faulty::new(Arc::clone(&other))]);
    let new = |room_type| NewRoom::owned(RoomId::random(), room_type, "room".into(), String::new(), person(0));
    let rooms = [new(RoomType::Public), new(RoomType::Private), NewRoom::direct(person(0), person(1))];
    for room in &rooms {
        assert_eq!(store.create_room(room).await.expect("made"), Created::New);
    }
    let mut models: Vec<_> = rooms.iter().map(Model::new).collect();
    for (n, group) in groups.into_iter().enumerate() {
        if group.restart {
            for rooms in &world.writers {
                rooms.stop().await;
            }
            world = World::start(world.stores);
        }
        let (id, model) = (rooms[usize::from(group.room)].meta.id, &mut models[usize::from(group.room)]);
        let writer = usize::from(group.writer);
        world.stores[writer].replan([group.fault]);
        let texts: Vec<_> = (0..group.ops.len()).map(|k| format!("{n}.{k}")).collect();
        // All are queued in this order before the room's task runs: this runtime has one thread.
        let running = group.ops.iter().zip(&texts).map(|(op, text)| run(&world.writers[writer], id, op, text));
        let answers = join_all(running).await;
        if answers.contains(&Answer::Away) {
            // A batch that surely was not written changes nothing, whatever was in it.
            assert_eq!(group.fault, Fault::Before);
            assert!(answers.iter().all(|answer| *answer == Answer::Away), "{group:?}: {answers:?}");
            continue;
        }
        let expected: Vec<_> = group.ops.iter().zip(&texts).map(|(op, text)| model.run(op, text)).collect();
        assert_eq!(answers, expected, "{group:?}");
    }
    // A room that was emptied by half a write is closed after its last member has been answered.
    for rooms in &world.writers {
        rooms.stop().await;
    }
    for (room, model) in rooms.iter().zip(&models) {
        check(&*store, room, model).await;
    }
    other.close().await;
    store.close().await;
}

async fn play_on_sqlite(groups: Vec<Group>) {
    let (store, folder) = sqlite().await;
    play(groups, store, sqlite_in(&folder).await).await;
}

async fn check(store: &dyn Store, room: &NewRoom, model: &Model) {
    let id = room.meta.id;
    let log: Vec<Arc<Entry>> = whole_log(store, id).await;
    let said: Vec<_> = log
        .iter()
        .filter_map(|entry| entry.message())
        .map(|message| (message.sender, message.client_id.clone(), message.content.clone()))
        .collect();
    let expected: Vec<_> = model
        .messages
        .iter()
        .map(|(who, client_id, text)| (*who, ClientMessageId::stored(&client_id.to_string()), text.clone()))
        .collect();
    assert_eq!(said, expected);
    let view = store.view(id, None).await.expect("reads").expect("is there");
    assert_eq!(view.closed, model.closed);
    assert_eq!((&view.meta.name, view.messages), (&model.name, i64::try_from(expected.len()).expect("small")));
    let members = store.members(id, None, 100).await.expect("reads");
    assert_eq!(members.iter().map(|member| member.user).collect::<Vec<_>>(), model.members);
    let owner = members.iter().find(|member| member.role == crate::member::Role::Owner).map(|member| member.user);
    assert_eq!(owner, model.owner.filter(|owner| model.members.contains(owner)));

    let mut counts: HashMap<bool, usize> = HashMap::new();
    let mut state = store.load(id).await.expect("reads").expect("is there");
    let stored = state.clone();
    // Back to its making, and forward again by the log alone.
    state.members = crate::member::Members::new(room.founders.iter().enumerate().map(|(place, (user, role))| {
        let standing = crate::member::Standing::new(0, place);
        crate::member::Member { user: *user, role: *role, standing, joined_at: room.meta.created_at }
    }));
    (state.meta, state.closed, state.last_seq, state.messages) = (Arc::new(room.meta.clone()), false, 0, 0);
    for entry in &log {
        state.apply(entry).expect("in order");
        if let crate::entry::Event::Members(change) = &entry.event {
            assert_eq!(change.member_count, state.member_count());
        }
        *counts.entry(entry.closes()).or_default() += 1;
    }
    assert_eq!(state, stored);
    assert!(counts.get(&true).is_none_or(|closed| *closed == 1));
}

proptest! {
    // Each case has files of its own, so there are fewer than usual; more with PROPTEST_CASES.
    #![proptest_config(ProptestConfig { max_shrink_iters: 500, ..ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48)
    ) })]

    #[test]
    fn the_writers_do_what_a_plain_model_does(groups in groups()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(play_on_sqlite(groups));
    }
}
