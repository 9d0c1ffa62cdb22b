//! A server of outgoing mail for tests: it speaks SMTP on loopback, takes mails or behaves badly, and remembers what it took.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// How it behaves towards whoever connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It takes every mail.
    Takes,
    /// It wants to be asked again later.
    PutsOff,
    /// It knows no such mailbox.
    Refuses,
    /// It says nothing at all.
    Hangs,
    /// It hangs up in the middle of a mail.
    Dies,
    /// It takes a mail and hangs up before it has said so.
    TakesAndDies,
    /// It takes a mail, says so, and hangs when it is told goodbye.
    HangsAtTheEnd,
}

/// How it is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secured {
    No,
    FromTheStart,
    ByStarttls,
}

/// A mail that it took.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) to: Vec<String>,
    /// As it came, with quoted-printable undone.
    pub(crate) text: String,
    pub(crate) head: String,
    /// Whether it came over TLS.
    pub(crate) secure: bool,
    /// The argument of `AUTH PLAIN`, if there was one.
    pub(crate) login: Option<String>,
}

impl Taken {
    /// The value of a header, unfolded.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let unfolded = self.head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let prefix = format!("{}:", name.to_lowercase());
        let line = unfolded.lines().find(|line| line.to_lowercase().starts_with(&prefix))?;
        Some(line[prefix.len()..].trim().to_owned())
    }

    /// The token in its link.
    pub(crate) fn token(&self) -> String {
        let at = self.text.find("sbl_").expect("a token");
        self.text[at..at + 47].to_owned()
    }
}

#[derive(Debug)]
struct State {
    manner: Manner,
    taken: Vec<Taken>,
    connections: usize,
}

/// The server. It ends when it is dropped.
pub(crate) struct Sink {
    pub(crate) addr: SocketAddr,
    /// Its certificate, in PEM.
    pub(crate) certificate: String,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn tls() -> (TlsAcceptor, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    (TlsAcceptor::from(Arc::new(config)), certificate.pem())
}

impl Sink {
    pub(crate) async fn start(secured: Secured) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (acceptor, certificate) = tls();
        let state = Arc::new(Mutex::new(State { manner: Manner::Takes, taken: Vec::new(), connections: 0 }));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, acceptor) = (shared.clone(), acceptor.clone());
                state.lock().unwrap().connections += 1;
                tokio::spawn(async move {
                    let outcome = match secured {
                        Secured::FromTheStart => match acceptor.accept(stream).await {
                            Ok(stream) => talk(&state, stream, true, false).await.map(drop),
                            Err(error) => Err(error),
                        },
                        Secured::No => talk(&state, stream, false, false).await.map(drop),
                        Secured::ByStarttls => upgraded(&state, stream, &acceptor).await,
                    };
                    // A client that hangs up is what some tests are about.
                    drop(outcome);
                });
            }
        });
        Self { addr, certificate, state, task }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn behave(&self, manner: Manner) {
        self.lock().manner = manner;
    }

    /// All that it took, the first first.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.lock().taken.clone()
    }

    /// Mails to an address whose links begin an action (`reset-password`), or that tell of something, by what they say.
    pub(crate) fn of(&self, to: &str, says: &str) -> Vec<Taken> {
        self.taken().into_iter().filter(|mail| mail.to == [to] && mail.text.contains(says)).collect()
    }

    /// How often somebody has connected.
    pub(crate) fn connections(&self) -> usize {
        self.lock().connections
    }
}

async fn upgraded(state: &Mutex<State>, stream: tokio::net::TcpStream, acceptor: &TlsAcceptor) -> std::io::Result<()> {
    if let Some(stream) = talk(state, stream, false, true).await? {
        let stream = acceptor.accept(stream).await?;
        talk_on(state, stream, true, false, false).await?;
    }
    Ok(())
}

/// Greets and talks; the stream when TLS is to begin on it.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    state: &Mutex<State>,
    stream: S,
    secure: bool,
    offers_tls: bool,
) -> std::io::Result<Option<S>> {
    talk_on(state, stream, secure, offers_tls, true).await
}

async fn talk_on<S: AsyncRead + AsyncWrite + Unpin>(
    state: &Mutex<State>,
    stream: S,
    secure: bool,
    offers_tls: bool,
    greets: bool,
) -> std::io::Result<Option<S>> {
    let manner = state.lock().unwrap().manner;
    if manner == Manner::Hangs {
        std::future::pending::<()>().await;
    }
    let mut stream = BufReader::new(stream);
    if greets {
        stream.write_all(b"220 a sink\r\n").await?;
    }
    let (mut to, mut login) = (Vec::new(), None);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
        let reply = match verb.as_str() {
            "EHLO" if offers_tls => "250-a sink\r\n250 STARTTLS\r\n",
            "EHLO" => "250-a sink\r\n250-AUTH PLAIN\r\n250 8BITMIME\r\n",
            "STARTTLS" if offers_tls => {
                stream.write_all(b"220 go on\r\n").await?;
                return Ok(Some(stream.into_inner()));
            }
            "AUTH" => {
                login = line.strip_prefix("AUTH PLAIN ").map(str::to_owned);
                "235 welcome\r\n"
            }
            "RCPT" if manner == Manner::PutsOff => "450 not now\r\n",
            "RCPT" if manner == Manner::Refuses => "550 nobody here\r\n",
            "RCPT" => {
                to.push(line.split(['<', '>']).nth(1).unwrap_or_default().to_owned());
                "250 fine\r\n"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                let Some(mail) = data(&mut stream, manner).await? else { return Ok(None) };
                let (head, _) = mail.split_once("\r\n\r\n").unwrap_or((&mail, ""));
                let text = mail.replace("=\r\n", "").replace("=3D", "=");
                let taken =
                    Taken { to: std::mem::take(&mut to), head: head.to_owned(), text, secure, login: login.clone() };
                state.lock().unwrap().taken.push(taken);
                if manner == Manner::TakesAndDies {
                    return Ok(None);
                }
                "250 taken\r\n"
            }
            "QUIT" if manner == Manner::HangsAtTheEnd => std::future::pending().await,
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                return Ok(None);
            }
            "MAIL" => "250 fine\r\n",
            _ => "502 what?\r\n",
        };
        stream.write_all(reply.as_bytes()).await?;
    }
}

/// A mail up to its last line; none when the server dies in its middle.
async fn data<S: AsyncRead + Unpin>(stream: &mut BufReader<S>, manner: Manner) -> std::io::Result<Option<String>> {
    let mut mail = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || manner == Manner::Dies {
            return Ok(None);
        }
        if line == ".\r\n" {
            return Ok(Some(mail));
        }
        mail.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
