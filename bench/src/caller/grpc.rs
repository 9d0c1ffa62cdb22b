//! The same reads as by REST, asked of message-svc itself: connections that are kept, one call at a time on each, in a
//! closed loop. What the edge costs is the difference.

use std::{cell::RefCell, time::Duration};

use anyhow::Context as _;
use futures::future::{join_all, try_join_all};
use mesh::{
    client::request,
    proto::message::v1::{
        ListMessagesRequest, ListRoomsRequest, list_messages_request::Position,
        message_service_client::MessageServiceClient,
    },
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use super::{CallPlan, Called, Read, Tally};
use crate::clock;

/// A call that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(10);

pub(super) fn run(plan: &CallPlan, read: &Read) -> anyhow::Result<Called> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tally = RefCell::new(Tally::default());
    let cpu = runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{}", plan.address))?.tcp_nodelay(true);
        let channels = try_join_all((0..plan.at_once).map(|_| endpoint.connect())).await;
        let channels = channels.context("message-svc does not answer")?;
        let mut clients: Vec<_> = channels.into_iter().map(MessageServiceClient::new).collect();
        clock::sleep_until(plan.begin);
        let warm = clients.iter_mut().map(async |client| {
            while clock::now() < plan.start {
                // What is wrong shows in the measured time as well.
                drop(read.call(client).await);
            }
        });
        join_all(warm).await;
        let cpu = clock::cpu();
        let calls = clients.iter_mut().map(async |client| {
            while clock::now() < plan.end {
                let meant = clock::now();
                let failure = read.call(client).await.err().map(|status| status.to_string());
                tally.borrow_mut().answer(plan, meant, clock::now(), failure);
            }
        });
        join_all(calls).await;
        anyhow::Ok(clock::cpu().saturating_sub(cpu))
    })?;
    Ok(tally.into_inner().report(cpu))
}

impl Read {
    async fn call(&self, client: &mut MessageServiceClient<Channel>) -> Result<(), Status> {
        match &self.room {
            Some(room) => {
                let message =
                    ListMessagesRequest { room_id: room.clone(), page_size: 50, position: Some(Position::Page(1)) };
                client.list_messages(request(message, &self.bearer, DEADLINE)).await.map(drop)
            }
            None => {
                let message = ListRoomsRequest { page_size: 0, page_token: String::new() };
                client.list_rooms(request(message, &self.bearer, DEADLINE)).await.map(drop)
            }
        }
    }
}
