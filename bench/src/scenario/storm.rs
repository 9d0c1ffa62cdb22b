//! Many sockets cut at once while messages go on: each connects again, says where it stood, and gets what it missed.

use super::{Cast, Clients, Frame, Stage};
use crate::{
    clock::{self, SECOND},
    orders::{Order, Pace},
    run::{Run, float},
    system::Side,
};

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storm {
    /// Sockets that are cut; one more a room stays and sends.
    pub(crate) sockets: usize,
    /// Accounts behind them.
    pub(crate) people: usize,
    /// Rooms that they are spread over.
    pub(crate) rooms: usize,
    /// Messages a second.
    pub(crate) rate: f64,
}

/// Runs it.
pub(crate) fn run(storm: Storm, side: &Side, frame: &Frame) -> anyhow::Result<Run> {
    let mut run = Run::default();
    let mut stage = Stage::set(side, frame)?;
    let sockets = storm.sockets + storm.rooms;
    let cast = Cast { sockets, people: storm.people, rooms: storm.rooms, senders: storm.rooms };
    let mut clients = Clients::prepare(&mut stage, cast, true, frame)?;
    clients.open()?;
    clients.join()?;
    stage.rest();
    // The load goes on through the storm, however long that takes.
    let begin = clock::now() + SECOND / 20;
    let start = begin + super::nanos(frame.warm_up_secs);
    let end = start + super::nanos(frame.secs);
    #[expect(clippy::cast_precision_loss, reason = "a handful of workers")]
    let pace = Pace::Rate(storm.rate / clients.fleet.len() as f64);
    clients.fleet.tell(&Order::Load { pace, begin, start, end })?;
    clock::sleep_until(start);
    let before = stage.cpu();
    clients.fleet.order(&Order::Cut)?;
    let resumed = super::all_good("resumed", clients.fleet.settle(&Order::Open { window: 0, resume: true })?)?;
    let cost = stage.cpu().since(&before);
    let loaded = clients.fleet.loaded()?;
    run.times("resumed after", &resumed.micros);
    run.figure("all resumed after, ms", float(resumed.took) / 1e6);
    run.figure("sockets resumed/s", float(resumed.good) / (float(resumed.took) / 1e9));
    run.figure("messages that were missed and came", float(resumed.missed));
    run.figure("product CPU per resumed socket, us", cost.product().cpu_secs / float(resumed.good) * 1e6);
    clients.check(&loaded, &stage, &mut run)?;
    Ok(run)
}
