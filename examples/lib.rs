//! Where the examples run: on the cluster that `KAFKA_BOOTSTRAP` names, or on a bundled one that ends with them.

use kafka_broker::Cluster;

/// What an example's `main` returns.
pub type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// A cluster to run on.
pub struct Target {
    /// `host:port,…` to give to a client.
    pub bootstrap: String,
    bundled: Option<Cluster>,
}

impl Target {
    /// Takes the cluster that `KAFKA_BOOTSTRAP` names, or starts three bundled brokers.
    pub async fn start() -> Result<Self> {
        if let Ok(bootstrap) = std::env::var("KAFKA_BOOTSTRAP") {
            println!("on the cluster at {bootstrap}");
            return Ok(Self { bootstrap, bundled: None });
        }
        let cluster = Cluster::builder().brokers(3).start().await?;
        println!("on three bundled brokers at {}", cluster.bootstrap());
        Ok(Self { bootstrap: cluster.bootstrap(), bundled: Some(cluster) })
    }

    /// Ends the bundled brokers, if there are any.
    pub async fn stop(self) {
        if let Some(cluster) = self.bundled {
            cluster.stop().await;
        }
    }

    /// A name that no earlier run on the same cluster has used.
    pub fn unique(&self, name: &str) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        format!("{name}-{:x}", now.as_micros())
    }
}
