//! message-svc
pub mod config;
pub mod cursor;
pub mod entry;
pub mod error;
pub mod hub;
pub mod id;
pub mod member;
pub mod message;
pub mod names;
pub mod order;
pub mod room;
mod room_task;
pub mod rooms;
pub mod store;
pub mod typing;
pub mod watch;
