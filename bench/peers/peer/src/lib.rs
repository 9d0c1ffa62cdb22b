//! What the Rust peers share: how a peer starts and ends (`process.rs`), and the payloads of the events that they speak
//! (`events.rs`), which are those of the product's contract. It knows no transport.

mod events;
mod process;

pub use events::{Ack, Join, Message, Refusal, Room, RoomRef, Send, Sent};
pub use process::{Listening, listen, stopped};
