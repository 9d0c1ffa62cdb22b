//! Asking the process that runs beside this one whether it is well: for a container's health check, whose image has no
//! shell and no curl. One request of HTTP/1.1, of which only the status counts.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

/// The pages that say whether a process is well.
pub(super) const PAGES: [&str; 2] = ["health", "ready"];

/// For connecting, and for each part of the answer: more than `/ready` gives the slowest dependency (2 s), less than
/// the 5 s after which a health check is usually ended from outside.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks, and says on standard error what is wrong, if anything.
#[expect(clippy::print_stderr, reason = "a container's runtime keeps it beside the health check's outcome")]
pub(super) fn run(name: &str, operations: SocketAddr, page: &str) -> ExitCode {
    match ask(near(operations), page) {
        Ok(status) if status == "200" => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("{name}: /{page} answers {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{name}: nobody answers at {operations}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The status that the page answers with.
fn ask(at: SocketAddr, page: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /{page} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n")?;
    // `HTTP/1.1 200`; read to the end only in so far as the status needs it.
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    match head.split_at(9) {
        (b"HTTP/1.1 ", status) if status.iter().all(u8::is_ascii_digit) => {
            Ok(String::from_utf8_lossy(status).into_owned())
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP/1.1")),
    }
}

/// The address under which this machine reaches a port of its own.
fn near(addr: SocketAddr) -> SocketAddr {
    let local = match addr.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    if addr.ip().is_unspecified() { SocketAddr::new(local, addr.port()) } else { addr }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// A port at which one request is taken and answered with these bytes.
    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let at = listener.local_addr().expect("address");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a request");
            let mut request = [0; 1024];
            let read = stream.read(&mut request).expect("read");
            assert!(request[..read].starts_with(b"GET /ready HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).expect("written");
        });
        at
    }

    #[test]
    fn a_probe_tells_a_good_answer_from_a_bad_one_and_from_none() {
        let good = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(ask(good, "ready").expect("answer"), "200");
        let bad = answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(ask(bad, "ready").expect("answer"), "503");
        assert!(ask(answering("SSH-2.0-something\r\n"), "ready").is_err());
        assert!(ask(answering("HTTP"), "ready").is_err());
        let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("address");
        assert!(ask(nobody, "ready").is_err());
    }

    #[test]
    fn a_process_that_listens_everywhere_is_asked_at_this_machine() {
        for (listens, asked) in
            [("0.0.0.0:3009", "127.0.0.1:3009"), ("[::]:3009", "[::1]:3009"), ("10.1.2.3:3009", "10.1.2.3:3009")]
        {
            assert_eq!(near(listens.parse().expect("address")), asked.parse().expect("address"));
        }
    }
}
