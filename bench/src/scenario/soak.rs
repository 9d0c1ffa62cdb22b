//! A steady load for a long time: memory and open files after the first minutes, and at the end.

use super::{Clients, Frame, Stage, sends::Sends};
use crate::{
    check,
    run::{Run, float},
    system::Side,
};

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Soak {
    pub(crate) sends: Sends,
    /// Minutes in all.
    pub(crate) minutes: u64,
    /// Minutes until which growth is no fault: caches fill.
    pub(crate) settled_after: u64,
}

/// Runs it, a minute at a time; the measured seconds of the command line are those of one minute.
pub(crate) fn run(soak: Soak, side: &Side, frame: &Frame) -> anyhow::Result<Run> {
    let mut run = Run::default();
    let mut stage = Stage::set(side, frame)?;
    let mut clients = Clients::prepare(&mut stage, soak.sends.cast, false, frame)?;
    clients.open()?;
    clients.join()?;
    let minute = Frame { warm_up_secs: 0.0, ..frame.clone() };
    let mut settled = None;
    let mut memory = Vec::new();
    for number in 1..=soak.minutes {
        let (loaded, cost) = clients.load(soak.sends.pace, &stage, &minute)?;
        run.problems.extend(check::live(&loaded));
        let now = stage.sample().product();
        memory.push(now.pss / 1e6);
        run.figure(&format!("memory (PSS) after minute {number:02}, MB"), now.pss / 1e6);
        if number == soak.settled_after.min(soak.minutes) {
            settled = Some(now);
        }
        if number == soak.minutes {
            run.load("last minute: ", &loaded, &cost, minute.secs);
            if let Some(settled) = settled {
                let minutes = float(soak.minutes.saturating_sub(soak.settled_after).max(1));
                run.figure("memory grown a minute, MB", (now.pss - settled.pss) / 1e6 / minutes);
                run.figure("files grown", now.files - settled.files);
                run.figure("threads grown", now.threads - settled.threads);
            }
        }
    }
    Ok(run)
}
