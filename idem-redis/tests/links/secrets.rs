//! A password is nowhere to be read.

use conformance_tests::server::free_port;

use super::servers::single::{Kind, Server, Setup};
use super::*;

const SECRET: &str = "s3cr3t";

fn assert_silent(error: &StoreError) {
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        let shown = format!("{error:?} {error}");
        assert!(!shown.contains(SECRET), "{shown}");
        next = error.source();
    }
}

#[tokio::test]
async fn no_failed_connect_tells_the_password() {
    let (guarded, open) = (Setup::new(Kind::Redis).set(&["requirepass", "another"]).start(), Server::redis());
    let nobody = free_port();
    for url in [
        format!("redis://:{SECRET}@{}", guarded.address()),
        format!("redis://u:{SECRET}@{}", guarded.address()),
        format!("redis://:{SECRET}@{}", open.address()),
        format!("redis://:{SECRET}@{}/99", open.address()),
        format!("redis://:{SECRET}@127.0.0.1:{nobody}"),
        format!("redis://:{SECRET}@no-such-host.invalid"),
        format!("redis+cluster://:{SECRET}@{}", guarded.address()),
        format!("redis+cluster://:{SECRET}@127.0.0.1:{nobody}"),
        format!("redis+sentinel://:{SECRET}@127.0.0.1:{nobody}/shop?sentinel_password={SECRET}"),
        format!("redis+sentinel://:{SECRET}@{}/shop", open.address()),
        format!("redis+unix:/no/such/socket?password={SECRET}"),
        format!("redis://:{SECRET}@host:port"),
        format!("{SECRET}://host"),
        format!("redis://u:pass/{SECRET}@host"),
    ] {
        assert_silent(&RedisStore::connect(&url).await.unwrap_err());
    }
}

#[tokio::test]
async fn a_store_and_its_options_do_not_show_it_either() {
    let mut server = Setup::new(Kind::Redis).set(&["requirepass", SECRET]).start();
    let store = connect(&format!("redis://:{SECRET}@{}", server.address()), Options::new()).await;
    live(&store, "k").await;
    let health = store.health().await;
    assert!(!format!("{store:?} {health:?} {health}").contains(SECRET));
    server.kill();
    for _ in 0..3 {
        assert_silent(&store.get(&key("k")).await.unwrap_err());
    }
    let health = store.health().await;
    assert!(!format!("{health:?} {health}").contains(SECRET));
}
