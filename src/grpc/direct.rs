//! How often those may call who come past the gateway: another team's processes, a person with grpcurl. Who comes through
//! the gateway has been counted there, and the mesh's own processes are not counted at all. Who calls is told by `identity`
//! and by the certificate; how it is counted is in `limit`.

use std::net::IpAddr;

use uuid::Uuid;

use crate::{
    config::{DirectLimits, MeshConfig, Profile},
    error::{Reason, Refusal},
    identity::{Caller, ServiceName, UserCaller},
    limit::Limits,
    serve::Connection,
    tls::Peer,
};

/// Who is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Account(Uuid),
    Process(Peer),
    Address(IpAddr),
}

/// The counts of all of them.
pub(super) struct Direct {
    config: DirectLimits,
    limits: Limits<Subject>,
    loopback_exempt: bool,
}

impl Direct {
    pub(super) fn new(mesh: &MeshConfig) -> Self {
        let config = mesh.grpc.direct.clone();
        let limits = Limits::new(config.keys_max, &config.rates().map(|(_, rate)| rate));
        Self { config, limits, loopback_exempt: mesh.profile == Profile::Development }
    }

    /// Counts a call, of whom it was found to be, if it comes past the gateway.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub(super) fn check(
        &self,
        caller: &Result<Option<Caller>, Refusal>,
        connection: Option<&Connection>,
    ) -> Result<(), Refusal> {
        let Some(connection) = connection else { return Ok(()) };
        let (address, process) = (connection.peer.ip().to_canonical(), connection.name.as_ref());
        if !self.config.enabled || (self.loopback_exempt && address.is_loopback()) {
            return Ok(());
        }
        let Some(subject) = subject(caller, address, process) else { return Ok(()) };
        let (limit, rate) = match &subject {
            Subject::Account(_) => ("direct.account", self.config.account),
            Subject::Process(_) => ("direct.process", self.config.process),
            Subject::Address(_) => ("direct.address", self.config.address),
        };
        self.limits.take(subject, rate).map(drop).map_err(|wait| {
            metrics::counter!("switchboard_limits_refused_total", "limit" => limit).increment(1);
            Refusal::new(Reason::RateLimited, "Too many calls; try again later").with_retry_after(wait)
        })
    }
}

/// Who is counted for a call; nobody, when it comes from the mesh itself.
fn subject(caller: &Result<Option<Caller>, Refusal>, address: IpAddr, process: Option<&Peer>) -> Option<Subject> {
    if process.is_some_and(|peer| ServiceName::ALL.iter().any(|service| peer.is(*service))) {
        return None;
    }
    match (caller, process) {
        (Ok(Some(Caller::Service(_) | Caller::User(UserCaller { via: Some(_), .. }))), _) => None,
        (Ok(Some(Caller::User(user))), _) => Some(Subject::Account(user.user_id)),
        // A token that is not good names nobody.
        (Ok(None) | Err(_), Some(peer)) => Some(Subject::Process(peer.clone())),
        (Ok(None) | Err(_), None) => Some(Subject::Address(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meshs_own_are_not_counted_and_others_by_account_then_certificate_then_address() {
        let address = IpAddr::from([192, 0, 2, 1]);
        let (own, team) = (Peer::named("gateway"), Peer::named("team/billing"));
        let user = |via| Ok(Some(Caller::User(UserCaller { via, ..UserCaller::new(Uuid::nil(), None) })));
        let account = Some(Subject::Account(Uuid::nil()));
        let bad = || Err(Refusal::unauthorized());
        for (caller, process, counted) in [
            (user(None), None, account.clone()),
            (user(None), Some(&team), account),
            (user(None), Some(&own), None),
            (user(Some(ServiceName::Gateway)), None, None),
            (Ok(Some(Caller::Service(ServiceName::Auth))), None, None),
            (Ok(None), Some(&own), None),
            (Ok(None), Some(&team), Some(Subject::Process(team.clone()))),
            (Ok(None), None, Some(Subject::Address(address))),
            (bad(), None, Some(Subject::Address(address))),
            (bad(), Some(&team), Some(Subject::Process(team.clone()))),
        ] {
            assert_eq!(subject(&caller, address, process), counted, "{caller:?} {process:?}");
        }
    }
}
