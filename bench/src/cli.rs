//! The command line: one command for each row of the report.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use crate::{
    caller,
    conduct::Conductor,
    machine::Machine,
    orders::Pace,
    process::{Cores, repository},
    run::float,
    scenario::{
        Cast, Frame, calls,
        crowd::{self, Crowd},
        history,
        sends::{self, Sends},
        soak::{self, Soak},
        stalled::{self, Stalled},
        storm::{self, Storm},
    },
    system::Side,
    worker,
};

/// Measures Switchboard against its peers, and checks that both did their work.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 every run did its work right; 1 some did not; 2 it could not be measured."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every scenario takes.
#[derive(Debug, Args)]
struct Common {
    /// Systems, separated by blanks: switchboard, switchboard-postgres, node, socketioxide, preframed, nestjs,
    /// `nakama=URL[,PID[,STORE_PID]]`. Default: those that the scenario is about.
    #[arg(long, global = true, value_delimiter = ' ')]
    sides: Vec<Side>,
    /// Runs of each system, in turn.
    #[arg(long, global = true, default_value_t = 3)]
    runs: usize,
    /// Seconds that are measured.
    #[arg(long, global = true, default_value_t = 10.0)]
    secs: f64,
    /// Seconds before them.
    #[arg(long, global = true, default_value_t = 3.0)]
    warm_up: f64,
    /// Bytes of a message's content.
    #[arg(long, global = true, default_value_t = 128)]
    content_bytes: usize,
    /// Cores of what is measured, as 0,1. Default: all, or what the scenario is about.
    #[arg(long, global = true, value_delimiter = ',')]
    server_cores: Option<Vec<usize>>,
    /// Cores of the load generator.
    #[arg(long, global = true, value_delimiter = ',')]
    load_cores: Option<Vec<usize>>,
    /// Worker processes, at least.
    #[arg(long, global = true, default_value_t = 1)]
    workers: usize,
    /// Replicas of message-svc in switchboard-postgres.
    #[arg(long, global = true, default_value_t = 1)]
    replicas: usize,
    /// One more setting of Switchboard by its path, as `gateway.realtime.outgoing_max=512`; may be repeated.
    #[arg(long, global = true, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// The folder of Switchboard's binaries. Default: this program's own.
    #[arg(long, global = true)]
    binaries: Option<PathBuf>,
    /// The folder in which the stores of each run lie; it should be on a disk. Default: the system's temporary one.
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
    /// Profiles of the measured times, by `perf record` on all cores, go to `profiles/` beside the report. They cost a little.
    #[arg(long, global = true)]
    profile: bool,
    /// The folder of report and raw data. Default: target/bench-results in the repository.
    #[arg(long, global = true)]
    out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One sender, everybody in one room, the server on one core: deliveries a second, and CPU per delivery at a rate.
    FanOut {
        /// Sockets in the room.
        #[arg(long, default_value_t = 10_000)]
        sockets: usize,
        /// Accounts behind them.
        #[arg(long, default_value_t = 1_000)]
        people: usize,
        /// Messages on their way to everybody at once.
        #[arg(long, default_value_t = 4)]
        window: u32,
        /// Deliveries a second for the CPU per delivery; 0 for none.
        #[arg(long, default_value_t = 20_000.0)]
        rate: f64,
    },
    /// What a socket costs that does nothing: authenticated, and in a room.
    Idle {
        /// Sockets.
        #[arg(long, default_value_t = 10_000)]
        sockets: usize,
        /// Accounts behind them.
        #[arg(long, default_value_t = 10_000)]
        people: usize,
        /// Rooms that they are spread over.
        #[arg(long, default_value_t = 100)]
        rooms: usize,
    },
    /// Senders in rooms of their own, each with some messages unacknowledged.
    Durable {
        /// Senders.
        #[arg(long, default_value_t = 64)]
        senders: usize,
        /// Rooms that they are spread over.
        #[arg(long, default_value_t = 64)]
        rooms: usize,
        /// Messages of each that are not acknowledged yet.
        #[arg(long, default_value_t = 8)]
        in_flight: u32,
    },
    /// One room whose members hear a few senders.
    HotRoom {
        /// Sockets in the room.
        #[arg(long, default_value_t = 64)]
        members: usize,
        /// Those that send.
        #[arg(long, default_value_t = 8)]
        senders: usize,
        /// Messages of each that are not acknowledged yet.
        #[arg(long, default_value_t = 8)]
        in_flight: u32,
    },
    /// From send to delivery at a steady rate over many rooms.
    Latency {
        /// Sockets.
        #[arg(long, default_value_t = 10_000)]
        sockets: usize,
        /// Accounts behind them.
        #[arg(long, default_value_t = 1_000)]
        people: usize,
        /// Rooms that they are spread over.
        #[arg(long, default_value_t = 1_000)]
        rooms: usize,
        /// Messages a second.
        #[arg(long, default_value_t = 1_000.0)]
        rate: f64,
    },
    /// Sockets that stop to read in a room under load.
    Stalled {
        /// Sockets that go on reading.
        #[arg(long, default_value_t = 200)]
        readers: usize,
        /// Sockets that stop.
        #[arg(long, default_value_t = 50)]
        stalled: usize,
        /// Messages a second.
        #[arg(long, default_value_t = 200.0)]
        rate: f64,
    },
    /// Many sockets cut at once, each resuming by cursor while messages go on.
    Storm {
        /// Sockets that are cut.
        #[arg(long, default_value_t = 5_000)]
        sockets: usize,
        /// Accounts behind them.
        #[arg(long, default_value_t = 1_000)]
        people: usize,
        /// Rooms that they are spread over.
        #[arg(long, default_value_t = 50)]
        rooms: usize,
        /// Messages a second.
        #[arg(long, default_value_t = 100.0)]
        rate: f64,
    },
    /// Profile, rooms and a page of history by REST.
    Rest {
        /// Connections, each with one request at a time.
        #[arg(long, default_value_t = 16)]
        connections: usize,
    },
    /// Logins at the default cost of a password, alone and beside a load of sends.
    Logins {
        /// Sends a second beside them.
        #[arg(long, default_value_t = 500.0)]
        sends: f64,
    },
    /// Pages of a room with very many messages beside those of a short one.
    History {
        /// Messages of the long room.
        #[arg(long, default_value_t = 10_000_000)]
        messages: u64,
    },
    /// What grows with sockets, with rooms and with replicas.
    Growth {
        /// Numbers of sockets.
        #[arg(long, value_delimiter = ',', default_value = "1000,2000,5000,10000")]
        sockets: Vec<usize>,
        /// Numbers of rooms that 2,000 sockets are spread over, at one number of deliveries a second.
        #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000")]
        rooms: Vec<usize>,
        /// Sockets that the rooms are spread over.
        #[arg(long, default_value_t = 2_000)]
        spread: usize,
        /// Deliveries a second.
        #[arg(long, default_value_t = 10_000.0)]
        deliveries: f64,
        /// Numbers of message-svc's replicas; 0 for none of this part.
        #[arg(long, value_delimiter = ',', default_value = "1,2,4")]
        message_services: Vec<usize>,
    },
    /// A steady load for a long time. The measured seconds are those of one of its minutes.
    Soak {
        /// Minutes.
        #[arg(long, default_value_t = 30)]
        minutes: u64,
        /// Minutes until which growth is no fault.
        #[arg(long, default_value_t = 5)]
        settled_after: u64,
        /// Messages a second.
        #[arg(long, default_value_t = 5_000.0)]
        rate: f64,
        /// Sockets.
        #[arg(long, default_value_t = 1_000)]
        sockets: usize,
        /// Rooms that they are spread over.
        #[arg(long, default_value_t = 100)]
        rooms: usize,
    },
    /// All rows but the soak, and one report: about 25 minutes on two cores.
    Full,
    /// Makes calls for a measurement; started by it.
    #[command(hide = true)]
    Caller,
    /// Holds clients for a measurement; started by it.
    #[command(hide = true)]
    Worker,
}

