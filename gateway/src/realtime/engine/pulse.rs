//! When a socket is pinged, when it is given up, and until when it may stay without saying who it is. It keeps times and
//! runs nothing: the one task of a socket asks it, and sleeps until the time that it names.

use std::time::Duration;

use tokio::time::Instant;

use crate::realtime::RealtimeConfig;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// A ping.
    Ping,
    /// The end: the last ping was not answered, or nobody has said who they are in time.
    End,
}

/// The heartbeat of one socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    /// The next ping, or, while one waits for its answer, the end.
    at: Instant,
    waiting: bool,
    /// Until then it has to be in the namespace; none once it is.
    connect_by: Option<Instant>,
}

impl Pulse {
    /// Begins with the handshake; the first ping comes an interval later.
    pub(super) fn new(config: &RealtimeConfig, now: Instant) -> Self {
        Self { at: now + interval(config), waiting: false, connect_by: Some(now + config.connect_timeout()) }
    }

    /// When to look again.
    pub(super) fn at(&self) -> Instant {
        self.connect_by.map_or(self.at, |by| by.min(self.at))
    }

    /// What is due now. A ping that is returned counts as sent.
    pub(super) fn look(&mut self, config: &RealtimeConfig, now: Instant) -> Due {
        if self.connect_by.is_some_and(|by| by <= now) {
            return Due::End;
        }
        if now < self.at {
            return Due::Nothing;
        }
        if self.waiting {
            return Due::End;
        }
        self.waiting = true;
        self.at = now + Duration::from_millis(config.ping_timeout_ms);
        Due::Ping
    }

    /// The client lives.
    pub(super) fn pong(&mut self, config: &RealtimeConfig, now: Instant) {
        self.waiting = false;
        self.at = now + interval(config);
    }

    /// Until when the client has to say who it is; none once it has.
    pub(super) fn connect_by(&mut self, by: Option<Instant>) {
        self.connect_by = by;
    }
}

fn interval(config: &RealtimeConfig) -> Duration {
    Duration::from_millis(config.ping_interval_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RealtimeConfig {
        RealtimeConfig { ping_interval_ms: 300, ping_timeout_ms: 200, connect_timeout_ms: 1_000, ..Default::default() }
    }

    #[test]
    fn pings_come_an_interval_after_the_handshake_and_after_each_answer() {
        let (config, start) = (config(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let mut pulse = Pulse::new(&config, start);
        pulse.connect_by(None);
        assert_eq!((pulse.look(&config, at(299)), pulse.at()), (Due::Nothing, at(300)));
        assert_eq!((pulse.look(&config, at(300)), pulse.at()), (Due::Ping, at(500)));
        assert_eq!(pulse.look(&config, at(499)), Due::Nothing);
        pulse.pong(&config, at(499));
        assert_eq!((pulse.look(&config, at(500)), pulse.at()), (Due::Nothing, at(799)));
        assert_eq!(pulse.look(&config, at(799)), Due::Ping);
        assert_eq!(pulse.look(&config, at(999)), Due::End, "not answered");
    }

    #[test]
    fn who_does_not_connect_in_time_is_given_up_however_lively() {
        let (config, start) = (config(), Instant::now());
        let mut pulse = Pulse::new(&config, start);
        for ms in [300, 600, 900] {
            assert_eq!(pulse.look(&config, start + Duration::from_millis(ms)), Due::Ping);
            pulse.pong(&config, start + Duration::from_millis(ms));
        }
        assert_eq!(pulse.at(), start + Duration::from_millis(1_000));
        assert_eq!(pulse.look(&config, start + Duration::from_millis(1_000)), Due::End);
    }
}
