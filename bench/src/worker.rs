//! A worker: a process with one thread that holds thousands of clients in one poll, so that receiving costs as little as
//! can be. It does what `orders.rs` tells it and reports. One client is `worker/socket.rs`, when messages are sent is
//! `worker/load.rs`, what was seen is `worker/tally.rs`.

use std::{
    collections::VecDeque,
    io::Write as _,
    os::fd::AsFd as _,
    sync::mpsc::{self, Receiver, TryRecvError},
    thread,
};

use anyhow::Context as _;
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    time::{TimerfdClockId, TimerfdFlags, timerfd_create},
};

use crate::{
    clock::{self, SECOND},
    marker::Finder,
    orders::{Answer, Order, Plan, Settled},
    series::Series,
};

pub(crate) mod frame;
mod load;
mod socket;
mod tally;

use load::Load;
use socket::{News, Shared, Socket, Stage};

/// The timer's place in the poll; sockets have their index.
const TIMER: u64 = u64::MAX;
/// Bytes read at once: what a full receive buffer of the kernel holds.
const BUFFER_BYTES: usize = 256 * 1024;
/// Nothing settles for so long: the rest never will.
const SETTLE_PATIENCE: u64 = 60 * SECOND;
/// How often orders are looked for, at least.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// Runs until it is told to end, or until whoever gives the orders has gone.
pub(crate) fn run() -> anyhow::Result<()> {
    let (give, orders) = mpsc::channel();
    thread::spawn(move || {
        // The end of the input ends the worker: the channel closes.
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if give.send(line).is_err() {
                return;
            }
        }
    });
    let plan = orders.recv().context("no plan came")?;
    Worker::new(serde_json::from_str(&plan).context("the plan")?)?.run(&orders)
}

fn say(answer: &Answer) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Sockets on their way to somewhere.
struct Settling {
    waiting: VecDeque<usize>,
    active: usize,
    window: usize,
    resume: bool,
    joining: bool,
    begun: u64,
    last: u64,
    outcome: Settled,
    times: Series,
}

struct Worker {
    sockets: Vec<Socket>,
    shared: Shared,
    timer: rustix::fd::OwnedFd,
    settling: Option<Settling>,
    load: Option<Load>,
}

impl Worker {
    fn new(plan: Plan) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        epoll::add(&epoll, timer.as_fd(), epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        let sockets = (0..plan.sockets.len()).map(|index| Socket::new(index, &plan)).collect();
        let shared = Shared {
            dialect: plan.protocol.dialect(),
            plan,
            finder: Finder::default(),
            epoll,
            tally: tally::Tally::default(),
            news: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
        };
        Ok(Self { sockets, shared, timer, settling: None, load: None })
    }

