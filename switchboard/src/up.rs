//! `switchboard up`: the same four `serve` functions that run a cluster, on this machine's ports, in one process. It
//! takes the ports, points the services at one another, and stops them in the reverse of the order in which a request
//! passes them. It has no rule of its own.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    process::ExitCode,
    time::Duration,
};

use auth_svc::mail::EmailConfig;
use mesh::{
    config::{Flags, MeshConfig},
    process,
    serve::{BindError, Listeners, bind},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{banner::Banner, settings::Settings};

/// How long the parts may take to be ready before the banner is printed all the same.
const READY_WAIT: Duration = Duration::from_secs(4);

type Served = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Why it could not start, or did not go on.
#[derive(Debug, thiserror::Error)]
enum UpError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("{0}: {1}")]
    Service(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
    #[error("the address of a port cannot be told")]
    Address(#[from] std::io::Error),
}

/// Runs until a signal.
pub(crate) fn run(flags: &Flags) -> ExitCode {
    let settings = match Settings::load(flags) {
        Ok((settings, _)) => settings,
        Err(error) => return process::fail("switchboard", &error),
    };
    let telemetry = settings.gateway.mesh.telemetry.clone();
    process::run_with("switchboard", &telemetry, |shutdown| up(settings, shutdown))
}

async fn up(mut settings: Settings, shutdown: CancellationToken) -> Result<(), UpError> {
    let ports = Ports::take(&settings).await?;
    let banner = ports.banner(settings.gateway.gateway.tls.is_on())?;
    let ops = ports.gateway.ops.local_addr()?;
    let mut mesh = settings.gateway.mesh.clone();
    ports.point(&mut mesh)?;
    // There is nobody else to go to: whoever is told soon is back soon.
    mesh.shutdown.notice_ms = 0;
    settings.gateway.gateway.realtime.stop_spread_ms = 0;
    // Links in mails lead to the page that is served here, unless they are told to lead elsewhere.
    let link = &mut settings.auth.auth.email.link_url;
    if *link == EmailConfig::default().link_url {
        *link = format!("{}/", banner.url());
    }
    settings.auth.mesh = mesh.clone();
    settings.user.mesh = mesh.clone();
    settings.message.mesh = mesh.clone();
    settings.gateway.mesh = mesh;
    let mut parts = Parts::default();
    let Settings { auth, user, message, gateway } = settings;
    parts.start("auth-svc", ports.auth, |listeners, stop| async { Ok(auth_svc::serve(auth, listeners, stop).await?) });
    parts.start("user-svc", ports.user, |listeners, stop| async { Ok(user_svc::serve(user, listeners, stop).await?) });
    parts.start("message-svc", ports.message, |listeners, stop| async {
        Ok(message_svc::serve(message, listeners, stop).await?)
    });
    parts.start("gateway", ports.gateway, |listeners, stop| async {
        Ok(gateway::serve(gateway, listeners, stop).await?)
    });
    tokio::select! {
        failed = parts.failed() => return Err(failed),
        () = ready(ops) => print(&banner),
    }
    tokio::select! {
        failed = parts.failed() => Err(failed),
        () = shutdown.cancelled() => parts.stop().await,
    }
}

#[expect(clippy::print_stdout, reason = "it is for the person at the terminal")]
fn print(banner: &Banner) {
    println!("{banner}");
}

/// The ports of all parts, taken before anything starts, so that a taken one changes nothing.
struct Ports {
    auth: Listeners,
    user: Listeners,
    message: Listeners,
    gateway: gateway::Listeners,
}

impl Ports {
    async fn take(settings: &Settings) -> Result<Self, BindError> {
        let Settings { auth, user, message, gateway } = settings;
        let (auth, user, message, gateway) = (&auth.auth, &user.user, &message.message, &gateway.gateway);
        let at = |ip, port| SocketAddr::new(ip, port);
        Ok(Self {
            gateway: gateway::Listeners {
                public: bind("the gateway", at(gateway.listen, gateway.port), "API_GATEWAY_PORT").await?,
                ops: bind("the gateway's operations", at(gateway.listen, gateway.http_port), "API_GATEWAY_HTTP_PORT")
                    .await?,
            },
            auth: Listeners {
                grpc: bind("auth-svc", at(auth.listen, auth.grpc_port), "AUTH_SERVICE_GRPC_PORT").await?,
                ops: bind("auth-svc's operations", at(auth.listen, auth.http_port), "AUTH_SERVICE_HTTP_PORT").await?,
            },
            user: Listeners {
                grpc: bind("user-svc", at(user.listen, user.grpc_port), "USER_SERVICE_GRPC_PORT").await?,
                ops: bind("user-svc's operations", at(user.listen, user.http_port), "USER_SERVICE_HTTP_PORT").await?,
            },
            message: Listeners {
                grpc: bind("message-svc", at(message.listen, message.grpc_port), "MESSAGE_SERVICE_GRPC_PORT").await?,
                ops: bind(
                    "message-svc's operations",
                    at(message.listen, message.http_port),
                    "MESSAGE_SERVICE_HTTP_PORT",
                )
                .await?,
            },
        })
    }

    fn banner(&self, secured: bool) -> std::io::Result<Banner> {
        Ok(Banner {
            public: self.gateway.public.local_addr()?,
            secured,
            auth: self.auth.grpc.local_addr()?,
            message: self.message.grpc.local_addr()?,
        })
    }

    /// Points the parts at the ports that were taken, whatever the configuration says of other machines.
    fn point(&self, mesh: &mut MeshConfig) -> std::io::Result<()> {
        let url =
            |listeners: &Listeners| Ok::<_, std::io::Error>(format!("http://{}", near(listeners.grpc.local_addr()?)));
        mesh.auth_url = url(&self.auth)?;
        mesh.user_url = url(&self.user)?;
        mesh.message_url = url(&self.message)?;
        Ok(())
    }
}

/// The address under which this machine reaches a port of its own.
fn near(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), addr.port()),
        _ => addr,
    }
}

