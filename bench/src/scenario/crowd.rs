//! Many sockets: what each costs while nothing happens, and how fast one room's messages reach all of them.

use anyhow::Context as _;

use super::{Cast, Clients, Frame, Stage};
use crate::{
    orders::Pace,
    run::{Run, float},
    system::Side,
};

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    pub(crate) sockets: usize,
    /// Accounts behind the sockets.
    pub(crate) people: usize,
    /// Messages that are under way to everybody at once, in the closed loop.
    pub(crate) window: u32,
    /// Deliveries a second of the open loop, in which the CPU per delivery is compared; 0 for none.
    pub(crate) deliveries_per_sec: f64,
    /// Rooms that the sockets are spread over; one for a fan-out.
    pub(crate) rooms: usize,
}

/// Opens the sockets, enters the room, and notes memory before, between and after. Nothing is sent.
fn gather(crowd: Crowd, side: &Side, frame: &Frame, run: &mut Run) -> anyhow::Result<(Stage, Clients)> {
    let mut stage = Stage::set(side, frame)?;
    let cast = Cast { sockets: crowd.sockets, people: crowd.people, rooms: crowd.rooms, senders: 1 };
    let mut clients = Clients::prepare(&mut stage, cast, false, frame)?;
    let sockets = float(u64::try_from(crowd.sockets)?);
    stage.rest();
    let empty = stage.sample();
    let opened = clients.open()?;
    stage.rest();
    let idle = stage.sample();
    run.figure("sockets opened/s", sockets / (float(opened.took) / 1e9));
    let joined = clients.join()?;
    stage.rest();
    let present = stage.sample();
    run.figure("rooms joined/s", sockets / (float(joined.took) / 1e9));
    run.figure("memory before (PSS), MB", empty.product().pss / 1e6);
    for (name, sample) in [("connected", &idle), ("in a room", &present)] {
        let taken = sample.since(&empty).product();
        run.figure(&format!("memory per socket {name} (PSS), kB"), taken.pss / sockets / 1e3);
        run.figure(&format!("memory per socket {name} (RSS), kB"), taken.rss / sockets / 1e3);
    }
    Ok((stage, clients))
}

/// Memory alone.
pub(crate) fn idle(crowd: Crowd, side: &Side, frame: &Frame) -> anyhow::Result<Run> {
    let mut run = Run::default();
    gather(crowd, side, frame, &mut run).context("gathering the sockets")?;
    Ok(run)
}

/// One sender, everybody in one room: as fast as it goes, then at a rate.
pub(crate) fn fan_out(crowd: Crowd, side: &Side, frame: &Frame) -> anyhow::Result<Run> {
    let mut run = Run::default();
    let (stage, mut clients) = gather(crowd, side, frame, &mut run).context("gathering the sockets")?;
    let (loaded, cost) = clients.load(Pace::Deliveries(crowd.window), &stage, frame)?;
    run.load("", &loaded, &cost, frame.secs);
    let mut last = loaded;
    if crowd.deliveries_per_sec > 0.0 {
        let rate = crowd.deliveries_per_sec / float(u64::try_from(crowd.sockets)?);
        let (loaded, cost) = clients.load(Pace::Rate(rate), &stage, frame)?;
        run.load("at a rate: ", &loaded, &cost, frame.secs);
        last = loaded;
    }
    // What the sockets saw is of both loads.
    clients.check(&last, &stage, &mut run)?;
    Ok(run)
}
