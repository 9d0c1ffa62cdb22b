//! What every main does: flags, configuration, telemetry, signals, and an exit code with one sentence when something is
//! wrong. A service's main gives it its name and its `serve`; it knows no service. `process/probe.rs` is the other thing
//! that a binary can do: ask the running process whether it is well.

use std::{error::Error, future::Future, net::SocketAddr, process::ExitCode};

use clap::{Arg, Args as _, Command, FromArgMatches as _};
use tokio_util::sync::CancellationToken;

mod probe;

use crate::{
    config::{Flags, Loader, MeshConfig},
    shutdown::Signals,
    telemetry,
};

/// The exit code when the configuration, a port, a folder or a store is not good: start it again only after a change.
pub const EXIT_SETUP: u8 = 2;

/// A message makes many small allocations on its way, freed by other threads than made them. The system's allocator took
/// a fifth of the time of a send for them (`docs/performance.md`), and a half more memory for each socket.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs one service until a signal: `load` reads its configuration, `serve` runs it. With `--probe` it asks the process
/// that runs with the same settings, at its `operations` port, and ends.
pub fn run<C, F, E>(
    name: &'static str,
    about: &'static str,
    load: impl FnOnce(&mut Loader) -> C,
    mesh: impl FnOnce(&C) -> &MeshConfig,
    operations: impl FnOnce(&C) -> SocketAddr,
    serve: impl FnOnce(C, CancellationToken) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), E>>,
    E: Error,
{
    let probe =
        Arg::new("probe").long("probe").value_name("PAGE").value_parser(probe::PAGES).help(
            "Asks the running process for this page of its operations port; ends with 0 if it is well, else with 1",
        );
    let command = Flags::augment_args(Command::new(name).version(env!("CARGO_PKG_VERSION")).about(about)).arg(probe);
    let matches = command.get_matches();
    let flags = Flags::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut loader = Loader::from_env(&flags);
    let config = load(&mut loader);
    if let Err(error) = loader.finish() {
        return fail(name, &error);
    }
    if let Some(page) = matches.get_one::<String>("probe") {
        return probe::run(name, operations(&config), page);
    }
    let telemetry = mesh(&config).telemetry.clone();
    run_with(name, &telemetry, |shutdown| serve(config, shutdown))
}

/// Runs a future until it ends, with telemetry, and with a token that the first SIGTERM or SIGINT cancels. A second
/// signal ends the process at once.
pub fn run_with<F, E>(
    name: &'static str,
    config: &telemetry::TelemetryConfig,
    serve: impl FnOnce(CancellationToken) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), E>>,
    E: Error,
{
    // Some clients of rustls pick no provider by themselves; a second installation is refused and changes nothing.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(name, &error),
    };
    runtime.block_on(async {
        let _telemetry = match telemetry::init(config, name) {
            Ok(guard) => guard,
            Err(error) => return fail(name, &error),
        };
        if let Err(error) = crate::serve::raise_open_files() {
            tracing::warn!(%error, "the limit on open files stays as it is: fewer sockets than configured may fit");
        }
        let shutdown = CancellationToken::new();
        let impatient = match Signals::new() {
            Ok(signals) => signals.watch(shutdown.clone()),
            Err(error) => return fail(name, &error),
        };
        tokio::select! {
            result = serve(shutdown) => match result {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(name, &error),
            },
            _ = impatient => ExitCode::FAILURE,
        }
    })
}

/// Runs an operator's command to its end, without logs.
///
/// # Errors
/// When the system gives no threads.
pub fn block_on<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}

/// Prints the error with its causes, and gives the exit code.
#[expect(clippy::print_stderr, reason = "the logs may not be set up, and a person is waiting")]
pub fn fail(name: &str, error: &dyn Error) -> ExitCode {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Many errors show their cause already.
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    eprintln!("{name}: {text}");
    ExitCode::from(EXIT_SETUP)
}
