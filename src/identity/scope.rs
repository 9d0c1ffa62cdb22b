//! What an API key may do: scopes, each of which stands for some methods. A method that no scope names is for people alone,
//! so a new one is closed to keys until somebody opens it here. It is judged in one place, the gate of every gRPC server
//! (`grpc.rs`): REST calls become gRPC calls, and carry the scopes on.

use crate::error::{Reason, Refusal};

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident = $text:literal: [$($method:literal),* $(,)?];)*) => {
        /// Something that an API key may do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Scope { $($(#[$doc])* $name,)* }

        impl Scope {
            /// Every scope.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name in keys and requests.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The methods that it opens, as gRPC paths without the first slash.
            #[must_use]
            pub fn methods(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($method),*],)* }
            }
        }
    };
}

scopes! {
    /// Read the audit log, which otherwise only admins do.
    AuditRead = "audit:read": [
        "switchboard.auth.v1.AdminService/ListAuditEvents",
        "switchboard.auth.v1.AdminService/ExportAuditEvents",
    ];
    /// Read what rooms the service account is in, the public ones, and who is in them.
    RoomsRead = "rooms:read": [
        "switchboard.message.v1.MessageService/GetRoom",
        "switchboard.message.v1.MessageService/ListMembers",
        "switchboard.message.v1.MessageService/ListPublicRooms",
        "switchboard.message.v1.MessageService/ListRooms",
    ];
    /// Make, join, leave and change rooms as the service account.
    RoomsWrite = "rooms:write": [
        "switchboard.message.v1.MessageService/AddMember",
        "switchboard.message.v1.MessageService/CreateRoom",
        "switchboard.message.v1.MessageService/DeleteRoom",
        "switchboard.message.v1.MessageService/JoinRoom",
        "switchboard.message.v1.MessageService/LeaveRoom",
        "switchboard.message.v1.MessageService/OpenDirectRoom",
        "switchboard.message.v1.MessageService/RemoveMember",
        "switchboard.message.v1.MessageService/UpdateRoom",
    ];
    /// Read and follow the rooms that the service account is in.
    MessagesRead = "messages:read": [
        "switchboard.message.v1.MessageService/ListEntries",
        "switchboard.message.v1.MessageService/ListMessages",
        "switchboard.message.v1.MessageService/WatchRoom",
    ];
    /// Send messages as the service account.
    MessagesWrite = "messages:write": [
        "switchboard.message.v1.MessageService/SendMessage",
        "switchboard.message.v1.MessageService/SetTyping",
    ];
    /// Look people up, as others see them, and the service account itself.
    UsersRead = "users:read": [
        "switchboard.auth.v1.AuthService/GetAccount",
        "switchboard.user.v1.UserService/BatchGetUsers",
        "switchboard.user.v1.UserService/GetUser",
    ];
}

impl Scope {
    /// The scope of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scope| scope.as_str() == name)
    }

    /// Several as they are kept and signed: names separated by spaces.
    #[must_use]
    pub fn join(scopes: &[Self]) -> String {
        scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// Several as they were kept. One that a newer version wrote is passed over: it opens nothing here.
    #[must_use]
    pub fn split(kept: &str) -> Vec<Self> {
        kept.split(' ').filter_map(Self::from_name).collect()
    }
}

/// Whether these scopes open a method, by its gRPC path.
///
/// # Errors
/// `FORBIDDEN` with what is missing.
pub(crate) fn require(scopes: &[Scope], path: &str) -> Result<(), Refusal> {
    let method = path.trim_start_matches('/');
    let needed = Scope::ALL.iter().find(|scope| scope.methods().contains(&method));
    match needed {
        Some(scope) if scopes.contains(scope) => Ok(()),
        Some(scope) => Err(Refusal::new(Reason::Forbidden, format!("The API key lacks the scope {}", scope.as_str()))),
        None => Err(Refusal::new(Reason::Forbidden, "No API key can do this; it is for people")),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn names_lead_back_to_their_scopes_and_unknown_ones_open_nothing() {
        assert_eq!(Scope::split(&Scope::join(Scope::ALL)), Scope::ALL);
        assert_eq!(Scope::split("from:the-future users:read"), [Scope::UsersRead]);
        assert_eq!(Scope::split(""), []);
    }

    #[test]
    fn a_method_is_opened_by_its_own_scope_alone_and_most_by_none() {
        let send = "/switchboard.message.v1.MessageService/SendMessage";
        assert!(require(&[Scope::MessagesWrite], send).is_ok());
        let others: Vec<_> = Scope::ALL.iter().copied().filter(|scope| *scope != Scope::MessagesWrite).collect();
        let refused = require(&others, send).expect_err("refused");
        assert!(refused.reason == Reason::Forbidden && refused.message.contains("messages:write"), "{refused}");
        for path in [
            "/switchboard.auth.v1.AuthService/ChangePassword",
            "/switchboard.auth.v1.AuthService/RevokeOtherSessions",
            "/switchboard.auth.v1.AdminService/SetRole",
            "/switchboard.auth.v1.ApiKeyService/CreateApiKey",
            "/switchboard.auth.v1.FactorService/RemoveTotp",
            "/switchboard.user.v1.UserService/UpdateUser",
            "/switchboard.message.v1.MessageService/SendMessages",
            "/switchboard.message.v1.MessageService/",
            "/",
            "",
        ] {
            assert_eq!(require(Scope::ALL, path).expect_err(path).reason, Reason::Forbidden);
        }
    }

    #[test]
    fn every_method_that_a_scope_opens_is_one_of_the_contract() {
        let set = prost_types::FileDescriptorSet::decode(crate::proto::DESCRIPTOR_SET).expect("descriptors");
        let methods: Vec<_> = set
            .file
            .iter()
            .flat_map(|file| file.service.iter().map(move |service| (file.package(), service)))
            .flat_map(|(package, service)| {
                service.method.iter().map(move |method| format!("{package}.{}/{}", service.name(), method.name()))
            })
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        for method in Scope::ALL.iter().flat_map(|scope| scope.methods()) {
            assert!(methods.iter().any(|one| one == method), "{method} is no method");
            assert!(seen.insert(method), "{method} is opened by two scopes");
        }
    }
}
