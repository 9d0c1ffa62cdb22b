//! The generated contract: one module a package of `proto/`, with clients and servers. The
//! comments in the proto files are its documentation; `proto/rpcs.rs` has the names of all calls. Next: `error` for how refusals travel, `grpc` for serving it.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::doc_markdown,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    clippy::wildcard_enum_match_arm,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

pub(crate) mod rpcs;

/// Accounts, sessions, tokens, revocations.
pub mod auth {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("switchboard.auth.v1");
    }
}

/// Rooms, members, messages.
pub mod message {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("switchboard.message.v1");
    }
}

/// What others see of a person.
pub mod user {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("switchboard.user.v1");
    }
}

/// The encoded `google.protobuf.FileDescriptorSet` of all packages, for reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/switchboard.bin"));
