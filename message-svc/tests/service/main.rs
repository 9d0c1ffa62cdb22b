//! message-svc as its callers meet it: over gRPC on a port, with a user directory of the test's own. What a whole mesh
//! does is tested from the root package.

mod input;
mod relay;
mod rooms;
mod sending;
mod speed;
mod watching;
mod world;