/// The rows of the full report, with times that fit into 25 minutes on two cores.
const FULL: [&str; 11] = [
    "fan-out --runs 2 --secs 6 --warm-up 2",
    "idle --runs 1",
    "durable --runs 3 --secs 6 --warm-up 2",
    "hot-room --runs 3 --secs 6 --warm-up 2",
    "latency --runs 1 --secs 10 --warm-up 3",
    "stalled --runs 1 --secs 8 --warm-up 2",
    "storm --runs 1 --secs 10 --warm-up 2",
    "rest --runs 2 --secs 4 --warm-up 1",
    "logins --runs 1 --secs 8 --warm-up 2",
    "history --runs 1 --secs 2 --warm-up 0.5",
    "growth --runs 1 --secs 4 --warm-up 1",
];

/// Does what is asked; true when every run did its work right.
pub(crate) fn run(cli: Cli) -> anyhow::Result<bool> {
    let Cli { common, command } = cli;
    if matches!(command, Command::Worker) {
        return worker::run().map(|()| true);
    }
    if matches!(command, Command::Caller) {
        return caller::run().map(|()| true);
    }
    let out = match &common.out {
        Some(out) => out.clone(),
        None => repository()?.join("target/bench-results"),
    };
    let frame = Frame { profiles: common.profile.then(|| out.join("profiles")), ..common.frame()? };
    let machine = Machine::look(&frame.folder, &repository()?);
    let mut conductor = Conductor::new(out, machine, common.runs)?;
    if matches!(command, Command::Full) {
        for row in FULL {
            let arguments = std::iter::once("switchboard-bench").chain(row.split(' '));
            let Cli { common: own, command } = Cli::try_parse_from(arguments)?;
            // Sizes are the row's, everything else is as it was asked for.
            let rounds = own.runs.min(common.runs);
            let frame = Frame { warm_up_secs: own.warm_up, secs: own.secs, ..frame.clone() };
            conductor.rounds(rounds);
            command.conduct(&common, &frame, &mut conductor)?;
        }
    } else {
        command.conduct(&common, &frame, &mut conductor)?;
    }
    conductor.finish()
}