/// The running parts, in the order in which they were started.
#[derive(Default)]
struct Parts {
    running: JoinSet<(&'static str, Served)>,
    stops: Vec<(&'static str, CancellationToken)>,
}

impl Parts {
    fn start<L, F>(&mut self, name: &'static str, listeners: L, serve: impl FnOnce(L, CancellationToken) -> F)
    where
        F: Future<Output = Served> + Send + 'static,
    {
        let stop = CancellationToken::new();
        self.stops.push((name, stop.clone()));
        let served: Pin<Box<dyn Future<Output = Served> + Send>> = Box::pin(serve(listeners, stop));
        self.running.spawn(async move { (name, served.await) });
    }

    /// The first part that ends by itself.
    async fn failed(&mut self) -> UpError {
        match self.running.join_next().await {
            Some(Ok((name, Err(error)))) => UpError::Service(name, error),
            Some(Ok((name, Ok(())))) => UpError::Ended(name),
            Some(Err(_)) | None => UpError::Ended("a part"),
        }
    }

    /// Stops them one after the other, the edge first: each may call the ones after it until it has ended.
    async fn stop(mut self) -> Result<(), UpError> {
        while let Some((name, stop)) = self.stops.pop() {
            stop.cancel();
            while let Some(ended) = self.running.join_next().await {
                match ended {
                    Ok((ended, Ok(()))) if ended == name => break,
                    Ok((_, Ok(()))) => {}
                    Ok((name, Err(error))) => return Err(UpError::Service(name, error)),
                    Err(_) => return Err(UpError::Ended("a part")),
                }
            }
        }
        Ok(())
    }
}

/// Waits until the gateway says that it and all it needs are ready, up to a limit.
async fn ready(ops: SocketAddr) {
    let asked = async {
        while !is_ready(ops).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(READY_WAIT, asked).await.is_err() {
        tracing::warn!("not everything is ready yet; /ready on the operations port says what is missing");
    }
}

async fn is_ready(ops: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(near(ops)).await?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(head)
    };
    matches!(ask.await, Ok(head) if head.ends_with(b"200"))
}
