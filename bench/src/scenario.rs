//! The scenarios, one file each under `scenario/`, and what they have in common: a system started for one run in a folder
//! of its own, people, rooms and sockets, loads with a warm-up, and the checks.

use std::{path::PathBuf, thread, time::Duration};

use anyhow::bail;
use tempfile::TempDir;

use crate::{
    check,
    clock::{self, SECOND},
    fleet::Fleet,
    orders::{Loaded, Order, Pace, Plan, Settled, SocketPlan},
    process::Cores,
    profile::Profile,
    run::Run,
    system::{Setting, Side, System},
    usage::{Sample, Watched},
};

pub(crate) mod calls;
pub(crate) mod crowd;
pub(crate) mod history;
pub(crate) mod sends;
pub(crate) mod soak;
pub(crate) mod stalled;
pub(crate) mod storm;

/// Handshakes and joins at a time: a system under measurement is not meant to be stormed by the preparation.
const WINDOW: usize = 64;
/// Between two looks at the memory: often enough for a peak that lasts.
const WEIGH_EVERY: u64 = SECOND / 5;
/// Rooms whose stored logs are read back and compared, at most.
const ROOMS_CHECKED_MAX: usize = 8;

/// What all scenarios are told.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Where our own binaries are.
    pub(crate) binaries: PathBuf,
    /// Where folders of runs are made.
    pub(crate) folder: PathBuf,
    /// The cores of what is measured.
    pub(crate) server_cores: Cores,
    /// The cores of the workers.
    pub(crate) load_cores: Cores,
    /// Workers, at least.
    pub(crate) workers: usize,
    /// Seconds before anything is measured.
    pub(crate) warm_up_secs: f64,
    /// Seconds that are measured.
    pub(crate) secs: f64,
    /// Bytes of a message's content.
    pub(crate) content_bytes: usize,
    /// Replicas of message-svc, where there are several processes.
    pub(crate) replicas: usize,
    /// More settings of ours, by path.
    pub(crate) settings: Vec<(String, String)>,
    /// The folder for profiles of the measured times; none for no profiles.
    pub(crate) profiles: Option<PathBuf>,
}

/// A started system with its folder.
pub(crate) struct Stage {
    pub(crate) system: Box<dyn System>,
    side: String,
    watched: Vec<Watched>,
    /// After the system in the order of dropping.
    _folder: TempDir,
}

impl Stage {
    /// Starts a system.
    pub(crate) fn set(side: &Side, frame: &Frame) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix_in("switchboard-bench-", &frame.folder)?;
        let setting = Setting {
            folder: folder.path().to_owned(),
            binaries: frame.binaries.clone(),
            cores: frame.server_cores.clone(),
            replicas: frame.replicas,
            settings: frame.settings.clone(),
        };
        let system = side.start(&setting)?;
        let watched = system.watched();
        Ok(Self { system, side: side.to_string(), watched, _folder: folder })
    }

    /// What its processes have taken by now, memory included.
    pub(crate) fn sample(&self) -> Sample {
        Sample::take(&self.watched)
    }

    /// The same without memory, which is cheap.
    pub(crate) fn cpu(&self) -> Sample {
        Sample::cpu(&self.watched)
    }

    /// Watches all cores for the measured time, when profiles are wanted.
    pub(crate) fn profile(&self, frame: &Frame) -> anyhow::Result<Option<Profile>> {
        Profile::start(frame.profiles.as_deref(), &self.side, frame.secs)
    }

    /// Waits until its processes have nothing left to do from the preparation: checkpoints, caches, freed memory.
    pub(crate) fn rest(&self) {
        let limit = clock::now() + 10 * SECOND;
        let mut before = self.cpu();
        loop {
            thread::sleep(Duration::from_millis(500));
            let now = self.cpu();
            let used = now.since(&before);
            // Two ticks of the kernel's clock: as good as idle.
            if used.product().cpu_secs + used.stores().cpu_secs <= 0.021 || clock::now() > limit {
                return;
            }
            before = now;
        }
    }
}

/// What a load did, and what it took.
pub(crate) struct Measured {
    pub(crate) loaded: Loaded,
    pub(crate) cost: Sample,
    /// The most memory (PSS) that the system had, its stores aside.
    pub(crate) peak_bytes: f64,
}

/// Who is where: sockets spread evenly over people and rooms, the first ones of them sending.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cast {
    pub(crate) sockets: usize,
    pub(crate) people: usize,
    pub(crate) rooms: usize,
    pub(crate) senders: usize,
}

/// Sockets that are connected, and where they belong.
pub(crate) struct Clients {
    pub(crate) fleet: Fleet,
    pub(crate) people: Vec<String>,
    pub(crate) rooms: Vec<String>,
}