impl Common {
    fn frame(&self) -> anyhow::Result<Frame> {
        let this = std::env::current_exe()?;
        let binaries = match &self.binaries {
            Some(folder) => folder.canonicalize().with_context(|| folder.display().to_string())?,
            None => this.parent().context("this program is in no folder")?.to_owned(),
        };
        let setting = |text: &String| {
            let (path, value) = text.split_once('=').with_context(|| format!("{text} is not PATH=VALUE"))?;
            Ok((path.to_owned(), value.to_owned()))
        };
        Ok(Frame {
            binaries,
            folder: self.folder.clone().unwrap_or_else(std::env::temp_dir),
            server_cores: Cores(self.server_cores.clone().unwrap_or_default()),
            load_cores: Cores(self.load_cores.clone().unwrap_or_default()),
            workers: self.workers,
            warm_up_secs: self.warm_up,
            secs: self.secs,
            content_bytes: self.content_bytes,
            replicas: self.replicas,
            settings: self.set.iter().map(setting).collect::<anyhow::Result<_>>()?,
            profiles: None,
        })
    }

    /// The systems that were asked for, or those that the scenario is about.
    fn sides(&self, default: &[&str]) -> anyhow::Result<Vec<Side>> {
        if self.sides.is_empty() { default.iter().map(|side| side.parse()).collect() } else { Ok(self.sides.clone()) }
    }
}

/// The server on the first core and the load on the others, unless told otherwise.
fn apart(frame: &Frame) -> Frame {
    let mut frame = frame.clone();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if frame.server_cores.0.is_empty() && frame.load_cores.0.is_empty() && cores > 1 {
        frame.server_cores = Cores(vec![0]);
        frame.load_cores = Cores((1..cores).collect());
    }
    frame
}

impl Command {
    fn conduct(&self, common: &Common, frame: &Frame, conductor: &mut Conductor) -> anyhow::Result<()> {
        match *self {
            Self::FanOut { sockets, people, window, rate } => {
                let crowd = Crowd { sockets, people, window, deliveries_per_sec: rate, rooms: 1 };
                let sides = common.sides(&["switchboard", "node", "socketioxide", "preframed"])?;
                conductor.scenario("fan-out", &sides, |side| crowd::fan_out(crowd, side, &apart(frame)))
            }
            Self::Idle { sockets, people, rooms } => {
                let crowd = Crowd { sockets, people, window: 1, deliveries_per_sec: 0.0, rooms };
                let sides = common.sides(&["switchboard", "node", "socketioxide", "preframed"])?;
                conductor.scenario("idle", &sides, |side| crowd::idle(crowd, side, frame))
            }
            Self::Durable { senders, rooms, in_flight } => {
                let cast = Cast { sockets: senders, people: senders, rooms, senders };
                let sends = Sends { cast, pace: Pace::Acks(in_flight) };
                let sides = common.sides(&["switchboard-postgres", "switchboard", "nestjs"])?;
                conductor.scenario("durable sends", &sides, |side| sends::run(sends, side, frame))
            }
            Self::HotRoom { members, senders, in_flight } => {
                let cast = Cast { sockets: members, people: members, rooms: 1, senders };
                let sends = Sends { cast, pace: Pace::Acks(in_flight) };
                let sides = common.sides(&["switchboard-postgres", "switchboard", "nestjs"])?;
                conductor.scenario("hot room", &sides, |side| sends::run(sends, side, frame))
            }
            Self::Latency { sockets, people, rooms, rate } => {
                let cast = Cast { sockets, people, rooms, senders: rooms };
                let sends = Sends { cast, pace: Pace::Rate(rate) };
                let sides = common.sides(&["switchboard", "node"])?;
                conductor.scenario("latency", &sides, |side| sends::run(sends, side, frame))
            }
            Self::Stalled { readers, stalled, rate } => {
                let stalled = Stalled { readers, stalled, rate };
                let sides = common.sides(&["switchboard", "node"])?;
                conductor.scenario("stalled sockets", &sides, |side| stalled::run(stalled, side, frame))
            }
            Self::Storm { sockets, people, rooms, rate } => {
                let storm = Storm { sockets, people, rooms, rate };
                let sides = common.sides(&["switchboard"])?;
                conductor.scenario("reconnect storm", &sides, |side| storm::run(storm, side, frame))
            }
            Self::Rest { .. }
            | Self::Logins { .. }
            | Self::History { .. }
            | Self::Growth { .. }
            | Self::Soak { .. }
            | Self::Full
            | Self::Caller
            | Self::Worker => self.conduct_more(common, frame, conductor),
        }
    }

