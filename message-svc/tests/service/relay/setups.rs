//! The ways in which Redis is set up that a URL can say: users and rights, TLS, a cluster, sentinels. Each is a real
//! server, set up so.

use super::{
    crowd::{BEFORE_THE_CLOCK, Crowd, through, without_the_clock},
    server::Redis,
};

/// Whether what one replica writes reaches the other by no clock.
async fn crosses(crowd: &Crowd) {
    crowd.until_redis_is("ok").await;
    let ear = crowd.listen(&crowd.two).await;
    for seq in 1..=10 {
        crowd.ada.send(&crowd.room, &seq.to_string()).await.expect("sent");
        ear.until(seq, BEFORE_THE_CLOCK).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_no_more_rights_than_needed_will_do() {
    let user = "--user switchboard on >a-secret resetchannels &test-* -@all +publish +subscribe +unsubscribe";
    let arguments: Vec<_> = user.split(' ').chain(["--requirepass", "another"]).collect();
    let Some(redis) = Redis::start(&arguments).await else { return };
    let url = format!("redis://switchboard:a-secret@127.0.0.1:{}", redis.port);
    let redis_with = through(&url);
    let crowd = Crowd::gather(|config| {
        redis_with(config);
        without_the_clock(config);
    })
    .await;
    crosses(&crowd).await;
    crowd.stop().await;

    let wrong = Crowd::gather(through(&format!("redis://switchboard:wrong@127.0.0.1:{}", redis.port))).await;
    wrong.until_redis_is("degraded").await;
    wrong.stop().await;
}
