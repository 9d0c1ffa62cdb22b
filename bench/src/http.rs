//! A small HTTP/1.1 client for preparing a measurement: it registers people and makes rooms, some at once. It blocks; the
//! measured REST calls are `worker/rest.rs`.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Longer than any call that is not stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that is kept.
pub(crate) struct Client {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Response {
    /// The body of an answer that was good.
    pub(crate) fn good(self) -> anyhow::Result<Value> {
        if (200..300).contains(&self.status) { Ok(self.body) } else { bail!("{}: {}", self.status, self.body) }
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("nobody answers at {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { address, stream: BufReader::new(stream) })
    }

    pub(crate) fn get(&mut self, path: &str, authorization: &str) -> anyhow::Result<Response> {
        self.call("GET", path, authorization, "")
    }

    pub(crate) fn post(&mut self, path: &str, authorization: &str, body: &Value) -> anyhow::Result<Response> {
        self.call("POST", path, authorization, &body.to_string())
    }

    fn call(&mut self, method: &str, path: &str, authorization: &str, body: &str) -> anyhow::Result<Response> {
        let request = request(method, path, self.address, authorization, body);
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.response().with_context(|| format!("{method} {path}"))
    }

    fn response(&mut self) -> anyhow::Result<Response> {
        let mut line = String::new();
        let mut next = |stream: &mut BufReader<TcpStream>| -> anyhow::Result<String> {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                bail!("the connection ended");
            }
            Ok(line.trim_end().to_owned())
        };
        let status = next(&mut self.stream)?;
        let status: u16 = status.split(' ').nth(1).and_then(|code| code.parse().ok()).context("a status line")?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let header = next(&mut self.stream)?;
            let Some((name, value)) = header.split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().context("a length")?,
                "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        if chunked {
            loop {
                let size = usize::from_str_radix(&next(&mut self.stream)?, 16).context("a chunk's size")?;
                let from = body.len();
                body.resize(from + size, 0);
                self.stream.read_exact(&mut body[from..])?;
                next(&mut self.stream)?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.stream.read_exact(&mut body)?;
        }
        Ok(Response { status, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
    }
}

/// A request as it is written.
pub(crate) fn request(method: &str, path: &str, host: SocketAddr, authorization: &str, body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
    if !authorization.is_empty() {
        text.push_str(&format!("authorization: {authorization}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text
}

/// Does something for each number below `count`, some at a time, each over a connection that is kept; gives what came in
/// order.
pub(crate) fn for_each<T: Send>(
    address: SocketAddr,
    count: usize,
    at_once: usize,
    job: impl Fn(&mut Client, usize) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, T)>> = Mutex::default();
    thread::scope(|scope| {
        let work = || -> anyhow::Result<()> {
            let mut client = Client::connect(address)?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                let result = job(&mut client, number)?;
                done.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
            }
        };
        let workers: Vec<_> = (0..at_once.min(count)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().ok().context("a thread panicked")?)
    })?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// Base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = usize::try_from(word >> (18 - 6 * place) & 63).unwrap_or(0);
            text.push(if place <= chunk.len() { char::from(DIGITS[digit]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_its_padding() {
        for (text, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("defaultkey:", "ZGVmYXVsdGtleTo=")]
        {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }
}
