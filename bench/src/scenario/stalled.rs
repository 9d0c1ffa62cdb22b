//! Sockets that stop to read in a room under load: what they cost the server, and what they cost their neighbours.

use super::{Cast, Clients, Frame, Stage};
use crate::{
    orders::{Order, Pace},
    run::{Run, float},
    system::Side,
};

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stalled {
    /// Sockets in the room that go on reading.
    pub(crate) readers: usize,
    /// Those that stop.
    pub(crate) stalled: usize,
    /// Messages a second.
    pub(crate) rate: f64,
}

/// Runs it: the load with all reading, and again with some that do not.
pub(crate) fn run(stalled: Stalled, side: &Side, frame: &Frame) -> anyhow::Result<Run> {
    let mut run = Run::default();
    let mut stage = Stage::set(side, frame)?;
    let sockets = stalled.readers + stalled.stalled;
    let cast = Cast { sockets, people: sockets, rooms: 1, senders: 8.min(stalled.readers) };
    let mut clients = Clients::prepare(&mut stage, cast, false, frame)?;
    clients.open()?;
    clients.join()?;
    let pace = Pace::Rate(stalled.rate);
    let before = clients.load_weighing(pace, &stage, frame)?;
    run.load("all read: ", &before.loaded, &before.cost, frame.secs);
    clients.fleet.order(&Order::Stall { sockets: stalled.stalled })?;
    let during = clients.load_weighing(pace, &stage, frame)?;
    run.load("", &during.loaded, &during.cost, frame.secs);
    let grown = during.peak_bytes - before.peak_bytes;
    run.figure("memory per stalled socket at most, kB", grown / float(u64::try_from(stalled.stalled)?) / 1e3);
    clients.check(&during.loaded, &stage, &mut run)?;
    Ok(run)
}
