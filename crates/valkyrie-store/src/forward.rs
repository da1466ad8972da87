//! Stores that hand every operation on.

/// Implements `StoreAdapter` for a type whose macro `$each!(self, store => call)` finds the store that
/// does it.
macro_rules! forward_adapter {
    ($type:ty, $each:ident) => {
        impl $crate::adapter::StoreAdapter for $type {
            fn name(&self) -> &str {
                $each!(self, store => store.name())
            }

            fn caps(&self) -> $crate::adapter::Caps {
                $each!(self, store => store.caps())
            }

            async fn read(
                &self,
                key: &[u8],
            ) -> Result<Option<$crate::adapter::Value>, $crate::error::StoreError> {
                $each!(self, store => store.read(key).await)
            }

            async fn read_many(
                &self,
                keys: &[&[u8]],
            ) -> Result<Vec<Option<$crate::adapter::Value>>, $crate::error::StoreError> {
                $each!(self, store => store.read_many(keys).await)
            }

            async fn write(
                &self,
                key: &[u8],
                value: &[u8],
                lifetime: $crate::adapter::Lifetime,
                condition: $crate::adapter::Condition<'_>,
            ) -> Result<$crate::adapter::Written, $crate::error::StoreError> {
                $each!(self, store => store.write(key, value, lifetime, condition).await)
            }

            async fn remove(
                &self,
                key: &[u8],
                condition: $crate::adapter::Condition<'_>,
            ) -> Result<bool, $crate::error::StoreError> {
                $each!(self, store => store.remove(key, condition).await)
            }

            async fn set_lifetime(
                &self,
                key: &[u8],
                lifetime: $crate::adapter::Lifetime,
            ) -> Result<bool, $crate::error::StoreError> {
                $each!(self, store => store.set_lifetime(key, lifetime).await)
            }

            async fn lifetime(
                &self,
                key: &[u8],
            ) -> Result<Option<Option<std::time::Duration>>, $crate::error::StoreError> {
                $each!(self, store => store.lifetime(key).await)
            }

            async fn scan(
                &self,
                prefix: &[u8],
                from: Option<u64>,
            ) -> Result<$crate::adapter::Page, $crate::error::StoreError> {
                $each!(self, store => store.scan(prefix, from).await)
            }

            async fn add(
                &self,
                key: &[u8],
                increment: &$crate::adapter::Increment,
            ) -> Result<(i64, i64), $crate::error::StoreError> {
                $each!(self, store => store.add(key, increment).await)
            }

            async fn consume(
                &self,
                key: &[u8],
                limit: &yggdrasil::Limit,
                cost: u32,
            ) -> Result<yggdrasil::Decision, $crate::error::StoreError> {
                $each!(self, store => store.consume(key, limit, cost).await)
            }

            async fn consume_many(
                &self,
                requests: &[$crate::adapter::TokenRequest<'_>],
                together: yggdrasil::Together,
            ) -> Result<Vec<yggdrasil::Decision>, $crate::error::StoreError> {
                $each!(self, store => store.consume_many(requests, together).await)
            }

            async fn transact(
                &self,
                transaction: &$crate::transaction::Transaction<'_>,
            ) -> Result<yggdrasil::Transacted, $crate::error::StoreError> {
                $each!(self, store => store.transact(transaction).await)
            }

            async fn lease(
                &self,
                key: &[u8],
                holder: &[u8],
                ttl: std::time::Duration,
            ) -> Result<$crate::adapter::Leased, $crate::error::StoreError> {
                $each!(self, store => store.lease(key, holder, ttl).await)
            }

            async fn renew(
                &self,
                key: &[u8],
                fence: u64,
                ttl: std::time::Duration,
            ) -> Result<bool, $crate::error::StoreError> {
                $each!(self, store => store.renew(key, fence, ttl).await)
            }

            async fn release(
                &self,
                key: &[u8],
                fence: u64,
            ) -> Result<bool, $crate::error::StoreError> {
                $each!(self, store => store.release(key, fence).await)
            }

            async fn acquire(
                &self,
                key: &[u8],
                holder: &[u8],
                places: u32,
                ttl: std::time::Duration,
            ) -> Result<$crate::adapter::Acquired, $crate::error::StoreError> {
                $each!(self, store => store.acquire(key, holder, places, ttl).await)
            }

            async fn give_back(
                &self,
                key: &[u8],
                holder: &[u8],
            ) -> Result<bool, $crate::error::StoreError> {
                $each!(self, store => store.give_back(key, holder).await)
            }

            async fn ping(&self) -> Result<(), $crate::error::StoreError> {
                $each!(self, store => store.ping().await)
            }

            async fn watch(
                &self,
                prefix: &[u8],
            ) -> Result<$crate::watch::Watch, $crate::error::StoreError> {
                $each!(self, store => store.watch(prefix).await)
            }

            fn usual_limit(&self) -> yggdrasil::Limit {
                $each!(self, store => store.usual_limit())
            }
        }
    };
}

pub(crate) use forward_adapter;
