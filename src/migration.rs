//! Bringing a store's tables up to date, as every backend speaks of it: when it is done, and what came of it. How is each
//! store's business.

use serde::Serialize;

/// Whether a service changes the tables of its store when it starts (`mesh.migrate_at_start`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Migrations {
    /// It brings them up to date.
    #[default]
    Run,
    /// It refuses to start on tables that are not up to date: `switchboard migrate` is what changes them.
    Check,
}

/// What bringing a store up to date came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// What it is kept in: `sqlite`, `postgres`, `mongodb`.
    pub backend: &'static str,
    /// The version of the tables now.
    pub version: i64,
    /// The steps that were made for it, in order; none when it was up to date.
    pub applied: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its number.
    pub version: i64,
    /// What it is called.
    pub description: String,
}
