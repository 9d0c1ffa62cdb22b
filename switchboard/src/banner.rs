//! What `switchboard up` prints once it serves: where the page is, and snippets that work as printed. It only prints.

use std::{fmt, net::SocketAddr};

/// Where the parts listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Banner {
    pub(crate) public: SocketAddr,
    /// Whether it speaks TLS.
    pub(crate) secured: bool,
    pub(crate) auth: SocketAddr,
    pub(crate) message: SocketAddr,
}

impl Banner {
    /// Where the page is, for a browser on this machine.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.secured { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.public.port())
    }
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url();
        let (auth, message) = (self.auth.port(), self.message.port());
        write!(
            f,
            r#"
Switchboard is up.

  Open      {url}            two tabs, two names, and they talk
  Try       {url}/docs       every REST call, from the browser

REST, with curl (jq is only for taking the token out of the answer):

  curl -s {url}/api/auth/register -H 'content-type: application/json' \
    -d '{{"username":"ada","email":"ada@example.com","password":"correct horse battery"}}'
  TOKEN=$(curl -s {url}/api/auth/login -H 'content-type: application/json' \
    -d '{{"email":"ada@example.com","password":"correct horse battery"}}' | jq -r .accessToken)
  ROOM=$(curl -s {url}/api/rooms/public -H "authorization: Bearer $TOKEN" | jq -r '.rooms[0].id')
  curl -s -X POST {url}/api/rooms/$ROOM/join -H "authorization: Bearer $TOKEN"
  curl -s {url}/api/rooms/$ROOM/messages -H "authorization: Bearer $TOKEN" \
    -H 'content-type: application/json' -d '{{"content":"hello"}}'

gRPC, with grpcurl (follows the room until Ctrl-C):

  grpcurl -plaintext localhost:{auth} list
  grpcurl -plaintext -H "authorization: Bearer $TOKEN" -d "{{\"room_id\":\"$ROOM\"}}" \
    localhost:{message} switchboard.message.v1.MessageService/WatchRoom

Socket.IO, with the stock socket.io-client (Node 18 or newer):

  export TOKEN ROOM
  npm install socket.io-client && node --input-type=module -e '
    import {{ io }} from "socket.io-client";
    const auth = async (give) => {{
      const answer = await fetch("{url}/api/auth/ws-token",
        {{ headers: {{ authorization: `Bearer ${{process.env.TOKEN}}` }} }});
      give({{ token: (await answer.json()).token }});
    }};
    const socket = io("{url}", {{ path: "/socket", auth }});
    socket.on("new_message", (message) => console.log(message.seq, message.username, message.content));
    socket.on("connect", () => socket.emit("join_room", {{ roomId: process.env.ROOM }}, console.log));'
"#
        )
    }
}