impl Clients {
    /// Registers people and makes rooms, and starts the workers; no socket is open yet.
    pub(crate) fn prepare(stage: &mut Stage, cast: Cast, cursors: bool, frame: &Frame) -> anyhow::Result<Self> {
        let people = stage.system.people(cast.people.min(cast.sockets))?;
        let rooms = stage.system.rooms(cast.rooms, &people)?;
        let endpoint = stage.system.endpoint();
        let socket = |index: usize| SocketPlan {
            token: people[index % people.len()].clone(),
            room: index % rooms.len(),
            sender: (index < cast.senders).then(|| u32::try_from(index).unwrap_or(u32::MAX)),
        };
        let plan = Plan {
            protocol: endpoint.protocol,
            addresses: endpoint.addresses,
            path: endpoint.path,
            token_path: endpoint.token_path,
            sockets: (0..cast.sockets).map(socket).collect(),
            rooms: rooms.clone(),
            content_bytes: frame.content_bytes,
            cursors,
        };
        let fleet = Fleet::start(&plan, frame.workers, &frame.load_cores)?;
        Ok(Self { fleet, people, rooms })
    }

    /// Opens all sockets.
    pub(crate) fn open(&mut self) -> anyhow::Result<Settled> {
        all_good("opened", self.fleet.settle(&Order::Open { window: WINDOW, resume: false })?)
    }

    /// Enters their rooms.
    pub(crate) fn join(&mut self) -> anyhow::Result<Settled> {
        all_good("joined", self.fleet.settle(&Order::Join { window: WINDOW })?)
    }

    /// Runs a load with its warm-up; gives what it did and what it cost in the measured time.
    pub(crate) fn load(&mut self, pace: Pace, stage: &Stage, frame: &Frame) -> anyhow::Result<(Loaded, Sample)> {
        let measured = self.measure(pace, stage, frame, false)?;
        Ok((measured.loaded, measured.cost))
    }

    /// Like [`Clients::load`], and looks at the memory all the while, which costs some CPU.
    pub(crate) fn load_weighing(&mut self, pace: Pace, stage: &Stage, frame: &Frame) -> anyhow::Result<Measured> {
        self.measure(pace, stage, frame, true)
    }

    fn measure(&mut self, pace: Pace, stage: &Stage, frame: &Frame, weigh: bool) -> anyhow::Result<Measured> {
        let pace = match pace {
            #[expect(clippy::cast_precision_loss, reason = "a handful of workers")]
            Pace::Rate(per_sec) => Pace::Rate(per_sec / self.fleet.len() as f64),
            Pace::Acks(_) | Pace::Deliveries(_) => pace,
        };
        let begin = clock::now() + SECOND / 20;
        let start = begin + nanos(frame.warm_up_secs);
        let end = start + nanos(frame.secs);
        self.fleet.tell(&Order::Load { pace, begin, start, end })?;
        clock::sleep_until(start);
        let before = stage.cpu();
        let profile = stage.profile(frame)?;
        let mut peak_bytes = 0.0;
        while weigh && clock::now() + WEIGH_EVERY < end {
            peak_bytes = stage.sample().product().pss.max(peak_bytes);
            clock::sleep_until(clock::now() + WEIGH_EVERY);
        }
        clock::sleep_until(end);
        let cost = stage.cpu().since(&before);
        profile.map_or(Ok(()), Profile::finish)?;
        Ok(Measured { loaded: self.fleet.loaded()?, cost, peak_bytes })
    }

    /// Judges a load: live orders among one another, and some rooms' against what is stored.
    pub(crate) fn check(&self, loaded: &Loaded, stage: &Stage, run: &mut Run) -> anyhow::Result<()> {
        run.problems.extend(check::live(loaded));
        let step = self.rooms.len().div_ceil(ROOMS_CHECKED_MAX).max(1);
        for (index, room) in self.rooms.iter().enumerate().step_by(step) {
            // Somebody who is in the room: sockets, people and rooms are dealt out alike.
            let reader = self.people.get(index % self.people.len().max(1)).map_or("", String::as_str);
            if let Some(log) = stage.system.stored(room, reader)? {
                run.problems.extend(check::stored(loaded, index, &log));
            }
        }
        Ok(())
    }
}

fn all_good(what: &str, settled: Settled) -> anyhow::Result<Settled> {
    if settled.failed > 0 {
        let Settled { good, failed, first_failure, .. } = settled;
        bail!("{good} sockets {what}, {failed} not, the first one for: {first_failure}");
    }
    Ok(settled)
}

/// Seconds as nanoseconds.
pub(crate) fn nanos(secs: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(secs).as_nanos()).unwrap_or(u64::MAX)
}
