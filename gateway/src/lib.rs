//! The edge: REST and Socket.IO on the outside, gRPC on the inside. No store, no domain rule: translate, authenticate,
//! limit.

mod address;
pub mod config;
mod edge;
mod error;
mod json;
mod limit;

pub use config::{Config, GatewayConfig};