    fn conduct_more(&self, common: &Common, frame: &Frame, conductor: &mut Conductor) -> anyhow::Result<()> {
        match self {
            Self::Rest { connections } => {
                let sides = common.sides(&["switchboard-postgres", "nestjs"])?;
                conductor.scenario("REST reads", &sides, |side| calls::reads(*connections, side, frame))
            }
            Self::Logins { sends } => {
                let sides = common.sides(&["switchboard"])?;
                conductor.scenario("logins", &sides, |side| calls::logins(*sends, side, frame))
            }
            Self::History { messages } => {
                let sides = common.sides(&["switchboard"])?;
                conductor.scenario("long history", &sides, |side| history::run(*messages, side, frame))
            }
            Self::Growth { sockets, rooms, spread, deliveries, message_services } => {
                let growth = Growth { spread: *spread, deliveries: *deliveries };
                growth.conduct([sockets, rooms, message_services], common, frame, conductor)
            }
            Self::Soak { minutes, settled_after, rate, sockets, rooms } => {
                let cast = Cast { sockets: *sockets, people: *sockets, rooms: *rooms, senders: *rooms };
                let sends = Sends { cast, pace: Pace::Rate(*rate) };
                let soak = Soak { sends, minutes: *minutes, settled_after: *settled_after };
                let sides = common.sides(&["switchboard"])?;
                conductor.scenario("soak", &sides, |side| soak::run(soak, side, frame))
            }
            Self::FanOut { .. }
            | Self::Idle { .. }
            | Self::Durable { .. }
            | Self::HotRoom { .. }
            | Self::Latency { .. }
            | Self::Stalled { .. }
            | Self::Storm { .. }
            | Self::Full
            | Self::Caller
            | Self::Worker => Ok(()),
        }
    }
}

/// What the parts of the growth have in common.
struct Growth {
    spread: usize,
    deliveries: f64,
}

impl Growth {
    fn conduct(
        &self,
        [sockets, rooms, replicas]: [&[usize]; 3],
        common: &Common,
        frame: &Frame,
        conductor: &mut Conductor,
    ) -> anyhow::Result<()> {
        let embedded = common.sides(&["switchboard"])?;
        for &sockets in sockets {
            let crowd = Crowd { sockets, people: sockets.min(1_000), window: 1, deliveries_per_sec: 0.0, rooms: 10 };
            conductor
                .scenario(&format!("growth: {sockets} sockets"), &embedded, |side| crowd::idle(crowd, side, frame))?;
        }
        for &rooms in rooms {
            let cast = Cast { sockets: self.spread, people: self.spread.min(1_000), rooms, senders: rooms };
            let members = float(u64::try_from(self.spread.div_ceil(rooms))?);
            let sends = Sends { cast, pace: Pace::Rate(self.deliveries / members) };
            conductor.scenario(&format!("growth: {rooms} rooms"), &embedded, |side| sends::run(sends, side, frame))?;
        }
        for &replicas in replicas.iter().filter(|replicas| **replicas > 0) {
            let frame = Frame { replicas, ..frame.clone() };
            let cast = Cast { sockets: 64, people: 64, rooms: 64, senders: 64 };
            let sends = Sends { cast, pace: Pace::Acks(8) };
            let sides = common.sides(&["switchboard-postgres"])?;
            conductor
                .scenario(&format!("growth: {replicas} message-svc"), &sides, |side| sends::run(sends, side, &frame))?;
        }
        Ok(())
    }
}
