//! Messages that are acknowledged once they are stored: many rooms, one hot room, or a steady rate.

use super::{Cast, Clients, Frame, Stage};
use crate::{orders::Pace, run::Run, system::Side};

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sends {
    /// Who is there.
    pub(crate) cast: Cast,
    /// When they send.
    pub(crate) pace: Pace,
}

/// Runs it.
pub(crate) fn run(sends: Sends, side: &Side, frame: &Frame) -> anyhow::Result<Run> {
    let mut run = Run::default();
    let mut stage = Stage::set(side, frame)?;
    let mut clients = Clients::prepare(&mut stage, sends.cast, false, frame)?;
    clients.open()?;
    clients.join()?;
    stage.rest();
    let before = stage.sample();
    let (loaded, cost) = clients.load(sends.pace, &stage, frame)?;
    run.load("", &loaded, &cost, frame.secs);
    run.figure("memory grown (PSS), MB", stage.sample().since(&before).product().pss / 1e6);
    clients.check(&loaded, &stage, &mut run)?;
    Ok(run)
}
