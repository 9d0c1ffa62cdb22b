//! The tasks that follow a service's replicas: one looks its names up, one for each replica asks it how it is. Every wait
//! is drawn at random around what is configured, so that many processes do not ask in step.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rand::RngExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{Replica, Shared};
use crate::{client::Backoff, error::cut_off};

/// The shortest time between two lookups, however many calls fail: a name server is not asked once a call.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);
/// The first wait before a dead replica is asked again.
const DEAD_WAIT: Duration = Duration::from_millis(50);

/// What a replica answered that cannot serve.
pub(super) enum Problem {
    /// It answers, and says that it does not serve.
    NotServing(String),
    /// Its connection cannot be had, or broke.
    Unreachable(String),
    /// It said nothing in time.
    Silent,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotServing(words) | Self::Unreachable(words) => f.write_str(words),
            Self::Silent => f.write_str("does not answer"),
        }
    }
}

impl Shared {
    /// Looks the names up, again and again; addresses are looked up once.
    pub(super) async fn keep_looking_up(self: Arc<Self>) {
        let fixed = self.places.iter().all(super::Place::is_fixed);
        let every = Duration::from_millis(self.config.resolve_ms);
        loop {
            self.look_up().await;
            if fixed {
                return;
            }
            let begun = Instant::now();
            tokio::select! {
                () = tokio::time::sleep(jittered(every)) => {}
                () = self.lookup.notified() => {
                    tokio::time::sleep(jittered(LOOKUP_PAUSE).saturating_sub(begun.elapsed())).await;
                }
            }
        }
    }

    async fn look_up(self: &Arc<Self>) {
        let mut found = HashMap::new();
        for place in &*self.places {
            match place.addresses(&*self.resolver).await {
                Ok(addresses) => found.extend(addresses.into_iter().map(|address| (address, place))),
                // A name server that is away says nothing about the replicas: all stay as they are.
                Err(error) => {
                    let service = self.service.as_str();
                    tracing::debug!(peer.service = service, error = %error, "A service's name cannot be looked up");
                    return;
                }
            }
        }
        if !found.is_empty() {
            self.adopt(&found);
        }
    }

    /// Asks one replica how it is, again and again.
    pub(super) async fn keep_looking_at(self: Arc<Self>, replica: Arc<Replica>) {
        let every = Duration::from_millis(self.config.check_ms);
        let mut backoff = Backoff::new(DEAD_WAIT, every);
        loop {
            if replica.is_alive() {
                tokio::select! {
                    () = tokio::time::sleep(jittered(every)) => {}
                    () = replica.hurry.notified() => {}
                }
            } else {
                backoff.wait().await;
            }
            match self.check(&replica).await {
                Ok(()) => {
                    self.alive(&replica);
                    backoff.reset();
                }
                Err(Problem::NotServing(_)) => self.dead(&replica, "it does not serve"),
                Err(Problem::Unreachable(_)) => {
                    self.dead(&replica, "it cannot be reached");
                    self.give_up(&replica);
                    self.lookup.notify_one();
                }
                Err(Problem::Silent) => {
                    let silence_max = Duration::from_millis(self.config.silence_ms_max);
                    let silent = replica.health().heard.is_none_or(|heard| heard.elapsed() >= silence_max);
                    if silent {
                        self.dead(&replica, "it does not answer");
                        self.give_up(&replica);
                        self.lookup.notify_one();
                    }
                }
            }
        }
    }

    /// Asks one replica how it is, once.
    pub(super) async fn check(&self, replica: &Replica) -> Result<(), Problem> {
        let limit = Duration::from_millis(self.config.check_ms);
        let mut request = tonic::Request::new(HealthCheckRequest { service: self.grpc_name.to_owned() });
        request.set_timeout(limit);
        let mut client = HealthClient::new(replica.channel());
        let Ok(answer) = tokio::time::timeout(limit, client.check(request)).await else { return Err(Problem::Silent) };
        match answer {
            Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => Ok(()),
            Ok(answer) => Err(Problem::NotServing(format!("says {}", answer.get_ref().status().as_str_name()))),
            Err(status) if unreachable(&status) => {
                Err(Problem::Unreachable(format!("cannot be asked: {}", status.code())))
            }
            Err(status) if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) => Err(Problem::Silent),
            Err(status) => Err(Problem::NotServing(format!("cannot be asked: {}", status.code()))),
        }
    }

    fn alive(&self, replica: &Replica) {
        let known = {
            let mut health = replica.health();
            if health.given_up.is_cancelled() {
                health.given_up = CancellationToken::new();
            }
            health.heard.replace(Instant::now()).is_some()
        };
        if !replica.alive.swap(true, Ordering::AcqRel) {
            if known {
                let (service, address) = (self.service.as_str(), replica.address);
                tracing::info!(peer.service = service, peer.address = %address, "A replica is back");
            }
            self.changed();
        }
    }

    /// Leaves a replica out.
    pub(super) fn dead(&self, replica: &Replica, why: &'static str) {
        if replica.alive.swap(false, Ordering::AcqRel) {
            // One that has never answered is a service that starts later than this one.
            if replica.health().heard.is_some() {
                let (service, address) = (self.service.as_str(), replica.address);
                tracing::warn!(peer.service = service, peer.address = %address, why, "A replica is left out");
            }
            self.changed();
        }
    }

    /// Lets nobody wait for its answers any more, when there is another to ask.
    fn give_up(&self, replica: &Replica) {
        if self.known.load().alive() > 0 {
            replica.health().given_up.cancel();
        }
    }
}

/// Whether the other end was not there, as opposed to having answered.
pub(in crate::client) fn unreachable(status: &Status) -> bool {
    let source = std::error::Error::source(status);
    cut_off(status) || (status.code() == Code::Unavailable && source.is_some())
}

fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.8..=1.2))
}