    fn run(&mut self, orders: &Receiver<String>) -> anyhow::Result<()> {
        let mut events = Vec::with_capacity(1024);
        loop {
            match orders.try_recv() {
                Ok(line) => {
                    if !self.obey(serde_json::from_str(&line).context("an order")?)? {
                        return Ok(());
                    }
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
            events.clear();
            match epoll::wait(&self.shared.epoll, spare_capacity(&mut events), Some(&TICK)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let (place, flags) = (event.data.u64(), event.flags);
                if let Some(socket) = usize::try_from(place).ok().and_then(|index| self.sockets.get_mut(index)) {
                    socket.ready(flags, &mut self.shared);
                } else if let Some(load) = &mut self.load {
                    load.timer_fired(&self.timer);
                }
                self.hear();
            }
            self.go_on()?;
        }
    }

    /// Does what is due without anything having come.
    fn go_on(&mut self) -> anyhow::Result<()> {
        let now = clock::now();
        if let Some(load) = &mut self.load {
            load.go_on(now, &mut self.sockets, &mut self.shared, &self.timer)?;
            self.hear();
        }
        if let Some(load) = &self.load
            && load.is_over(now, &self.sockets, &self.shared)
        {
            let report = load.report(now, &self.sockets, &self.shared);
            self.load = None;
            say(&Answer::Loaded(Box::new(report)))?;
        }
        if let Some(settling) = &mut self.settling {
            if now.saturating_sub(settling.last) > SETTLE_PATIENCE {
                let left = settling.active + settling.waiting.len();
                settling.outcome.failed += u64::try_from(left).unwrap_or(0);
                if settling.outcome.first_failure.is_empty() {
                    settling.outcome.first_failure = "no answer".to_owned();
                }
                (settling.active, settling.waiting) = (0, VecDeque::new());
            }
            if settling.active == 0 && settling.waiting.is_empty() {
                settling.outcome.took = now - settling.begun;
                settling.outcome.micros = settling.times.counts();
                settling.outcome.missed = std::mem::take(&mut self.shared.tally.missed);
                say(&Answer::Settled(std::mem::take(&mut settling.outcome)))?;
                self.settling = None;
            }
        }
        Ok(())
    }

    /// Takes the news of the sockets.
    fn hear(&mut self) {
        while let Some(news) = self.shared.news.pop() {
            let (settled, failure) = match news {
                News::Answered(index, count) => {
                    if let Some(load) = &mut self.load {
                        load.answered(index, count, &mut self.sockets, &mut self.shared);
                    }
                    continue;
                }
                News::Closed(index) => {
                    if let Some(load) = &mut self.load {
                        load.closed(&self.sockets[index]);
                    }
                    continue;
                }
                News::Settled(took) => (Some(took), String::new()),
                News::Failed(why) => (None, why),
            };
            let Some(settling) = &mut self.settling else { continue };
            settling.last = clock::now();
            settling.active = settling.active.saturating_sub(1);
            match settled {
                Some(took) => {
                    settling.outcome.good += 1;
                    settling.times.record(took);
                }
                None => {
                    settling.outcome.failed += 1;
                    if settling.outcome.first_failure.is_empty() {
                        settling.outcome.first_failure = failure;
                    }
                }
            }
            self.settle_more();
        }
    }

    fn settle_more(&mut self) {
        let Some(settling) = &mut self.settling else { return };
        // A socket that cannot even begin has told so as news, which is heard by who called.
        while settling.active < settling.window
            && let Some(index) = settling.waiting.pop_front()
        {
            settling.active += 1;
            let socket = &mut self.sockets[index];
            if settling.joining {
                socket.join(&mut self.shared);
            } else {
                socket.open(settling.resume, &mut self.shared);
            }
        }
    }

    fn settle(&mut self, window: usize, resume: bool, joining: bool) {
        let from: &[Stage] = if joining { &[Stage::Ready] } else { &[Stage::Idle, Stage::Closed] };
        let waiting = self.sockets.iter().enumerate().filter(|(_, socket)| from.contains(&socket.stage));
        let waiting = waiting.map(|(index, _)| index).collect();
        let window = if window == 0 { usize::MAX } else { window };
        let (begun, outcome, times) = (clock::now(), Settled::default(), Series::default());
        self.settling =
            Some(Settling { waiting, active: 0, window, resume, joining, begun, last: begun, outcome, times });
        self.settle_more();
        self.hear();
    }

    /// Does what it is told; false to end.
    fn obey(&mut self, order: Order) -> anyhow::Result<bool> {
        match order {
            Order::Open { window, resume } => self.settle(window, resume, false),
            Order::Join { window } => self.settle(window, false, true),
            Order::Load { pace, begin, start, end } => {
                self.load = Some(Load::new(pace, begin, start, end, &mut self.sockets, &mut self.shared));
            }
            Order::Stall { sockets } => {
                let quiet = self.sockets.iter_mut().filter(|socket| socket.sender.is_none() && !socket.stalled);
                quiet.take(sockets).for_each(|socket| socket.stall(&self.shared));
                say(&Answer::Done)?;
            }
            Order::Cut => {
                let cut = self.sockets.iter_mut().filter(|socket| socket.sender.is_none());
                cut.for_each(|socket| socket.hang_up(&self.shared));
                say(&Answer::Done)?;
            }
            Order::Quit => return Ok(false),
        }
        Ok(true)
    }
}
