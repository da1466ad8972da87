//! One server, or a cluster of them.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{
    MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo, SingleNodeRoutingInfo,
};
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, RedisError, RedisFuture, Value,
};

/// What makes connections.
pub(super) enum Maker {
    Single(Client, AsyncConnectionConfig),
    Cluster(ClusterClient),
}

/// A connection for many operations at once.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    /// To every node of a cluster; it knows which keys are where.
    Cluster(ClusterConnection),
}

impl Maker {
    pub(super) async fn connect(&self) -> Result<Connection, RedisError> {
        Ok(match self {
            Self::Single(client, config) => {
                let made = client.get_multiplexed_async_connection_with_config(config);
                Connection::Single(made.await?)
            }
            Self::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
        })
    }
}

impl Connection {
    /// Asks one server, whichever it is.
    pub(super) async fn any<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, RedisError> {
        self.on(command, SingleNodeRoutingInfo::Random).await
    }

    /// Asks one node of a cluster; where there is no cluster, the server.
    pub(super) async fn on<T: FromRedisValue>(
        &mut self,
        command: &Cmd,
        node: SingleNodeRoutingInfo,
    ) -> Result<T, RedisError> {
        match self {
            Self::Single(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => {
                let routing = RoutingInfo::SingleNode(node);
                let value = connection.route_command(command.clone(), routing).await?;
                Ok(redis::from_redis_value(value.extract_error()?)?)
            }
        }
    }

    /// Has every server do it.
    pub(super) async fn all(&mut self, command: &Cmd) -> Result<(), RedisError> {
        match self {
            Self::Single(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => {
                let all = MultipleNodeRoutingInfo::AllNodes;
                let routing = RoutingInfo::MultiNode((all, Some(ResponsePolicy::AllSucceeded)));
                connection.route_command(command.clone(), routing).await?;
                Ok(())
            }
        }
    }

    /// The nodes that keys are spread over, in an order that stays; none where there is no cluster.
    /// `asked` is the host by which the cluster is reached.
    pub(super) async fn nodes(&mut self, asked: &str) -> Result<Vec<Node>, RedisError> {
        if matches!(self, Self::Single(_)) {
            return Ok(Vec::new());
        }
        let ranges: Vec<Vec<Value>> = self.any(&slots()).await?;
        Ok(masters(&ranges, asked))
    }
}

/// Host and port of a node of a cluster.
pub(super) type Node = (String, u16);

pub(super) fn slots() -> Cmd {
    redis::cmd("CLUSTER").arg("SLOTS").to_owned()
}

/// The masters that have slots, as a node says that was asked by this name.
pub(super) fn masters(ranges: &[Vec<Value>], asked: &str) -> Vec<Node> {
    let master = |range: &Vec<Value>| -> Option<Node> {
        let Value::Array(node) = range.get(2)? else {
            return None;
        };
        let host: Option<String> = redis::from_redis_value_ref(node.first()?).ok()?;
        // One that does not know its name is where it was asked.
        let host = host.filter(|host| !matches!(host.as_str(), "" | "?"));
        let host = host.unwrap_or_else(|| asked.to_owned());
        Some((host, redis::from_redis_value_ref(node.get(1)?).ok()?))
    };
    let mut nodes: Vec<_> = ranges.iter().filter_map(master).collect();
    nodes.sort();
    nodes.dedup();
    nodes
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}
