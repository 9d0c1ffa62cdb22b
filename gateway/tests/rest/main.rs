//! The REST edge as clients meet it: over HTTP on a port of its own, in front of the three real services (or of one that
//! refuses everything). `fixture.rs` starts them; the other files are tests by noun.

mod accounts;
mod bad_input;
mod documents;
mod edge;
mod fixture;
mod limits;
mod refusals;
mod rooms;
