//! The upgrade of a connection to WebSocket. Nothing else is served.

use std::io;

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tungstenite::handshake::{
    machine::TryParse as _,
    server::{Request, create_response, write_response},
};

/// A request of a real client has some hundred bytes.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// Answers the request for an upgrade and gives back what the client sent after it.
///
/// # Errors
/// When the client asks for something else, or goes.
pub(crate) async fn upgrade(stream: &mut TcpStream) -> io::Result<BytesMut> {
    let mut received = BytesMut::with_capacity(1024);
    let (length, request) = loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match Request::try_parse(&received).map_err(io::Error::other)? {
            Some(parsed) => break parsed,
            None if received.len() > REQUEST_BYTES_MAX => return Err(io::Error::other("the request is too long")),
            None => {}
        }
    };
    if !request.uri().path().starts_with("/socket") {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
        return Err(io::Error::other("not the path of Socket.IO"));
    }
    let mut answer = Vec::with_capacity(256);
    let response = create_response(&request).map_err(io::Error::other)?;
    write_response(&mut answer, &response).map_err(io::Error::other)?;
    stream.write_all(&answer).await?;
    Ok(BytesMut::from(&received[length..]))
}
