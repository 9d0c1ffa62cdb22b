//! REST calls over connections that are kept, one call at a time on each, all in one poll.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::fd::AsFd as _,
};

use anyhow::bail;
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    time::{TimerfdClockId, TimerfdFlags, timerfd_create},
};

use super::{CallPlan, Called, Tally};
use crate::clock::{self, SECOND};

const BUFFER_BYTES: usize = 256 * 1024;
/// The timer's place in the poll; connections have their index.
const TIMER: u64 = u64::MAX;
/// After the end, what is not answered by then never will be.
const DRAIN_MAX: u64 = 20 * SECOND;
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// One connection.
struct Connection {
    stream: TcpStream,
    /// An answer that is not there as a whole.
    partial: Vec<u8>,
    /// When the call in progress was meant to be made.
    meant: Option<u64>,
}

pub(super) fn run(plan: &CallPlan) -> anyhow::Result<Called> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    epoll::add(&epoll, timer.as_fd(), EventData::new_u64(TIMER), EventFlags::IN)?;
    let mut connections = Vec::with_capacity(plan.at_once);
    for index in 0..plan.at_once {
        let stream = TcpStream::connect(plan.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&epoll, stream.as_fd(), EventData::new_u64(u64::try_from(index)?), EventFlags::IN)?;
        connections.push(Connection { stream, partial: Vec::new(), meant: None });
    }
    let mut idle: Vec<usize> = (0..connections.len()).collect();
    let (mut tally, mut due) = (Tally::default(), Due::default());
    let (mut turn, mut buffer, mut events) = (0, vec![0; BUFFER_BYTES], Vec::with_capacity(256));
    let mut cpu = None;
    loop {
        let now = clock::now();
        if now >= plan.start && cpu.is_none() {
            cpu = Some(clock::cpu());
        }
        due.look(plan, now, &timer)?;
        while let Some(&index) = idle.last()
            && let Some(meant) = due.next(plan, now)
        {
            idle.pop();
            let request = &plan.requests[turn % plan.requests.len()];
            turn += 1;
            connections[index].call(request, meant)?;
        }
        let over = now >= plan.end && due.waiting.is_empty() && idle.len() == connections.len();
        if over || now > plan.end + DRAIN_MAX {
            break;
        }
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), Some(&TICK)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let place = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            if let Some(connection) = connections.get_mut(place) {
                if connection.read(&mut buffer, plan, &mut tally)? {
                    idle.push(place);
                }
            } else {
                // Nothing to read is as good.
                rustix::io::read(&timer, &mut [0; 8]).ok();
            }
        }
    }
    Ok(tally.report(clock::cpu().saturating_sub(cpu.unwrap_or_default())))
}

/// Calls that are due and find no connection free.
#[derive(Default)]
struct Due {
    waiting: VecDeque<u64>,
    scheduled: u64,
}

impl Due {
    /// Notes what the schedule says, and sets the timer to what comes next.
    fn look(&mut self, plan: &CallPlan, now: u64, timer: &rustix::fd::OwnedFd) -> anyhow::Result<()> {
        let Some(rate) = plan.rate else { return Ok(()) };
        loop {
            let at = clock::scheduled(plan.begin, self.scheduled, rate);
            if at >= plan.end {
                return Ok(());
            }
            if at > now {
                return clock::set_timer(timer, at);
            }
            self.scheduled += 1;
            self.waiting.push_back(at);
        }
    }

    /// When the next call was meant to be made; none when nothing is to be called now.
    fn next(&mut self, plan: &CallPlan, now: u64) -> Option<u64> {
        match plan.rate {
            Some(_) => self.waiting.pop_front(),
            None => (now >= plan.begin && now < plan.end).then(clock::now),
        }
    }
}

impl Connection {
    fn call(&mut self, request: &str, meant: u64) -> anyhow::Result<()> {
        self.meant = Some(meant);
        // A request is far smaller than an empty send buffer.
        Ok(self.stream.write_all(request.as_bytes())?)
    }

    /// Reads what has come; true when the call is answered.
    fn read(&mut self, buffer: &mut [u8], plan: &CallPlan, tally: &mut Tally) -> anyhow::Result<bool> {
        let len = match self.stream.read(buffer) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(len) => len,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let whole = if self.partial.is_empty() && answer(&buffer[..len])?.is_some() {
            &buffer[..len]
        } else {
            self.partial.extend_from_slice(&buffer[..len]);
            &self.partial
        };
        let Some(answer_len) = answer(whole)? else { return Ok(false) };
        if answer_len != whole.len() {
            bail!("more than one answer came");
        }
        let good = whole.get(9) == Some(&b'2');
        let failure = (!good).then(|| String::from_utf8_lossy(&whole[..whole.len().min(500)]).into_owned());
        if let Some(meant) = self.meant.take() {
            tally.answer(plan, meant, clock::now(), failure);
        }
        self.partial.clear();
        Ok(true)
    }
}

/// The length of an answer that is there as a whole.
fn answer(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..head])?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let Some(length) = length else { bail!("an answer without a length: {text}") };
    let whole = head + 4 + length;
    Ok((bytes.len() >= whole).then_some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_once_its_body_is() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..text.len() {
            assert_eq!(answer(&text[..cut]).expect("well formed"), None, "{cut}");
        }
        assert_eq!(answer(text).expect("well formed"), Some(text.len()));
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
