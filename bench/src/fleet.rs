//! The workers of one run: processes of this same binary that hold the clients. The fleet gives each its part of the plan,
//! passes orders on, and adds up what they answer.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{
    orders::{Answer, Loaded, Order, Plan, Settled},
    process::{Cores, command, spawn_on},
};

/// What the processes that hold clients may open, less some for themselves.
const SOCKETS_PER_WORKER_MAX: usize = 18_000;

/// One worker.
struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start(plan: &Plan, cores: &Cores) -> anyhow::Result<Self> {
        let mut command = command(std::env::current_exe()?);
        command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = spawn_on(command, cores)?;
        let orders = child.stdin.take().context("a piped input")?;
        let answers = BufReader::new(child.stdout.take().context("a piped output")?);
        let mut worker = Self { child, orders, answers };
        worker.tell(&serde_json::to_string(plan)?)?;
        Ok(worker)
    }

    fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        self.orders.write_all(line.as_bytes())?;
        self.orders.write_all(b"\n")?;
        Ok(self.orders.flush()?)
    }

    fn answer(&mut self) -> anyhow::Result<Answer> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("a worker has ended: {:?}", self.child.wait());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that has ended already takes no order.
        drop(serde_json::to_string(&Order::Quit).map(|order| self.tell(&order)));
        drop(self.child.wait());
    }
}

/// All workers of one run; they end with it.
pub(crate) struct Fleet {
    workers: Vec<Worker>,
}

impl Fleet {
    /// Starts as many workers as the plan's sockets need, or as many as asked.
    pub(crate) fn start(plan: &Plan, workers: usize, cores: &Cores) -> anyhow::Result<Self> {
        let workers = workers.max(plan.sockets.len().div_ceil(SOCKETS_PER_WORKER_MAX)).max(1);
        let part = |worker| {
            let sockets = plan.sockets.iter().enumerate().filter(|(index, _)| index % workers == worker);
            Plan { sockets: sockets.map(|(_, socket)| socket.clone()).collect(), ..plan.clone() }
        };
        let workers = (0..workers).map(|worker| Worker::start(&part(worker), cores)).collect::<Result<_, _>>()?;
        Ok(Self { workers })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.workers.len()
    }

    /// Gives all of them an order without waiting for what they answer.
    pub(crate) fn tell(&mut self, order: &Order) -> anyhow::Result<()> {
        let line = serde_json::to_string(order)?;
        self.workers.iter_mut().try_for_each(|worker| worker.tell(&line))
    }

    fn answers<T>(&mut self, mut take: impl FnMut(Answer) -> Option<T>) -> anyhow::Result<Vec<T>> {
        let mut all = Vec::new();
        for worker in &mut self.workers {
            let answer = worker.answer()?;
            let told = format!("{answer:?}");
            all.push(take(answer).with_context(|| format!("a worker answers {}", &told[..told.len().min(300)]))?);
        }
        Ok(all)
    }

    /// Gives an order that ends with all sockets where they should be, and waits for it.
    pub(crate) fn settle(&mut self, order: &Order) -> anyhow::Result<Settled> {
        self.tell(order)?;
        self.settled()
    }

    /// Waits for the end of such an order.
    pub(crate) fn settled(&mut self) -> anyhow::Result<Settled> {
        let all = self.answers(|answer| if let Answer::Settled(settled) = answer { Some(settled) } else { None })?;
        let mut sum = Settled::default();
        for settled in all {
            sum.good += settled.good;
            sum.failed += settled.failed;
            sum.missed += settled.missed;
            sum.took = sum.took.max(settled.took);
            sum.micros.add(&settled.micros);
            if sum.first_failure.is_empty() {
                sum.first_failure = settled.first_failure;
            }
        }
        Ok(sum)
    }

    /// Gives an order that is done at once.
    pub(crate) fn order(&mut self, order: &Order) -> anyhow::Result<()> {
        self.tell(order)?;
        self.answers(|answer| matches!(answer, Answer::Done).then_some(())).map(drop)
    }

    /// Waits for the end of a load.
    pub(crate) fn loaded(&mut self) -> anyhow::Result<Loaded> {
        let all = self.answers(|answer| if let Answer::Loaded(loaded) = answer { Some(loaded) } else { None })?;
        let mut sum = Loaded { drained: Some(0), ..Loaded::default() };
        for loaded in all {
            sum.acks += loaded.acks;
            sum.deliveries += loaded.deliveries;
            sum.delivery_bytes += loaded.delivery_bytes;
            sum.ack_micros.add(&loaded.ack_micros);
            sum.delivery_micros.add(&loaded.delivery_micros);
            sum.refused += loaded.refused;
            sum.closed += loaded.closed;
            sum.cpu += loaded.cpu;
            sum.drained = sum.drained.zip(loaded.drained).map(|(a, b)| a.max(b));
            sum.senders.extend(loaded.senders);
            sum.rooms.extend(loaded.rooms);
            if sum.first_refusal.is_empty() {
                sum.first_refusal = loaded.first_refusal;
            }
        }
        Ok(sum)
    }
}
