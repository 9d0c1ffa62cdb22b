//! Registration while user-svc is away: nothing is lost, nothing overtakes.

use mesh::proto::auth::v1 as pb;

use crate::harness::{Setup, until};

#[tokio::test(flavor = "multi_thread")]
async fn who_registers_while_user_svc_is_away_has_a_profile_when_it_is_back() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    setup.users.set_away(true);
    let ada = auth.register("ada").await;
    let account = pb::Account { username: "countess".to_owned(), ..Default::default() };
    let mut rename = pb::UpdateAccountRequest { account: Some(account), ..Default::default() };
    rename.update_mask.get_or_insert_default().paths = vec!["username".to_owned()];
    auth.client().update_account(ada.says(rename)).await.expect("renamed");
    assert!(setup.users.told().is_empty());
    setup.users.set_away(false);
    until("both are told", async || setup.users.told().len() >= 2).await;
    let id = ada.account.id;
    let told = setup.users.told();
    assert_eq!(told[0], (id.clone(), 1, "ada".to_owned(), Some("Ada".to_owned())));
    assert_eq!(told[1], (id, 2, "countess".to_owned(), None));
    auth.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn news_that_waits_survives_a_restart() {
    let setup = Setup::new().await;
    let auth = setup.start().await;
    setup.users.set_away(true);
    let ada = auth.register("ada").await;
    auth.stop().await;
    setup.users.set_away(false);
    let auth = setup.start().await;
    until("the profile is made", async || !setup.users.told().is_empty()).await;
    assert_eq!(setup.users.told()[0].0, ada.account.id);
    auth.stop().await;
}
