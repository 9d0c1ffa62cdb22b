//! Every call of the contract with requests that were made from its descriptors, by everybody: nobody, a user, a service,
//! and somebody with a bad token. Whatever comes is answered in time, or refused with a code of the catalogue that blames
//! the caller.

use std::{collections::BTreeMap, time::Duration};

use ::mesh::{
    config::MeshConfig,
    identity::{Identity, ServiceName},
};
use bytes::{Buf as _, BufMut as _};
use prost_types::MethodDescriptorProto;
use rand::{RngExt as _, rngs::StdRng};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

use super::{chances, check_well, factor, wire::Contract};
use crate::{
    mesh::Mesh,
    rest::{Api, Person},
    rpc, wait,
};

/// Requests to each call for each kind of caller.
const ROUNDS: u64 = 16;
/// The deadline of each call.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long a stream is listened to after its requests.
const LISTEN: Duration = Duration::from_millis(50);

/// Bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; from.remaining()];
        from.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}

/// Calls, and gives what became of it. A stream is read for a moment.
async fn call(
    channel: &Channel,
    path: &str,
    method: &MethodDescriptorProto,
    messages: Vec<Vec<u8>>,
    token: Option<&str>,
) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("the service is there");
    let path: PathAndQuery = format!("/{path}/{}", method.name()).parse().expect("a path");
    let mut request = Request::new(());
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    }
    if !method.server_streaming() {
        request.set_timeout(DEADLINE);
    }
    let request = |messages: Vec<Vec<u8>>| {
        let (metadata, extensions, ()) = request.into_parts();
        Request::from_parts(metadata, extensions, futures::stream::iter(messages))
    };
    let answer = grpc.streaming(request(messages), path, Raw).await?;
    let mut stream = answer.into_inner();
    if method.server_streaming() {
        match tokio::time::timeout(LISTEN, stream.message()).await {
            Ok(message) => message.map(drop),
            Err(_) => Ok(()),
        }
    } else {
        while stream.message().await?.is_some() {}
        Ok(())
    }
}

/// Checks that a refusal is one that we made, and the caller's fault.
fn check(status: &Status, shown: &str) {
    assert!(!matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss), "{shown}: {status:?}");
    rpc::reason(status);
}

fn bad_token(chances: &mut StdRng, good: &str) -> String {
    let text = test_input::text(&[good, "a.b.c", ""], &super::edits(chances));
    text.chars().filter(char::is_ascii_graphic).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_answers_any_request_of_anybody_in_time_or_refuses_it_by_a_code() {
    let mesh = Mesh::plan().start();
    let api = Api::new(&mesh);
    let (ada, leaver) = (Person::register(&api, "ada").await, Person::register(&api, "leaver").await);
    let (private, public) = (ada.room("private").await, ada.room("public").await);
    ada.send(&private, "hello").await;
    let cursor = ada.rpc(&mesh).entries(&private, "").await.expect("entries").cursor;
    let contract = Contract::new(vec![private, public, ada.id.clone(), leaver.id.clone(), cursor]);
    let config = MeshConfig { data: mesh.data(), ..MeshConfig::default() };
    let gateway = Identity::new(ServiceName::Gateway, &config).expect("the gateway's key");
    let mut chances = chances("gRPC");
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    for (service, method) in &contract.methods {
        let (port, name) = match service.split('.').nth(1) {
            Some("auth") => (mesh.ports.auth, ServiceName::Auth),
            Some("user") => (mesh.ports.user, ServiceName::User),
            _ => (mesh.ports.message, ServiceName::Message),
        };
        let channel = rpc::channel(port);
        for _ in 0..ROUNDS * factor() {
            // Who logs out has no more to say.
            let user = if method.name() == "Logout" { &leaver.access } else { &ada.access };
            let assertion = gateway.assertion(name, None);
            let bad = bad_token(&mut chances, user);
            for token in [None, Some(user.as_str()), Some(&*assertion), Some(bad.as_str())] {
                let count = if method.client_streaming() { chances.random_range(0..4) } else { 1 };
                let messages: Vec<_> =
                    (0..count).map(|_| contract.request(&mut chances, method.input_type())).collect();
                let shown = format!("{} {messages:?}", method.name());
                let answer = call(&channel, service, method, messages, token);
                let outcome =
                    match tokio::time::timeout(DEADLINE * 2, answer).await.unwrap_or_else(|_| panic!("hangs: {shown}"))
                    {
                        Ok(()) => "OK".to_owned(),
                        Err(status) => {
                            check(&status, &shown);
                            rpc::reason(&status).0
                        }
                    };
                *told.entry(outcome).or_default() += 1;
            }
        }
    }
    wait::say(&format!("gRPC: {told:?}"));
    assert!(told["OK"] > 20 && told["VALIDATION_FAILED"] > 20, "the requests are neither good nor bad: {told:?}");
    check_well(&mesh).await;
}
